#include "rollout/availability.hpp"

#include <chrono>

#include <gtest/gtest.h>

namespace tidemill::rollout {
namespace {

using namespace std::chrono_literals;

TEST(Availability, FallsWithFailuresAndComesBackByItself) {
  Availability of;
  base::SteadyTime now(1h);
  EXPECT_DOUBLE_EQ(of.at(now), 1);
  of.note(false, now);
  EXPECT_DOUBLE_EQ(of.at(now), 1 - 1.0 / 8) << "one failure is not much";
  for (int i = 0; i < 20; ++i)
    of.note(false, now);
  EXPECT_LT(of.at(now), 0.1);
  const double fallen = 1 - of.at(now);
  EXPECT_NEAR(1 - of.at(now + 1min), fallen / 2, 1e-12);
  EXPECT_NEAR(1 - of.at(now + 3min), fallen / 8, 1e-12);
  now += 3min;
  of.note(false, now);
  EXPECT_LT(of.at(now), 1 - fallen / 8) << "it has been tried in vain";
  for (int i = 0; i < 20; ++i)
    of.note(true, now);
  EXPECT_GT(of.at(now), 0.95);
}

TEST(Availability, IsTheShareOfRequestsThatAreAnswered) {
  Availability of;
  double sum = 0;
  int count = 0;
  for (int i = 0; i < 1000; ++i) {
    of.note(i % 10 != 0, base::SteadyTime(std::chrono::milliseconds(i)));
    if (i < 500) continue;
    sum += of.at(base::SteadyTime(std::chrono::milliseconds(i)));
    ++count;
  }
  EXPECT_NEAR(sum / count, 0.9, 0.01);
}

// Clocks of several threads are read before the lock is taken.
TEST(Availability, TimeThatGoesBackIsNoTime) {
  Availability of;
  of.note(false, base::SteadyTime(1h));
  of.note(false, base::SteadyTime(59min));
  EXPECT_NEAR(of.at(base::SteadyTime(1h)), 1 - (1 - 49.0 / 64), 1e-12);
}

}  // namespace
}  // namespace tidemill::rollout
