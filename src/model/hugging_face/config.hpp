// config.json of a Hugging Face folder, in GGUF's terms.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "model/architectures/architecture.hpp"
#include "model/gguf_writer.hpp"
#include "model/hugging_face/json_file.hpp"
#include "model/hugging_face/weight_scales.hpp"

namespace tidemill::model {

// What the folder's tensors and tokenizer are read by.
struct FolderShape {
  const Architecture* architecture = nullptr;
  int64_t layers = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  LatentShape latent;
  int64_t experts = 0;             // of each layer; 0: it is no mixture
  int64_t first_expert_layer = 0;  // layers before it have none
  bool shares_experts = false;     // whether some are for all rows
  int64_t further_layers = 0;      // behind the model's own, which guess further tokens and are passed over
  int64_t vocabulary = 0;          // rows of the embedding
  int64_t width = 0;               // and its columns
  WeightScales scales;             // of weights that are codes
  std::optional<bool> tied;        // the embedding is the output matrix as well; none: the file does not say
  // What the file says of biases on attention's projections and on the feed-forward's; none: nothing.
  std::optional<bool> attention_bias;
  std::optional<bool> feed_forward_bias;
  // What each rotation frequency is divided by; empty: there are none.
  std::vector<float> rope_factors;   // Llama 3's
  std::vector<float> long_factors;   // LongRoPE's, of long contexts
  std::vector<float> short_factors;  // and of short ones
};

// Adds general.architecture and "<architecture>.*" to `metadata`. Errors name the file and the member: `unsupported`
// for model types, scalings of the rotation, activations and quantisations that this build does not have, `not_found`
// and `corrupt` for members that are missing, no numbers or contradict each other. Whether they fit the tensors is left
// to those who read the tensors.
base::Result<FolderShape> translate_config(const JsonMembers& config, GgufWriter& metadata);

}  // namespace tidemill::model
