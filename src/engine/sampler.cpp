#include "engine/sampler.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/softmax.hpp"
#include "engine/truncation.hpp"

namespace tidemill::engine {
namespace {

// The first token at which the running sum of weights passes `draw` of their total.
Token pick(std::span<const float> weights, std::span<const int32_t> kept, double draw) {
  double total = 0;
  for (const int32_t id : kept)
    total += static_cast<double>(weights[static_cast<size_t>(id)]);
  const double target = draw * total;
  double sum = 0;
  for (const int32_t id : kept) {
    sum += static_cast<double>(weights[static_cast<size_t>(id)]);
    if (sum > target) return id;
  }
  return kept.back();
}

// The same over all tokens, whose weights sum to `total` (up to rounding).
Token pick_any(std::span<const float> weights, double total, double draw) {
  const double target = draw * total;
  double sum = 0;
  size_t last = 0;
  for (size_t id = 0; id < weights.size(); ++id) {
    if (weights[id] == 0) continue;
    sum += static_cast<double>(weights[id]);
    if (sum > target) return static_cast<Token>(id);
    last = id;
  }
  return static_cast<Token>(last);
}

// Makes what the mask leaves out impossible, but keeps NaN where it is. A model may have more logits than its
// vocabulary has tokens.
void keep_allowed(const grammar::TokenMask& mask, std::span<float> row) {
  const std::span<const uint64_t> words = mask.words();
  for (size_t begin = 0; begin < row.size(); begin += 64) {
    const uint64_t word = begin / 64 < words.size() ? words[begin / 64] : 0;
    if (word == ~uint64_t{0}) continue;
    const size_t count = std::min<size_t>(64, row.size() - begin);
    for (size_t i = 0; i < count; ++i) {
      float& logit = row[begin + i];
      if ((word >> i & 1) == 0 && !std::isnan(logit)) logit = -std::numeric_limits<float>::infinity();
    }
  }
}

}  // namespace

std::span<const float> Sampler::adjust(std::span<const float> logits, const Sampling& sampling,
                                       const TokenHistory& history, const grammar::TokenMask* mask) {
  if (mask == nullptr && sampling.logit_bias.empty() && !sampling.penalised()) return logits;
  adjusted_.assign(logits.begin(), logits.end());
  if (mask != nullptr) keep_allowed(*mask, adjusted_);
  for (const auto& [token, bias] : sampling.logit_bias)
    adjusted_[static_cast<size_t>(token)] += bias;
  if (!sampling.penalised()) return adjusted_;
  for (const auto& [token, generated] : history.counts()) {
    float& logit = adjusted_[static_cast<size_t>(token)];
    logit = logit > 0 ? logit / sampling.repetition_penalty : logit * sampling.repetition_penalty;
    if (generated == 0) continue;
    logit -= sampling.frequency_penalty * static_cast<float>(generated);
    logit -= sampling.presence_penalty;
  }
  return adjusted_;
}

std::optional<Token> Sampler::sample(std::span<const float> logits, const Sampling& sampling,
                                     const TokenHistory& history, double draw, const grammar::TokenMask* mask) {
  const std::span<const float> row = adjust(logits, sampling, history, mask);
  const std::optional<float> max = finite_max(row);
  if (!max) return std::nullopt;
  if (sampling.greedy()) return static_cast<Token>(std::ranges::find(row, *max) - row.begin());

  weights_.resize(row.size());
  const float scale = 1.0f / sampling.temperature;
  if (sampling.top_k > 0 || sampling.min_p >= kLikelyWeight) {
    exp_above(row, *max, scale, kLikelyExponent, weights_);
    if (truncate_likely(row, weights_, 0, sampling, kept_)) return pick(weights_, kept_, draw);
  }
  const double total = exp_sum(row, *max, scale, weights_);
  const bool truncated = sampling.top_k > 0 || sampling.top_p < 1.0f || sampling.min_p > 0.0f;
  if (!truncated) return pick_any(weights_, total, draw);
  const bool by_mass = sampling.top_k == 0 && sampling.min_p == 0;
  if (!by_mass || !truncate_likely(row, weights_, total, sampling, kept_)) truncate(row, weights_, sampling, kept_);
  return pick(weights_, kept_, draw);
}

std::optional<Logprobs> log_probabilities(std::span<const float> logits, Token chosen, int top) {
  const std::optional<float> max = finite_max(logits);
  if (!max) return std::nullopt;
  const double log_sum = std::log(exp_sum(logits, *max, 1.0f, {}));
  const auto logprob = [&](Token token) {
    return static_cast<float>(static_cast<double>(logits[static_cast<size_t>(token)] - *max) - log_sum);
  };
  Logprobs result;
  result.chosen = logprob(chosen);
  if (top <= 0) return result;

  // A short sorted list that a token enters only if it beats the last: over a vocabulary that happens rarely.
  std::vector<Token> best;
  const auto wanted = std::min(static_cast<size_t>(top), logits.size());
  const auto logit_of = [&](Token token) { return logits[static_cast<size_t>(token)]; };
  bool full = false;
  float last = 0;  // of a full list
  for (size_t i = 0; i < logits.size(); ++i) {
    if (full && logits[i] <= last) continue;
    if (full) best.pop_back();
    best.insert(std::ranges::upper_bound(best, logits[i], std::greater<>{}, logit_of), static_cast<Token>(i));
    full = best.size() == wanted;
    last = logit_of(best.back());
  }
  for (const Token token : best)
    result.top.emplace_back(token, logprob(token));
  return result;
}

}  // namespace tidemill::engine
