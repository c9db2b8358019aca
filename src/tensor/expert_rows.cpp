#include "tensor/expert_rows.hpp"

#include <algorithm>
#include <array>
#include <cassert>
#include <limits>

namespace tidemill::tensor {
namespace {

constexpr float kOutOfChoice = -std::numeric_limits<float>::infinity();

using Experts = std::array<float, kMostExperts>;

// The first `count` of n keys in descending order, of equal ones the first: on_choice(i, index).
template <typename OnChoice>
void choose_largest(const float* keys, int64_t n, int64_t count, const OnChoice& on_choice) {
  std::array<bool, kMostExperts> taken{};
  for (int64_t i = 0; i < count; ++i) {
    int64_t best = -1;
    for (int64_t e = 0; e < n; ++e) {
      if (!taken[static_cast<size_t>(e)] && (best < 0 || keys[e] > keys[best])) best = e;
    }
    taken[static_cast<size_t>(best)] = true;
    on_choice(i, best);
  }
}

// Leaves the keys of the groups that are looked at.
void leave_best_groups(float* keys, int64_t n, const ExpertRule& rule) {
  const int64_t size = n / rule.groups;
  Experts scores;
  std::array<bool, kMostExperts> stays{};
  for (int64_t g = 0; g < rule.groups; ++g) {
    float sum = 0;
    const float* group = keys + g * size;
    choose_largest(group, size, std::min(rule.group_best, size),
                   [&](int64_t /*i*/, int64_t e) { sum = sum + group[e]; });
    scores[static_cast<size_t>(g)] = sum;
  }
  choose_largest(scores.data(), rule.groups, rule.used_groups,
                 [&](int64_t /*i*/, int64_t g) { stays[static_cast<size_t>(g)] = true; });
  for (int64_t e = 0; e < n; ++e) {
    if (!stays[static_cast<size_t>(e / size)]) keys[e] = kOutOfChoice;
  }
}

// The softmax over n logits, in their order.
void softmax_row(const Kernels& kernels, float* x, int64_t n) {
  const float largest = *std::max_element(x, x + n);
  for (int64_t i = 0; i < n; ++i)
    x[i] = x[i] - largest;
  kernels.exp(x, n, x);
  float sum = 0;
  for (int64_t i = 0; i < n; ++i)
    sum = sum + x[i];
  for (int64_t i = 0; i < n; ++i)
    x[i] = x[i] / sum;
}

// What experts are chosen by: logits where their order is that of the scores.
void make_keys(const Kernels& kernels, const float* logits, int64_t n, const ExpertRule& rule, float* keys) {
  std::copy_n(logits, n, keys);
  if (rule.score == ExpertRule::Score::sigmoid) {
    sigmoid_row(kernels, keys, n);
  } else if (!rule.score_correction_bias.empty() || rule.group_best > 1) {
    softmax_row(kernels, keys, n);
  }
  for (size_t e = 0; e < rule.score_correction_bias.size(); ++e)
    keys[e] = keys[e] + rule.score_correction_bias[e];
  if (rule.used_groups < rule.groups) leave_best_groups(keys, n, rule);
}

void weigh_by_softmax(const Kernels& kernels, const float* logits, int64_t n, const ExpertRule& rule,
                      const int32_t* experts, float* weights) {
  Experts shares;
  const int64_t count = rule.normalised ? rule.used : n;
  const auto logit_of = [&](int64_t i) { return logits[rule.normalised ? experts[i] : i]; };
  float largest = logits[experts[0]];
  for (int64_t i = 0; i < count; ++i)
    largest = std::max(largest, logit_of(i));
  for (int64_t i = 0; i < count; ++i)
    shares[static_cast<size_t>(i)] = logit_of(i) - largest;
  kernels.exp(shares.data(), count, shares.data());
  float sum = 0;
  for (int64_t i = 0; i < count; ++i)
    sum = sum + shares[static_cast<size_t>(i)];
  for (int64_t i = 0; i < rule.used; ++i)
    weights[i] = shares[static_cast<size_t>(rule.normalised ? i : experts[i])] / sum * rule.scale;
}

void weigh_by_sigmoid(const Kernels& kernels, const float* logits, const ExpertRule& rule, const int32_t* experts,
                      float* weights) {
  for (int64_t i = 0; i < rule.used; ++i)
    weights[i] = logits[experts[i]];
  sigmoid_row(kernels, weights, rule.used);
  float sum = 1;
  if (rule.normalised) {
    sum = 1e-20F;  // all of them may be zero
    for (int64_t i = 0; i < rule.used; ++i)
      sum = sum + weights[i];
  }
  for (int64_t i = 0; i < rule.used; ++i)
    weights[i] = weights[i] / sum * rule.scale;
}

}  // namespace

void choose_experts_row(const Kernels& kernels, const float* logits, int64_t n, const ExpertRule& rule,
                        int32_t* experts, float* weights) {
  assert(n <= kMostExperts && rule.used <= n && n % rule.groups == 0);
  assert(rule.score_correction_bias.empty() || static_cast<int64_t>(rule.score_correction_bias.size()) == n);
  assert(rule.used <= n / rule.groups * rule.used_groups);
  Experts keys;
  make_keys(kernels, logits, n, rule, keys.data());
  choose_largest(keys.data(), n, rule.used, [&](int64_t i, int64_t e) { experts[i] = static_cast<int32_t>(e); });
  if (rule.score == ExpertRule::Score::sigmoid) {
    weigh_by_sigmoid(kernels, logits, rule, experts, weights);
  } else {
    weigh_by_softmax(kernels, logits, n, rule, experts, weights);
  }
}

void sigmoid_row(const Kernels& kernels, float* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    x[i] = -x[i];
  kernels.exp(x, n, x);
  for (int64_t i = 0; i < n; ++i)
    x[i] = 1.0F / (1.0F + x[i]);
}

void add_scaled_row(float* __restrict x, const float* __restrict y, float factor, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    x[i] = x[i] + y[i] * factor;
}

}  // namespace tidemill::tensor
