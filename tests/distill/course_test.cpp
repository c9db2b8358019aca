// Which windows come when, and how fast weights move.
#include "distill/course.hpp"

#include <algorithm>
#include <numeric>
#include <set>

#include <gtest/gtest.h>

namespace tidemill::distill {
namespace {

std::vector<int64_t> round_of(WindowOrder& order, int64_t count, int64_t round) {
  std::vector<int64_t> windows;
  for (int64_t i = 0; i < count; ++i)
    windows.push_back(order.at(round * count + i));
  return windows;
}

TEST(WindowOrder, HasEveryWindowOnceARound) {
  for (const int64_t count : {1, 2, 7, 100}) {
    WindowOrder order(count, 3);
    for (int64_t round = 0; round < 3; ++round) {
      std::vector<int64_t> windows = round_of(order, count, round);
      std::ranges::sort(windows);
      std::vector<int64_t> all(static_cast<size_t>(count));
      std::iota(all.begin(), all.end(), 0);
      EXPECT_EQ(windows, all);
    }
  }
}

TEST(WindowOrder, DiffersByRoundAndSeed) {
  WindowOrder order(100, 3);
  WindowOrder other(100, 4);
  const auto first = round_of(order, 100, 0);
  EXPECT_NE(first, round_of(order, 100, 1));
  EXPECT_NE(first, round_of(other, 100, 0));
}

TEST(WindowOrder, IsTheSameFromAnyPlaceOn) {
  WindowOrder whole(50, 9);
  std::vector<int64_t> all;
  for (int64_t i = 0; i < 150; ++i)
    all.push_back(whole.at(i));
  for (const int64_t from : {0, 1, 49, 50, 77, 149}) {
    WindowOrder late(50, 9);
    EXPECT_EQ(late.at(from), all[static_cast<size_t>(from)]);
  }
}

TEST(Rate, RisesHoldsAndFalls) {
  constexpr int64_t steps = 1000;
  EXPECT_DOUBLE_EQ(rate_at(0, steps), 0.05);  // one of twenty steps
  EXPECT_DOUBLE_EQ(rate_at(19, steps), 1);
  EXPECT_DOUBLE_EQ(rate_at(300, steps), 1);
  EXPECT_DOUBLE_EQ(rate_at(650, steps), 0.5);
  EXPECT_NEAR(rate_at(999, steps), 0.001 / 0.7, 1e-12);
  for (int64_t step = 0; step < steps; ++step) {
    EXPECT_GT(rate_at(step, steps), 0);
    EXPECT_LE(rate_at(step, steps), 1);
  }
}

TEST(Rate, SuitsAFewStepsToo) {
  EXPECT_EQ(rate_at(0, 1), 1);
  EXPECT_GT(rate_at(1, 2), 0);
}

}  // namespace
}  // namespace tidemill::distill
