// Hyper-parameters from GGUF metadata: what the architectures have in common.
#pragma once

#include <string_view>

#include "base/result.hpp"
#include "model/architectures/architecture.hpp"
#include "model/checkpoint.hpp"
#include "model/encoder.hpp"
#include "model/hyper_parameters.hpp"
#include "model/key_reader.hpp"
#include "model/read_rotation.hpp"

namespace tidemill::model {

// Reads "<architecture>.*", checks every number's range (so that products of them cannot overflow) and fills the
// rotation (read_rotation.hpp). Attention sees everything, and its scale is one over the root of a head's size; it is
// latent attention where the file has "attention.kv_lora_rank".
// `unsupported` for mixtures of experts where `mixes` is absent, other scalings and other poolings; `not_found` or
// `corrupt`, naming the key, for missing or impossible numbers.
base::Result<HyperParameters> read_hyper_parameters(const Checkpoint& file, std::string_view architecture,
                                                    tensor::Rope::Pairing pairing, Presence mixes = Presence::absent,
                                                    const YarnRule& yarn = {});

// What the architecture does where the file does not say it.
struct ExpertDefaults {
  bool normalised = true;  // the weights of the experts in use add up to one
  bool shared = false;     // there is one more, that all rows use
  // There may be some more, that all rows use: expert_shared_count says how many, each as wide as the others. They are
  // computed as one.
  bool counts_shared = false;
  bool may_be_sigmoids = false;  // scores may be
  bool divided = false;          // feed_forward_length is that of the experts in use together; else of each
};
// Adds hyper.experts from expert_*. Errors: `unsupported` for other functions than the softmax that choose; `not_found`
// or `corrupt`, naming the key.
base::Result<void> read_experts(const KeyReader& keys, const ExpertDefaults& defaults, HyperParameters& hyper);

// Which layers see a window alone, where the file does not say it.
struct WindowPattern {
  int64_t period;      // of every so many layers all but the last do; 0: all layers do
  int64_t window = 0;  // tokens, where the file names none; 0: then no layer does
};

// Adds the windows that attention.sliding_window, and attention.sliding_window_pattern (a period, or a boolean for each
// layer) where it is there, ask for. Errors: `corrupt`.
base::Result<void> read_windows(const KeyReader& keys, const WindowPattern& pattern, HyperParameters& hyper);

// For architectures whose files may name a window without saying which layers have it: says in the log that it is not
// kept to.
void warn_of_window(const KeyReader& keys, const HyperParameters& hyper);

// The same for an encoder, which has no rotation. Errors likewise.
base::Result<EncoderParameters> read_encoder_parameters(const Checkpoint& file, std::string_view architecture);

}  // namespace tidemill::model
