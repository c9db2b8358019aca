// How likely a model is to answer at all, as its latest requests tell: what a server that is down for a minute does to
// a choice, without what is known of its model's quality being touched.
#pragma once

#include "base/clock.hpp"

namespace tidemill::rollout {

// Of one model, at one gateway. Not thread-safe. Each request moves the estimate by an eighth of the way to what came
// of it, and while nothing is heard it goes back to 1, half of the way a minute: so a model that fails is chosen less
// after a few requests, and is tried again later.
class Availability {
 public:
  void note(bool answered, base::SteadyTime now);
  // 0 to 1; 1 at first.
  double at(base::SteadyTime now) const;

 private:
  double missing_ = 0;
  base::SteadyTime noted_{};
};

}  // namespace tidemill::rollout
