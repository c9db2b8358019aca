// E-values are checked against what makes them e-values: their mean over every assignment there is.
#include "rollout/block_evidence.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "rollout/normal.hpp"

namespace tidemill::rollout {
namespace {

using Means = std::array<double, kTilts>;

// The mean of `evidence(assignment)` over all subsets of k among n.
template <typename Evidence>
Means mean_over_assignments(int n, int k, const Evidence& evidence) {
  Means sums{};
  double subsets = 0;
  for (uint32_t bits = 0; bits < uint32_t{1} << n; ++bits) {
    if (std::popcount(bits) != k) continue;
    ++subsets;
    const TiltLogs logs = evidence(bits);
    for (size_t t = 0; t < kTilts; ++t)
      sums[t] += std::exp(logs[t]);
  }
  for (double& sum : sums)
    sum /= subsets;
  return sums;
}

TiltLogs ranks(const std::vector<double>& values, uint32_t bits, Direction direction) {
  std::array<bool, kMostInBlock> canary{};
  for (size_t i = 0; i < values.size(); ++i)
    canary[i] = (bits >> i & 1) != 0;
  return rank_evidence(values, std::span(canary).first(values.size()), direction);
}

TEST(BlockEvidence, RanksHaveMeanOneOverAllAssignments) {
  for (const std::vector<double>& values :
       {std::vector<double>{3, 1}, {5, 1, 2, 9, 1e9, -4, 0.5}, {1, 1, 1, 2, 2, 0, 0, 0, 0, 0}}) {
    const int n = static_cast<int>(values.size());
    for (int k = 1; k < n; ++k) {
      for (const Direction direction : {Direction::larger, Direction::smaller}) {
        for (const double mean :
             mean_over_assignments(n, k, [&](uint32_t bits) { return ranks(values, bits, direction); }))
          EXPECT_NEAR(mean, 1, 1e-9) << n << " values, " << k << " of the canary";
      }
    }
  }
}

TEST(BlockEvidence, RanksOfOneSideAloneSayNothing) {
  EXPECT_EQ(ranks({1, 2, 3}, 0b000, Direction::larger), TiltLogs{});
  EXPECT_EQ(ranks({1, 2, 3}, 0b111, Direction::larger), TiltLogs{});
  EXPECT_EQ(ranks({}, 0, Direction::larger), TiltLogs{});
}

TEST(BlockEvidence, RanksGrowWithTheCanarysValues) {
  const std::vector<double> values = {1, 2, 3, 4, 5, 6};
  TiltLogs before;
  before.fill(-1e9);
  for (const uint32_t bits : {0b000011, 0b000101, 0b001001, 0b010100, 0b110000}) {
    const TiltLogs logs = ranks(values, bits, Direction::larger);
    for (size_t t = 0; t < kTilts; ++t)
      EXPECT_GT(logs[t], before[t]);
    before = logs;
  }
  // Mirrored values in the other direction say the same.
  const TiltLogs mirrored = ranks({-1, -2, -3, -4, -5, -6}, 0b110000, Direction::smaller);
  for (size_t t = 0; t < kTilts; ++t)
    EXPECT_NEAR(mirrored[t], before[t], 1e-12);
}

TEST(BlockEvidence, AFullBlockHasMeanOneToo) {
  // 32 values have too many subsets of 16 to count: draws instead, of the two weakest tilts, whose spread is small.
  std::mt19937_64 random(7);
  std::vector<double> values(kMostInBlock);
  for (double& value : values)
    value = static_cast<double>(random() % 20);
  std::array<bool, kMostInBlock> canary{};
  std::fill_n(canary.begin(), 16, true);
  constexpr int kDraws = 20'000;
  std::array<double, 2> sums{};
  for (int i = 0; i < kDraws; ++i) {
    std::shuffle(canary.begin(), canary.end(), random);
    const TiltLogs logs = rank_evidence(values, canary, Direction::larger);
    for (size_t t = 0; t < sums.size(); ++t)
      sums[t] += std::exp(logs[t]);
  }
  // The spread of one e-value is about tilt * sqrt(8), 0.14 and 0.28.
  EXPECT_NEAR(sums[0] / kDraws, 1, 5 * 0.15 / std::sqrt(kDraws));
  EXPECT_NEAR(sums[1] / kDraws, 1, 5 * 0.30 / std::sqrt(kDraws));
}

TEST(BlockEvidence, FailuresHaveMeanOneOverAllAssignments) {
  for (int n = 2; n <= 9; ++n) {
    for (const uint32_t failed : {0U, 1U, 0b101U & ((1U << n) - 1), (1U << n) - 1}) {
      for (int k = 1; k < n; ++k) {
        for (const Direction direction : {Direction::larger, Direction::smaller}) {
          const auto means = mean_over_assignments(n, k, [&](uint32_t bits) {
            const Failures canary = {k, std::popcount(bits & failed)};
            const Failures stable = {n - k, std::popcount(~bits & failed)};
            return failure_evidence(canary, stable, 0, direction);
          });
          for (const double mean : means)
            EXPECT_NEAR(mean, 1, 1e-9);
        }
      }
    }
  }
}

// At the limit itself the canary fails what stable would, and of the rest the share `margin` besides: then, over that
// coin and the assignment, the mean is 1.
TEST(BlockEvidence, FailuresHaveMeanOneAtTheMargin) {
  constexpr int kRequests = 7;
  constexpr uint32_t kFailed = 0b0100001;  // whichever version answers
  for (const double margin : {0.0025, 0.02, 0.2}) {
    for (const Direction direction : {Direction::larger, Direction::smaller}) {
      for (int k = 1; k < kRequests; ++k) {
        const auto means = mean_over_assignments(kRequests, k, [&](uint32_t bits) {
          const int failed = std::popcount(bits & kFailed);
          const int others = k - failed;
          Means sums{};
          for (int extra = 0; extra <= others; ++extra) {
            const double ways = std::tgamma(others + 1) / std::tgamma(extra + 1) / std::tgamma(others - extra + 1);
            const double probability = ways * std::pow(margin, extra) * std::pow(1 - margin, others - extra);
            const TiltLogs logs = failure_evidence({k, failed + extra}, {kRequests - k, 2 - failed}, margin, direction);
            for (size_t t = 0; t < kTilts; ++t)
              sums[t] += probability * std::exp(logs[t]);
          }
          TiltLogs logs;
          for (size_t t = 0; t < kTilts; ++t)
            logs[t] = std::log(sums[t]);
          return logs;
        });
        for (const double mean : means) {
          EXPECT_LE(mean, 1 + 1e-9);
          EXPECT_GE(mean, 1 - 1e-6);  // what is left out of the average is below a billionth
        }
      }
    }
  }
}

TEST(BlockEvidence, FailuresOfOneSideAloneSayNothing) {
  EXPECT_EQ(failure_evidence({0, 0}, {5, 2}, 0.01, Direction::larger), TiltLogs{});
  EXPECT_EQ(failure_evidence({5, 5}, {0, 0}, 0.01, Direction::larger), TiltLogs{});
}

TEST(Normal, QuantilesInvertTheDistribution) {
  for (const double p : {1e-9, 1e-4, 0.02, 0.024, 0.025, 0.3, 0.5, 0.8, 0.976, 0.999, 1 - 1e-6})
    EXPECT_NEAR(normal_cdf(normal_quantile(p)) / p, 1, 1e-11) << p;
  EXPECT_NEAR(normal_quantile(0.975), 1.959963984540054, 1e-12);
  EXPECT_EQ(normal_cdf(0), 0.5);
}

}  // namespace
}  // namespace tidemill::rollout
