// What sets one decoder architecture apart from another, as data. A new architecture is one file beside this one that
// defines an Architecture, and one line in registry.cpp.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "model/checkpoint.hpp"
#include "model/hyper_parameters.hpp"

namespace tidemill::model {

// Whether a model of the architecture has a tensor.
enum class Presence : uint8_t { absent, optional, required };

// Which of the decoder's parts an architecture uses.
struct DecoderParts {
  Presence qkv_bias = Presence::absent;           // on the query, key and value projections
  Presence output_bias = Presence::absent;        // on the attention's output projection
  Presence feed_forward_bias = Presence::absent;  // on gate, up and down
  Presence head_norms = Presence::absent;         // RMS norm of every query and key head before the rotation
};

// The tensors' names. Those of a layer follow "blk.<layer>." and are followed by ".weight" or ".bias". The defaults are
// the names that GGUF's specification standardises.
struct TensorNames {
  std::string_view token_embedding = "token_embd";
  std::string_view output_norm = "output_norm";
  std::string_view output = "output";  // absent in models that use the embedding for both
  std::string_view attention_norm = "attn_norm";
  std::string_view query = "attn_q";
  std::string_view key = "attn_k";
  std::string_view value = "attn_v";
  std::string_view query_norm = "attn_q_norm";
  std::string_view key_norm = "attn_k_norm";
  std::string_view attention_output = "attn_output";
  std::string_view feed_forward_norm = "ffn_norm";
  std::string_view gate = "ffn_gate";
  std::string_view up = "ffn_up";
  std::string_view down = "ffn_down";
};

struct Architecture {
  std::string_view name;  // general.architecture, and the prefix of its metadata keys
  base::Result<HyperParameters> (*read_hyper_parameters)(const Checkpoint& file);
  DecoderParts parts;
  TensorNames names;
};

std::span<const Architecture* const> architectures();

// The architecture of `file`; an unknown one is `unsupported` and lists those that are.
base::Result<const Architecture*> find_architecture(const Metadata& file);

}  // namespace tidemill::model
