#include "rollout/block_evidence.hpp"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "rollout/normal.hpp"

namespace tidemill::rollout {
namespace {

constexpr size_t kSizes = kMostInBlock + 1;
// Of the normal scores: what is best against a shift of `shift` in the logarithm of a value whose logarithm has the
// standard deviation `sigma` is shift / sigma.
constexpr std::array<double, kTilts> kRankTilts = {0.05, 0.1, 0.2, 0.4, 0.8, 1.6};
// Of a failure: the logarithm of the odds ratio that it is best against.
constexpr std::array<double, kTilts> kFailureTilts = {0.35, 0.7, 1.4, 2.1, 2.8, 4.0};

struct RankTables {
  std::array<std::array<double, kMostInBlock>, kSizes> scores{};                        // [values][rank]
  std::array<std::array<std::array<double, kSizes>, kSizes>, kTilts> log_normaliser{};  // [tilt][values][canary's]
};

// For every k the mean of exp(tilt * the sum of scores) over the subsets of k: an elementary symmetric polynomial over
// their number, built up one score at a time. Means rather than sums keep the numbers small.
void fill_normalisers(std::span<const double> scores, double tilt, std::span<double> log_mean) {
  std::vector<double> mean(scores.size() + 1, 0.0);
  mean[0] = 1;
  for (size_t i = 0; i < scores.size(); ++i) {
    const double weight = std::exp(tilt * scores[i]);
    const auto n = static_cast<double>(i + 1);
    for (size_t k = i + 1; k >= 1; --k) {
      const double with = static_cast<double>(k) / n;  // the share of subsets that hold score i
      mean[k] = with * weight * mean[k - 1] + (1 - with) * mean[k];
    }
  }
  for (size_t k = 0; k <= scores.size(); ++k)
    log_mean[k] = std::log(mean[k]);
}

RankTables make_rank_tables() {
  RankTables tables;
  for (size_t n = 1; n < kSizes; ++n) {
    for (size_t rank = 0; rank < n; ++rank)
      tables.scores[n][rank] = normal_quantile((static_cast<double>(rank) + 0.5) / static_cast<double>(n));
    for (size_t t = 0; t < kTilts; ++t)
      fill_normalisers(std::span(tables.scores[n]).first(n), kRankTilts[t], tables.log_normaliser[t][n]);
  }
  return tables;
}

const RankTables& rank_tables() {
  static const RankTables tables = make_rank_tables();
  return tables;
}

using Binomials = std::array<std::array<double, kSizes>, kSizes>;

constexpr Binomials make_binomials() {
  Binomials choose{};
  for (size_t n = 0; n < kSizes; ++n) {
    choose[n][0] = 1;
    for (size_t k = 1; k <= n; ++k)
      choose[n][k] = choose[n - 1][k - 1] + (k < n ? choose[n - 1][k] : 0);
  }
  return choose;
}

constexpr Binomials kChoose = make_binomials();

// exp(tilt * failures) for every tilt.
using Powers = std::array<std::array<double, kSizes>, kTilts>;

Powers make_powers(double sign) {
  Powers powers{};
  for (size_t t = 0; t < kTilts; ++t) {
    for (size_t f = 0; f < kSizes; ++f)
      powers[t][f] = std::exp(sign * kFailureTilts[t] * static_cast<double>(f));
  }
  return powers;
}

const Powers& powers(Direction direction) {
  static const Powers larger = make_powers(1);
  static const Powers smaller = make_powers(-1);
  return direction == Direction::larger ? larger : smaller;
}

// Adds `probability` times the e-values of `failed` failures of the canary, `all` of both, to `sums`.
void add_failures(size_t requests, size_t canary, size_t failed, size_t all, double probability, const Powers& power,
                  std::array<double, kTilts>& sums) {
  std::array<double, kTilts> expected{};
  const size_t least = all > requests - canary ? all - (requests - canary) : 0;
  for (size_t f = least; f <= std::min(all, canary); ++f) {
    const double ways = kChoose[all][f] * kChoose[requests - all][canary - f];
    for (size_t t = 0; t < kTilts; ++t)
      expected[t] += ways * power[t][f];
  }
  for (size_t t = 0; t < kTilts; ++t)
    sums[t] += probability * power[t][failed] * kChoose[requests][canary] / expected[t];
}

}  // namespace

TiltLogs rank_evidence(std::span<const double> values, std::span<const bool> canary, Direction direction) {
  assert(values.size() <= kMostInBlock && values.size() == canary.size());
  TiltLogs logs{};
  const size_t n = values.size();
  const auto k = static_cast<size_t>(std::ranges::count(canary, true));
  if (k == 0 || k == n) return logs;
  std::array<uint8_t, kMostInBlock> order;
  for (size_t i = 0; i < n; ++i)
    order[i] = static_cast<uint8_t>(i);
  std::sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(n),
            [&](uint8_t a, uint8_t b) { return values[a] != values[b] ? values[a] < values[b] : a < b; });
  const RankTables& tables = rank_tables();
  double sum = 0;
  for (size_t rank = 0; rank < n; ++rank)
    if (canary[order[rank]]) sum += tables.scores[n][rank];
  // The scores are symmetric about 0, and so one normaliser serves both directions.
  if (direction == Direction::smaller) sum = -sum;
  for (size_t t = 0; t < kTilts; ++t)
    logs[t] = kRankTilts[t] * sum - tables.log_normaliser[t][n][k];
  return logs;
}

TiltLogs failure_evidence(Failures canary, Failures stable, double margin, Direction direction) {
  assert(canary.requests + stable.requests <= static_cast<int>(kMostInBlock));
  TiltLogs logs{};
  if (canary.requests == 0 || stable.requests == 0) return logs;
  const size_t requests = static_cast<size_t>(canary.requests) + static_cast<size_t>(stable.requests);
  const auto failed = static_cast<size_t>(canary.failed);
  const size_t both = failed + static_cast<size_t>(stable.failed);
  const size_t succeeded = static_cast<size_t>(stable.requests) - static_cast<size_t>(stable.failed);
  const Powers& power = powers(direction);
  std::array<double, kTilts> sums{};
  double probability = std::pow(1 - margin, static_cast<double>(succeeded));  // of `added` failures
  for (size_t added = 0; added <= succeeded; ++added) {
    // What is left out makes the e-value smaller, never larger.
    if (probability > 1e-9)
      add_failures(requests, static_cast<size_t>(canary.requests), failed, both + added, probability, power, sums);
    probability *= margin / (1 - margin) * static_cast<double>(succeeded - added) / static_cast<double>(added + 1);
  }
  for (size_t t = 0; t < kTilts; ++t)
    logs[t] = std::log(sums[t]);
  return logs;
}

}  // namespace tidemill::rollout
