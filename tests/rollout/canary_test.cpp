#include "rollout/canary.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "rollout/simulated_rollout.hpp"
#include "sanitized.hpp"

namespace tidemill::rollout {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr base::SteadyTime kStart{};

std::unique_ptr<Canary> made(CanaryOptions options) {
  auto canary = Canary::create(std::move(options), kStart);
  EXPECT_TRUE(canary) << (canary ? "" : canary.error().to_string());
  return std::move(canary).value();
}

// Sends requests until something happens, one a millisecond; `observation(arm, index)` says how they end.
template <typename Observe>
Event drive(Canary& canary, int most, const Observe& observation, int& sent) {
  for (int i = 0; i < most; ++i, ++sent) {
    const Assignment assignment = canary.assign("request-" + std::to_string(sent));
    const Event event = canary.observe(assignment, observation(assignment.arm, sent), kStart + milliseconds(sent));
    if (event != Event::none) return event;
  }
  return Event::none;
}

Observation good(Arm /*arm*/, int index) {
  return {.ttft = 0.1 + 0.01 * (index % 17), .itl = 0.01 + 0.001 * (index % 7), .output_tokens = 50.0 + index % 31};
}

TEST(Canary, AdvancesStepByStepAndIsPromoted) {
  const auto canary = made({.name = "r"});
  int sent = 0;
  std::vector<double> shares;
  for (int events = 0; events < 4; ++events) {
    shares.push_back(canary->status().share);
    const Event event = drive(*canary, 100'000, good, sent);
    ASSERT_EQ(event, events < 3 ? Event::advanced : Event::promoted) << canary->status().message;
  }
  EXPECT_EQ(shares, (std::vector{0.01, 0.05, 0.25, 0.5}));
  const CanaryStatus status = canary->status();
  EXPECT_EQ(status.phase, Phase::promoted);
  EXPECT_EQ(status.share, 1);
  EXPECT_GE(status.canary.requests, 40 + 100 + 400 + 400);
  for (int i = 0; i < 100; ++i)
    EXPECT_EQ(canary->assign(std::to_string(i)).arm, Arm::canary);
}

TEST(Canary, GrowingSharesKeepWhoIsThere) {
  const auto canary = made({.name = "r"});
  int sent = 0;
  std::vector<bool> with(5'000, false);
  do {
    for (size_t i = 0; i < with.size(); ++i) {
      const Assignment assignment = canary->assign("session-" + std::to_string(i));
      canary->abandon(assignment, kStart + milliseconds(sent));
      const bool now = assignment.arm == Arm::canary;
      EXPECT_TRUE(now || !with[i]);
      with[i] = now;
    }
  } while (drive(*canary, 100'000, good, sent) == Event::advanced);
  EXPECT_EQ(canary->status().phase, Phase::promoted);
}

TEST(Canary, GoesBackAtOnceWhenAllFails) {
  const auto canary = made({.name = "r"});
  int sent = 0;
  const Event event = drive(
      *canary, 10'000, [](Arm arm, int i) { return arm == Arm::canary ? Observation{.failed = true} : good(arm, i); },
      sent);
  EXPECT_EQ(event, Event::rolled_back);
  const CanaryStatus status = canary->status();
  EXPECT_EQ(status.reason, Check::failures);
  EXPECT_LE(status.canary.requests, 8);
  EXPECT_EQ(status.share, 0);
  EXPECT_NE(status.message.find("error_rate is worse than tolerated"), std::string::npos) << status.message;
  for (int i = 0; i < 1000; ++i)
    EXPECT_EQ(canary->assign(std::to_string(i)).arm, Arm::stable);
  // It stays back, whatever is observed still.
  EXPECT_EQ(canary->observe({.arm = Arm::canary}, good(Arm::canary, 1), kStart + seconds(100)), Event::none);
}

TEST(Canary, FailuresOfBothAreNobodysFault) {
  const auto canary = made({.name = "r"});
  int sent = 0;
  for (int step = 0; step < 4; ++step) {
    const Event event = drive(
        *canary, 200'000,
        [](Arm arm, int i) { return i / 300 % 4 == 0 && i % 3 != 0 ? Observation{.failed = true} : good(arm, i); },
        sent);
    ASSERT_EQ(event, step < 3 ? Event::advanced : Event::promoted) << canary->status().message;
  }
}

TEST(Canary, NamesWhatIsWorse) {
  const auto reason = [](auto change) {
    const auto canary = made({.name = "r"});
    int sent = 0;
    Event event = Event::advanced;
    while (event == Event::advanced)
      event = drive(
          *canary, 300'000,
          [&](Arm arm, int i) {
            Observation o = good(arm, i);
            if (arm == Arm::canary) change(o);
            return o;
          },
          sent);
    return canary->status().reason;
  };
  EXPECT_EQ(reason([](Observation& o) { o.ttft *= 1.3; }), Check::ttft);
  EXPECT_EQ(reason([](Observation& o) { o.itl *= 1.3; }), Check::itl);
  EXPECT_EQ(reason([](Observation& o) { o.output_tokens *= 1.6; }), Check::longer);
  EXPECT_EQ(reason([](Observation& o) { o.output_tokens /= 1.6; }), Check::shorter);
  EXPECT_EQ(reason([](Observation& o) { o.ttft *= 1.01; }), std::nullopt);
}

TEST(Canary, WhatStableReportsTheCanaryMustReport) {
  const auto canary = made({.name = "r"});
  int sent = 0;
  const Event event = drive(
      *canary, 50'000,
      [](Arm arm, int i) {
        Observation o = good(arm, i);
        if (arm == Arm::canary) o.itl = 0;
        return o;
      },
      sent);
  EXPECT_EQ(event, Event::none);
  const CanaryStatus status = canary->status();
  EXPECT_EQ(status.step, 0U);
  for (const CheckStatus& check : status.checks)
    EXPECT_EQ(check.cleared, check.check != Check::itl) << to_string(check.check);
}

TEST(Canary, WhatNobodyReportsIsNotAskedFor) {
  const auto canary = made({.name = "r"});
  int sent = 0;
  Event event = Event::advanced;
  while (event == Event::advanced)
    event = drive(
        *canary, 100'000, [](Arm /*arm*/, int i) { return Observation{.ttft = 0.1 + 0.01 * (i % 17)}; }, sent);
  EXPECT_EQ(event, Event::promoted);
}

TEST(Canary, StepsLastTheirTime) {
  CanaryOptions options{.name = "r"};
  options.steps.front().min_time = seconds(60);
  const auto canary = made(options);
  int sent = 0;
  EXPECT_EQ(drive(*canary, 59'000, good, sent), Event::none);
  EXPECT_EQ(drive(*canary, 2'000, good, sent), Event::advanced);
}

// What ends in the first moments of a step is what was answered fast, of the slower version the least.
TEST(Canary, NothingIsClearedBeforeAStepHasSettled) {
  constexpr int kSeconds = 40;  // that an answer takes
  const auto canary = made({.name = "r", .steps = {{.share = 0.25}}});
  std::vector<Assignment> assigned;
  const auto send = [&](int i) {
    assigned.push_back(canary->assign("request-" + std::to_string(i)));
    const int ends = i - kSeconds * 1000;
    if (ends < 0) return Event::none;
    Observation o = good(assigned[static_cast<size_t>(ends)].arm, ends);
    o.seconds = kSeconds;
    return canary->observe(assigned[static_cast<size_t>(ends)], o, kStart + milliseconds(i));
  };
  int sent = 0;
  for (; sent < 60'000; ++sent)  // half as long again as the first answers take
    ASSERT_EQ(send(sent), Event::none);
  EXPECT_GT(canary->status().canary.requests, 100);
  for (const CheckStatus& check : canary->status().checks)
    EXPECT_LT(check.clearance, 0.01) << to_string(check.check);
  Event event = Event::none;
  for (; sent < 120'000 && event == Event::none; ++sent)
    event = send(sent);
  EXPECT_EQ(event, Event::promoted);
}

TEST(Canary, RequestsOfWhichNothingIsHeardDoNotHoldItUp) {
  for (const bool told : {true, false}) {
    const auto canary = made({.name = "r", .steps = {{.share = 0.25}}});
    int sent = 0;
    Event event = Event::none;
    for (; sent < 100'000 && event == Event::none; ++sent) {
      const Assignment assignment = canary->assign(std::to_string(sent));
      const base::SteadyTime now = kStart + milliseconds(sent);
      Observation o = good(assignment.arm, sent);
      o.seconds = 1;
      if (sent % 5 != 0) {
        event = canary->observe(assignment, o, now);
      } else if (told) {
        canary->abandon(assignment, now);
      }
    }
    EXPECT_EQ(event, Event::promoted);
  }
}

TEST(Canary, OtherEpochsAndForcedRequestsProveNothing) {
  const auto canary = made({.name = "r"});
  const Assignment assigned = canary->assign("x");
  for (int i = 0; i < 10'000; ++i) {
    canary->observe(Canary::forced(Arm::canary), {.failed = true}, kStart);
    canary->observe({.arm = Arm::canary, .epoch = assigned.epoch + 1}, {.failed = true}, kStart);
  }
  EXPECT_EQ(canary->status().phase, Phase::running);
  EXPECT_EQ(canary->status().canary.failed, 20'000);
}

// Three gateways with a third of the requests each, which tell each other every hundred of their own.
struct Gateways {
  std::vector<std::unique_ptr<Canary>> all;
  int sent = 0;

  Gateways() {
    for (int i = 0; i < 3; ++i)
      all.push_back(made({.name = "r"}));
  }
  static CanaryRecord told(const Canary& canary) {
    auto record = CanaryRecord::from_json(base::parse_json(base::json::serialize(canary.record().to_json())).value());
    EXPECT_TRUE(record);
    return std::move(record).value();
  }
  void tell() {
    for (size_t i = 0; i < all.size(); ++i) {
      std::vector<CanaryRecord> others;
      for (size_t j = 0; j < all.size(); ++j)
        if (j != i) others.push_back(told(*all[j]));
      all[i]->set_peers(others, kStart + milliseconds(sent));
    }
  }
  template <typename Observe>
  bool run(int most, const Observe& observation, Phase until) {
    for (int end = sent + most; sent < end; ++sent) {
      Canary& canary = *all[static_cast<size_t>(sent) % all.size()];
      const Assignment assignment = canary.assign("request-" + std::to_string(sent));
      canary.observe(assignment, observation(assignment.arm, sent), kStart + milliseconds(sent));
      if (sent % 300 == 299) tell();
      if (sent % 300 == 299 && std::ranges::all_of(all, [&](auto& one) { return one->status().phase == until; }))
        return true;
    }
    return false;
  }
};

TEST(Canary, GatewaysDecideByWhatAllSee) {
  Gateways gateways;
  ASSERT_TRUE(gateways.run(100'000, good, Phase::promoted));
  // A third of the requests alone would not have been enough.
  const auto alone = made({.name = "r"});
  int sent = 0;
  for (Event event = Event::advanced; event == Event::advanced;)
    event = drive(*alone, gateways.sent / 3 - sent, good, sent);
  EXPECT_NE(alone->status().phase, Phase::promoted);
}

TEST(Canary, GatewaysGoBackTogether) {
  Gateways gateways;
  const auto failing = [](Arm arm, int i) {
    Observation o = good(arm, i);
    o.failed = arm == Arm::canary && i % 2 == 0;
    return o;
  };
  ASSERT_TRUE(gateways.run(6'000, failing, Phase::rolled_back));
  // A gateway that comes later follows, too.
  const auto late = made({.name = "r"});
  const std::vector records = {Gateways::told(*gateways.all[0]), CanaryRecord{.rollout = "another", .step = 2}};
  EXPECT_EQ(late->set_peers(records, kStart), Event::rolled_back);
  EXPECT_EQ(late->status().share, 0);
}

TEST(Canary, FollowsWhoIsFurther) {
  const auto canary = made({.name = "r"});
  EXPECT_EQ(canary->set_peers(std::vector{CanaryRecord{.rollout = "r", .step = 2}}, kStart), Event::advanced);
  EXPECT_EQ(canary->status().share, 0.25);
  EXPECT_EQ(canary->set_peers(std::vector{CanaryRecord{.rollout = "r", .step = 1}}, kStart), Event::none);
  EXPECT_EQ(canary->set_peers(std::vector{CanaryRecord{.rollout = "r", .step = 99}}, kStart), Event::advanced);
  EXPECT_EQ(canary->status().share, 0.5);
  EXPECT_EQ(canary->set_peers(std::vector{CanaryRecord{.rollout = "r", .phase = Phase::promoted}}, kStart),
            Event::promoted);
}

TEST(Canary, GoingBackWinsOverGoingOn) {
  Gateways gateways;
  EXPECT_EQ(gateways.all[0]->promote("by one"), Event::promoted);
  EXPECT_EQ(gateways.all[1]->roll_back("by another"), Event::rolled_back);
  gateways.tell();
  gateways.tell();
  for (const auto& canary : gateways.all) {
    EXPECT_EQ(canary->status().phase, Phase::rolled_back);
    EXPECT_EQ(canary->status().share, 0);
    EXPECT_EQ(canary->assign("anybody").arm, Arm::stable);
  }
  // Who has gone back hears of nothing else, and whom all agree with hears nothing new.
  EXPECT_EQ(gateways.all[1]->set_peers(std::vector{CanaryRecord{.rollout = "r", .phase = Phase::promoted}}, kStart),
            Event::none);
  const auto promoted = made({.name = "r"});
  promoted->promote("by one");
  EXPECT_EQ(promoted->set_peers(std::vector{CanaryRecord{.rollout = "r", .step = 2},
                                            CanaryRecord{.rollout = "r", .phase = Phase::promoted}},
                                kStart),
            Event::none);
  EXPECT_EQ(promoted->status().share, 1);
}

TEST(Canary, RecordsAddUp) {
  const auto record = [](Phase phase, size_t step, int64_t requests, double logs) {
    CanaryRecord made{.rollout = "r", .phase = phase, .step = step, .step_requests = requests};
    made.strata.resize(1);
    made.strata[0].harm[0].fill(logs);
    made.strata[0].clearance[0].fill(logs);
    return made;
  };
  CanaryRecord sum;
  sum.merge(record(Phase::running, 1, 10, 1));
  sum.merge(record(Phase::promoted, 1, 5, 2));
  EXPECT_EQ(sum.rollout, "r");
  EXPECT_EQ(sum.phase, Phase::promoted);
  EXPECT_EQ(sum.step_requests, 15);
  EXPECT_EQ(sum.strata[0].harm[0][0], 3);
  EXPECT_EQ(sum.strata[0].clearance[0][0], 3);
  sum.merge(record(Phase::rolled_back, 2, 7, 4));  // whose step was further on
  sum.merge(record(Phase::running, 1, 100, 8));
  EXPECT_EQ(sum.phase, Phase::rolled_back);
  EXPECT_EQ(sum.step, 2U);
  EXPECT_EQ(sum.step_requests, 7);
  EXPECT_EQ(sum.strata[0].harm[0][0], 15);
  EXPECT_EQ(sum.strata[0].clearance[0][0], 4);
}

TEST(Canary, ForgetsWhatAnotherRecordHas) {
  const auto canary = made({.name = "r"});
  canary->promote("by hand");
  const auto running = made({.name = "r", .steps = {{.share = 0.5, .min_requests = 1'000'000}}});
  for (int i = 0; i < 2000; ++i) {
    const Assignment assignment = running->assign("request-" + std::to_string(i));
    running->observe(assignment, {.ttft = 0.1}, kStart + milliseconds(i));
  }
  const auto known = [](const CanaryRecord& record) {
    double sum = 0;
    for (const CanaryRecord::Sums& sums : record.strata) {
      for (const auto* logs : {&sums.harm, &sums.clearance})
        for (const TiltLogs& of_check : *logs)
          for (const double log : of_check)
            sum += std::abs(log);
    }
    return sum;
  };
  ASSERT_GT(running->record().step_requests, 0);
  ASSERT_GT(known(running->record()), 0);
  running->forget_evidence();
  EXPECT_EQ(running->record().step_requests, 0);
  EXPECT_EQ(known(running->record()), 0);
  EXPECT_TRUE(running->running());
  canary->forget_evidence();
  EXPECT_EQ(canary->status().phase, Phase::promoted);
}

TEST(Canary, RefusesWhatIsNoRecord) {
  auto record = made({.name = "r"})->record().to_json();
  EXPECT_TRUE(CanaryRecord::from_json(record));
  for (const char* key : {"rollout", "phase", "step", "step_requests", "strata"}) {
    auto broken = record;
    broken.as_object()[key] = -1;
    const auto read = CanaryRecord::from_json(broken);
    ASSERT_FALSE(read) << key;
    EXPECT_EQ(read.error().code(), base::ErrorCode::invalid_argument);
  }
  record.at("strata").at(0).at("harm").as_array().pop_back();
  EXPECT_FALSE(CanaryRecord::from_json(record));
  EXPECT_FALSE(CanaryRecord::from_json(base::json::value("r")));
}

TEST(Canary, AnOperatorHasTheLastWord) {
  const auto back = made({.name = "r"});
  back->roll_back("the pager rang");
  EXPECT_EQ(back->status().phase, Phase::rolled_back);
  EXPECT_EQ(back->status().message, "rolled back by hand: the pager rang");
  back->promote("too late");
  EXPECT_EQ(back->status().phase, Phase::rolled_back);
  const auto on = made({.name = "r"});
  on->promote("it is fine");
  EXPECT_EQ(on->assign("x").arm, Arm::canary);
}

TEST(Canary, SaysWhatIsWrong) {
  const auto message = [](auto change) {
    CanaryOptions options{.name = "r"};
    change(options);
    auto canary = Canary::create(options, kStart);
    return canary ? std::string("accepted") : canary.error().message();
  };
  const auto contains = [](const std::string& text, const char* part) { return text.find(part) != std::string::npos; };
  EXPECT_TRUE(contains(message([](auto& o) { o.steps.clear(); }), "1 to 64 steps, not 0"));
  EXPECT_TRUE(contains(message([](auto& o) { o.steps.back().share = 1; }), "share 1"));
  EXPECT_TRUE(contains(message([](auto& o) { o.steps[1].share = 0.005; }), "share 0.005"));
  EXPECT_TRUE(contains(message([](auto& o) { o.steps[1].share = std::nan(""); }), "share nan"));
  EXPECT_TRUE(contains(message([](auto& o) { o.steps[1].min_requests = -1; }), "fewer than 0"));
  EXPECT_TRUE(contains(message([](auto& o) { o.steps.back().gross = true; }), "last step"));
  EXPECT_TRUE(contains(message([](auto& o) { o.limits.ttft.tolerated = 0.9; }), "TTFT are 0.9"));
  EXPECT_TRUE(contains(message([](auto& o) { o.limits.itl.regression = 1.01; }), "ITL are 1.05, 1.01"));
  EXPECT_TRUE(contains(message([](auto& o) { o.limits.failures.gross = 1; }), "error rate"));
  EXPECT_TRUE(contains(message([](auto& o) { o.wrong_rollback = 0; }), "wrong_rollback is 0"));
  EXPECT_TRUE(contains(message([](auto& o) { o.wrong_promotion = 0.9; }), "wrong_promotion is 0.9"));
}

TEST(Canary, MayBeUsedByManyThreads) {
  const auto canary = made({.name = "r"});
  std::atomic<int> next{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = next++; i < 40'000; i = next++) {
        const Assignment assignment = canary->assign(std::to_string(i));
        canary->observe(assignment, good(assignment.arm, i), kStart + milliseconds(i));
        if (i % 1000 == 0) {
          EXPECT_NE(canary->status().phase, Phase::rolled_back);
        }
      }
    });
  }
  for (std::thread& thread : threads)
    thread.join();
  const CanaryStatus status = canary->status();
  EXPECT_EQ(status.stable.requests + status.canary.requests, 40'000);
}

// The operating characteristics, by simulation; bench_rollouts prints them for more rollouts and more cases.
struct Tally {
  int promoted = 0;
  int rolled_back = 0;
  std::vector<double> requests;
};

Tally tally(int rollouts, const simulation::Traffic& traffic, const simulation::Difference& difference) {
  Tally all;
  for (int seed = 1; seed <= rollouts; ++seed) {
    const auto outcome =
        simulation::simulate({.name = "suite"}, traffic, difference, static_cast<uint64_t>(seed), 150'000);
    all.promoted += outcome.phase == Phase::promoted ? 1 : 0;
    all.rolled_back += outcome.phase == Phase::rolled_back ? 1 : 0;
    all.requests.push_back(static_cast<double>(outcome.requests - difference.from));
  }
  return all;
}

constexpr int kRollouts = test::sanitized ? 10 : 100;

TEST(CanaryBars, EqualVersionsArePromoted) {
  const Tally all = tally(kRollouts, {}, {});
  EXPECT_EQ(all.rolled_back, 0);
  EXPECT_EQ(all.promoted, kRollouts);
}

TEST(CanaryBars, ToleratedDifferencesAreNotRolledBack) {
  EXPECT_EQ(tally(kRollouts / 2, {}, {.ttft = 1.04, .itl = 1.04, .failing = 0.001}).rolled_back, 0);
}

TEST(CanaryBars, TwentyPercentSlowerIsCaught) {
  const Tally all = tally(kRollouts, {}, {.ttft = 1.2, .itl = 1.2});
  EXPECT_EQ(all.rolled_back, kRollouts);
  EXPECT_LT(simulation::quantile(all.requests, 0.9), 30'000);
}

TEST(CanaryBars, TwoPercentFailingIsCaught) {
  const Tally all = tally(kRollouts, {}, {.failing = 0.02});
  EXPECT_EQ(all.rolled_back, kRollouts);
  EXPECT_LT(simulation::quantile(all.requests, 0.9), 30'000);
}

TEST(CanaryBars, GrossRegressionsAreCaughtWithinTwoThousandRequests) {
  const Tally failing = tally(kRollouts, {}, {.failing = 0.3});
  EXPECT_EQ(failing.rolled_back, kRollouts);
  EXPECT_LT(simulation::quantile(failing.requests, 0.9), 2'000);
  const Tally slow = tally(kRollouts, {}, {.ttft = 2, .itl = 2});
  EXPECT_EQ(slow.rolled_back, kRollouts);
  EXPECT_LT(simulation::quantile(slow.requests, 0.9), 3'000);
}

TEST(CanaryBars, ARegressionThatBeginsLateIsCaught) {
  const Tally all = tally(kRollouts / 2, {}, {.failing = 0.1, .from = 12'000});
  EXPECT_EQ(all.rolled_back, kRollouts / 2);
}

}  // namespace
}  // namespace tidemill::rollout
