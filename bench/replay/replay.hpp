// Replays a trace on simulated backends in simulated time.
#pragma once

#include <cstdint>
#include <vector>

#include "replay/policies.hpp"
#include "replay/trace.hpp"

namespace tidemill::replay {

struct Restart {
  size_t backend = 0;
  double down_at = 0;  // seconds: what is open there is lost and sent elsewhere, its cache is empty from now on
  double up_at = 0;
};

struct Options {
  double window_seconds = 60;
  std::vector<Restart> restarts;
};

struct Report {
  int64_t requests = 0;
  int64_t prompt_tokens = 0;
  int64_t hit_tokens = 0;
  // Work done in seconds of each backend's own time, window by window: the busiest backend's over the mean of those
  // that were up through the window; windows count by their work (mean), or each for itself (95th percentile, worst).
  double imbalance = 0;
  double imbalance_p95 = 0;
  double imbalance_worst = 0;
  double imbalance_of_five = 0;  // the mean over five windows taken together
  double imbalance_of_all = 0;   // all windows taken together: the load imbalance factor of the run
  // Open requests, at every moment: the time integral of the most that a backend has over that of the mean.
  double imbalance_of_open = 0;
  double utilisation = 0;  // of all backends, over the whole trace
  double ttft_mean = 0;    // seconds
  double ttft_p50 = 0;
  double ttft_p99 = 0;
  int64_t resent = 0;  // requests that a restart lost

  double hit_share() const { return static_cast<double>(hit_tokens) / static_cast<double>(prompt_tokens); }
};

Report replay(const Trace& trace, const Fleet& fleet, Policy& policy, const Options& options = {});

// Tokens found in one cache that every request goes to at once. capacity_tokens 0: without limit.
int64_t single_cache_hits(const Trace& trace, int64_t capacity_tokens);

}  // namespace tidemill::replay
