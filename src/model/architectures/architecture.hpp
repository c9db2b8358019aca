// What sets one decoder architecture apart from another, as data. A new architecture is one file beside this one that
// defines an Architecture, and one line in registry.cpp.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.hpp"
#include "model/checkpoint.hpp"
#include "model/hyper_parameters.hpp"

namespace tidemill::model {

// Whether a model of the architecture has a tensor.
enum class Presence : uint8_t { absent, optional, required };

// Which of the decoder's parts an architecture uses.
struct DecoderParts {
  Presence qkv_bias = Presence::absent;               // on the query, key and value projections
  Presence output_bias = Presence::absent;            // on the attention's output projection
  Presence feed_forward_bias = Presence::absent;      // on gate, up and down
  Presence mixture_bias = Presence::absent;           // on the router, and on gate, up and down of each expert
  Presence sinks = Presence::absent;                  // as tensor::AttentionRule has them
  Presence head_norms = Presence::absent;             // RMS norm of every query and key head before the rotation
  Presence post_norms = Presence::absent;             // of what attention and feed-forward add, before it is added
  Presence score_correction_bias = Presence::absent;  // of experts' scores, for choosing them alone
  Presence shared_gate = Presence::required;          // what weighs a mixture's shared expert; else it counts wholly
  // Query, key and value, and gate and up: either as matrices of their own, or each group as one, one below the other.
  Presence apart = Presence::required;
  Presence joined = Presence::absent;
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
  std::string_view query_key_value = "attn_qkv";
  std::string_view query_norm = "attn_q_norm";
  std::string_view key_norm = "attn_k_norm";
  std::string_view sinks = "attn_sinks";
  // Of latent attention. Of heads that are made of a latent, GGUF has one matrix for each; older files and folders have
  // `latent_expansion`, in which the rows of a head's key, of its value, of the next head's key and so on follow.
  std::string_view query_down = "attn_q_a";
  std::string_view query_down_norm = "attn_q_a_norm";
  std::string_view query_up = "attn_q_b";
  std::string_view latent = "attn_kv_a_mqa";
  std::string_view latent_norm = "attn_kv_a_norm";
  std::string_view key_up = "attn_k_b";
  std::string_view value_up = "attn_v_b";
  std::string_view latent_expansion = "attn_kv_b";
  std::string_view attention_output = "attn_output";
  std::string_view post_attention_norm = "post_attention_norm";
  std::string_view feed_forward_norm = "ffn_norm";
  std::string_view gate = "ffn_gate";
  std::string_view up = "ffn_up";
  std::string_view gate_and_up = "ffn_up";
  std::string_view down = "ffn_down";
  std::string_view post_feed_forward_norm = "post_ffw_norm";
  // Of mixtures. GGUF has all experts' matrices of a kind in one tensor; in a folder's names "{}" is the expert.
  std::string_view router = "ffn_gate_inp";
  std::string_view expert_gate = "ffn_gate_exps";
  std::string_view expert_up = "ffn_up_exps";
  std::string_view expert_down = "ffn_down_exps";
  std::string_view score_correction_bias = "exp_probs_b";
  std::string_view shared_gate_input = "ffn_gate_inp_shexp";
  std::string_view shared_gate = "ffn_gate_shexp";
  std::string_view shared_up = "ffn_up_shexp";
  std::string_view shared_down = "ffn_down_shexp";
};

// The names that Hugging Face's transformers gives the same tensors, behind "model." and, of a layer,
// "layers.<layer>.".
inline constexpr TensorNames kFolderNames = {
    .token_embedding = "embed_tokens",
    .output_norm = "norm",
    .output = "lm_head",  // this one without "model."
    .attention_norm = "input_layernorm",
    .query = "self_attn.q_proj",
    .key = "self_attn.k_proj",
    .value = "self_attn.v_proj",
    .query_key_value = "self_attn.qkv_proj",
    .query_norm = "self_attn.q_norm",
    .key_norm = "self_attn.k_norm",
    .sinks = "self_attn.sinks",  // this one without ".weight"
    .query_down = "self_attn.q_a_proj",
    .query_down_norm = "self_attn.q_a_layernorm",
    .query_up = "self_attn.q_b_proj",
    .latent = "self_attn.kv_a_proj_with_mqa",
    .latent_norm = "self_attn.kv_a_layernorm",
    .key_up = {},
    .value_up = {},
    .latent_expansion = "self_attn.kv_b_proj",
    .attention_output = "self_attn.o_proj",
    .post_attention_norm = {},
    .feed_forward_norm = "post_attention_layernorm",
    .gate = "mlp.gate_proj",
    .up = "mlp.up_proj",
    .gate_and_up = "mlp.gate_up_proj",
    .down = "mlp.down_proj",
    .post_feed_forward_norm = {},
    .router = "mlp.gate",
    .expert_gate = "mlp.experts.{}.gate_proj",
    .expert_up = "mlp.experts.{}.up_proj",
    .expert_down = "mlp.experts.{}.down_proj",
    .score_correction_bias = "mlp.gate.e_score_correction_bias",
    .shared_gate_input = "mlp.shared_expert_gate",
    .shared_gate = "mlp.shared_expert.gate_proj",
    .shared_up = "mlp.shared_expert.up_proj",
    .shared_down = "mlp.shared_expert.down_proj",
};

class JsonMembers;
class GgufWriter;

// What Hugging Face calls the activation that the decoder has.
inline constexpr std::array<std::string_view, 2> kSiluNames = {"silu", "swish"};

// How Hugging Face folders hold models of the architecture.
struct FolderForm {
  std::span<const std::string_view> model_types;  // config.json's; none: folders of it are not read
  // Those of models that read images as well: text_config is the config of the part that writes, and the tensors of
  // what reads images are passed over.
  std::span<const std::string_view> image_model_types = {};
  TensorNames names = kFolderNames;
  // config.json's window becomes attention.sliding_window; else texts are kept within it.
  bool keeps_window = false;
  bool norms_less_one = false;  // the weights of norms are stored less one
  bool rotates_parts = false;   // config.json may ask for the rotation of a part of each head
  // YaRN's mscale_all_dim scales scores, as the architecture's read_rotation() has it (YarnRule::scales_scores).
  bool yarn_scales_scores = false;
  bool has_latents = false;  // attention is to latents (LatentShape)
  // Folders have the two of a rotated pair half a head apart, but beside latents. In GGUF they lie side by side for
  // this architecture: the rows of the query and key projections change places.
  bool pairs_side_by_side = false;
  std::string_view experts = {};  // config.json's member for their number, where layers may be mixtures
  bool shared_experts = false;    // and then each has one that all rows use, or some that are stored as one:
  std::string_view shared_experts_count = {};  // config.json's member for how many, which may be none
  // All experts of a layer lie together, rows of gate and up in turns (hugging_face/joined_experts.hpp), plain or as
  // MXFP4; the names of gate and up are one, without an ending.
  bool joined_experts = false;
  std::span<const std::string_view> activations = kSiluNames;  // config.json's names of the one that it has
  // What transformers takes for members of config.json that are not there. Of others, those that are needed must be.
  std::span<const std::pair<std::string_view, double>> defaults = {};
  // Adds the architecture's own keys, from the members that only its config.json has; null: there are none.
  base::Result<void> (*add_keys)(const JsonMembers& config, GgufWriter& metadata) = nullptr;
};

struct Architecture {
  std::string_view name;  // general.architecture, and the prefix of its metadata keys
  base::Result<HyperParameters> (*read_hyper_parameters)(const Checkpoint& file);
  DecoderParts parts;
  TensorNames names;
  FolderForm folder;
};

std::span<const Architecture* const> architectures();

// The architecture of `file`; an unknown one is `unsupported` and lists those that are, and so is an encoder's
// (encoder_architecture.hpp), with the reason.
base::Result<const Architecture*> find_architecture(const Metadata& file);

}  // namespace tidemill::model
