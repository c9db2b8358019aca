// What sets one encoder architecture apart from another, as data, as architecture.hpp has it for decoders: one file
// beside this one that defines an EncoderArchitecture, and one line in registry.cpp.
#pragma once

#include <span>
#include <string_view>

#include "base/result.hpp"
#include "model/checkpoint.hpp"
#include "model/encoder.hpp"

namespace tidemill::model {

// The tensors' names, as TensorNames. Every projection and norm has a bias.
struct EncoderTensorNames {
  std::string_view token_embedding = "token_embd";
  std::string_view position_embedding = "position_embd";
  std::string_view type_embedding = "token_types";  // may be absent
  std::string_view embedding_norm = "token_embd_norm";
  std::string_view query = "attn_q";
  std::string_view key = "attn_k";
  std::string_view value = "attn_v";
  std::string_view attention_output = "attn_output";
  std::string_view attention_norm = "attn_output_norm";
  std::string_view up = "ffn_up";
  std::string_view down = "ffn_down";
  std::string_view output_norm = "layer_output_norm";
  std::string_view pooler = "cls";        // may be absent
  std::string_view score = "cls.output";  // its bias may be absent
};

// How Hugging Face folders of one model type hold models of the architecture.
struct EncoderFolderForm {
  std::string_view model_type;  // config.json's
  // Before the names of all tensors but the head's, in models that are more than the encoder.
  std::string_view prefix;
  EncoderTensorNames names;  // those of a layer follow "encoder.layer.<layer>."
  // What a reranker's first row goes through before its score is a part of the head, not of the encoder.
  bool pooler_in_head = false;
  // The first position is that behind the id of the padding token: those up to it are not used, and GGUF has none.
  bool positions_behind_padding = false;
};

struct EncoderArchitecture {
  std::string_view name;  // general.architecture, and the prefix of its metadata keys
  base::Result<EncoderParameters> (*read_parameters)(const Checkpoint& file);
  EncoderTensorNames names;
  std::span<const EncoderFolderForm> folders;  // none: folders of it are not read
};

std::span<const EncoderArchitecture* const> encoder_architectures();

// The encoder architecture of `file`; null where it has another, known or not.
base::Result<const EncoderArchitecture*> find_encoder_architecture(const Metadata& file);

}  // namespace tidemill::model
