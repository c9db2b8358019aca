#include "rollout/offline.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "rollout/ridge.hpp"

namespace tidemill::rollout {
namespace {

constexpr double k95 = 1.959964;
constexpr double kRidge = 1;
constexpr double kNoise = 0.3;

// Mean and interval of independent terms.
Estimate mean_of(std::span<const double> terms) {
  const auto n = static_cast<double>(terms.size());
  double sum = 0;
  for (const double term : terms)
    sum += term;
  const double mean = sum / n;
  double squares = 0;
  for (const double term : terms)
    squares += (term - mean) * (term - mean);
  const double half = k95 * std::sqrt(squares / n / std::max(1.0, n - 1));
  return {.value = mean, .low = mean - half, .high = mean + half};
}

// The rewards of every model, learned from every second choice from `from` on.
std::vector<Ridge> fit_half(std::span<const LoggedChoice> log, size_t models, size_t from) {
  std::vector<RidgeSums> sums(models, RidgeSums(1));
  for (size_t i = from; i < log.size(); i += 2) {
    const std::array target = {log[i].reward};
    sums[log[i].model].add(log[i].features, target);
  }
  std::vector<Ridge> fits;
  fits.reserve(models);
  for (const RidgeSums& sum : sums)
    fits.emplace_back(sum, kRidge, kNoise);
  return fits;
}

}  // namespace

Policy always(size_t model) {
  return [model](const Features& /*features*/, std::span<double> probabilities) {
    std::ranges::fill(probabilities, 0.0);
    probabilities[model] = 1;
  };
}

Policy policy_of(const Bandit& bandit) {
  return [&bandit](const Features& features, std::span<double> probabilities) {
    const Decision decision = bandit.would_decide(features, 0);
    std::copy_n(decision.propensities.begin(), probabilities.size(), probabilities.begin());
  };
}

OfflineEstimates evaluate_offline(std::span<const LoggedChoice> log, size_t models, const Policy& policy) {
  OfflineEstimates estimates;
  if (log.empty()) return estimates;
  const std::array halves = {fit_half(log, models, 0), fit_half(log, models, 1)};
  std::vector<double> probabilities(models);
  std::vector<double> weights;
  std::vector<double> weighted;
  std::vector<double> robust;
  double sum = 0;
  double squares = 0;
  for (size_t i = 0; i < log.size(); ++i) {
    const LoggedChoice& choice = log[i];
    const std::vector<Ridge>& fits = halves[(i + 1) % 2];
    policy(choice.features, probabilities);
    const double weight = probabilities[choice.model] / choice.propensity;
    double predicted = 0;
    for (size_t m = 0; m < models; ++m)
      predicted += probabilities[m] * fits[m].mean(choice.features);
    weights.push_back(weight);
    weighted.push_back(weight * choice.reward);
    robust.push_back(predicted + weight * (choice.reward - fits[choice.model].mean(choice.features)));
    sum += weight;
    squares += weight * weight;
    estimates.largest_weight = std::max(estimates.largest_weight, weight);
  }
  estimates.choices = static_cast<int64_t>(log.size());
  estimates.ips = mean_of(weighted);
  estimates.doubly_robust = mean_of(robust);
  if (!(sum > 0)) return estimates;
  estimates.effective_choices = sum * sum / squares;
  double ratio = 0;
  for (const double term : weighted)
    ratio += term / sum;
  double spread = 0;
  for (size_t i = 0; i < log.size(); ++i)
    spread += std::pow(weights[i] * (log[i].reward - ratio), 2);
  const double half = k95 * std::sqrt(spread) / sum;
  estimates.snips = {.value = ratio, .low = ratio - half, .high = ratio + half};
  return estimates;
}

}  // namespace tidemill::rollout
