// The shapes of well-known models, for writing models of random weights that cost what the real ones cost.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "base/result.hpp"

namespace tidemill::model {

inline constexpr int64_t kBertTokenTypes = 2;  // that BERT tells apart

struct Shape {
  // Which family's tokenizer, special tokens and chat template.
  enum class Vocabulary : uint8_t { llama3, qwen, harmony, bert };

  std::string_view name;          // "llama-3.2-1b"
  std::string_view architecture;  // as general.architecture has it
  int64_t width = 0;
  int64_t layers = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t feed_forward = 0;
  int64_t context = 0;
  bool tied = false;  // the embedding is the output matrix as well
  double rope_base = 10000;
  double rope_factor = 1;           // Llama 3's frequency scaling; 1 = none
  int64_t experts = 0;              // of each layer; 0: it is no mixture
  int64_t used_experts = 0;         // of them, by each token
  int64_t expert_feed_forward = 0;  // of each
  int64_t dense_layers = 0;         // before those that have experts
  int64_t shared_experts = 0;       // that all tokens use, each as wide as the others, in deepseek2
  int64_t shared_feed_forward = 0;  // of one that all tokens use, in qwen2moe; 0: there is none
  int64_t expert_groups = 1;        // that experts are in
  int64_t used_groups = 1;          // of them, by each token
  bool sigmoids = false;            // score experts, and a bias is added for choosing them
  int64_t latent = 0;               // elements of what keys and values are made of; 0: they are kept themselves
  int64_t query_latent = 0;         // of what queries are made of; 0: they are not
  int64_t key_dim = 0;              // elements of a head's key that are made of a latent
  int64_t value_dim = 0;            // of its value
  int64_t window = 0;               // that layers see, tokens; 0: all see everything
  int64_t rotated = 0;              // elements of each head that are rotated; 0: all
  int64_t old_context = 0;          // that LongRoPE or YaRN scales from, tokens; 0: none
  double yarn_factor = 1;           // by which YaRN scales; 1: what scales is LongRoPE
  double yarn_at_scores = 0;        // how strongly that scales scores, in deepseek2
  double norm_epsilon = 1e-5;
  Vocabulary vocabulary = Vocabulary::llama3;
  int64_t tokens = 0;       // all of them
  int64_t text_tokens = 0;  // those before the special tokens; of BERT's, which come first, none
  int64_t pooling = 0;      // of an encoder, in GGUF's numbers: 1 mean, 2 cls, 4 rank (a reranker)

  constexpr bool encodes() const { return architecture == "bert"; }
  constexpr int64_t rotary_dim() const { return rotated > 0 ? rotated : head_dim; }

  // Elements of all its weights.
  int64_t parameters() const;
};

// Those with published dimensions first, then tiny ones for tests.
std::span<const Shape> shapes();

// The shape of that name; an unknown name is `not_found` and lists the known ones.
base::Result<Shape> find_shape(std::string_view name);

// The shape with `layers` of its layers, and as large a part of its vocabulary (never less than what text needs): where
// a model is too large for a machine, its steps are so much shorter and their time is made of the same parts. Encoders
// keep their vocabulary, of which a step reads a few rows. `invalid_argument` for more layers than there are, and for
// so few that no mixture is left in a mixture.
base::Result<Shape> with_layers(Shape shape, int64_t layers);

}  // namespace tidemill::model
