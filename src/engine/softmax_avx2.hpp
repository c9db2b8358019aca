// For softmax.cpp alone: its passes where the machine has AVX2. Same bits, half the time.
#pragma once

#include <cstddef>

namespace tidemill::engine {

// `weights` may be null.
double exp_sum_avx2(const float* logits, size_t size, float max, float scale, float* weights);
void exp_above_avx2(const float* logits, size_t size, float max, float scale, float lowest, float* weights);

}  // namespace tidemill::engine
