#include "evaluate/prediction.hpp"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <numbers>

namespace tidemill::evaluate {

std::optional<Prediction> predict(std::span<const float> logits, std::optional<Token> next) {
  if (logits.empty()) return std::nullopt;
  size_t best = 0;
  bool odd = false;
  for (size_t i = 0; i < logits.size(); ++i) {
    odd = odd || std::isnan(logits[i]);
    if (logits[i] > logits[best]) best = i;
  }
  if (odd || !std::isfinite(logits[best])) return std::nullopt;
  double sum = 0;
  for (const float logit : logits)
    sum += std::exp(static_cast<double>(logit) - logits[best]);
  Prediction prediction;
  prediction.best = static_cast<Token>(best);
  prediction.log_sum = logits[best] + std::log(sum);
  if (next) {
    prediction.surprise = prediction.log_sum - logits[static_cast<size_t>(*next)];
    prediction.right = *next == prediction.best;
  }
  return prediction;
}

Compared compare(std::span<const float> logits, const Prediction& model, std::span<const float> reference_logits,
                 const Prediction& reference) {
  assert(logits.size() == reference_logits.size());
  const auto best = static_cast<size_t>(reference.best);
  Compared result;
  double second = -HUGE_VAL;
  for (size_t i = 0; i < reference_logits.size(); ++i) {
    const double log_p = reference_logits[i] - reference.log_sum;
    const double p = std::exp(log_p);
    // What is impossible to the reference adds nothing, whatever the model makes of it.
    if (p > 0) result.divergence += p * (log_p - (logits[i] - model.log_sum));
    if (i != best) second = std::max(second, static_cast<double>(reference_logits[i]));
  }
  result.divergence = std::max(result.divergence, 0.0);  // rounding can leave less
  result.agrees = model.best == reference.best;
  result.margin = reference_logits[best] - second;
  result.shift = std::abs((logits[best] - model.log_sum) - (reference_logits[best] - reference.log_sum));
  return result;
}

void TextScore::add(const Prediction& prediction) {
  ++tokens;
  nats += prediction.surprise;
  squares += prediction.surprise * prediction.surprise;
  right += prediction.right ? 1 : 0;
}

double TextScore::nats_per_token() const {
  return nats / static_cast<double>(tokens);
}

double TextScore::nats_error() const {
  const auto n = static_cast<double>(tokens);
  if (tokens < 2) return 0;
  const double variance = std::max(0.0, (squares - nats * nats / n) / (n - 1));
  return std::sqrt(variance / n);
}

double TextScore::perplexity() const {
  return std::exp(nats_per_token());
}

double TextScore::bits_per_byte() const {
  return bytes > 0 ? nats / std::numbers::ln2 / static_cast<double>(bytes) : 0;
}

double TextScore::accuracy() const {
  return static_cast<double>(right) / static_cast<double>(tokens);
}

double TextScore::accuracy_error() const {
  return share_error(accuracy(), tokens);
}

double share_error(double share, int64_t count) {
  return count > 0 ? std::sqrt(share * (1 - share) / static_cast<double>(count)) : 0;
}

double quantile(std::vector<float> values, double share) {
  if (values.empty()) return 0;
  const auto at = static_cast<size_t>(share * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), values.begin() + static_cast<int64_t>(at), values.end());
  return values[at];
}

void Comparison::add(const Compared& one) {
  divergences_.push_back(static_cast<float>(one.divergence));
  margins_.push_back(static_cast<float>(one.margin));
  divergence_ += one.divergence;
  shift_ += one.shift;
  if (!one.agrees) margins_of_disagreements_.push_back(static_cast<float>(one.margin));
  if (one.margin < tie_) {
    ++ties_;
  } else if (one.agrees) {
    ++agreed_of_clear_;
  }
}

double Comparison::top1_agreement() const {
  return 1 - static_cast<double>(disagreements()) / static_cast<double>(positions());
}

double Comparison::divergence_mean() const {
  return divergence_ / static_cast<double>(positions());
}

double Comparison::shift_mean() const {
  return shift_ / static_cast<double>(positions());
}

double Comparison::ties_share() const {
  return static_cast<double>(ties_) / static_cast<double>(positions());
}

double Comparison::agreement_without_ties() const {
  const int64_t clear = positions() - ties_;
  return clear > 0 ? static_cast<double>(agreed_of_clear_) / static_cast<double>(clear) : 1;
}

int64_t Comparison::disagreements_at_ties() const {
  return std::count_if(margins_of_disagreements_.begin(), margins_of_disagreements_.end(),
                       [this](float margin) { return margin < tie_; });
}

}  // namespace tidemill::evaluate
