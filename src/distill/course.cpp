#include "distill/course.hpp"

#include <algorithm>
#include <cassert>
#include <numeric>

#include "distill/random.hpp"

namespace tidemill::distill {

namespace {

constexpr double kRisen = 0.02;
constexpr double kHeld = 0.3;

}  // namespace

int64_t WindowOrder::at(int64_t place) {
  const int64_t round = place / count_;
  if (round != round_) {
    round_ = round;
    order_.resize(static_cast<size_t>(count_));
    std::iota(order_.begin(), order_.end(), 0);
    for (int64_t i = count_ - 1; i > 0; --i) {
      const uint64_t other =
          drawn(seed_, static_cast<uint64_t>(round), static_cast<uint64_t>(i)) % static_cast<uint64_t>(i + 1);
      std::swap(order_[static_cast<size_t>(i)], order_[other]);
    }
  }
  return order_[static_cast<size_t>(place % count_)];
}

double rate_at(int64_t step, int64_t steps) {
  assert(step >= 0 && step < steps);
  const double at = static_cast<double>(step) / static_cast<double>(steps);
  const double rise = static_cast<double>(step + 1) / (kRisen * static_cast<double>(steps));
  return std::min({1.0, rise, (1 - at) / (1 - kHeld)});
}

}  // namespace tidemill::distill
