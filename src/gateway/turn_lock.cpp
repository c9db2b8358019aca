#include "gateway/turn_lock.hpp"

#include <algorithm>
#include <utility>

#include "session/kept_conversations.hpp"

namespace tidemill::gateway {

using base::Result;

void HeldLeases::add(const session::Lease& lease) {
  const std::lock_guard lock(mutex_);
  held_.push_back(lease);
}

void HeldLeases::remove(const session::Lease& lease) {
  const std::lock_guard lock(mutex_);
  std::erase_if(held_, [&lease](const session::Lease& each) { return each.holder == lease.holder; });
}

void HeldLeases::renew(session::Leases& store) const {
  std::vector<session::Lease> held;
  {
    const std::lock_guard lock(mutex_);
    held = held_;
  }
  if (!held.empty()) (void)store.keep_leases(held, lives);
}

TurnLock::~TurnLock() {
  if (lease_) held_.remove(*lease_);
}

Result<void> TurnLock::take(std::string_view tenant, std::string_view conversation) {
  session::Lease lease = session::lease_of(tenant, conversation);
  const auto taken = store_.take_lease(lease, HeldLeases::lives);
  if (!taken) {
    (void)store_.end_lease(lease);  // the answer may be what was lost
    return taken.error();
  }
  if (!*taken) return session::conversation_locked();
  held_.add(lease);
  lease_ = std::move(lease);
  return {};
}

void TurnLock::end() {
  if (!lease_) return;
  held_.remove(*lease_);
  (void)store_.end_lease(*lease_);  // else it lapses
  lease_.reset();
}

asio::awaitable<void> TurnLock::end_on(wire::BlockingPool& pool) {
  if (!lease_) co_return;
  auto work = [this]() -> Result<void> {
    end();
    return {};
  };
  (void)co_await pool.run(work);
}

}  // namespace tidemill::gateway
