#include "config_writer.hpp"

#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

namespace tidemill::test {

namespace json = base::json;

namespace {

json::array numbers(const model::GgufTensor& tensor) {
  std::vector<float> values(static_cast<size_t>(tensor.elements()));
  std::memcpy(values.data(), tensor.data.data(), tensor.data.size());
  json::array list;
  for (const float value : values)
    list.push_back(static_cast<double>(value));
  return list;
}

// The members that only this architecture has.
void add_own_members(json::object& config, const model::GgufFile& file, std::string_view architecture) {
  const auto number = [&](std::string_view key) {
    return file.get_int(fmt::format("{}.{}", architecture, key)).value();
  };
  const auto real = [&](std::string_view key) {
    return file.get_float(fmt::format("{}.{}", architecture, key)).value();
  };
  if (architecture == "granite") {
    config["embedding_multiplier"] = real("embedding_scale");
    config["residual_multiplier"] = real("residual_scale");
    config["attention_multiplier"] = real("attention.scale");
    config["logits_scaling"] = real("logit_scale");
  }
  if (architecture.starts_with("gemma")) {
    config["hidden_act"] = "gelu_pytorch_tanh";
    config["hidden_activation"] = "gelu_pytorch_tanh";
    config["query_pre_attn_scalar"] = number("attention.key_length");
    config["sliding_window"] = number("attention.sliding_window");
  }
  if (architecture == "gemma3") {
    config["model_type"] = "gemma3_text";
    config["rope_local_base_freq"] = real("rope.freq_base_swa");
    config["rope_scaling"] = {{"rope_type", "linear"}, {"factor", real("rope.scaling.factor")}};
  }
  if (architecture == "gemma2") {
    config["attn_logit_softcapping"] = real("attn_logit_softcapping");
    config["final_logit_softcapping"] = real("final_logit_softcapping");
  }
  if (file.find("llama.expert_count") != nullptr) {
    config["model_type"] = "mixtral";
    config["num_local_experts"] = number("expert_count");
    config["num_experts_per_tok"] = number("expert_used_count");
  }
  if (architecture.ends_with("moe")) {
    config["model_type"] = std::string(architecture.substr(0, 5)) + "_moe";
    config["num_experts"] = number("expert_count");
    config["num_experts_per_tok"] = number("expert_used_count");
    config["moe_intermediate_size"] = number("expert_feed_forward_length");
    config["norm_topk_prob"] = architecture == "qwen3moe";
    config["decoder_sparse_step"] = 1;
    config["mlp_only_layers"] = json::array();
    if (architecture == "qwen2moe")
      config["shared_expert_intermediate_size"] = number("expert_shared_feed_forward_length");
  }
  if (architecture == "gpt-oss") {
    config["model_type"] = "gpt_oss";
    config["num_local_experts"] = number("expert_count");
    config["num_experts_per_tok"] = number("expert_used_count");
    config["sliding_window"] = number("attention.sliding_window");
    config["swiglu_limit"] = 7.0;
    config["rope_scaling"] = {{"rope_type", "yarn"},
                              {"factor", real("rope.scaling.factor")},
                              {"original_max_position_embeddings", number("rope.scaling.original_context_length")},
                              {"beta_fast", 32.0},
                              {"beta_slow", 1.0},
                              {"truncate", false}};
    json::array types;
    for (int64_t layer = 0; layer < number("block_count"); ++layer)
      types.push_back(layer % 2 == 0 ? "sliding_attention" : "full_attention");
    config["layer_types"] = std::move(types);
  }
  if (architecture == "phi3") {
    const auto rotated = static_cast<double>(file.get_int("phi3.rope.dimension_count").value());
    config["partial_rotary_factor"] = rotated / static_cast<double>(config["head_dim"].as_int64());
    config["original_max_position_embeddings"] = file.get_int("phi3.rope.scaling.original_context_length").value();
    config["rope_scaling"] = {{"type", "longrope"},
                              {"long_factor", numbers(*file.find_tensor("rope_factors_long.weight"))},
                              {"short_factor", numbers(*file.find_tensor("rope_factors_short.weight"))}};
    config["sliding_window"] = file.get_int("phi3.attention.sliding_window").value();
  }
}

// As DeepSeek's own files have them.
void add_deepseek_members(json::object& config, const model::GgufFile& file) {
  const auto number = [&](std::string_view key) { return file.get_int(fmt::format("deepseek2.{}", key)).value(); };
  const auto real = [&](std::string_view key) { return file.get_float(fmt::format("deepseek2.{}", key)).value(); };
  const int64_t rotated = number("rope.dimension_count");
  const bool third = number("expert_gating_func") == 2;
  config.erase("head_dim");
  config["model_type"] = third ? "deepseek_v3" : "deepseek_v2";
  config["num_key_value_heads"] = number("attention.head_count");
  config["kv_lora_rank"] = number("attention.kv_lora_rank");
  config["q_lora_rank"] = nullptr;
  if (third) config["q_lora_rank"] = number("attention.q_lora_rank");
  config["qk_nope_head_dim"] = number("attention.key_length_mla") - rotated;
  config["qk_rope_head_dim"] = rotated;
  config["v_head_dim"] = number("attention.value_length_mla");
  config["n_routed_experts"] = number("expert_count");
  config["num_experts_per_tok"] = number("expert_used_count");
  config["moe_intermediate_size"] = number("expert_feed_forward_length");
  config["moe_layer_freq"] = 1;
  config["n_shared_experts"] = number("expert_shared_count");
  config["first_k_dense_replace"] = number("leading_dense_block_count");
  config["norm_topk_prob"] = third;
  config["routed_scaling_factor"] = real("expert_weights_scale");
  config["scoring_func"] = third ? "sigmoid" : "softmax";
  config["topk_method"] = third ? "noaux_tc" : "greedy";
  config["n_group"] = number("expert_group_count");
  config["topk_group"] = number("expert_group_used_count");
  const double strength = third ? 1 : 0.707;
  config["rope_scaling"] = {{"type", "yarn"},
                            {"factor", real("rope.scaling.factor")},
                            {"original_max_position_embeddings", number("rope.scaling.original_context_length")},
                            {"beta_fast", 32},
                            {"beta_slow", 1},
                            {"mscale", strength},
                            {"mscale_all_dim", strength}};
}

}  // namespace

json::object config_json(const model::GgufFile& file) {
  const std::string_view architecture = file.get_string("general.architecture").value();
  const auto number = [&](std::string_view key) {
    return file.get_int(fmt::format("{}.{}", architecture, key)).value();
  };
  const auto real = [&](std::string_view key) {
    return file.get_float(fmt::format("{}.{}", architecture, key)).value();
  };
  json::object config = {
      {"architectures", json::array{"SomethingForCausalLM"}},
      {"model_type", architecture},
      {"hidden_act", "silu"},
      {"hidden_size", number("embedding_length")},
      {"intermediate_size", number("feed_forward_length")},
      {"max_position_embeddings", number("context_length")},
      {"num_attention_heads", number("attention.head_count")},
      {"num_hidden_layers", number("block_count")},
      {"num_key_value_heads", number("attention.head_count_kv")},
      {"head_dim", file.get_int_or(fmt::format("{}.attention.key_length", architecture),
                                   number("embedding_length") / number("attention.head_count"))
                       .value()},
      {"rms_norm_eps", real("attention.layer_norm_rms_epsilon")},
      {"rope_scaling", nullptr},
      {"rope_theta", file.get_float_or(fmt::format("{}.rope.freq_base", architecture), 10000).value()},
      {"sliding_window", nullptr},
      {"tie_word_embeddings", file.find_tensor("output.weight") == nullptr},
      {"vocab_size", file.find_tensor("token_embd.weight")->rows()},
  };
  add_own_members(config, file, architecture);
  if (architecture == "deepseek2") add_deepseek_members(config, file);
  return config;
}

}  // namespace tidemill::test
