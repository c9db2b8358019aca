// Which tokens min-p, top-k and top-p leave.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/sampling.hpp"

namespace tidemill::engine {

// `weights` are the tokens' exp((logit - maximum) / temperature): all in [0, 1], at least one of them 1. Writes the ids
// of the tokens that min_p, then top_k, then top_p keep to `kept`, ascending; never none. Of tokens with the same
// logit, those with the lower ids are kept first. A weight of 0 is never kept.
void truncate(std::span<const float> logits, std::span<const float> weights, const Sampling& sampling,
              std::vector<int32_t>& kept);

// The same where a weight below kLikelyWeight may be given as 0; `total` is the sum of all weights, those included, or
// 0 if it is not known (top_p needs it unless top_k or min_p goes before). False if what is kept depends on such
// weights, or on how the total was rounded; `kept` is then nothing to go by.
inline constexpr float kLikelyWeight = 0x1p-16F;
inline constexpr float kLikelyExponent = -11.2F;  // e^ of it is a little less
bool truncate_likely(std::span<const float> logits, std::span<const float> weights, double total,
                     const Sampling& sampling, std::vector<int32_t>& kept);

}  // namespace tidemill::engine
