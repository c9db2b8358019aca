// Rollouts in simulated time under traffic as it is: latencies with heavy tails and two modes (what is cached and what
// is not), correlated in time, with bursts and incidents that hit both versions, and a tide.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "rollout/canary.hpp"

namespace tidemill::rollout::simulation {

// How the canary differs from the stable version, whatever the request.
struct Difference {
  double ttft = 1;     // times
  double itl = 1;      // times
  double length = 1;   // times
  double failing = 0;  // of the requests that stable answers
  int64_t from = 0;    // the request from which on it does; the versions are equal until then
};

struct Traffic {
  double rate = 500;      // requests a second
  bool ideal = false;     // independent lognormal latencies, no failures: what textbooks assume
  bool sessions = false;  // of 12 requests on average, each with habits of its own, that stay with a version
};

struct Outcome {
  Phase phase = Phase::running;
  std::optional<Check> reason;
  int64_t requests = 0;         // of both versions, until it ended
  int64_t canary_requests = 0;  // likewise, the canary's
  double seconds = 0;           // likewise
};

// One rollout, until it ends or `most` requests have been answered. Deterministic by `seed`.
Outcome simulate(const CanaryOptions& options, const Traffic& traffic, const Difference& difference, uint64_t seed,
                 int64_t most);

// The q-quantile (0 to 1) of values, which must not be empty.
double quantile(std::vector<double> values, double q);

}  // namespace tidemill::rollout::simulation
