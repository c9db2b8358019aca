#include "base/clock.hpp"

namespace tidemill::base {

SteadyTime SystemClock::now() const {
  return std::chrono::steady_clock::now();
}
WallTime SystemClock::wall_now() const {
  return std::chrono::system_clock::now();
}

const SystemClock& SystemClock::instance() {
  static const SystemClock clock;
  return clock;
}

SteadyTime ManualClock::now() const {
  const std::lock_guard lock(mutex_);
  return steady_;
}

WallTime ManualClock::wall_now() const {
  const std::lock_guard lock(mutex_);
  return wall_;
}

void ManualClock::advance(Duration by) {
  const std::lock_guard lock(mutex_);
  steady_ += by;
  wall_ += by;
}

}  // namespace tidemill::base
