// A workload of which it is known what every model's answers are worth: four kinds of requests, three models.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "rollout/bandit.hpp"

namespace tidemill::rollout::simulation {

inline constexpr size_t kSmall = 0;
inline constexpr size_t kMedium = 1;
inline constexpr size_t kBig = 2;

struct ModelRequest {
  RequestTraits traits;
  Features features;
  double output_tokens;
  std::array<double, 3> quality;  // the probability that an answer of each model is good
  std::array<double, 3> cost;     // money
  std::array<double, 3> seconds;
};

// Small talk, which the small model does as well as the big one; work with tools and texts in other scripts, which want
// the medium one; code, which wants the big one. Quality is no linear function of the features: it falls with length,
// by a logistic curve. Deterministic by seed.
class ModelWorkload {
 public:
  explicit ModelWorkload(uint64_t seed) : random_(seed) {}

  ModelRequest next();
  // Whether somebody finds the answer good: 1 or 0.
  double feedback(const ModelRequest& request, size_t model);
  double uniform() { return std::uniform_real_distribution<double>()(random_); }

 private:
  double lognormal(double median, double sigma);

  std::mt19937_64 random_;
};

// What the tests choose by: models "small", "medium" and "big", at prices that make the big one worse than the best
// choice by far more than a tenth.
BanditOptions workload_options();

double expected_reward(const ModelRequest& request, size_t model, const Trade& trade);
// The best model of those whose quality falls short of the big one's by `max_loss` at most.
size_t best_model(const ModelRequest& request, const Trade& trade, double max_loss);

// A bandit's run through a workload. `rated`: the share of requests whose answer somebody rates.
struct BanditRun {
  double reward = 0;  // means of expected values, of requests from `from` on
  double oracle = 0;
  double always_big = 0;
  double quality = 0;
  double big_quality = 0;
  double cost = 0;
  double big_cost = 0;
  std::array<double, 3> shares{};
};
BanditRun run_bandit(const BanditOptions& options, uint64_t seed, int requests, int from, double rated);

}  // namespace tidemill::rollout::simulation
