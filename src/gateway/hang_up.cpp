#include "gateway/hang_up.hpp"

#include <utility>

#include <boost/asio/post.hpp>

namespace tidemill::gateway {

void HangUp::if_silent_since(const std::shared_ptr<HangUp>& self, base::SteadyTime then) {
  if (self->heard_.load(std::memory_order_relaxed) < then.time_since_epoch().count()) now(self);
}

void HangUp::now(const std::shared_ptr<HangUp>& self) {
  boost::asio::post(self->executor_, [self] { self->cancellation_.cancel(); });
}

void HangUps::add(const std::shared_ptr<HangUp>& one) {
  const std::lock_guard lock(mutex_);
  one->place_ = all_.size();
  all_.push_back(one);
}

void HangUps::remove(const HangUp* one) {
  const std::lock_guard lock(mutex_);
  if (one->place_ >= all_.size() || all_[one->place_].get() != one) return;
  const size_t place = one->place_;
  all_.back()->place_ = place;
  std::swap(all_[place], all_.back());
  all_.pop_back();
}

void HangUps::end_silent(base::SteadyTime then) {
  const std::lock_guard lock(mutex_);
  for (const auto& one : all_)
    HangUp::if_silent_since(one, then);
}

void HangUps::end_all() {
  const std::lock_guard lock(mutex_);
  for (const auto& one : all_)
    HangUp::now(one);
}

}  // namespace tidemill::gateway
