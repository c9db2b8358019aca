// Row operations of mixtures of experts.
#pragma once

#include <cstdint>

#include "tensor/device.hpp"
#include "tensor/kernels.hpp"

namespace tidemill::tensor {

// One row of Device::choose_experts: `n` logits, rule.used choices. The softmax is e^(x - largest) by the kernels' exp,
// summed in the order of experts or, normalised, of choices; sigmoids are summed in that of choices.
void choose_experts_row(const Kernels& kernels, const float* logits, int64_t n, const ExpertRule& rule,
                        int32_t* experts, float* weights);

// x[i] = 1 / (1 + e^-x[i])
void sigmoid_row(const Kernels& kernels, float* x, int64_t n);

// x[i] += y[i] * factor
void add_scaled_row(float* x, const float* y, float factor, int64_t n);

}  // namespace tidemill::tensor
