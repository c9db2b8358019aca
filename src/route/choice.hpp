// The choice itself: which backend a request costs the least, everything considered.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "route/prefix_index.hpp"

namespace tidemill::route {

struct ChoiceOptions {
  // What work costs where nobody waits for it: power, and the blocks that it evicts.
  double work = 0.25;
  // How much the delay of others weighs against the request's own.
  double others = 3;
  // How much a second of work above the least of the backends, done lately, weighs.
  double balance = 0.3;
  // Candidates within this much of the cheapest are equally good, and the prompt's hash decides between them.
  double slack_seconds = 0.01;
  double slack_share = 0.05;  // of the cheapest's cost, on top
  // A session's home is believed to hold this share of the prompt, where the index knows of less.
  double session_belief = 0.25;
};

// What is asked for.
struct Demand {
  int64_t prompt_tokens = 0;
  int64_t output_tokens = 0;         // expected
  uint64_t spread_key = 0;           // requests that should meet have the same one
  std::optional<Backend> home = {};  // where the session was last served
};

// A backend as the choice sees it. Seconds are of the backend's own time.
struct Candidate {
  Backend backend = 0;
  uint64_t name_hash = 0;     // the same in every gateway, so that they agree where to spread to
  int64_t cached_tokens = 0;  // of the prompt, believed
  double tokens_per_second = 5000;
  double overhead_seconds = 0;
  double backlog_seconds = 0;
  double decode_share = 0;
  double recent_seconds = 0;
  double utilisation = 0;
  double arrivals_per_second = 0;
  int64_t kv_free_tokens = 0;
  double ramp = 1;  // (0, 1]: below 1 while it starts slowly
};

struct Ranked {
  Backend backend = 0;
  double cost = 0;            // seconds
  double ttft_seconds = 0;    // predicted
  int64_t cached_tokens = 0;  // believed
};

// Ranks all candidates, best first, into `ranked` (reused, to save allocations). The cost of a candidate is
//
//   its time to first token: (backlog + own work) / (1 - decode share), own work being what the cache lacks,
// + what it does to others: own work delays whoever comes until the backend is idle again, which is
//     arrivals * (backlog + own work) / (1 - utilisation) of them, times `others`; arrivals and utilisation are the
//     candidates' averages, as a backend's own change with every choice,
// + `work` times its own work, as that is never free,
// + what a full KV cache costs: what does not fit is computed again,
// + `balance` times the work that the backend has done lately above the least,
//
// and all of it divided by the ramp. The second term makes prefixes move as the load asks: on idle backends computing
// one again costs nobody but the request itself, so hot prefixes are replicated; on busy ones it costs everybody.
//
// Depends on nothing but its arguments. Thread-safe.
void rank(const Demand& demand, std::span<const Candidate> candidates, const ChoiceOptions& options,
          std::vector<Ranked>& ranked);

// Highest-random-weight hashing (Thaler and Ravishankar): each key has an order of backends of its own, which does not
// change among the others when one comes or goes. Larger is preferred.
uint64_t spread_score(uint64_t key, uint64_t name_hash);

}  // namespace tidemill::route
