#include "model/synth_metadata.hpp"

#include <cmath>
#include <string>
#include <string_view>

#include <fmt/format.h>

#include "model/file_type.hpp"
#include "model/synth_vocabulary.hpp"

namespace tidemill::model {
namespace {

class SynthMetadata {
 public:
  SynthMetadata(const Shape& shape, tensor::DType type, GgufWriter& writer)
      : shape_(shape), type_(type), writer_(writer) {}

  void add() {
    add_metadata();
    add_vocabulary();
  }

 private:
  std::string key(std::string_view name) const { return fmt::format("{}.{}", shape_.architecture, name); }
  void count(std::string_view name, int64_t value) { writer_.add_u32(key(name), static_cast<uint32_t>(value)); }

  void add_metadata() {
    writer_.add_string("general.architecture", shape_.architecture);
    writer_.add_string("general.type", "model");
    // llama.cpp wants certain tokens of a model whose name has "phi3" in it.
    const std::string_view called = shape_.architecture == "phi3" ? "three-way phi" : shape_.name;
    writer_.add_string("general.name", fmt::format("synthetic {}", called));
    writer_.add_string("general.description", "Random weights in the shape of a real model, written by tidemill synth");
    writer_.add_u32("general.file_type", file_type_number(type_));
    writer_.add_u32("general.quantization_version", 2);
    count("block_count", shape_.layers);
    count("context_length", shape_.context);
    count("embedding_length", shape_.width);
    count("feed_forward_length", shape_.feed_forward);
    count("attention.head_count", shape_.heads);
    if (shape_.encodes()) {
      count("vocab_size", shape_.tokens);
      count("pooling_type", shape_.pooling);
      writer_.add_bool(key("attention.causal"), false);
      writer_.add_f32(key("attention.layer_norm_epsilon"), static_cast<float>(shape_.norm_epsilon));
      writer_.add_u32("tokenizer.ggml.token_type_count", static_cast<uint32_t>(kBertTokenTypes));
      return;
    }
    count("attention.head_count_kv", shape_.kv_heads);
    count("attention.key_length", shape_.head_dim);
    count("attention.value_length", shape_.latent > 0 ? shape_.latent : shape_.head_dim);
    count("rope.dimension_count", shape_.rotary_dim());
    count("vocab_size", shape_.tokens);
    writer_.add_f32(key("rope.freq_base"), static_cast<float>(shape_.rope_base));
    writer_.add_f32(key("attention.layer_norm_rms_epsilon"), static_cast<float>(shape_.norm_epsilon));
    if (shape_.window > 0) count("attention.sliding_window", shape_.window);
    add_architecture_keys();
  }

  // Numbers that show in what small models compute, where those of released ones would hardly.
  void add_architecture_keys() {
    if (shape_.architecture == "granite") {
      writer_.add_f32(key("embedding_scale"), 12);
      writer_.add_f32(key("residual_scale"), 0.25F);
      writer_.add_f32(key("attention.scale"), 0.1F);
      writer_.add_f32(key("logit_scale"), 8);
    }
    if (shape_.architecture == "gemma2") {
      writer_.add_f32(key("attn_logit_softcapping"), 2);
      writer_.add_f32(key("final_logit_softcapping"), 3);
    }
    if (shape_.experts > 0) {
      count("expert_count", shape_.experts);
      count("expert_used_count", shape_.used_experts);
      if (shape_.architecture != "llama") count("expert_feed_forward_length", shape_.expert_feed_forward);
      if (shape_.shared_feed_forward > 0) count("expert_shared_feed_forward_length", shape_.shared_feed_forward);
    }
    if (shape_.architecture == "deepseek2") add_deepseek2_keys();
    if (shape_.architecture == "gemma3") {
      writer_.add_f32(key("rope.freq_base_swa"), 10000);
      writer_.add_string(key("rope.scaling.type"), "linear");  // of layers that see everything
      writer_.add_f32(key("rope.scaling.factor"), 8);
    }
    if (shape_.yarn_factor != 1) {
      writer_.add_string(key("rope.scaling.type"), "yarn");
      writer_.add_f32(key("rope.scaling.factor"), static_cast<float>(shape_.yarn_factor));
      writer_.add_u32(key("rope.scaling.original_context_length"), static_cast<uint32_t>(shape_.old_context));
    } else if (shape_.old_context > 0) {
      // LongRoPE's usual magnitude (arXiv:2402.13753).
      const double longer = static_cast<double>(shape_.context) / static_cast<double>(shape_.old_context);
      const double magnitude = std::sqrt(1 + std::log(longer) / std::log(static_cast<double>(shape_.old_context)));
      writer_.add_u32(key("rope.scaling.original_context_length"), static_cast<uint32_t>(shape_.old_context));
      writer_.add_f32(key("rope.scaling.attn_factor"), static_cast<float>(magnitude));
    }
  }

  void add_deepseek2_keys() {
    count("attention.kv_lora_rank", shape_.latent);
    count("attention.q_lora_rank", shape_.query_latent);  // llama.cpp wants it where it is 0, too
    count("attention.key_length_mla", shape_.key_dim + shape_.rotated);
    count("attention.value_length_mla", shape_.value_dim);
    count("leading_dense_block_count", shape_.dense_layers);
    count("expert_shared_count", shape_.shared_experts);
    count("expert_group_count", shape_.expert_groups);
    count("expert_group_used_count", shape_.used_groups);
    count("expert_gating_func", shape_.sigmoids ? 2 : 1);
    writer_.add_bool(key("expert_weights_norm"), shape_.sigmoids);
    writer_.add_f32(key("expert_weights_scale"), shape_.sigmoids ? 2.5F : 1.0F);
    writer_.add_f32(key("rope.scaling.yarn_log_multiplier"), static_cast<float>(0.1 * shape_.yarn_at_scores));
  }

  void add_vocabulary() {
    const SynthVocabulary vocabulary = make_synth_vocabulary(shape_);
    writer_.add_string("tokenizer.ggml.model", vocabulary.model);
    if (!vocabulary.pre.empty()) writer_.add_string("tokenizer.ggml.pre", vocabulary.pre);
    writer_.add_strings("tokenizer.ggml.tokens", vocabulary.tokens);
    writer_.add_ints("tokenizer.ggml.token_type", vocabulary.kinds);
    if (shape_.encodes()) {
      writer_.add_u32("tokenizer.ggml.cls_token_id", static_cast<uint32_t>(vocabulary.bos));
      writer_.add_u32("tokenizer.ggml.seperator_token_id", static_cast<uint32_t>(vocabulary.eos));  // GGUF's spelling
      writer_.add_u32("tokenizer.ggml.padding_token_id", static_cast<uint32_t>(vocabulary.padding));
      return;
    }
    writer_.add_strings("tokenizer.ggml.merges", vocabulary.merges);
    writer_.add_u32("tokenizer.ggml.bos_token_id", static_cast<uint32_t>(vocabulary.bos));
    writer_.add_u32("tokenizer.ggml.eos_token_id", static_cast<uint32_t>(vocabulary.eos));
    writer_.add_u32("tokenizer.ggml.padding_token_id", static_cast<uint32_t>(vocabulary.padding));
    writer_.add_bool("tokenizer.ggml.add_bos_token", vocabulary.add_bos);
    writer_.add_string("tokenizer.chat_template", vocabulary.chat_template);
  }

  const Shape& shape_;
  tensor::DType type_;
  GgufWriter& writer_;
};

}  // namespace

void add_synthetic_metadata(const Shape& shape, tensor::DType type, GgufWriter& writer) {
  SynthMetadata(shape, type, writer).add();
}

}  // namespace tidemill::model
