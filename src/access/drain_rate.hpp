// How fast a queue drains, measured while something waits in it.
#pragma once

#include <cmath>
#include <optional>

#include "base/clock.hpp"

namespace tidemill::access {

// Work per second over about the last ten seconds in which something waited. Not thread-safe.
class DrainRate {
 public:
  // To be called before the queue changes, with whether anything waits.
  void pass(base::SteadyTime now, bool waited) {
    const double passed = base::seconds(now - last_);
    last_ = now;
    waited_ = waited;
    if (!waited || passed <= 0) return;
    const double kept = std::exp(-passed / memory_seconds);
    work_ *= kept;
    seconds_ = seconds_ * kept + passed;
  }
  // What leaves the queue. What goes straight through an empty one says nothing of the rate.
  void drained(double work) {
    if (waited_) work_ += work;
  }
  // nullopt: too little was seen.
  std::optional<double> per_second() const {
    if (seconds_ < 0.5 || work_ <= 0) return std::nullopt;
    return work_ / seconds_;
  }

 private:
  static constexpr double memory_seconds = 10;
  base::SteadyTime last_{};
  bool waited_ = false;
  double work_ = 0;
  double seconds_ = 0;
};

}  // namespace tidemill::access
