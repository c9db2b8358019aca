#include "route/choice.hpp"

#include <algorithm>

namespace tidemill::route {

namespace {

constexpr double kMostUtilisation = 0.9;

// What the candidates have in common.
struct Pool {
  double least_recent = 0;
  double arrivals_per_second = 0;  // for each token a second that a backend prefills
  double utilisation = 0;
};

Pool pool(std::span<const Candidate> candidates) {
  Pool pool{.least_recent = candidates.front().recent_seconds};
  double speed = 0;
  for (const Candidate& candidate : candidates) {
    pool.least_recent = std::min(pool.least_recent, candidate.recent_seconds);
    pool.arrivals_per_second += candidate.arrivals_per_second;
    pool.utilisation += candidate.utilisation;
    speed += candidate.tokens_per_second;
  }
  pool.arrivals_per_second /= speed;
  pool.utilisation /= static_cast<double>(candidates.size());
  return pool;
}

Ranked price(const Demand& demand, const Candidate& candidate, const Pool& pool, const ChoiceOptions& options) {
  int64_t cached = candidate.cached_tokens;
  if (demand.home == candidate.backend) {
    cached = std::max(cached, static_cast<int64_t>(options.session_belief * static_cast<double>(demand.prompt_tokens)));
  }
  const auto uncached = static_cast<double>(std::max<int64_t>(demand.prompt_tokens - cached, 0));
  const double own = candidate.overhead_seconds + uncached / candidate.tokens_per_second;
  const double busy = candidate.backlog_seconds + own;
  const double ttft = busy / (1 - candidate.decode_share);
  const double delayed = pool.arrivals_per_second * candidate.tokens_per_second * busy /
                         (1 - std::min(pool.utilisation, kMostUtilisation));
  // A prompt of which a part is cached needs room for the rest alone.
  const double needed = uncached + static_cast<double>(demand.output_tokens);
  const double lacking = std::max(needed - static_cast<double>(candidate.kv_free_tokens), 0.0);
  const double above = candidate.recent_seconds - pool.least_recent;
  const double cost = ttft + own * (options.work + options.others * delayed) + lacking / candidate.tokens_per_second +
                      options.balance * above;
  return {.backend = candidate.backend,
          .cost = cost / candidate.ramp,
          .ttft_seconds = ttft,
          .cached_tokens = candidate.cached_tokens};
}

}  // namespace

uint64_t spread_score(uint64_t key, uint64_t name_hash) {
  // SplitMix64's finaliser over both.
  uint64_t mixed = key ^ (name_hash * 0x9E3779B97F4A7C15U);
  mixed = (mixed ^ (mixed >> 30U)) * 0xBF58476D1CE4E5B9U;
  mixed = (mixed ^ (mixed >> 27U)) * 0x94D049BB133111EBU;
  return mixed ^ (mixed >> 31U);
}

void rank(const Demand& demand, std::span<const Candidate> candidates, const ChoiceOptions& options,
          std::vector<Ranked>& ranked) {
  ranked.clear();
  if (candidates.empty()) return;
  const Pool common = pool(candidates);
  for (const Candidate& candidate : candidates)
    ranked.push_back(price(demand, candidate, common, options));

  // Of those that are as good as the cheapest, the one that the key prefers comes first; the others follow by cost.
  const double cheapest = std::ranges::min(ranked, {}, &Ranked::cost).cost;
  const double good = cheapest * (1 + options.slack_share) + options.slack_seconds;
  size_t first = 0;
  uint64_t best = 0;
  bool found = false;
  for (size_t i = 0; i < ranked.size(); ++i) {
    if (ranked[i].cost > good) continue;
    const uint64_t score = spread_score(demand.spread_key, candidates[i].name_hash);
    if (found && score <= best) continue;
    found = true;
    best = score;
    first = i;
  }
  std::swap(ranked.front(), ranked[first]);
  std::sort(ranked.begin() + 1, ranked.end(), [](const Ranked& a, const Ranked& b) {
    return a.cost != b.cost ? a.cost < b.cost : a.backend < b.backend;
  });
}

}  // namespace tidemill::route
