#include "route/prefill_speed.hpp"

#include <random>

#include <gtest/gtest.h>

namespace tidemill::route {
namespace {

TEST(PrefillSpeed, StartsFromItsGuess) {
  const PrefillSpeed speed(5000, 0.02);
  EXPECT_DOUBLE_EQ(speed.tokens_per_second(), 5000);
  EXPECT_DOUBLE_EQ(speed.seconds(5000), 1.02);
}

TEST(PrefillSpeed, LearnsRateAndOverhead) {
  std::mt19937 random(1);
  PrefillSpeed speed(5000, 0.02);
  for (int i = 0; i < 400; ++i) {
    const double tokens = static_cast<double>(random() % 20000);
    speed.observe(tokens, 0.1 + tokens / 12000);
  }
  EXPECT_NEAR(speed.tokens_per_second(), 12000, 120);
  EXPECT_NEAR(speed.overhead_seconds(), 0.1, 0.01);
  EXPECT_EQ(speed.observed(), 400U);
}

TEST(PrefillSpeed, FollowsAChange) {
  std::mt19937 random(2);
  PrefillSpeed speed(5000, 0);
  const auto feed = [&](double rate) {
    for (int i = 0; i < 400; ++i) {
      const double tokens = 100 + static_cast<double>(random() % 10000);
      speed.observe(tokens, tokens / rate);
    }
  };
  feed(2000);
  EXPECT_NEAR(speed.tokens_per_second(), 2000, 40);
  feed(8000);
  EXPECT_NEAR(speed.tokens_per_second(), 8000, 160);
}

// Prompts that are served together: the first one's time is all of theirs, and the others' none.
TEST(PrefillSpeed, IsRightOnAverageAboutPromptsServedTogether) {
  std::mt19937 random(3);
  PrefillSpeed speed(5000, 0);
  for (int i = 0; i < 400; ++i) {
    double together = 0;
    const double share = 500 + static_cast<double>(random() % 8000);
    for (int j = 0; j < 4; ++j)
      together += share;
    speed.observe(share, together / 6000);
    for (int j = 1; j < 4; ++j)
      speed.observe(share, 0);
  }
  EXPECT_NEAR(speed.tokens_per_second(), 6000, 600);
}

TEST(PrefillSpeed, SurvivesOddSights) {
  PrefillSpeed speed(5000, 0.02);
  for (int i = 0; i < 100; ++i)
    speed.observe(0, 0);
  EXPECT_GT(speed.tokens_per_second(), 0);
  for (int i = 0; i < 100; ++i)
    speed.observe(1000, 0);
  EXPECT_GT(speed.tokens_per_second(), 0);
  EXPECT_LE(speed.tokens_per_second(), 1e7);
  for (int i = 0; i < 100; ++i)
    speed.observe(1, 1e6);
  EXPECT_GT(speed.tokens_per_second(), 0);
  for (int i = 0; i < 100; ++i)
    speed.observe(-5, -5);
  EXPECT_GE(speed.overhead_seconds(), 0);
  EXPECT_GT(speed.seconds(100), 0);
}

}  // namespace
}  // namespace tidemill::route
