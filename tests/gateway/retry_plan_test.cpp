#include "gateway/retry_plan.hpp"

#include <gtest/gtest.h>

namespace tidemill::gateway {
namespace {

using namespace std::chrono_literals;
using base::Duration;
using base::SteadyTime;

const RetryOptions options{.retries = 3, .resume_window = 30s, .first_pause = 20ms, .longest_pause = 1s};

TEST(RetryPlan, AsksOthersAtOnce) {
  RetryPlan plan(options);
  const SteadyTime now{};
  for (int i = 0; i < 3; ++i)
    EXPECT_EQ(plan.after_failure(true, now, 0.5), Duration(0));
  EXPECT_EQ(plan.after_failure(true, now, 0.5), std::nullopt);
  EXPECT_EQ(plan.failures(), 4);
}

TEST(RetryPlan, PausesLongerEachRound) {
  RetryPlan plan({.retries = 100, .resume_window = 30s, .first_pause = 20ms, .longest_pause = 100ms});
  const SteadyTime now{};
  EXPECT_EQ(plan.after_failure(false, now, 0), Duration(20ms));
  EXPECT_EQ(plan.after_failure(true, now, 0), Duration(0));
  EXPECT_EQ(plan.after_failure(false, now, 1), Duration(20ms));  // 40 ms less a half
  EXPECT_EQ(plan.after_failure(false, now, 0.5), Duration(60ms));
  for (int i = 0; i < 90; ++i)
    EXPECT_EQ(plan.after_failure(false, now, 0), Duration(100ms));
}

TEST(RetryPlan, AStreamThatHasBegunIsBoundedInTimeSinceItBroke) {
  RetryPlan plan(options);
  SteadyTime now{};
  plan.note_progress();
  for (int i = 0; i < 50; ++i)
    EXPECT_TRUE(plan.after_failure(true, now, 0, false));
  now += 30s;
  EXPECT_EQ(plan.after_failure(true, now, 0, false), Duration(0));
  EXPECT_EQ(plan.after_failure(false, now, 0, false), std::nullopt);  // the pause would go past the limit
  plan.note_progress();
  EXPECT_EQ(plan.after_failure(false, now, 0), Duration(20ms));  // and the pauses begin anew
  EXPECT_EQ(plan.after_failure(true, now + 31s, 0), std::nullopt);
}

// A request that ends every backend that takes it shall not end all of them.
TEST(RetryPlan, AStreamThatNobodyGetsOnWithIsGivenUp) {
  RetryPlan plan(options);
  const SteadyTime now{};
  plan.note_progress();
  EXPECT_EQ(plan.after_failure(true, now, 0, false), Duration(0)) << "this one had said something";
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(plan.after_failure(true, now, 0), Duration(0)) << i;
    EXPECT_TRUE(plan.after_failure(true, now, 0, false)) << "one that denies it does not count";
    plan.note_work();
  }
  EXPECT_EQ(plan.after_failure(true, now, 0), std::nullopt) << "comments are no progress";
  plan.note_progress();
  for (int i = 0; i < 3; ++i)
    EXPECT_TRUE(plan.after_failure(false, now, 0));
  EXPECT_EQ(plan.after_failure(false, now, 0), std::nullopt);
}

// A long prompt may take longer to read again than the window.
TEST(RetryPlan, TheWindowBeginsWhereABackendHasWorkedLast) {
  RetryPlan plan(options);
  plan.note_progress();
  const SteadyTime broken = SteadyTime{} + 10s;
  EXPECT_EQ(plan.after_failure(true, broken, 0, false), Duration(0));
  plan.note_work();
  EXPECT_EQ(plan.after_failure(true, broken + 100s, 0), Duration(0));
  EXPECT_EQ(plan.after_failure(true, broken + 131s, 0), std::nullopt);
}

// The silence that shows it may last longer than the window.
TEST(RetryPlan, AStreamThatHungIsTakenUp) {
  RetryPlan plan(options);
  plan.note_progress();
  const SteadyTime found_out = SteadyTime{} + 60s;
  EXPECT_EQ(plan.after_failure(true, found_out, 0), Duration(0));
  EXPECT_EQ(plan.after_failure(false, found_out + 30s, 0), std::nullopt);
}

// All backends may be starting at one moment, each for a reason of its own.
TEST(RetryPlan, WaitsForAWhileWhereNobodyCanBeAsked) {
  RetryPlan plan({.patience = 2s, .first_pause = 20ms, .longest_pause = 1s});
  SteadyTime now{};
  int looks = 0;
  while (const auto pause = plan.while_nobody(now, 0)) {
    EXPECT_GT(*pause, Duration(0));
    now += *pause;
    ++looks;
  }
  EXPECT_EQ(now - SteadyTime{}, Duration(2s)) << "to the end, and no longer";
  EXPECT_GE(looks, 5);
  EXPECT_EQ(plan.after_failure(true, now, 0), Duration(0));
  EXPECT_TRUE(plan.while_nobody(now, 0));  // somebody has been asked meanwhile
  RetryPlan impatient({.patience = 0s});
  EXPECT_EQ(impatient.while_nobody(now, 0), std::nullopt);
}

// A try in between does not make the window longer.
TEST(RetryPlan, AStreamForWhichNobodyCanBeAskedHasTheWindowSinceItBroke) {
  RetryPlan plan(options);
  plan.note_progress();
  const SteadyTime broken = SteadyTime{} + 100s;
  EXPECT_EQ(plan.after_failure(true, broken, 0), Duration(0));
  EXPECT_TRUE(plan.while_nobody(broken, 0));
  EXPECT_EQ(plan.after_failure(true, broken + 20s, 0), Duration(0));
  EXPECT_TRUE(plan.while_nobody(broken + 25s, 0));
  EXPECT_EQ(plan.while_nobody(broken + 30s, 0), std::nullopt);
}

// Every backend down for as long as the window: the tries are few, and end.
TEST(RetryPlan, ADeadFleetIsAskedRarely) {
  RetryPlan plan(options);
  SteadyTime now{};
  plan.note_progress();
  int tries = 0;
  while (const auto pause = plan.after_failure(false, now, 0, false)) {
    now += *pause;
    ++tries;
  }
  EXPECT_GT(now - SteadyTime{}, Duration(28s));
  EXPECT_LE(now - SteadyTime{}, Duration(30s));
  EXPECT_LT(tries, 40);
}

}  // namespace
}  // namespace tidemill::gateway
