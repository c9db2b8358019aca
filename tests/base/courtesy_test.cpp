// Courtesy against a simulated processor: no real time passes.
#include "base/courtesy.hpp"

#include <gtest/gtest.h>

namespace tidemill::base {
namespace {

using Seconds = Courtesy::Seconds;
using std::chrono::duration_cast;

constexpr Seconds piece{50e-6};
constexpr Seconds slice{4e-3};

struct Outcome {
  double worked = 0;  // shares of the time
  double waited = 0;
};

// A thread that works without end on a processor of which it is owed `share`. It may run ahead of what it is owed by
// one slice; then the system stops it in the middle of a piece, for as long as it takes to be owed another one.
Outcome simulate(Courtesy& courtesy, double share, Seconds from, Seconds until) {
  Outcome outcome;
  Seconds now = from;
  Seconds ahead{0};
  const auto at = [](Seconds t) {
    return Courtesy::Time(duration_cast<Courtesy::Time::duration>(t + std::chrono::hours(1)));
  };
  while (now < until) {
    now += piece;
    outcome.worked += piece.count();
    ahead += (1 - share) * piece;
    if (ahead > slice / 2) {
      const Seconds stopped = ahead / share;
      now += stopped;
      ahead = Seconds(0);
      outcome.waited += stopped.count();
      courtesy.waited_for(stopped, at(now));
    }
    if (courtesy.active()) {
      if (const Seconds rest = courtesy.due(at(now)); rest.count() > 0) {
        now += rest;
        ahead = std::max(Seconds(-slice), ahead - share * rest);
        courtesy.rested(at(now));
      }
    }
  }
  outcome.worked /= (now - from).count();
  outcome.waited /= (now - from).count();
  return outcome;
}

TEST(Courtesy, LeavesAnUndisturbedThreadAlone) {
  Courtesy courtesy;
  EXPECT_FALSE(courtesy.active());
  const Outcome alone = simulate(courtesy, 1.0, Seconds(0), Seconds(10));
  EXPECT_DOUBLE_EQ(alone.waited, 0);
  EXPECT_NEAR(alone.worked, 1, 1e-6);
  EXPECT_FALSE(courtesy.active());
}

TEST(Courtesy, BearsRareDisturbances) {
  Courtesy courtesy;
  for (int i = 1; i < 1000; ++i) {  // 4 of every 100 ms
    courtesy.waited_for(Seconds(4e-3), Courtesy::Time(std::chrono::milliseconds(100 * i)));
    ASSERT_FALSE(courtesy.active()) << i;
  }
}

TEST(Courtesy, SharesAProcessorWithAlmostNoWaiting) {
  Courtesy courtesy;
  const Outcome first = simulate(courtesy, 0.5, Seconds(0), Seconds(0.2));
  EXPECT_GT(first.waited, 0.1);  // it has to be noticed first
  EXPECT_TRUE(courtesy.active());
  const Outcome settled = simulate(courtesy, 0.5, Seconds(0.2), Seconds(10));
  EXPECT_LT(settled.waited, 0.05);
  EXPECT_GT(settled.worked, 0.42);
}

TEST(Courtesy, EndsWhenTheOtherProcessDoes) {
  Courtesy courtesy;
  simulate(courtesy, 0.5, Seconds(0), Seconds(5));
  ASSERT_TRUE(courtesy.active());
  simulate(courtesy, 1.0, Seconds(5), Seconds(7));
  EXPECT_FALSE(courtesy.active());
  EXPECT_NEAR(simulate(courtesy, 1.0, Seconds(7), Seconds(8)).worked, 1, 1e-6);
}

TEST(Courtesy, NeverRestsMoreThanItIsBoundTo) {
  Courtesy courtesy;
  const Outcome starved = simulate(courtesy, 0.05, Seconds(0), Seconds(10));
  EXPECT_TRUE(courtesy.active());
  EXPECT_GT(starved.worked, 0.03);
  EXPECT_EQ(courtesy.due(Courtesy::Time()), Seconds(0));  // a clock that goes backwards
}

}  // namespace
}  // namespace tidemill::base
