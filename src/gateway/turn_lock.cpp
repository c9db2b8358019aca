#include "gateway/turn_lock.hpp"

#include <algorithm>
#include <utility>

#include "session/kept_conversations.hpp"

namespace tidemill::gateway {

using base::Result;

// The lock is held.
HeldLeases::Held* HeldLeases::find(const session::Lease& lease) {
  const auto found = std::ranges::find_if(held_, [&](const Held& each) { return each.lease.holder == lease.holder; });
  return found == held_.end() ? nullptr : &*found;
}

void HeldLeases::add(const session::Lease& lease) {
  const std::lock_guard lock(mutex_);
  held_.push_back({.lease = lease});
}

void HeldLeases::forget(const session::Lease& lease) {
  const std::lock_guard lock(mutex_);
  std::erase_if(held_, [&](const Held& each) { return each.lease.holder == lease.holder; });
}

void HeldLeases::end_later(const session::Lease& lease) {
  const std::lock_guard lock(mutex_);
  Held* held = find(lease);
  if (held != nullptr && !held->ended) held->ended = clock_.now();
}

void HeldLeases::end(session::Leases& store, const session::Lease& lease) {
  {
    std::unique_lock lock(mutex_);
    if (find(lease) == nullptr) held_.push_back({.lease = lease});
    Held* held = find(lease);
    if (!held->ended) held->ended = clock_.now();
    const uint64_t under_way = renewals_;
    renewed_.wait(lock, [&] { return !renewing_ || renewals_ != under_way; });
  }
  if (store.end_lease(lease)) forget(lease);
}

void HeldLeases::end_renewal() {
  {
    const std::lock_guard lock(mutex_);
    renewing_ = false;
  }
  renewed_.notify_all();
}

void HeldLeases::renew(session::Leases& store) {
  std::vector<session::Lease> kept;
  std::vector<session::Lease> ended;
  {
    const std::lock_guard lock(mutex_);
    const base::SteadyTime now = clock_.now();
    std::erase_if(held_, [&](const Held& each) { return each.ended && now - *each.ended >= lives; });
    for (const Held& each : held_)
      (each.ended ? ended : kept).push_back(each.lease);
    ++renewals_;
    renewing_ = true;
  }
  {
    const struct Renewed {
      HeldLeases& leases;
      ~Renewed() { leases.end_renewal(); }
    } renewed{*this};
    if (!kept.empty()) (void)store.keep_leases(kept, lives);
  }
  for (const session::Lease& lease : ended) {
    if (store.end_lease(lease)) forget(lease);
  }
}

TurnLock::~TurnLock() {
  if (lease_) held_.end_later(*lease_);
}

Result<void> TurnLock::take(std::string_view tenant, std::string_view conversation) {
  session::Lease lease = session::lease_of(tenant, conversation);
  const auto taken = store_.take_lease(lease, HeldLeases::lives);
  if (!taken) {
    held_.end(store_, lease);  // the answer may be what was lost
    return taken.error();
  }
  if (!*taken) return session::conversation_locked();
  held_.add(lease);
  lease_ = std::move(lease);
  return {};
}

void TurnLock::end() {
  if (!lease_) return;
  held_.end(store_, *lease_);
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
