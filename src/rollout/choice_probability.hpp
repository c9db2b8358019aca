// Thompson sampling's probabilities, as numbers rather than as draws.
#pragma once

#include <cstddef>
#include <span>

namespace tidemill::rollout {

// For each i the probability that, of independent normal variables with the given means and deviations (none negative),
// variable i is the largest; written to `probabilities`, which add up to 1. For two in closed form; for more, by the
// trapezoid rule over that variable's density, to about 1e-4 (deviations that differ a hundredfold: 1e-2). Whoever
// draws by these numbers draws with exactly these propensities, whatever they are.
void largest_probabilities(std::span<const double> means, std::span<const double> deviations,
                           std::span<double> probabilities);

}  // namespace tidemill::rollout
