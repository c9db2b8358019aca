// How long a piece of work takes: at best, or as a rule.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

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

// The median of `repeats` runs of work(i): where runs find different amounts of their data in caches, the shortest
// would be the luckiest.
template <typename Work>
double median_seconds(int64_t repeats, const Work& work) {
  std::vector<double> all;
  for (int64_t i = 0; i < repeats; ++i)
    all.push_back(best_seconds(1, [&](int64_t /*one*/) { work(i); }));
  std::nth_element(all.begin(), all.begin() + repeats / 2, all.end());
  return all[static_cast<size_t>(repeats / 2)];
}

}  // namespace tidemill::bench
