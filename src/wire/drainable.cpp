#include "wire/drainable.hpp"

namespace tidemill::wire {

void Drainable::start_draining() {
  const std::lock_guard lock(mutex_);  // so that who enters later sees it
  draining_.store(true, std::memory_order_release);
}

void Drainable::enter() {
  const std::lock_guard lock(mutex_);
  ++active_;
}

void Drainable::leave() {
  const std::lock_guard lock(mutex_);
  if (--active_ == 0) unused_.notify_all();
}

bool Drainable::wait_for_requests(base::Duration limit) {
  std::unique_lock lock(mutex_);
  unused_.wait_for(lock, limit, [this] { return active_ == 0 || hurried(); });
  return active_ == 0;
}

void Drainable::hurry() {
  {
    const std::lock_guard lock(mutex_);
    hurried_.store(true, std::memory_order_release);
  }
  unused_.notify_all();
}

bool Drainable::wait_until_unused(base::Duration limit) {
  std::unique_lock lock(mutex_);
  return unused_.wait_for(lock, limit, [this] { return active_ == 0; });
}

}  // namespace tidemill::wire
