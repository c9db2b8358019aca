#include "distill/distribution.hpp"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <numeric>
#include <vector>

namespace tidemill::distill {

namespace {

// Of thousands of tokens few are likelier, and those alone are sorted where they are enough.
constexpr float kUnlikely = 1e-4F;

}  // namespace

bool to_probabilities(std::span<const float> logits, std::span<float> out) {
  assert(logits.size() == out.size());
  float most = -HUGE_VALF;
  bool odd = logits.empty();
  for (const float logit : logits) {
    odd = odd || std::isnan(logit);
    most = std::max(most, logit);
  }
  if (odd || !std::isfinite(most)) return false;
  double sum = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    out[i] = std::exp(logits[i] - most);
    sum += out[i];
  }
  const auto scale = static_cast<float>(1 / sum);
  for (float& probability : out)
    probability *= scale;
  return true;
}

void most_likely(std::span<const float> probabilities, std::span<int32_t> tokens, std::span<float> out) {
  assert(tokens.size() == out.size() && tokens.size() <= probabilities.size());
  std::vector<int32_t> candidates;
  for (size_t i = 0; i < probabilities.size(); ++i) {
    if (probabilities[i] > kUnlikely) candidates.push_back(static_cast<int32_t>(i));
  }
  if (candidates.size() < tokens.size()) {
    candidates.resize(probabilities.size());
    std::iota(candidates.begin(), candidates.end(), 0);
  }
  const auto end = candidates.begin() + static_cast<int64_t>(tokens.size());
  std::partial_sort(candidates.begin(), end, candidates.end(), [&](int32_t a, int32_t b) {
    const float p = probabilities[static_cast<size_t>(a)];
    const float q = probabilities[static_cast<size_t>(b)];
    return p > q || (p == q && a < b);
  });
  for (size_t i = 0; i < tokens.size(); ++i) {
    tokens[i] = candidates[i];
    out[i] = probabilities[static_cast<size_t>(candidates[i])];
  }
}

Token drawn_token(std::span<const float> probabilities, double chance) {
  double left = chance;
  Token last = 0;
  for (size_t i = 0; i < probabilities.size(); ++i) {
    if (probabilities[i] <= 0) continue;
    last = static_cast<Token>(i);
    left -= probabilities[i];
    if (left < 0) return last;
  }
  return last;  // what rounding has left over
}

}  // namespace tidemill::distill
