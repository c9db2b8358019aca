// What a row of logits says of the next token, as a student is told it.
#pragma once

#include <cstdint>
#include <span>

#include "text/vocabulary.hpp"

namespace tidemill::distill {

using text::Token;

// Probabilities of all tokens. False if the logits are no distribution (evaluate::predict). `out` is as long as they
// are.
bool to_probabilities(std::span<const float> logits, std::span<float> out);

// The most likely tokens, the likeliest first, and of equals the one with the lower id; and their probabilities. Wants
// as many of both, at most as many as there are probabilities.
void most_likely(std::span<const float> probabilities, std::span<int32_t> tokens, std::span<float> out);

// The token that `chance`, in [0, 1), falls on.
Token drawn_token(std::span<const float> probabilities, double chance);

}  // namespace tidemill::distill
