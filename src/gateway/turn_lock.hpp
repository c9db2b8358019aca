// One turn of a conversation (OpenAI's Conversations API) at a time, at all gateways that share the session store.
#pragma once

#include <mutex>
#include <optional>
#include <string_view>
#include <vector>

#include <boost/asio/awaitable.hpp>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "session/leases.hpp"
#include "wire/blocking_pool.hpp"

namespace tidemill::gateway {

namespace asio = boost::asio;

// The leases that this gateway's requests hold. They live for a short while and are renewed all together, so that those
// of a gateway that was killed are over soon. Thread-safe.
class HeldLeases {
 public:
  static constexpr base::Duration lives = std::chrono::seconds(15);
  static constexpr base::Duration renewed_every = std::chrono::seconds(3);

  void add(const session::Lease& lease);
  void remove(const session::Lease& lease);
  // Blocks on the store. What cannot be renewed lapses, if the store is not back in time.
  void renew(session::Leases& store) const;

 private:
  mutable std::mutex mutex_;
  std::vector<session::Lease> held_;
};

// One request's. Lives in its handler's coroutine; what it is given outlives it.
class TurnLock {
 public:
  TurnLock(session::Leases& store, HeldLeases& held) : store_(store), held_(held) {}
  // One that was not ended is no longer renewed, and lapses.
  ~TurnLock();
  TurnLock(const TurnLock&) = delete;
  TurnLock& operator=(const TurnLock&) = delete;

  // Both block on the store. take: session::conversation_locked, and the store's errors. end: idempotent.
  base::Result<void> take(std::string_view tenant, std::string_view conversation);
  void end();
  // The same on the pool's threads; nothing where it is not held.
  asio::awaitable<void> end_on(wire::BlockingPool& pool);

 private:
  session::Leases& store_;
  HeldLeases& held_;
  std::optional<session::Lease> lease_;
};

}  // namespace tidemill::gateway
