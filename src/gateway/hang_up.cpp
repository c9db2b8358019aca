#include "gateway/hang_up.hpp"

#include <algorithm>
#include <utility>

#include <boost/asio/post.hpp>

namespace tidemill::gateway {

void HangUp::if_silent_since(const std::shared_ptr<HangUp>& self, base::SteadyTime then) {
  if (self->heard_.load(std::memory_order_relaxed) >= then.time_since_epoch().count()) return;
  boost::asio::post(self->executor_, [self] { self->cancellation_.cancel(); });
}

void HangUps::add(const std::shared_ptr<HangUp>& one) {
  const std::lock_guard lock(mutex_);
  all_.push_back(one);
}

void HangUps::remove(const HangUp* one) {
  const std::lock_guard lock(mutex_);
  const auto found = std::find_if(all_.begin(), all_.end(), [one](const auto& other) { return other.get() == one; });
  if (found == all_.end()) return;
  std::swap(*found, all_.back());
  all_.pop_back();
}

void HangUps::end_silent(base::SteadyTime then) {
  const std::lock_guard lock(mutex_);
  for (const auto& one : all_)
    HangUp::if_silent_since(one, then);
}

}  // namespace tidemill::gateway
