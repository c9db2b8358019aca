#include "tensor/expert_rows.hpp"

#include <array>
#include <cassert>

namespace tidemill::tensor {

void choose_experts_row(const Kernels& kernels, const float* logits, int64_t n, const ExpertRule& rule,
                        int32_t* experts, float* weights) {
  assert(n <= kMostExperts && rule.used <= n);
  std::array<bool, kMostExperts> taken{};
  for (int64_t i = 0; i < rule.used; ++i) {
    int64_t best = -1;
    for (int64_t e = 0; e < n; ++e) {
      if (!taken[static_cast<size_t>(e)] && (best < 0 || logits[e] > logits[best])) best = e;
    }
    taken[static_cast<size_t>(best)] = true;
    experts[i] = static_cast<int32_t>(best);
  }
  std::array<float, kMostExperts> shares;
  const float largest = logits[experts[0]];
  const int64_t count = rule.normalised ? rule.used : n;
  for (int64_t i = 0; i < count; ++i)
    shares[static_cast<size_t>(i)] = logits[rule.normalised ? experts[i] : i] - largest;
  kernels.exp(shares.data(), count, shares.data());
  float sum = 0;
  for (int64_t i = 0; i < count; ++i)
    sum = sum + shares[static_cast<size_t>(i)];
  for (int64_t i = 0; i < rule.used; ++i)
    weights[i] = shares[static_cast<size_t>(rule.normalised ? i : experts[i])] / sum * rule.scale;
}

void sigmoid_row(const Kernels& kernels, float* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    x[i] = -x[i];
  kernels.exp(x, n, x);
  for (int64_t i = 0; i < n; ++i)
    x[i] = 1.0F / (1.0F + x[i]);
}

}  // namespace tidemill::tensor
