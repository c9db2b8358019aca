// Hyper-parameters from GGUF metadata: what the architectures have in common.
#pragma once

#include <string_view>

#include "base/result.hpp"
#include "model/checkpoint.hpp"
#include "model/encoder.hpp"
#include "model/hyper_parameters.hpp"

namespace tidemill::model {

// Reads "<architecture>.*", checks every number's range (so that products of them cannot overflow) and fills the
// rotation's frequencies, scaled as rope.scaling.* (linear) or the tensor rope_freqs.weight (Llama 3) say.
// `unsupported` for mixtures of experts, other scalings and other poolings; `not_found` or `corrupt`, naming
// the key, for missing or impossible numbers.
base::Result<HyperParameters> read_hyper_parameters(const Checkpoint& file, std::string_view architecture,
                                                    tensor::Rope::Pairing pairing);

// The same for an encoder, which has no rotation. Errors likewise.
base::Result<EncoderParameters> read_encoder_parameters(const Checkpoint& file, std::string_view architecture);

}  // namespace tidemill::model
