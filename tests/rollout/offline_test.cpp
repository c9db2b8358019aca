#include "rollout/offline.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "rollout/decision_log.hpp"
#include "rollout/model_workload.hpp"
#include "sanitized.hpp"

namespace tidemill::rollout {
namespace {

using simulation::kBig;
using simulation::kMedium;
using simulation::kSmall;

const std::vector<std::string> kModels = {"small", "medium", "big"};

// The policies that are evaluated: one that is one model, one by a rule, and one that tosses coins.
Policy by_code() {
  return [](const Features& features, std::span<double> probabilities) {
    std::ranges::fill(probabilities, 0.0);
    probabilities[features[5] > 0 ? kBig : kSmall] = 1;
  };
}
Policy by_coin() {
  return [](const Features& /*features*/, std::span<double> probabilities) {
    probabilities[kSmall] = 0.5;
    probabilities[kMedium] = 0.3;
    probabilities[kBig] = 0.2;
  };
}

// What a policy truly earns: the mean of expected rewards over very many requests.
double true_value(const Policy& policy, const Trade& trade) {
  simulation::ModelWorkload workload(999);
  std::array<double, 3> probabilities;
  constexpr int kRequests = 300'000;
  double sum = 0;
  for (int i = 0; i < kRequests; ++i) {
    const auto request = workload.next();
    policy(request.features, probabilities);
    for (size_t m = 0; m < 3; ++m)
      sum += probabilities[m] * simulation::expected_reward(request, m, trade);
  }
  return sum / kRequests;
}

LoggedChoice choice_of(const simulation::ModelRequest& request, size_t model, double propensity, double quality,
                       const Trade& trade) {
  return {.features = request.features,
          .model = model,
          .propensity = propensity,
          .reward = trade.reward(quality, request.cost[model], request.seconds[model])};
}

// A log of a policy that prefers one model by the request's length.
std::vector<LoggedChoice> log_of_fixed_policy(uint64_t seed, int choices, const Trade& trade) {
  simulation::ModelWorkload workload(seed);
  std::vector<LoggedChoice> log;
  for (int i = 0; i < choices; ++i) {
    const auto request = workload.next();
    const size_t liked = request.features[1] > 0.6 ? kMedium : kBig;
    const double draw = workload.uniform();
    const size_t model = draw < 0.6 ? liked : static_cast<size_t>((draw - 0.6) / 0.4 * 3);
    const double propensity = (model == liked ? 0.6 : 0) + 0.4 / 3;
    log.push_back(choice_of(request, model, propensity, workload.feedback(request, model), trade));
  }
  return log;
}

// A log of a bandit that learned meanwhile.
std::vector<LoggedChoice> log_of_bandit(uint64_t seed, int choices, const Trade& trade) {
  BanditOptions options = simulation::workload_options();
  options.explore = 0.3;
  const auto bandit = Bandit::create(options).value();
  simulation::ModelWorkload workload(seed);
  std::vector<LoggedChoice> log;
  for (int i = 0; i < choices; ++i) {
    const auto request = workload.next();
    const Decision decision = bandit->decide(request.features, workload.uniform());
    const double quality = workload.feedback(request, decision.model);
    bandit->learn_quality(request.features, decision.model, quality);
    bandit->learn_spending(request.features, decision.model, request.cost[decision.model],
                           request.seconds[decision.model]);
    log.push_back(choice_of(request, decision.model, decision.propensity(), quality, trade));
  }
  return log;
}

struct Coverage {
  int ips = 0;
  int snips = 0;
  int doubly_robust = 0;
  double ips_width = 0;
  double doubly_robust_width = 0;
};

template <typename MakeLog>
Coverage cover(int repetitions, const Policy& policy, const MakeLog& make_log) {
  const Trade trade = simulation::workload_options().trade;
  const double truth = true_value(policy, trade);
  const auto holds = [&](const Estimate& e) { return e.low <= truth && truth <= e.high ? 1 : 0; };
  Coverage coverage;
  for (int seed = 1; seed <= repetitions; ++seed) {
    const auto log = make_log(static_cast<uint64_t>(seed), trade);
    const OfflineEstimates estimates = evaluate_offline(log, kModels.size(), policy);
    coverage.ips += holds(estimates.ips);
    coverage.snips += holds(estimates.snips);
    coverage.doubly_robust += holds(estimates.doubly_robust);
    coverage.ips_width += (estimates.ips.high - estimates.ips.low) / repetitions;
    coverage.doubly_robust_width += (estimates.doubly_robust.high - estimates.doubly_robust.low) / repetitions;
  }
  return coverage;
}

// 95 % of the repetitions, give or take three deviations of a count.
void expect_about_95(int count, int repetitions, const char* what) {
  const double deviation = std::sqrt(repetitions * 0.95 * 0.05);
  EXPECT_NEAR(count, repetitions * 0.95, 3 * deviation + 1) << what;
}

constexpr int kRepetitions = test::sanitized ? 40 : 400;

TEST(OfflineBars, IntervalsHoldTheTruthInNinetyFiveOfAHundred) {
  for (const Policy& policy : {always(kSmall), by_code(), by_coin()}) {
    const Coverage coverage = cover(kRepetitions, policy, [](uint64_t seed, const Trade& trade) {
      return log_of_fixed_policy(seed, 1'000, trade);
    });
    expect_about_95(coverage.ips, kRepetitions, "IPS");
    expect_about_95(coverage.snips, kRepetitions, "SNIPS");
    expect_about_95(coverage.doubly_robust, kRepetitions, "doubly robust");
    EXPECT_LT(coverage.doubly_robust_width, coverage.ips_width);
  }
}

TEST(OfflineBars, IntervalsHoldForABanditThatLearnedMeanwhile) {
  const Coverage coverage = cover(kRepetitions / 2, by_code(),
                                  [](uint64_t seed, const Trade& trade) { return log_of_bandit(seed, 1'000, trade); });
  expect_about_95(coverage.ips, kRepetitions / 2, "IPS");
  expect_about_95(coverage.snips, kRepetitions / 2, "SNIPS");
  expect_about_95(coverage.doubly_robust, kRepetitions / 2, "doubly robust");
}

TEST(Offline, ThePolicyOfTheLogIsItsMean) {
  const Trade trade;
  simulation::ModelWorkload workload(1);
  std::vector<LoggedChoice> log;
  double sum = 0;
  for (int i = 0; i < 500; ++i) {
    log.push_back(choice_of(workload.next(), kBig, 1, i % 2, trade));
    sum += log.back().reward;
  }
  const OfflineEstimates estimates = evaluate_offline(log, 3, always(kBig));
  for (const Estimate& estimate : {estimates.ips, estimates.snips, estimates.doubly_robust})
    EXPECT_NEAR(estimate.value, sum / 500, 0.01);
  EXPECT_NEAR(estimates.ips.value, sum / 500, 1e-12);
  EXPECT_NEAR(estimates.effective_choices, 500, 1e-9);
  EXPECT_EQ(estimates.largest_weight, 1);
  // Of a policy that never does what was done, the log says nothing.
  const OfflineEstimates other = evaluate_offline(log, 3, always(kSmall));
  EXPECT_EQ(other.ips.value, 0);
  EXPECT_EQ(other.effective_choices, 0);
}

TEST(Offline, AnEmptyLogSaysNothing) {
  const OfflineEstimates estimates = evaluate_offline({}, 3, always(kBig));
  EXPECT_EQ(estimates.choices, 0);
  EXPECT_EQ(estimates.ips.value, 0);
  EXPECT_EQ(estimates.doubly_robust.high, 0);
}

TEST(DecisionLog, IsReadBackWithItsRewards) {
  const BanditOptions options = simulation::workload_options();
  const auto bandit = Bandit::create(options).value();
  simulation::ModelWorkload workload(2);
  std::string lines;
  std::vector<LoggedChoice> expected;
  for (int i = 0; i < 20; ++i) {
    const auto request = workload.next();
    const Decision decision = bandit->decide(request.features, workload.uniform());
    const std::string id = "d" + std::to_string(i);
    lines += decision_line(id, decision, options, base::WallTime(std::chrono::seconds(1'700'000'000))) + "\n";
    lines += outcome_line(id, {.cost = request.cost[decision.model], .seconds = 2}) + "\n\n";
    if (i % 4 == 0) continue;  // never rated
    lines += outcome_line(id, {.quality = 0.2}) + "\r\n";
    lines += outcome_line(id, {.quality = 0.7}) + "\n";  // on second thoughts
    expected.push_back({.features = request.features,
                        .model = decision.model,
                        .propensity = decision.propensity(),
                        .reward = options.trade.reward(0.7, request.cost[decision.model], 2)});
  }
  lines += outcome_line("elsewhere", {.quality = 1});
  const auto log = read_log(lines, options.models, options.trade);
  ASSERT_TRUE(log) << log.error().to_string();
  EXPECT_EQ(log->incomplete, 5);
  EXPECT_EQ(log->unknown, 1);
  ASSERT_EQ(log->choices.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    for (size_t f = 0; f < kFeatures; ++f)
      EXPECT_DOUBLE_EQ(log->choices[i].features[f], expected[i].features[f]);
    EXPECT_EQ(log->choices[i].model, expected[i].model);
    EXPECT_DOUBLE_EQ(log->choices[i].propensity, expected[i].propensity);
    EXPECT_NEAR(log->choices[i].reward, expected[i].reward, 1e-12);
  }
}

TEST(DecisionLog, NamesTheLineThatIsWrong) {
  const BanditOptions options = simulation::workload_options();
  const std::string good =
      decision_line("a", Bandit::create(options).value()->decide(features_of({}), 0.5), options, {});
  const auto message = [&](const std::string& line) {
    const auto log = read_log(good + "\n" + line, options.models, options.trade);
    return log ? std::string("accepted") : log.error().to_string();
  };
  const auto contains = [](const std::string& text, const char* part) { return text.find(part) != std::string::npos; };
  EXPECT_EQ(message(""), "accepted");
  EXPECT_TRUE(contains(message("{"), "line 2 of the log"));
  EXPECT_TRUE(contains(message("[]"), "is no object"));
  EXPECT_TRUE(contains(message("{}"), "no version"));
  EXPECT_TRUE(contains(message(R"({"v":7,"outcome":"a"})"), "version 7"));
  EXPECT_TRUE(contains(message(R"({"v":1})"), "neither a 'decision' nor an 'outcome'"));
  EXPECT_TRUE(contains(message(R"({"v":1,"decision":"b","features":[1]})"), "12 numbers 'features'"));
  EXPECT_TRUE(contains(message(good), "repeats"));
  std::string other = good;
  other.replace(other.find("\"a\""), 3, "\"b\"");
  EXPECT_EQ(message(other), "accepted");
  const auto strangers = read_log(good, {"tiny"}, options.trade);
  ASSERT_FALSE(strangers);
  EXPECT_TRUE(contains(strangers.error().to_string(), "which is not among those given"));
}

}  // namespace
}  // namespace tidemill::rollout
