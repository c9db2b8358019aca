// What a row of logits says of the token that follows, and how far two models' rows are apart.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "model/model.hpp"

namespace tidemill::evaluate {

using model::Token;

struct Prediction {
  Token best = 0;       // the most likely token; of equals the one with the lowest id
  double log_sum = 0;   // of the exponentials: log p(token) = logit - log_sum
  double surprise = 0;  // -log p of the token that follows, nats; 0 where none is given
  bool right = false;   // whether that is the best one
};

// Nothing if a logit is NaN or +infinity, or none is finite: then there is no distribution. `next`, if there is one, is
// a token of the row.
std::optional<Prediction> predict(std::span<const float> logits, std::optional<Token> next);

// One position under a model and under the one that it is held against.
struct Compared {
  double divergence = 0;  // KL(reference || model), nats
  bool agrees = false;    // on the most likely token
  double margin = 0;      // of the reference: log p(first) - log p(second)
  double shift = 0;       // |change of log p| of the reference's most likely token
};

// `model` and `reference` are what predict() says of the two rows, which are equally long.
Compared compare(std::span<const float> logits, const Prediction& model, std::span<const float> reference_logits,
                 const Prediction& reference);

// Sums over the positions of a text.
struct TextScore {
  int64_t tokens = 0;  // that were predicted
  int64_t bytes = 0;   // of text that they stand for
  double nats = 0;
  double squares = 0;  // of each token's nats
  int64_t right = 0;

  void add(const Prediction& prediction);

  // Of at least one token.
  double nats_per_token() const;
  double nats_error() const;  // standard error of nats_per_token, as if tokens were independent
  double perplexity() const;
  double bits_per_byte() const;
  double accuracy() const;        // of the most likely token
  double accuracy_error() const;  // its standard error
};

// The standard error of a share of `count` things.
double share_error(double share, int64_t count);

// The value below which `share` of them lie (the nearest rank below); 0 of none.
double quantile(std::vector<float> values, double share);

// What all positions together say. Eight bytes are kept of each position, for quantiles.
class Comparison {
 public:
  // Positions whose margin is below `tie` nats count as near ties.
  explicit Comparison(double tie = 0.05) : tie_(tie) {}

  void add(const Compared& one);

  int64_t positions() const { return static_cast<int64_t>(divergences_.size()); }
  // Of at least one position.
  double top1_agreement() const;
  double divergence_mean() const;
  double divergence_quantile(double share) const { return quantile(divergences_, share); }
  double shift_mean() const;
  double tie() const { return tie_; }
  double ties_share() const;
  double agreement_without_ties() const;  // 1 where all are ties
  int64_t disagreements() const { return static_cast<int64_t>(margins_of_disagreements_.size()); }
  int64_t disagreements_at_ties() const;
  double margin_quantile(double share) const { return quantile(margins_, share); }
  double disagreement_margin_quantile(double share) const { return quantile(margins_of_disagreements_, share); }

 private:
  double tie_;
  std::vector<float> divergences_;
  std::vector<float> margins_;
  std::vector<float> margins_of_disagreements_;
  double divergence_ = 0;
  double shift_ = 0;
  int64_t ties_ = 0;
  int64_t agreed_of_clear_ = 0;
};

}  // namespace tidemill::evaluate
