// What speculation costs and gains, in simulated time: a step takes as long as the test says for its rows.
#include "engine/speculator.hpp"

#include <algorithm>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace tidemill::engine {
namespace {

using Cost = std::function<double(int64_t rows)>;  // seconds of a step

// Right with a probability of its own, and as sure of itself as the test says.
class Gambler final : public Proposer {
 public:
  Proposal propose(std::span<const Token>, int64_t most) override {
    return {std::span(tokens_).first(static_cast<size_t>(std::min(most, length))), support};
  }
  int64_t length = 7;
  int support = 4;

 private:
  std::vector<Token> tokens_ = std::vector<Token>(32, 1);
};

// Streams that decode together, with nothing else going on.
class Simulation {
 public:
  Simulation(Cost cost, size_t streams, SpeculationOptions options = {}) : cost_(std::move(cost)) {
    options.make_proposer = [this] {
      auto gambler = std::make_unique<Gambler>();
      gambler->support = support;
      return gambler;
    };
    speculator_.emplace(options);
    for (size_t i = 0; i < streams; ++i) {
      SequenceSpec spec;
      spec.prompt = {1};
      sequences_.push_back(std::make_unique<Sequence>(std::move(spec)));
    }
    right.assign(streams, 0.0);
    tokens.assign(streams, 0);
    prefill();
  }

  void step() {
    std::vector<Slice> plan;
    for (const auto& sequence : sequences_)
      plan.push_back({sequence.get(), 0, 1});
    const std::vector<int64_t> most(plan.size(), 31);
    const auto chosen = speculator_->choose(plan, most);
    auto rows = std::ssize(plan);
    for (size_t i = 0; i < plan.size(); ++i) {
      plan[i].proposed = chosen[i];
      rows += std::ssize(chosen[i]);
    }
    std::vector<int64_t> accepted;
    for (size_t i = 0; i < plan.size(); ++i) {
      int64_t n = 0;
      while (n < std::ssize(plan[i].proposed) && std::uniform_real_distribution<>()(random_) < right[i])
        ++n;
      accepted.push_back(n);
      tokens[i] += 1 + n;
    }
    const double noise = std::uniform_real_distribution<>(0, jitter)(random_);
    const double took = cost_(rows) * (1 + noise);
    seconds += took;
    most_rows = std::max(most_rows, rows);
    proposed += rows - std::ssize(plan);
    speculator_->observe(plan, accepted, base::Duration(static_cast<int64_t>(took * 1e9)));
  }
  void run(int steps) {
    for (int i = 0; i < steps; ++i)
      step();
  }
  // Of stream i without speculation.
  double plain_seconds(size_t i) const {
    return static_cast<double>(tokens[i]) * cost_(std::ssize(sequences_)) * (1 + jitter / 2);
  }

  std::vector<double> right;  // by stream: probability that a proposed token is
  int support = 4;
  double jitter = 0;
  double seconds = 0;
  std::vector<int64_t> tokens;  // by stream: generated
  int64_t most_rows = 0;
  int64_t proposed = 0;

 private:
  // Of someone before them.
  void prefill() {
    SequenceSpec spec;
    spec.prompt = std::vector<Token>(300, 1);
    Sequence sequence(std::move(spec));
    const std::vector<Slice> plan{{&sequence, 0, 300}};
    const std::vector<int64_t> most{31};
    EXPECT_TRUE(speculator_->choose(plan, most)[0].empty());
    const std::vector<int64_t> accepted{0};
    speculator_->observe(plan, accepted, base::Duration(static_cast<int64_t>(cost_(300) * 1e9)));
  }

  Cost cost_;
  std::mt19937 random_{3};
  std::vector<std::unique_ptr<Sequence>> sequences_;
  std::optional<Speculator> speculator_;
};

// Bound by memory up to four rows, bound by arithmetic from the first row on, and in between.
const std::vector<std::pair<std::string, Cost>>& costs() {
  static const std::vector<std::pair<std::string, Cost>> all = {
      {"flat to four",
       [](int64_t rows) {
         return 0.03 *
                (1 + 0.02 * static_cast<double>(rows) + 0.12 * static_cast<double>(std::max<int64_t>(rows - 4, 0)));
       }},
      {"a tenth each", [](int64_t rows) { return 0.03 * (0.9 + 0.1 * static_cast<double>(rows)); }},
      {"a third each", [](int64_t rows) { return 0.03 * (0.67 + 0.33 * static_cast<double>(rows)); }},
      {"proportional", [](int64_t rows) { return 0.03 * static_cast<double>(rows); }},
      {"odd ones dear", [](int64_t rows) {
         return 0.03 * (1 + 0.05 * static_cast<double>(rows) + (rows % 4 == 0 || rows == 1 ? 0 : 0.15));
       }}};
  return all;
}

TEST(Speculator, LosesNoMoreThanPromisedWhateverIsProposed) {
  for (const auto& [name, cost] : costs()) {
    for (const size_t streams : {1, 2, 5, 16, 31, 40}) {
      for (const int support : {2, 6, 12, 30}) {
        for (const double right : {0.0, 0.1, 0.3}) {
          Simulation simulation(cost, streams);
          simulation.support = support;
          std::ranges::fill(simulation.right, right);
          for (const int steps : {10, 20, 70, 900}) {
            simulation.run(steps);
            for (size_t i = 0; i < streams; ++i) {
              const double promised = simulation.plain_seconds(i) * 1.01 + 0.25 * cost(static_cast<int64_t>(streams));
              ASSERT_LE(simulation.seconds, promised + 1e-6)
                  << name << ", " << streams << " streams, support " << support << ", right " << right << ", stream "
                  << i << " after " << simulation.tokens[i];
            }
          }
        }
      }
    }
  }
}

TEST(Speculator, GainsWhereRowsAreCheapAndProposalsRight) {
  Simulation simulation(costs()[0].second, 1);
  simulation.right = {0.9};
  simulation.run(200);
  EXPECT_GT(simulation.plain_seconds(0) / simulation.seconds, 2.5);
  Simulation dear(costs()[2].second, 1);
  dear.right = {0.95};
  dear.run(200);
  EXPECT_GT(dear.plain_seconds(0) / dear.seconds, 1.5);
}

TEST(Speculator, ShrinksToNothingWhereRowsAreNotCheap) {
  for (const size_t streams : {1, 16}) {
    Simulation simulation(costs()[3].second, streams);
    std::ranges::fill(simulation.right, 0.8);
    simulation.run(300);
    EXPECT_EQ(simulation.proposed, 0);
  }
  Simulation many(costs()[0].second, 32);
  many.run(50);
  EXPECT_EQ(many.proposed, 0);
}

// A neighbour that gains nothing pays for the others' rows in time: no more than promised.
TEST(Speculator, DoesNotGainAtANeighboursExpense) {
  for (const auto& [name, cost] : costs()) {
    Simulation simulation(cost, 4);
    simulation.right = {0.95, 0.95, 0.95, 0};
    simulation.run(1000);
    const double plain = simulation.plain_seconds(3);
    EXPECT_LE(simulation.seconds, plain * 1.01 + 0.25 * cost(4)) << name;
  }
}

TEST(Speculator, FindsOutWhenAStreamChangesItsWays) {
  Simulation simulation(costs()[0].second, 1);
  simulation.run(500);
  const int64_t tokens = simulation.tokens[0];
  const double seconds = simulation.seconds;
  simulation.right = {0.95};
  simulation.run(400);
  const double plain = static_cast<double>(simulation.tokens[0] - tokens) * costs()[0].second(1);
  EXPECT_GT(plain / (simulation.seconds - seconds), 1.7);
}

TEST(Speculator, NoisyTimesDoNotMisleadItForLong) {
  for (const auto& [name, cost] : costs()) {
    Simulation simulation(cost, 2);
    simulation.jitter = 0.6;
    simulation.right = {0, 0};
    simulation.run(2000);
    EXPECT_LE(simulation.seconds, simulation.plain_seconds(0) * 1.03) << name;
  }
  Simulation gains(costs()[0].second, 1);
  gains.jitter = 0.6;
  gains.right = {0.9};
  gains.run(2000);
  EXPECT_GT(gains.plain_seconds(0) / gains.seconds, 2);
}

TEST(Speculator, WithoutAdaptingEverythingIsTried) {
  Simulation simulation(costs()[3].second, 2, {.max_proposal = 5, .adaptive = false});
  simulation.run(10);
  EXPECT_EQ(simulation.proposed, 100);
}

TEST(Speculator, ExtendsOnlyStepsThatDecodeAndForgetsTheEnded) {
  Speculator speculator({});
  SequenceSpec spec;
  spec.prompt = std::vector<Token>(40, 7);
  Sequence decoding(spec);
  Sequence prefilling(spec);
  std::vector<Slice> plan{{&decoding, 39, 1}};
  const std::vector<int64_t> most{31, 31};
  const std::vector<int64_t> accepted{0};
  EXPECT_TRUE(speculator.choose(plan, most)[0].empty()) << "what a step takes is not known";
  for (int i = 0; i < 2; ++i) {
    speculator.choose(plan, most);
    speculator.observe(plan, accepted, base::Duration(20'000'000));
  }
  EXPECT_EQ(speculator.choose(plan, most)[0].size(), 1u) << "two rows at first";
  plan.push_back({&prefilling, 0, 30});
  EXPECT_TRUE(speculator.choose(plan, most)[0].empty());
  EXPECT_EQ(speculator.streams(), 1);
  speculator.forget(decoding);
  speculator.forget(decoding);
  EXPECT_EQ(speculator.streams(), 0);
}

TEST(StepCost, KnowsMediansAndEstimatesBetweenThem) {
  StepCost cost;
  EXPECT_EQ(cost.relative(1, 1, 100), 1);
  EXPECT_GT(cost.relative(4, 1, 100), 1) << "assumed";
  EXPECT_EQ(cost.worth_trying(1, 100), 1);
  EXPECT_EQ(cost.worth_trying(5, 100), 5);
  const auto ms = [](int64_t n) { return base::Duration(n * 1'000'000); };
  for (const int64_t time : {20, 21, 500, 20, 22})
    cost.add(1, 100, ms(time));
  for (const int64_t time : {30, 3000, 31})
    cost.add(5, 100, ms(time));
  EXPECT_NEAR(cost.relative(5, 1, 100), 31.0 / 21, 1e-6);
  EXPECT_NEAR(cost.relative(3, 1, 100), 26.0 / 21, 1e-6) << "between";
  EXPECT_NEAR(cost.relative(9, 1, 100), 43.4 / 21, 1e-6) << "beyond: 3.1 ms a row, assumed, is more than 2.5";
  EXPECT_EQ(cost.worth_trying(1, 100), 10);
  EXPECT_EQ(cost.worth_trying(1, 5000), 1) << "other contexts are another matter";
  for (int i = 0; i < 8; ++i)
    cost.add(5, 100, ms(10));
  EXPECT_EQ(cost.relative(5, 1, 100), 1) << "more rows never count as faster";
  cost.add(1, 100, ms(0));
  cost.add(100, 100, ms(1));
  cost.add(0, 100, ms(1));
  EXPECT_EQ(cost.worth_trying(20, 1 << 30), 20);
  for (int i = 0; i < 2; ++i)
    cost.add(20, 1 << 30, ms(10));
  EXPECT_EQ(cost.worth_trying(20, 1 << 30), 32);
  EXPECT_NEAR(cost.relative(24, 20, 1 << 30), 1.4, 1e-6) << "assumed";
  cost.add_prefill(100, ms(500));
  EXPECT_NEAR(cost.relative(24, 20, 1 << 30), 3, 1e-6) << "5 ms a row, as in prefill";
  cost.add_prefill(100, ms(200));
  EXPECT_NEAR(cost.relative(24, 20, 1 << 30), 1.8, 1e-6) << "the least of the last prefills";
}

}  // namespace
}  // namespace tidemill::engine
