// Passes over one row of logits: its maximum, and the exponentials that softmax is made of.
#pragma once

#include <optional>
#include <span>

namespace tidemill::engine {

// The largest element. nullopt if any element is NaN or +infinity, or all are -infinity: no distribution then.
std::optional<float> finite_max(std::span<const float> logits);

// Sum of exp((x - max) * scale) over `logits`, where max is their maximum and scale >= 0; the terms go to `weights` if
// that is not empty (same size as logits). Computed from +, * and comparisons alone in a fixed order, so that every
// machine and compiler gets the same bits. Terms are within 2 units in the last place of the true value; below e^-87
// they are 0.
double exp_sum(std::span<const float> logits, float max, float scale, std::span<float> weights);

// The same terms without their sum, where only the large ones matter: terms below e^lowest may be 0 instead. Over a
// language model's vocabulary, whose bulk is far below the maximum, several times as fast.
void exp_above(std::span<const float> logits, float max, float scale, float lowest, std::span<float> weights);

}  // namespace tidemill::engine
