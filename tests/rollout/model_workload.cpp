#include "rollout/model_workload.hpp"

#include <algorithm>
#include <cmath>

namespace tidemill::rollout::simulation {
namespace {

constexpr std::array kPricePer1000 = {0.0001, 0.0003,
                                      0.001};  // money, for tokens of the prompt; three times for output's
constexpr std::array kSecondsPerToken = {0.005, 0.012, 0.03};

enum class Kind { talk, tools, code, script };

// For short requests.
std::array<double, 3> base_quality(Kind kind) {
  switch (kind) {
    case Kind::talk:
      return {0.916, 0.918, 0.92};
    case Kind::tools:
      return {0.72, 0.905, 0.91};
    case Kind::code:
      return {0.55, 0.76, 0.90};
    case Kind::script:
      break;
  }
  return {0.70, 0.895, 0.90};
}

}  // namespace

double ModelWorkload::lognormal(double median, double sigma) {
  return median * std::exp(sigma * std::normal_distribution<double>()(random_));
}

ModelRequest ModelWorkload::next() {
  ModelRequest request;
  RequestTraits& traits = request.traits;
  const double draw = uniform();
  const Kind kind = draw < 0.45 ? Kind::talk : draw < 0.65 ? Kind::tools : draw < 0.9 ? Kind::code : Kind::script;
  traits.turns = static_cast<int64_t>(lognormal(3, 0.8));
  traits.prompt_tokens = static_cast<int64_t>(lognormal(kind == Kind::tools  ? 4000
                                                        : kind == Kind::code ? 1500
                                                                             : 300,
                                                        0.8));
  if (kind == Kind::tools) traits.tools = 1 + static_cast<int64_t>(lognormal(6, 0.7));
  if (kind == Kind::code) traits.text.code = 0.25 + 0.75 * uniform();
  if (kind == Kind::script)
    (uniform() < 0.5 ? traits.text.without_spaces : traits.text.other_alphabets) = 0.6 + 0.4 * uniform();
  traits.images = uniform() < 0.05;
  request.features = features_of(traits);
  request.output_tokens = lognormal(150, 0.7);
  const auto tokens = static_cast<double>(traits.prompt_tokens);
  const double fall = 1 / (1 + std::exp(-(std::log(tokens + 1) - std::log(16000)) / 0.5));  // of all, at great length
  const std::array quality = base_quality(kind);
  for (size_t m = 0; m < 3; ++m) {
    request.quality[m] = quality[m] - 0.06 * fall;
    request.cost[m] = kPricePer1000[m] * (tokens + 3 * request.output_tokens) / 1000;
    request.seconds[m] = kSecondsPerToken[m] * request.output_tokens + kSecondsPerToken[m] * tokens / 100;
  }
  return request;
}

double ModelWorkload::feedback(const ModelRequest& request, size_t model) {
  return uniform() < request.quality[model] ? 1 : 0;
}

BanditOptions workload_options() {
  return {.name = "workload",
          .models = {"small", "medium", "big"},
          .reference = "big",
          .trade = {.cost_weight = 0.25, .cost_scale = 0.002, .latency_weight = 0.05, .latency_scale = 30}};
}

double expected_reward(const ModelRequest& request, size_t model, const Trade& trade) {
  return trade.reward(request.quality[model], request.cost[model], request.seconds[model]);
}

size_t best_model(const ModelRequest& request, const Trade& trade, double max_loss) {
  size_t best = kBig;
  for (size_t m = 0; m < 3; ++m) {
    if (request.quality[m] < request.quality[kBig] - max_loss) continue;
    if (expected_reward(request, m, trade) > expected_reward(request, best, trade)) best = m;
  }
  return best;
}

BanditRun run_bandit(const BanditOptions& options, uint64_t seed, int requests, int from, double rated) {
  const auto bandit = Bandit::create(options).value();
  ModelWorkload workload(seed);
  BanditRun run;
  const double each = 1.0 / (requests - from);
  for (int i = 0; i < requests; ++i) {
    const ModelRequest request = workload.next();
    const size_t model = bandit->decide(request.features, workload.uniform()).model;
    bandit->learn_spending(request.features, model, request.cost[model], request.seconds[model]);
    if (workload.uniform() < rated) bandit->learn_quality(request.features, model, workload.feedback(request, model));
    if (i < from) continue;
    run.reward += each * expected_reward(request, model, options.trade);
    run.oracle +=
        each * expected_reward(request, best_model(request, options.trade, options.max_quality_loss), options.trade);
    run.always_big += each * expected_reward(request, kBig, options.trade);
    run.quality += each * request.quality[model];
    run.big_quality += each * request.quality[kBig];
    run.cost += each * request.cost[model];
    run.big_cost += each * request.cost[kBig];
    run.shares[model] += each;
  }
  return run;
}

}  // namespace tidemill::rollout::simulation
