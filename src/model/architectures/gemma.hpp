// What Gemma 2 and 3 have in common.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "base/result.hpp"
#include "model/architectures/architecture.hpp"
#include "model/hyper_parameters.hpp"
#include "model/key_reader.hpp"

namespace tidemill::model {

// Embeddings are multiplied by the root of the width, GELU gates, and attention.scale is what the file says, or one
// over the root of a head's size; of models of `largest_layers` layers, of the width for each head: GGUF files of these
// do not say it.
base::Result<void> read_gemma_parts(const KeyReader& keys, int64_t largest_layers, HyperParameters& hyper);

// Adds attention.scale, and the caps that config.json has, to the keys of `architecture`. Errors: `unsupported` where
// layers do not take turns as they do in released models, one of every `period` seeing everything.
base::Result<void> add_gemma_keys(const JsonMembers& config, std::string_view architecture, int64_t period,
                                  GgufWriter& metadata);

inline constexpr std::array<std::string_view, 1> kGemmaActivations = {"gelu_pytorch_tanh"};

// There is a norm before and one behind each block.
inline constexpr TensorNames kGemmaFolderNames = [] {
  TensorNames names = kFolderNames;
  names.post_attention_norm = "post_attention_layernorm";
  names.feed_forward_norm = "pre_feedforward_layernorm";
  names.post_feed_forward_norm = "post_feedforward_layernorm";
  return names;
}();

}  // namespace tidemill::model
