#include "rollout/choice_probability.hpp"

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>

#include "rollout/normal.hpp"

namespace tidemill::rollout {
namespace {

constexpr double kLeastDeviation = 1e-9;
constexpr double kReach = 6;    // deviations from a mean beyond which there is nothing
constexpr int kStepsEach = 64;  // of the table, for one deviation
constexpr int kTableSize = static_cast<int>(2 * kReach) * kStepsEach;
constexpr int kNodes = 48;  // on each side of a mean

// The distribution function in a table: an erfc for every node and pair would take most of a decision's time.
const std::array<double, kTableSize + 2>& table() {
  static const auto values = [] {
    std::array<double, kTableSize + 2> filled;
    for (int i = 0; i < kTableSize + 2; ++i)
      filled[static_cast<size_t>(i)] = normal_cdf(static_cast<double>(i) / kStepsEach - kReach);
    return filled;
  }();
  return values;
}

double quick_cdf(double z) {
  if (z <= -kReach) return 0;
  if (z >= kReach) return 1;
  const double at = (z + kReach) * kStepsEach;
  const auto below = static_cast<size_t>(at);
  const double part = at - static_cast<double>(below);
  return table()[below] * (1 - part) + table()[below + 1] * part;
}

double probability(std::span<const double> means, std::span<const double> deviations, size_t i) {
  double sum = 0;
  for (int node = -kNodes; node <= kNodes; ++node) {
    const double z = node * kReach / kNodes;
    const double x = means[i] + z * deviations[i];
    double product = std::exp(-z * z / 2);
    for (size_t j = 0; j < means.size() && product > 1e-12; ++j)
      if (j != i) product *= quick_cdf((x - means[j]) / std::max(kLeastDeviation, deviations[j]));
    sum += product;
  }
  return sum;
}

}  // namespace

void largest_probabilities(std::span<const double> means, std::span<const double> deviations,
                           std::span<double> probabilities) {
  assert(means.size() == deviations.size() && means.size() == probabilities.size());
  if (means.size() == 1) {
    probabilities[0] = 1;
    return;
  }
  if (means.size() == 2) {
    const double spread = std::max(kLeastDeviation, std::hypot(deviations[0], deviations[1]));
    probabilities[0] = normal_cdf((means[0] - means[1]) / spread);
    probabilities[1] = 1 - probabilities[0];
    return;
  }
  double sum = 0;
  for (size_t i = 0; i < means.size(); ++i)
    sum += probabilities[i] = probability(means, deviations, i);
  for (double& p : probabilities)
    p /= sum;
}

}  // namespace tidemill::rollout
