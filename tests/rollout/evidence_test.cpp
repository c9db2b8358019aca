#include "rollout/evidence.hpp"

#include <cmath>
#include <random>

#include <gtest/gtest.h>

namespace tidemill::rollout {
namespace {

TiltLogs filled(double log) {
  TiltLogs logs;
  logs.fill(log);
  return logs;
}

TEST(Evidence, BeginsWithACapitalOfOne) {
  EXPECT_NEAR(Evidence().log_capital(), 0, 1e-12);
}

TEST(Evidence, BlocksThatSayNothingLeaveTheCapital) {
  Evidence evidence;
  for (int i = 0; i < 1000; ++i)
    evidence.add({});
  EXPECT_NEAR(evidence.log_capital(), 0, 1e-9);
}

TEST(Evidence, MultipliesWhatIsStaked) {
  Evidence evidence;
  evidence.add(filled(std::log(3)));
  // Half was staked; of the other half, all but 1 / (1 + ln 2).
  const double kept = 1 / (1 + std::log(2));
  EXPECT_NEAR(evidence.log_capital(), std::log((3 + 3 * (1 - kept) + kept) / 2), 1e-12);
}

TEST(Evidence, PeersCountAsThoughTheirDataWereHere) {
  Evidence one;
  Evidence two;
  Evidence both;
  for (int i = 0; i < 20; ++i) {
    const TiltLogs logs = filled(0.4);
    (i % 2 == 0 ? one : two).add(logs);
    both.add(logs);
  }
  // The first half is the same product; the second, which each has to itself, is small beside it.
  EXPECT_NEAR(one.log_capital(two.logs()), two.log_capital(one.logs()), 0.01);
  EXPECT_GT(one.log_capital(two.logs()), one.log_capital() + 3.5);
  EXPECT_LE(one.log_capital(two.logs()), both.log_capital());
}

TEST(Evidence, FindsAChangeThatComesLate) {
  const auto blocks_to_find = [](int quiet) {
    Evidence evidence;
    for (int i = 0; i < quiet; ++i)
      evidence.add(filled(-0.05));
    int blocks = 0;
    while (evidence.log_capital() < std::log(1000) && blocks < 100'000) {
      evidence.add(filled(0.1));
      ++blocks;
    }
    return blocks;
  };
  const int at_once = blocks_to_find(0);
  EXPECT_LT(at_once, 80);
  // The half that was staked at first would take 50,000 blocks to recover.
  EXPECT_LT(blocks_to_find(100'000), 4 * at_once);
}

// Ville's inequality, for the whole: of processes that bet on a fair coin, as often as they like to look.
TEST(Evidence, RarelyGrowsWhereThereIsNothing) {
  std::mt19937_64 random(3);
  constexpr int kRuns = 4'000;
  int crossed = 0;
  for (int run = 0; run < kRuns; ++run) {
    Evidence evidence;
    for (int block = 0; block < 300; ++block) {
      const bool heads = (random() & 1) != 0;
      TiltLogs logs;
      for (size_t t = 0; t < kTilts; ++t)
        logs[t] = std::log(1 + (heads ? 0.15 : -0.15) * static_cast<double>(t + 1));
      evidence.add(logs);
      if (evidence.log_capital() >= std::log(20)) {
        ++crossed;
        break;
      }
    }
  }
  EXPECT_LT(crossed, kRuns * 0.05);
  EXPECT_GT(crossed, kRuns * 0.005);  // it does look
}

TEST(Evidence, OverwhelmingEvidenceStaysANumber) {
  Evidence evidence;
  for (int i = 0; i < 10'000; ++i)
    evidence.add(filled(50));
  EXPECT_TRUE(std::isfinite(evidence.log_capital()));
  EXPECT_GT(evidence.log_capital(), 400);
}

}  // namespace
}  // namespace tidemill::rollout
