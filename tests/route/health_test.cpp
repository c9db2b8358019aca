#include "route/health.hpp"

#include <random>

#include <gtest/gtest.h>

namespace tidemill::route {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class HealthTest : public testing::Test {
 protected:
  void start(size_t backends, HealthOptions options = {}) {
    options_ = options;
    health_.emplace(options);
    for (size_t i = 0; i < backends; ++i)
      health_->add(static_cast<Backend>(i), false, now_);
    health_->advance(now_);
  }
  void advance(base::Duration by) {
    now_ += by;
    health_->advance(now_);
  }
  void serve(Backend backend, Outcome outcome) {
    const bool probe = health_->begin(backend, now_);
    health_->finish(backend, outcome, probe, now_);
  }
  void fail(Backend backend, int times) {
    for (int i = 0; i < times; ++i)
      serve(backend, Outcome::failure);
  }
  HealthState state(Backend backend) const { return health_->state(backend); }

  HealthOptions options_;
  std::optional<Health> health_;
  base::SteadyTime now_{seconds(1000)};
};

TEST_F(HealthTest, WhatIsTheClientsFaultIsNone) {
  start(3);
  for (int i = 0; i < 100; ++i)
    serve(0, Outcome::declined);
  EXPECT_EQ(state(0), HealthState::up);
  fail(0, options_.consecutive_failures - 1);
  serve(0, Outcome::declined);
  fail(0, options_.consecutive_failures - 1);
  EXPECT_EQ(state(0), HealthState::up) << "what was declined stands between them";
  fail(0, 1);
  EXPECT_EQ(state(0), HealthState::ejected);
}

TEST_F(HealthTest, ChecksTakeDownAndBringUp) {
  start(3);
  health_->check(0, false, now_);
  EXPECT_EQ(state(0), HealthState::up);
  health_->check(0, false, now_);
  EXPECT_EQ(state(0), HealthState::down);
  EXPECT_FALSE(health_->admits(0));
  health_->check(0, true, now_);
  health_->check(0, false, now_);
  health_->check(0, true, now_);
  EXPECT_EQ(state(0), HealthState::down);
  health_->check(0, true, now_);
  EXPECT_EQ(state(0), HealthState::up);
  EXPECT_TRUE(health_->admits(0));
}

TEST_F(HealthTest, TellsWhatKeepsRequestsAway) {
  start(4);
  EXPECT_EQ(health_->checks_to_go(0), 0);
  EXPECT_EQ(health_->ejected_for(1, now_), seconds(0));
  for (const bool passed : {false, false})
    health_->check(0, passed, now_);
  EXPECT_EQ(health_->checks_to_go(0), 2);
  health_->check(0, true, now_);
  EXPECT_EQ(health_->checks_to_go(0), 1);
  fail(1, 5);
  EXPECT_EQ(health_->checks_to_go(1), 0);
  EXPECT_EQ(health_->ejected_for(1, now_), seconds(5));
  EXPECT_EQ(health_->ejected_for(1, now_ + seconds(3)), seconds(2));
  EXPECT_EQ(health_->ejected_for(1, now_ + seconds(6)), seconds(0)) << "nobody has noticed yet";
  for (const Backend backend : {Backend{2}, Backend{3}}) {
    health_->check(backend, false, now_);
    health_->check(backend, false, now_);
  }
  ASSERT_TRUE(health_->panicking());
  EXPECT_EQ(health_->checks_to_go(0), 0);
  EXPECT_EQ(health_->ejected_for(1, now_), seconds(0));
}

TEST_F(HealthTest, ComesBackSlowly) {
  start(3);
  EXPECT_DOUBLE_EQ(health_->ramp(0, now_), 1);
  for (const bool passed : {false, false, true, true})
    health_->check(0, passed, now_);
  EXPECT_DOUBLE_EQ(health_->ramp(0, now_), 0.1);
  EXPECT_DOUBLE_EQ(health_->ramp(0, now_ + seconds(10)), 0.5);
  EXPECT_DOUBLE_EQ(health_->ramp(0, now_ + seconds(30)), 1);
  health_->add(3, true, now_);
  EXPECT_DOUBLE_EQ(health_->ramp(3, now_), 0.1);
}

TEST_F(HealthTest, FailuresInARowEject) {
  start(3);
  fail(0, 4);
  serve(0, Outcome::success);
  fail(0, 4);
  serve(0, Outcome::cancelled);
  EXPECT_EQ(state(0), HealthState::up);
  fail(0, 1);
  EXPECT_EQ(state(0), HealthState::ejected);
  EXPECT_FALSE(health_->admits(0));
}

TEST_F(HealthTest, AnEjectedBackendIsProbedAndComesBack) {
  start(3);
  fail(0, 5);
  advance(milliseconds(4999));
  EXPECT_EQ(state(0), HealthState::ejected);
  advance(milliseconds(1));
  EXPECT_EQ(state(0), HealthState::probing);
  EXPECT_EQ(health_->probe_due(now_), Backend{0});
  const bool probe = health_->begin(0, now_);
  EXPECT_TRUE(probe);
  EXPECT_FALSE(health_->admits(0));  // one at a time
  EXPECT_EQ(health_->probe_due(now_ + seconds(9)), std::nullopt);
  health_->finish(0, Outcome::success, probe, now_);
  EXPECT_EQ(state(0), HealthState::probing);
  serve(0, Outcome::success);
  EXPECT_EQ(state(0), HealthState::up);
  EXPECT_LT(health_->ramp(0, now_), 1);
}

TEST_F(HealthTest, EjectionsGrowAndAreForgotten) {
  start(3);
  fail(0, 5);
  for (const int length : {5, 10, 20, 40, 80, 120, 120}) {
    EXPECT_EQ(state(0), HealthState::ejected);
    advance(seconds(length) - milliseconds(1));
    EXPECT_EQ(state(0), HealthState::ejected) << length;
    advance(milliseconds(1));
    EXPECT_EQ(state(0), HealthState::probing) << length;
    fail(0, 1);
  }
  advance(seconds(120));
  serve(0, Outcome::success);
  serve(0, Outcome::success);
  EXPECT_EQ(state(0), HealthState::up);
  for (int i = 0; i < 100; ++i)
    advance(seconds(5));
  fail(0, 5);
  advance(seconds(5));
  EXPECT_EQ(state(0), HealthState::probing);
}

TEST_F(HealthTest, WhatBeganBeforeAnEjectionIsNoProbe) {
  start(3);
  const bool early = health_->begin(0, now_);
  fail(0, 5);
  advance(seconds(5));
  ASSERT_EQ(state(0), HealthState::probing);
  health_->finish(0, Outcome::failure, early, now_);
  EXPECT_EQ(state(0), HealthState::probing);
}

TEST_F(HealthTest, AnOutlierAmongPeersIsEjected) {
  start(4);
  for (int i = 0; i < 100; ++i) {
    for (Backend backend = 0; backend < 4; ++backend) {
      serve(backend, backend == 2 && i % 3 == 0 ? Outcome::failure : Outcome::success);
    }
  }
  advance(seconds(10));
  EXPECT_EQ(state(2), HealthState::ejected);
  for (const Backend backend : {0U, 1U, 3U})
    EXPECT_EQ(state(backend), HealthState::up);
}

TEST_F(HealthTest, WhereAllFailAlikeNobodyIsAnOutlier) {
  start(4);
  for (int i = 0; i < 200; ++i) {
    for (Backend backend = 0; backend < 4; ++backend)
      serve(backend, i % 3 == 0 ? Outcome::failure : Outcome::success);
  }
  advance(seconds(10));
  for (Backend backend = 0; backend < 4; ++backend)
    EXPECT_EQ(state(backend), HealthState::up);
}

TEST_F(HealthTest, EqualBackendsAreNotEjectedByChance) {
  std::mt19937 random(11);
  int ejected = 0;
  for (int trial = 0; trial < 300; ++trial) {
    start(8);
    for (int i = 0; i < 8 * 40; ++i)
      serve(random() % 8, random() % 20 == 0 ? Outcome::failure : Outcome::success);
    advance(seconds(10));
    for (Backend backend = 0; backend < 8; ++backend)
      ejected += state(backend) == HealthState::ejected ? 1 : 0;
  }
  EXPECT_LT(ejected, 300 * 8 / 100);
}

TEST_F(HealthTest, TheOnlyBackendIsNeverEjected) {
  start(1);
  fail(0, 50);
  EXPECT_EQ(state(0), HealthState::up);
  EXPECT_TRUE(health_->admits(0));
}

TEST_F(HealthTest, HalfOfThoseThatServeAModelStay) {
  start(6);
  health_->set_models(0, {"alone"});
  for (const Backend backend : {1U, 2U})
    health_->set_models(backend, {"pair"});
  for (const Backend backend : {3U, 4U})
    health_->set_models(backend, {"pair", "shared"});
  health_->set_models(5, {"shared", "own"});
  for (int round = 0; round < 3; ++round) {
    for (Backend backend = 0; backend < 6; ++backend)
      fail(backend, 20);
  }
  EXPECT_EQ(state(0), HealthState::up) << "the only one of its model";
  EXPECT_EQ(state(1), HealthState::ejected);
  EXPECT_EQ(state(2), HealthState::ejected);
  EXPECT_EQ(state(3), HealthState::up) << "two of four are out";
  EXPECT_EQ(state(4), HealthState::up);
  EXPECT_EQ(state(5), HealthState::up) << "the only one of one of its models";
}

// Where only a share of its answers fails, more than its peers' of other models.
TEST_F(HealthTest, TheOnlyOneOfAModelIsNoOutlier) {
  start(2);
  health_->set_models(0, {"a"});
  health_->set_models(1, {"b"});
  for (int i = 0; i < 100; ++i) {
    serve(0, i % 5 < 2 ? Outcome::failure : Outcome::success);
    serve(1, Outcome::success);
  }
  advance(seconds(10));
  EXPECT_EQ(state(0), HealthState::up);
}

TEST_F(HealthTest, WhoIsDownIsNoPeer) {
  start(2);
  for (int i = 0; i < 2; ++i)
    health_->check(1, false, now_);
  ASSERT_EQ(state(1), HealthState::down);
  fail(0, 20);
  EXPECT_EQ(state(0), HealthState::up) << "nobody else could be asked";
}

TEST_F(HealthTest, WhosePeersHaveGoneIsNotEjectedAgain) {
  start(2);
  fail(0, 5);
  ASSERT_EQ(state(0), HealthState::ejected);
  health_->remove(1);
  advance(seconds(5));
  ASSERT_EQ(state(0), HealthState::probing);
  serve(0, Outcome::failure);
  EXPECT_EQ(state(0), HealthState::up);
}

TEST_F(HealthTest, InAPanicTheSignsAreNotBelieved) {
  start(4);
  for (Backend backend = 0; backend < 3; ++backend) {
    for (int i = 0; i < 2; ++i)
      health_->check(backend, false, now_);
  }
  EXPECT_TRUE(health_->panicking());
  for (Backend backend = 0; backend < 4; ++backend)
    EXPECT_TRUE(health_->admits(backend));
  for (int i = 0; i < 2; ++i)
    health_->check(0, true, now_);
  EXPECT_FALSE(health_->panicking());
  EXPECT_FALSE(health_->admits(1));
}

TEST_F(HealthTest, ADrainingBackendGetsNothingNotEvenInAPanic) {
  start(2);
  health_->drain(0, now_ + seconds(3), now_);
  EXPECT_EQ(state(0), HealthState::draining);
  EXPECT_FALSE(health_->admits(0));
  for (int i = 0; i < 2; ++i)
    health_->check(1, false, now_);
  EXPECT_TRUE(health_->panicking());
  EXPECT_FALSE(health_->admits(0));
  EXPECT_TRUE(health_->admits(1));
  advance(seconds(3));
  EXPECT_EQ(state(0), HealthState::up);
  health_->drain(0, std::nullopt, now_);
  advance(seconds(1000));
  EXPECT_EQ(state(0), HealthState::draining);
  health_->undrain(0);
  EXPECT_EQ(state(0), HealthState::up);
}

TEST_F(HealthTest, ALoadingBackendGetsNothingNotEvenInAPanic) {
  start(2);
  health_->drain(0, std::nullopt, now_, Unready::loading);
  for (int i = 0; i < 2; ++i)
    health_->check(1, false, now_);
  EXPECT_TRUE(health_->panicking());
  EXPECT_EQ(state(0), HealthState::loading);
  EXPECT_FALSE(health_->admits(0));
  EXPECT_TRUE(health_->admits(1));
  health_->drain(0, std::nullopt, now_);
  EXPECT_EQ(state(0), HealthState::draining);
  health_->undrain(0);
  EXPECT_EQ(state(0), HealthState::up);
  EXPECT_TRUE(health_->admits(0));
}

TEST_F(HealthTest, OpenRequestsAreLimited) {
  start(2, {.most_open = 3});
  for (int i = 0; i < 3; ++i)
    health_->begin(0, now_);
  EXPECT_FALSE(health_->admits(0));
  EXPECT_TRUE(health_->admits(1));
  health_->finish(0, Outcome::success, false, now_);
  EXPECT_TRUE(health_->admits(0));
}

TEST_F(HealthTest, AnotherInstanceStartsAnew) {
  start(3);
  fail(0, 5);
  const bool probe = health_->begin(1, now_);
  health_->restart(0, now_);
  health_->restart(1, now_);
  EXPECT_EQ(state(0), HealthState::up);
  EXPECT_EQ(health_->open(1), 1);
  health_->finish(1, Outcome::cancelled, probe, now_);
  EXPECT_EQ(health_->open(1), 0);
}

// Backends that fail, hang, heal and vanish at random, for simulated hours: what must hold whatever happens.
TEST_F(HealthTest, HoldsItsPromisesUnderRandomTrouble) {
  for (uint32_t seed = 0; seed < 20; ++seed) {
    std::mt19937 random(seed);
    const size_t count = 1 + random() % 9;
    start(count);
    std::vector<double> failing(count);
    std::vector<base::SteadyTime> healthy_since(count, now_);
    std::vector<base::SteadyTime> served(count, now_);
    std::vector<std::pair<Backend, bool>> open;
    for (int step = 0; step < 20'000; ++step) {
      advance(milliseconds(50));
      if (random() % 400 == 0) {
        const size_t backend = random() % count;
        failing[backend] = random() % 2 == 0 ? 0.0 : static_cast<double>(random() % 100) / 100;
        healthy_since[backend] = now_;
      }
      size_t ejected = 0;
      std::vector<Backend> admitted;
      for (Backend backend = 0; backend < count; ++backend) {
        ejected += state(backend) == HealthState::ejected || state(backend) == HealthState::probing ? 1 : 0;
        if (health_->admits(backend)) admitted.push_back(backend);
      }
      ASSERT_LE(ejected, count / 2);
      ASSERT_FALSE(admitted.empty());  // nobody is draining, so there is always somebody to ask
      for (int i = 0; i < 4; ++i) {
        const auto due = health_->probe_due(now_);
        const Backend backend = due ? *due : admitted[random() % admitted.size()];
        if (!health_->admits(backend)) continue;
        const bool probe = health_->begin(backend, now_);
        served[backend] = now_;
        health_->finish(
            backend,
            static_cast<double>(random() % 1000) / 1000 < failing[backend] ? Outcome::failure : Outcome::success, probe,
            now_);
      }
      // Whoever is well gets traffic again within the longest ejection.
      for (Backend backend = 0; backend < count; ++backend) {
        if (failing[backend] == 0 && now_ - healthy_since[backend] > options_.longest_ejection + seconds(10)) {
          ASSERT_LT(now_ - served[backend], seconds(10)) << "seed " << seed << " step " << step;
        }
      }
    }
  }
}

}  // namespace
}  // namespace tidemill::route
