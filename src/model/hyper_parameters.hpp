// The numbers that shape a model, as read from a model file and validated against its tensors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tensor/device.hpp"

namespace tidemill::model {

// Which rows of a text become its embedding: all, the first ("cls"), the last.
enum class Pooling : uint8_t { none, mean, first, last };

// What GGUF's pooling_type says of a model that scores texts instead.
inline constexpr int64_t kRankPooling = 4;

// A feed-forward block of experts, of which each row uses a few.
struct ExpertShape {
  int64_t count = 0;                // 0: there is one block for all rows
  int64_t feed_forward = 0;         // inner width of each
  int64_t shared_feed_forward = 0;  // of one more that all rows use; 0: there is none
  int64_t first_layer = 0;          // layers before it have one block for all rows
  tensor::ExpertRule rule = {.used = 0, .normalised = true};
};

// Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434, section 2.1): what keys and values of all heads are made
// of is one latent, which is what is kept. Heads of queries come to the latent instead, and values are made of what
// attention gives of it.
struct LatentShape {
  int64_t rank = 0;        // elements of the latent; 0: keys and values are kept themselves
  int64_t query_rank = 0;  // of what queries are made of; 0: they are made of the hidden state
  int64_t key_dim = 0;     // elements of a head's key that are made of the latent
  int64_t value_dim = 0;   // elements of a head's value
};

struct HyperParameters {
  std::string architecture;  // "llama", "qwen2", "gemma3", "bert", ...
  std::string name;          // general.name, or empty
  int64_t vocabulary = 0;    // rows of the embedding table
  int64_t context = 0;       // longest sequence the model was made for, tokens
  int64_t layers = 0;
  int64_t width = 0;         // elements of a hidden state
  int64_t feed_forward = 0;  // inner width of the feed-forward block
  ExpertShape experts;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;  // elements of a key as it is kept: with latents, of one and the rotated part behind it
  LatentShape latent;
  float rms_epsilon = 1e-5f;
  tensor::Activation activation = tensor::Activation::silu;  // of the feed-forward block's gate
  Pooling pooling = Pooling::none;  // how embeddings are pooled, from the model's metadata; none = unspecified

  tensor::Rope rope;  // without frequencies: nothing is turned
  // LongRoPE: the rotation in place of `rope` where no sequence is longer than short_context tokens.
  std::optional<tensor::Rope> short_rope;
  int64_t short_context = 0;
  bool for_short_contexts = false;  // that rotation has become `rope`

  // Layers that see a window alone, where there are any.
  int64_t window = 0;                       // tokens, the row's own included
  std::vector<bool> windowed;               // [layers], or empty: none
  std::optional<tensor::Rope> window_rope;  // their rotation, where it is not `rope`

  float attention_scale = 1;     // of the product of a query and a key
  float attention_soft_cap = 0;  // as tensor::AttentionRule has it
  float embedding_scale = 1;     // of the embeddings
  float residual_scale = 1;      // of what attention and feed-forward add to the hidden state
  float logit_scale = 1;         // of the output matrix's products
  float logit_soft_cap = 0;      // of logits: cap * tanh(logit / cap); 0: none

  // LongRoPE has two rotations, and the keys of one cache are turned by one: where no sequence is longer than those
  // that the model was first trained for, it is theirs, which is better for them. `tokens` as LoadOptions::context.
  void choose_rotation(int64_t tokens) {
    if (!short_rope || tokens == 0 || tokens > short_context) return;
    rope = *std::exchange(short_rope, std::nullopt);
    context = short_context;
    for_short_contexts = true;
  }

  bool has_experts(int64_t layer) const { return experts.count > 0 && layer >= experts.first_layer; }
  // Elements of what the heads of one token give.
  int64_t attended_width() const { return heads * (latent.rank > 0 ? latent.value_dim : head_dim); }
  bool has_window(int64_t layer) const { return !windowed.empty() && windowed[static_cast<size_t>(layer)]; }
  const tensor::Rope& rope_of(int64_t layer) const { return has_window(layer) && window_rope ? *window_rope : rope; }
  // But for sinks, which are weights.
  tensor::AttentionRule attention_rule(int64_t layer) const {
    return {.scale = attention_scale, .soft_cap = attention_soft_cap, .window = has_window(layer) ? window : 0};
  }
};

}  // namespace tidemill::model
