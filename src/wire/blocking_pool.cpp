#include "wire/blocking_pool.hpp"

namespace tidemill::wire {

bool BlockingPool::begin() {
  const std::lock_guard lock(mutex_);
  if (closed_) return false;
  ++jobs_;
  return true;
}

void BlockingPool::end() {
  const std::lock_guard lock(mutex_);
  if (--jobs_ == 0) changed_.notify_all();
}

void BlockingPool::close() {
  {
    std::unique_lock lock(mutex_);
    closed_ = true;
    changed_.wait(lock, [this] { return jobs_ == 0; });
  }
  // The last of a job holds its connection's executor still: that must outlive it.
  pool_.join();
}

}  // namespace tidemill::wire
