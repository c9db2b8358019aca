// The exponentiating passes over vectors of eight, compiled for AVX2 (without FMA, which would change the bits).
#include "engine/softmax_avx2.hpp"

#include "engine/exp_passes.hpp"

namespace tidemill::engine {

double exp_sum_avx2(const float* logits, size_t size, float max, float scale, float* weights) {
  return ExpPasses<8>::exp_sum(logits, size, max, scale, weights);
}

void exp_above_avx2(const float* logits, size_t size, float max, float scale, float lowest, float* weights) {
  ExpPasses<8>::exp_above(logits, size, max, scale, lowest, weights);
}

}  // namespace tidemill::engine
