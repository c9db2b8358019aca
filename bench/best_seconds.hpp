// How long a piece of work takes at best.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/clock.hpp"

namespace tidemill::bench {

// The shortest of `repeats` runs of work(i): on a busy machine, one that nobody disturbed.
template <typename Work>
double best_seconds(int64_t repeats, const Work& work) {
  double best = 1e9;
  for (int64_t i = 0; i < repeats; ++i) {
    const base::SteadyTime start = base::SystemClock::instance().now();
    work(i);
    best = std::min(best, base::seconds(base::SystemClock::instance().now() - start));
  }
  return best;
}

}  // namespace tidemill::bench
