// The rotation of a decoder's queries and keys, from GGUF metadata.
#pragma once

#include "base/result.hpp"
#include "model/hyper_parameters.hpp"
#include "model/key_reader.hpp"

namespace tidemill::model {

// Fills hyper.rope, and short_rope and short_context where the file has them, from rope.*, the tensor rope_freqs.weight
// (Llama 3's scaling), or rope_factors_long.weight and rope_factors_short.weight (LongRoPE, arXiv:2402.13753); the
// head's size and the context are there already. Errors: `unsupported` for other scalings, and for LongRoPE beside
// another; `corrupt` and `not_found`, naming the key or tensor.
base::Result<void> read_rotation(const KeyReader& keys, tensor::Rope::Pairing pairing, HyperParameters& hyper);

// The same number of pairs as `like` turns, in the same places, with frequencies of this base and no scaling.
tensor::Rope plain_rotation(const tensor::Rope& like, double base);

}  // namespace tidemill::model
