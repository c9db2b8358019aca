#include "rollout/bandit.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "rollout/choice_probability.hpp"
#include "rollout/model_workload.hpp"
#include "rollout/pending_decisions.hpp"
#include "sanitized.hpp"

namespace tidemill::rollout {
namespace {

using simulation::kBig;
using simulation::kMedium;
using simulation::kSmall;

std::unique_ptr<Bandit> bandit_of(const BanditOptions& options) {
  auto bandit = Bandit::create(options);
  EXPECT_TRUE(bandit) << (bandit ? "" : bandit.error().to_string());
  return std::move(bandit).value();
}

BanditOptions two_models() {
  return {.name = "t", .models = {"small", "big"}, .reference = "big"};
}

// Fills a bandit with what a workload's requests would have taught, all models alike.
void teach(Bandit& bandit, uint64_t seed, int requests) {
  simulation::ModelWorkload workload(seed);
  for (int i = 0; i < requests; ++i) {
    const auto request = workload.next();
    const size_t model = static_cast<size_t>(i) % bandit.options().models.size();
    bandit.learn_quality(request.features, model, workload.feedback(request, model));
    bandit.learn_spending(request.features, model, request.cost[model], request.seconds[model]);
  }
}

TEST(ChoiceProbability, IsWhatDrawsShow) {
  std::mt19937_64 random(2);
  std::normal_distribution<double> normal;
  for (size_t n = 1; n <= kMostModels; ++n) {
    std::vector<double> means;
    std::vector<double> deviations;
    for (size_t i = 0; i < n; ++i) {
      means.push_back(0.3 * normal(random));
      deviations.push_back(0.05 + 0.4 * static_cast<double>(i % 3));
    }
    std::vector<double> probabilities(n);
    largest_probabilities(means, deviations, probabilities);
    EXPECT_NEAR(std::accumulate(probabilities.begin(), probabilities.end(), 0.0), 1, 1e-12);
    constexpr int kDraws = 40'000;
    std::vector<double> wins(n);
    for (int draw = 0; draw < kDraws; ++draw) {
      std::vector<double> values(n);
      for (size_t i = 0; i < n; ++i)
        values[i] = means[i] + deviations[i] * normal(random);
      ++wins[static_cast<size_t>(std::ranges::max_element(values) - values.begin())];
    }
    for (size_t i = 0; i < n; ++i)
      EXPECT_NEAR(wins[i] / kDraws, probabilities[i], 4.5 * std::sqrt(0.25 / kDraws)) << i << " of " << n;
  }
}

TEST(ChoiceProbability, WithoutDoubtIsOne) {
  std::array<double, 3> probabilities;
  largest_probabilities(std::array{1.0, 2.0, 0.0}, std::array{0.0, 0.0, 0.0}, probabilities);
  EXPECT_EQ(probabilities, (std::array{0.0, 1.0, 0.0}));
  std::array<double, 2> two;
  largest_probabilities(std::array{1.0, 2.0}, std::array{0.0, 0.0}, two);
  EXPECT_EQ(two, (std::array{0.0, 1.0}));
}

// Regression by plain Gaussian elimination.
std::vector<double> solve(std::vector<std::vector<double>> a, std::vector<double> b) {
  const size_t n = b.size();
  for (size_t i = 0; i < n; ++i) {
    for (size_t r = i + 1; r < n; ++r) {
      const double factor = a[r][i] / a[i][i];
      for (size_t c = i; c < n; ++c)
        a[r][c] -= factor * a[i][c];
      b[r] -= factor * b[i];
    }
  }
  for (size_t i = n; i-- > 0;) {
    for (size_t c = i + 1; c < n; ++c)
      b[i] -= a[i][c] * b[c];
    b[i] /= a[i][i];
  }
  return b;
}

TEST(Ridge, AgreesWithElimination) {
  constexpr double kRidge = 0.7;
  constexpr double kKeep = 0.99;
  simulation::ModelWorkload workload(3);
  RidgeSums sums(2);
  std::vector gram(kFeatures, std::vector<double>(kFeatures));
  std::vector<std::vector<double>> moments(2, std::vector<double>(kFeatures));
  for (int i = 0; i < 300; ++i) {
    const auto request = workload.next();
    const std::array targets = {workload.uniform(), request.quality[0]};
    sums.add(request.features, targets, kKeep);
    for (size_t r = 0; r < kFeatures; ++r) {
      for (size_t c = 0; c < kFeatures; ++c)
        gram[r][c] = gram[r][c] * kKeep + request.features[r] * request.features[c];
      for (size_t t = 0; t < 2; ++t)
        moments[t][r] = moments[t][r] * kKeep + request.features[r] * targets[t];
    }
  }
  for (size_t i = 0; i < kFeatures; ++i)
    gram[i][i] += kRidge;
  const Ridge ridge(sums, kRidge, 0.3);
  const Features x = workload.next().features;
  const std::vector<double> column(x.begin(), x.end());
  const std::vector<double> inverse = solve(gram, column);
  EXPECT_NEAR(ridge.leverage(x), std::inner_product(x.begin(), x.end(), inverse.begin(), 0.0), 1e-9);
  for (size_t t = 0; t < 2; ++t)
    EXPECT_NEAR(ridge.mean(x, t), std::inner_product(x.begin(), x.end(), solve(gram, moments[t]).begin(), 0.0), 1e-9);
}

TEST(Ridge, LearnsItsNoise) {
  std::mt19937_64 random(4);
  std::normal_distribution<double> normal;
  simulation::ModelWorkload workload(4);
  RidgeSums sums;
  for (int i = 0; i < 5'000; ++i) {
    const Features x = workload.next().features;
    const std::array target = {0.4 + 0.2 * x[1] + 0.1 * normal(random)};
    sums.add(x, target);
  }
  EXPECT_NEAR(Ridge(sums, 1, 0.5).noise(), 0.1, 0.01);
  EXPECT_EQ(Ridge(RidgeSums(), 1, 0.5).noise(), 0.5);
}

TEST(Bandit, PropensitiesAreThoseOfItsDraws) {
  for (const Method method : {Method::thompson, Method::lin_ucb}) {
    BanditOptions options = simulation::workload_options();
    options.method = method;
    options.explore = 0.1;
    const auto bandit = bandit_of(options);
    teach(*bandit, 5, 60);
    simulation::ModelWorkload workload(6);
    for (int round = 0; round < 10; ++round) {
      const Features x = workload.next().features;
      std::array<double, 3> counts{};
      constexpr int kDraws = 3'000;
      Decision decision;
      for (int i = 0; i < kDraws; ++i) {
        decision = bandit->decide(x, (i + 0.5) / kDraws);
        ++counts[decision.model];
      }
      EXPECT_NEAR(std::accumulate(decision.propensities.begin(), decision.propensities.end(), 0.0), 1, 1e-12);
      for (size_t m = 0; m < 3; ++m) {
        EXPECT_NEAR(counts[m] / kDraws, decision.propensities[m], 1.5 / kDraws);
        EXPECT_GT(decision.propensities[m], 0.03);  // all may be allowed: a third of `explore` each
      }
    }
  }
}

// Thompson sampling as it is written down: draw what each model may be worth, take the best.
TEST(Bandit, PropensitiesAreThoseOfThompsonsDraws) {
  BanditOptions options = simulation::workload_options();
  options.explore = 0;
  options.trade.cost_weight = 0;
  options.trade.latency_weight = 0;
  const auto bandit = bandit_of(options);
  teach(*bandit, 7, 90);
  std::mt19937_64 random(8);
  std::normal_distribution<double> normal;
  simulation::ModelWorkload workload(9);
  for (int round = 0; round < 3; ++round) {
    const Features x = workload.next().features;
    std::array<double, 3> wins{};
    constexpr int kDraws = 40'000;
    for (int i = 0; i < kDraws; ++i) {
      std::array<double, 3> drawn;
      for (size_t m = 0; m < 3; ++m) {
        const auto belief = bandit->belief(x, m);
        drawn[m] = belief.quality + belief.deviation * normal(random);
      }
      ++wins[static_cast<size_t>(std::ranges::max_element(drawn) - drawn.begin())];
    }
    const Decision decision = bandit->decide(x, 0.5);
    for (size_t m = 0; m < 3; ++m)
      EXPECT_NEAR(wins[m] / kDraws, decision.propensities[m], 4.5 * std::sqrt(0.25 / kDraws));
  }
}

TEST(Bandit, KeepsToTheFloor) {
  BanditOptions options = simulation::workload_options();
  options.explore = 0;
  options.quality_floor = 0.8;
  const auto bandit = bandit_of(options);
  simulation::ModelWorkload workload(10);
  for (int i = 0; i < 100; ++i)  // nothing is known: the big one answers
    EXPECT_EQ(bandit->decide(workload.next().features, workload.uniform()).model, kBig);
  teach(*bandit, 11, 6'000);  // from a mirror
  std::array<int, 3> chosen{};
  for (int i = 0; i < 2'000; ++i) {
    const auto request = workload.next();
    const Decision decision = bandit->decide(request.features, workload.uniform());
    ++chosen[decision.model];
    EXPECT_TRUE(decision.allowed >> kBig & 1);
    for (size_t m = 0; m < 3; ++m) {
      const auto belief = bandit->belief(request.features, m);
      const bool allowed = m == kBig || belief.quality - options.confidence * belief.deviation >= options.quality_floor;
      EXPECT_EQ((decision.allowed >> m & 1) != 0, allowed);
      EXPECT_TRUE(allowed || decision.propensities[m] == 0);
    }
    if (decision.model != kBig) {
      EXPECT_GT(request.quality[decision.model], 0.75) << decision.model;  // by the truth, with a little to spare
    }
  }
  EXPECT_GT(chosen[kSmall] + chosen[kMedium], 600);
  EXPECT_GT(chosen[kBig], 300);
}

TEST(Bandit, ExploresWhatTheFloorForbidsNoMoreThanItSays) {
  BanditOptions options = two_models();
  options.quality_floor = 0.8;
  options.explore = 0.1;
  const auto bandit = bandit_of(options);
  const Features x = features_of({.prompt_tokens = 100});
  EXPECT_NEAR(bandit->decide(x, 0.5).propensities[0], 0.05, 1e-12);
  for (int i = 0; i < 500; ++i)
    bandit->learn_quality(x, 0, 0.3);
  EXPECT_EQ(bandit->decide(x, 0.5).propensities[0], 0);  // known to be bad
}

// A model that does not answer is worth nothing while that lasts; what is known of its quality stays as it is, and the
// floor allows no other for it.
TEST(Bandit, ChoosesLessWhatIsNotThere) {
  BanditOptions options = two_models();
  options.explore = 0;
  const auto bandit = bandit_of(options);
  const Features x = features_of({.prompt_tokens = 100});
  for (int i = 0; i < 500; ++i) {
    bandit->learn_quality(x, 0, 0.9);
    bandit->learn_quality(x, 1, 0.9);
    bandit->learn_spending(x, 0, 0, 1);
    bandit->learn_spending(x, 1, options.trade.cost_scale, 1);
  }
  EXPECT_GT(bandit->decide(x, 0.5).propensities[0], 0.95) << "as good, and costs nothing";
  const std::array half_gone = {0.5, 1.0};
  const Decision decision = bandit->decide(x, 0.5, half_gone);
  EXPECT_LT(decision.propensities[0], 0.05);
  EXPECT_NEAR(decision.propensities[0] + decision.propensities[1], 1, 1e-12);
  EXPECT_NEAR(bandit->belief(x, 0).quality, 0.9, 0.01);
  const std::array nearly_there = {0.99, 1.0};
  EXPECT_GT(bandit->decide(x, 0.5, nearly_there).propensities[0], 0.9);

  options.quality_floor = 0.95;
  const auto strict = bandit_of(options);
  strict->restore(bandit->state());
  const std::array no_reference = {1.0, 0.0};
  EXPECT_EQ(strict->decide(x, 0.5, no_reference).model, 1U);
}

// What all answers together fall short by is bounded from the first request on: while nothing is known, by trying so
// seldom that it could be borne if every try were worth nothing.
TEST(Bandit, KeepsTheAverageLossWithinItsLimit) {
  BanditOptions options = two_models();
  options.max_average_loss = 0.02;
  options.explore = 0.5;
  const auto bandit = bandit_of(options);
  const Features x = features_of({.prompt_tokens = 100});
  simulation::ModelWorkload workload(21);
  for (int i = 0; i < 300; ++i)
    bandit->learn_quality(x, 1, workload.uniform() < 0.9 ? 1 : 0);
  int tried = 0;
  for (int i = 0; i < 1'000; ++i) {
    const Decision decision = bandit->decide(x, workload.uniform());
    EXPECT_TRUE(decision.allowed >> 1 & 1) << "the reference is always allowed";
    tried += decision.model == 0 ? 1 : 0;
    EXPECT_LE(bandit->average_loss().at_most, 0.02 + 1e-9);
  }
  EXPECT_GT(tried, 5) << "but some tries there are";
  EXPECT_LE(tried, 40) << "each of which may have lost half of what an answer is worth, or more";
  // Once it is known that the other is as good, it gets what it is worth.
  for (int i = 0; i < 3'000; ++i)
    bandit->learn_quality(x, 0, workload.uniform() < 0.9 ? 1 : 0);
  for (int i = 0; i < 3'000; ++i)
    bandit->learn_quality(x, 1, workload.uniform() < 0.9 ? 1 : 0);
  int answered = 0;
  for (int i = 0; i < 1'000; ++i)
    answered += bandit->decide(x, workload.uniform()).model == 0 ? 1 : 0;
  EXPECT_GT(answered, 200);
}

// The bound is a quantile of the loss by the regressions: drawn as such, at the features of what was decided.
TEST(Bandit, TheAverageLossIsThatOfTheRegressions) {
  BanditOptions options = simulation::workload_options();
  options.confidence = 2;
  const auto bandit = bandit_of(options);
  teach(*bandit, 31, 600);
  simulation::ModelWorkload workload(32);
  std::array<Features, 3> sums{};
  constexpr int kRequests = 200;
  double estimate = 0;
  for (int i = 0; i < kRequests; ++i) {
    const Features x = workload.next().features;
    const size_t model = bandit->decide(x, workload.uniform()).model;
    estimate += bandit->belief(x, kBig).quality - bandit->belief(x, model).quality;
    for (size_t k = 0; k < kFeatures; ++k)
      sums[model][k] += x[k];
  }
  EXPECT_NEAR(bandit->average_loss().estimate, estimate / kRequests, 1e-9);
  Features elsewhere{};
  for (size_t k = 0; k < kFeatures; ++k)
    elsewhere[k] = sums[kSmall][k] + sums[kMedium][k];
  const double deviation =
      std::hypot(bandit->belief(sums[kSmall], kSmall).deviation, bandit->belief(sums[kMedium], kMedium).deviation,
                 bandit->belief(elsewhere, kBig).deviation);
  EXPECT_NEAR(bandit->average_loss().at_most, (estimate + 2 * deviation) / kRequests, 1e-9);
}

TEST(Bandit, StatesOfSeveralGatewaysAddUp) {
  const BanditOptions options = simulation::workload_options();
  const auto one = bandit_of(options);
  const auto two = bandit_of(options);
  const auto both = bandit_of(options);
  teach(*one, 12, 500);
  teach(*two, 13, 400);
  teach(*both, 12, 500);
  teach(*both, 13, 400);
  const auto text = base::json::serialize(two->state().to_json());
  auto peers = BanditState::from_json(base::parse_json(text).value());
  ASSERT_TRUE(peers) << peers.error().to_string();
  one->set_peers(*peers);
  one->set_peers(*peers);  // replaces, and does not add again
  BanditState merged;
  merged.merge(bandit_of(options)->state());
  merged.merge(both->state());
  const auto restored = bandit_of(options);
  restored->restore(merged);
  simulation::ModelWorkload workload(14);
  for (int i = 0; i < 20; ++i) {
    const Features x = workload.next().features;
    for (size_t m = 0; m < 3; ++m) {
      const auto expected = both->belief(x, m);
      for (const auto& belief : {one->belief(x, m), restored->belief(x, m)}) {
        EXPECT_NEAR(belief.quality, expected.quality, 1e-9);
        EXPECT_NEAR(belief.deviation, expected.deviation, 1e-9);
        EXPECT_NEAR(belief.reward, expected.reward, 1e-9);
      }
    }
  }
}

TEST(Bandit, ForgetsWhatNoLongerHolds) {
  const auto after_a_change = [](double keep) {
    BanditOptions options = two_models();
    options.keep = keep;
    const auto bandit = bandit_of(options);
    const Features x = features_of({.prompt_tokens = 500});
    for (int i = 0; i < 3'000; ++i)
      bandit->learn_quality(x, 0, 0.9);
    for (int i = 0; i < 600; ++i)
      bandit->learn_quality(x, 0, 0.3);
    return bandit->belief(x, 0).quality;
  };
  EXPECT_GT(after_a_change(1), 0.75);
  EXPECT_LT(after_a_change(0.995), 0.36);
}

TEST(Bandit, RefusesForeignStates) {
  const auto error = [](const char* text) {
    const auto state = BanditState::from_json(base::parse_json(text).value());
    return state ? std::string("accepted") : std::string(base::to_string(state.error().code()));
  };
  const std::string invalid(base::to_string(base::ErrorCode::invalid_argument));
  const std::string unsupported(base::to_string(base::ErrorCode::unsupported));
  EXPECT_EQ(error("[]"), invalid);
  EXPECT_EQ(error(R"({"version":1})"), invalid);
  EXPECT_EQ(error(R"({"version":99,"models":[]})"), unsupported);
  EXPECT_EQ(error(R"({"version":1,"models":[{"name":"a"}]})"), invalid);
  EXPECT_EQ(error(R"({"version":1,"models":[{"name":"a","quality":{},"spending":{}}]})"), invalid);
  // A gram that is no sum of squares.
  auto state = bandit_of(two_models())->state().to_json();
  state.at("models").at(0).at("quality").at("gram").as_array()[0] = -5;
  const auto read = BanditState::from_json(state);
  ASSERT_FALSE(read);
  EXPECT_NE(read.error().message().find("no sum of squares"), std::string::npos);
}

TEST(Bandit, SaysWhatIsWrong) {
  const auto message = [](auto change) {
    BanditOptions options = two_models();
    change(options);
    auto bandit = Bandit::create(options);
    return bandit ? std::string("accepted") : bandit.error().message();
  };
  const auto contains = [](const std::string& text, const char* part) { return text.find(part) != std::string::npos; };
  EXPECT_TRUE(contains(message([](auto& o) { o.models.clear(); }), "1 to 8 models, not 0"));
  EXPECT_TRUE(contains(message([](auto& o) { o.models.push_back("big"); }), "'big' twice"));
  EXPECT_TRUE(contains(message([](auto& o) { o.models.emplace_back(); }), "without a name"));
  EXPECT_TRUE(contains(message([](auto& o) { o.reference = "huge"; }), "'huge' is not one of the models"));
  EXPECT_TRUE(contains(message([](auto& o) { o.explore = 2; }), "explore is 2"));
  EXPECT_TRUE(contains(message([](auto& o) { o.keep = 0; }), "keep is 0"));
  EXPECT_TRUE(contains(message([](auto& o) { o.trade.cost_scale = 0; }), "cost_scale is 0"));
  EXPECT_TRUE(contains(message([](auto& o) { o.quality_floor = std::nan(""); }), "quality_floor is nan"));
}

TEST(Bandit, NothingAbsurdIsLearned) {
  const auto bandit = bandit_of(two_models());
  const Features x = features_of({});
  bandit->learn_quality(x, 7, 1);
  bandit->learn_quality(x, 0, std::nan(""));
  bandit->learn_spending(x, 0, std::nan(""), 1);
  EXPECT_EQ(bandit->belief(x, 0).quality, 0.5);
  bandit->learn_quality(x, 0, 1e300);
  bandit->learn_spending(x, 0, 1e300, 1e300);
  EXPECT_LE(bandit->belief(x, 0).quality, 1);
  EXPECT_TRUE(std::isfinite(bandit->belief(x, 0).reward));
}

TEST(Bandit, MayBeUsedByManyThreads) {
  const auto bandit = bandit_of(simulation::workload_options());
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      simulation::ModelWorkload workload(t);
      for (int i = 0; i < 500; ++i) {
        const auto request = workload.next();
        const Decision decision = bandit->decide(request.features, workload.uniform());
        bandit->learn_quality(request.features, decision.model, workload.feedback(request, decision.model));
        if (i % 100 == 0) bandit->set_peers(bandit->state());
      }
    });
  }
  for (std::thread& thread : threads)
    thread.join();
  double weight = 0;
  for (const auto& model : bandit->state().models)
    weight += model.quality.weight();
  EXPECT_EQ(weight, 2'000);
}

TEST(PendingDecisions, KnowTheLastOnesOnce) {
  PendingDecisions pending(3);
  const auto bandit = bandit_of(two_models());
  for (const char* id : {"a", "b", "c", "d"})
    pending.put(id, bandit->decide(features_of({.prompt_tokens = id[0]}), 0.7));
  EXPECT_EQ(pending.find("a").error().code(), base::ErrorCode::not_found);
  EXPECT_EQ(pending.find("b")->features, features_of({.prompt_tokens = 'b'}));
  EXPECT_TRUE(pending.take_for_feedback("c"));
  EXPECT_EQ(pending.take_for_feedback("c").error().code(), base::ErrorCode::invalid_argument);
  EXPECT_TRUE(pending.find("c"));
  pending.put("c", *pending.find("c"));
  EXPECT_TRUE(pending.take_for_feedback("c"));
  pending.put("e", *pending.find("c"), "response-e");
  EXPECT_EQ(pending.find("response-e")->features, pending.find("e")->features);
  EXPECT_EQ(pending.take_for_feedback("response-e")->id, "e");
  EXPECT_FALSE(pending.take_for_feedback("e")) << "it is one decision by either name";
  for (const char* id : {"f", "g", "h"})
    pending.put(id, Decision{});
  EXPECT_FALSE(pending.find("response-e"));
  // One id for two answers: each is known by its own, and the latest by both.
  pending.put("twice", Decision{.model = 0}, "first");
  pending.put("twice", Decision{.model = 1}, "second");
  EXPECT_EQ(pending.find("twice")->model, 1U);
  EXPECT_EQ(pending.take_for_feedback("first")->decision.model, 0U);
  EXPECT_EQ(pending.take_for_feedback("second")->decision.model, 1U);
  EXPECT_FALSE(pending.take_for_feedback("twice"));
  pending.put("other", Decision{}, "first");
  EXPECT_EQ(pending.find("second")->model, 1U);
  pending.put("twice", Decision{});
  pending.put("second", Decision{});
  pending.put("last", Decision{});
  EXPECT_FALSE(pending.find("first")) << "only three are kept";
  PendingDecisions none(0);
  none.put("a", Decision{});
  EXPECT_FALSE(none.find("a"));
}

TEST(PendingDecisions, TravelAsJson) {
  const Decision decision = bandit_of(two_models())->decide(features_of({.prompt_tokens = 77, .tools = 3}), 0.3);
  for (const auto& json : {to_json(decision), base::parse_json(base::json::serialize(to_json(decision))).value()}) {
    const auto back = decision_from_json(json);
    ASSERT_TRUE(back) << back.error().to_string();
    for (size_t i = 0; i < kFeatures; ++i)
      EXPECT_DOUBLE_EQ(back->features[i], decision.features[i]);
    EXPECT_EQ(back->model, decision.model);
    for (size_t i = 0; i < kMostModels; ++i)
      EXPECT_DOUBLE_EQ(back->propensities[i], decision.propensities[i]);
    EXPECT_EQ(back->allowed, decision.allowed);
    EXPECT_EQ(back->explored, decision.explored);
  }
  Decision other = decision;
  other.model = 1 - decision.model;
  other.propensities[other.model] = 0;
  EXPECT_FALSE(decision_from_json(to_json(other))) << "it cannot have been drawn";
  other.substitute = true;
  const auto substitute = decision_from_json(to_json(other));
  ASSERT_TRUE(substitute) << substitute.error().to_string();
  EXPECT_TRUE(substitute->substitute);
  EXPECT_EQ(substitute->model, other.model);
  auto bad = to_json(decision);
  bad.as_object()["model"] = 8;
  EXPECT_FALSE(decision_from_json(bad));
  bad = to_json(decision);
  bad.as_object()["version"] = 2;
  EXPECT_EQ(decision_from_json(bad).error().code(), base::ErrorCode::unsupported);
  EXPECT_FALSE(decision_from_json(base::json::value(3)));
}

// The bars, on a workload whose best models are known.
constexpr int kLearn = 5'000;
constexpr double kRated = 0.3;

TEST(BanditBars, WithinATenthOfTheOracleAfterFiveThousandRequests) {
  for (const Method method : {Method::thompson, Method::lin_ucb}) {
    for (uint64_t seed = 1; seed <= (test::sanitized ? 1 : 3); ++seed) {
      BanditOptions options = simulation::workload_options();
      options.method = method;
      const auto learning = simulation::run_bandit(options, seed, kLearn, 0, kRated);
      EXPECT_GT(learning.reward, 0.9 * learning.oracle);  // the first 5,000 themselves
      const auto after = simulation::run_bandit(options, seed, kLearn + 2'000, kLearn, kRated);
      EXPECT_GT(after.reward, 0.9 * after.oracle);
      EXPECT_LT(after.always_big, 0.85 * after.oracle);  // which is not where it began
    }
  }
}

// Quality first, and cost where quality is the same: with a cost weight so small that what a model falls short by
// weighs more. Equal is within 1.25 hundredths of the big model's quality, of which 0.2 are what exploring costs.
TEST(BanditBars, CostsFortyPercentLessAtEqualQuality) {
  BanditOptions options = simulation::workload_options();
  options.trade.cost_weight = 0.04;
  const int seeds = test::sanitized ? 1 : 5;
  double loss = 0;
  for (int seed = 1; seed <= seeds; ++seed) {
    const auto run = simulation::run_bandit(options, static_cast<uint64_t>(seed), 2 * kLearn, kLearn, kRated);
    EXPECT_LT(run.cost, 0.6 * run.big_cost);
    EXPECT_GT(run.reward, 0.97 * run.oracle);
    loss += (run.big_quality - run.quality) / seeds;
  }
  EXPECT_LT(loss, test::sanitized ? 0.02 : 0.0125);
}

}  // namespace
}  // namespace tidemill::rollout
