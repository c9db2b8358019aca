// One turn of a conversation (OpenAI's Conversations API) at a time, at all gateways that share the session store.
#pragma once

#include <condition_variable>
#include <cstdint>
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

  explicit HeldLeases(const base::Clock& clock) : clock_(clock) {}

  void add(const session::Lease& lease);
  // Hands it back, whether it was added or not. Blocks on the store, and for a renewal that has it in hand, which could
  // take it again behind its end. Where the store does not say that it is done, each renewal tries again, until `lives`
  // have passed.
  void end(session::Leases& store, const session::Lease& lease);
  // The next renewal hands it back. Blocks on nothing.
  void end_later(const session::Lease& lease);
  // Blocks on the store; one call at a time. What cannot be renewed lapses, if the store is not back in time.
  void renew(session::Leases& store);

 private:
  struct Held {
    session::Lease lease;
    std::optional<base::SteadyTime> ended{};  // since when it is to be handed back
  };
  Held* find(const session::Lease& lease);
  void forget(const session::Lease& lease);
  void end_renewal();

  const base::Clock& clock_;
  std::mutex mutex_;  // guards what follows
  std::condition_variable renewed_;
  std::vector<Held> held_;
  bool renewing_ = false;
  uint64_t renewals_ = 0;
};

// One request's. Lives in its handler's coroutine; what it is given outlives it.
class TurnLock {
 public:
  TurnLock(session::Leases& store, HeldLeases& held) : store_(store), held_(held) {}
  // One that was not ended is with the next renewal.
  ~TurnLock();
  TurnLock(const TurnLock&) = delete;
  TurnLock& operator=(const TurnLock&) = delete;

  // Both block on the store. take: session::conversation_locked, and the store's errors. end: idempotent.
  base::Result<void> take(std::string_view tenant, std::string_view conversation);
  void end();
  // What `work` returns. Whatever comes of it, an exception too, the turn has ended then. Blocks on the store.
  template <typename Work>
  auto end_after(Work work) {
    try {
      auto done = work();
      end();
      return done;
    } catch (...) {
      end();
      throw;
    }
  }
  // end() on the pool's threads; nothing where it is not held.
  asio::awaitable<void> end_on(wire::BlockingPool& pool);

 private:
  session::Leases& store_;
  HeldLeases& held_;
  std::optional<session::Lease> lease_;
};

}  // namespace tidemill::gateway
