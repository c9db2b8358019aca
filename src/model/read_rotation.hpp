// The rotation of a decoder's queries and keys, from GGUF metadata.
#pragma once

#include "base/result.hpp"
#include "model/hyper_parameters.hpp"
#include "model/key_reader.hpp"

namespace tidemill::model {

// What sets the architectures' YaRN scaling (arXiv:2309.00071) apart.
struct YarnRule {
  // Where the file does not say it: what is stretched in part begins and ends at whole pairs.
  bool whole_pairs = true;
  // The architecture multiplies scores by the square of yarn_magnitude(factor, 10 * rope.scaling.yarn_log_multiplier).
  // Then, where the file has that key and it is not 0, the rotation has no customary magnitude.
  bool scales_scores = false;
};

// YaRN's customary magnitude for contexts that are `factor` times as long, more of it where `strength` is more
// (transformers' mscale). 1 where they are no longer.
double yarn_magnitude(double factor, double strength = 1);

// Fills hyper.rope, and short_rope and short_context where the file has them, from rope.*, the tensor rope_freqs.weight
// (Llama 3's scaling), or rope_factors_long.weight and rope_factors_short.weight (LongRoPE, arXiv:2402.13753); the
// head's size and the context are there already. Errors: `unsupported` for other scalings, and for LongRoPE or YaRN
// beside another; `corrupt` and `not_found`, naming the key or tensor.
base::Result<void> read_rotation(const KeyReader& keys, tensor::Rope::Pairing pairing, HyperParameters& hyper,
                                 const YarnRule& yarn = {});

// The same number of pairs as `like` turns, in the same places, with frequencies of this base and no scaling.
tensor::Rope plain_rotation(const tensor::Rope& like, double base);

}  // namespace tidemill::model
