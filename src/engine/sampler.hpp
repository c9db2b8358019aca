// From a row of logits to a token.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "engine/sampling.hpp"
#include "engine/token_history.hpp"
#include "grammar/token_mask.hpp"

namespace tidemill::engine {

// Chooses tokens as Sampling describes. A choice is a function of its arguments alone; what the object holds is scratch
// memory. Costs a few passes over the vocabulary, never a sort of it: truncation looks for the border of what is kept
// in a histogram and sorts the one bucket that the border runs through. Not thread-safe.
class Sampler {
 public:
  // `draw` is uniform in [0, 1). With a mask, only its tokens are chosen from, as if the others' logits were -infinity.
  // nullopt if the logits are no distribution (NaN or +infinity among them, or all -infinity).
  std::optional<Token> sample(std::span<const float> logits, const Sampling& sampling, const TokenHistory& history,
                              double draw, const grammar::TokenMask* mask = nullptr);

 private:
  std::span<const float> adjust(std::span<const float> logits, const Sampling& sampling, const TokenHistory& history,
                                const grammar::TokenMask* mask);

  std::vector<float> adjusted_;
  std::vector<float> weights_;
  std::vector<int32_t> kept_;
};

// Log-probabilities under softmax(logits), natural logarithm: of `chosen`, and of the `top` most likely tokens, most
// likely first (of equals, the lower id first). The logits are the model's own, before bias, penalties, temperature and
// truncation: what OpenAI and, by default, vLLM report.
struct Logprobs {
  float chosen = 0;
  std::vector<std::pair<Token, float>> top;
};
// nullopt if the logits are no distribution.
std::optional<Logprobs> log_probabilities(std::span<const float> logits, Token chosen, int top);

}  // namespace tidemill::engine
