// DeepSeek V2, V3 and R1, and Kimi K2: latent attention, whose queries may be of a latent as well; after some layers
// that are not, mixtures of experts. V2 chooses these by a softmax; V3 by sigmoids, which a bias is added to for
// choosing alone; both may choose groups of them first. Some more are for all rows. YaRN's scaling scales scores, too.
#include <array>
#include <limits>
#include <string_view>

#include <fmt/format.h>

#include "model/architectures/architecture.hpp"
#include "model/gguf_writer.hpp"
#include "model/hugging_face/json_file.hpp"
#include "model/read_hyper_parameters.hpp"

namespace tidemill::model {
namespace {

using base::ErrorCode;

base::Result<HyperParameters> read_deepseek2(const Checkpoint& file) {
  const KeyReader keys(file, "deepseek2");
  if (!keys.has("attention.kv_lora_rank")) {
    return file.error(ErrorCode::not_found,
                      fmt::format("metadata key '{}' is missing", keys.key("attention.kv_lora_rank")));
  }
  TM_TRY(HyperParameters hyper, read_hyper_parameters(file, "deepseek2", tensor::Rope::Pairing::adjacent,
                                                      Presence::optional, {.scales_scores = true}));
  // Mistral's models of this architecture make scores of late positions larger.
  if (keys.has("attention.temperature_scale")) {
    return file.error(ErrorCode::unsupported,
                      fmt::format("scores are scaled by position ('{}'), which is not supported",
                                  keys.key("attention.temperature_scale")));
  }
  TM_TRY(const std::string_view scaling, file.get_string_or(keys.key("rope.scaling.type"), ""));
  if (scaling == "yarn") {
    TM_TRY(const double factor, keys.positive_or("rope.scaling.factor", 1));
    TM_TRY(const float strength, keys.factor_or("rope.scaling.yarn_log_multiplier", 0));
    const auto magnitude = static_cast<float>(yarn_magnitude(factor, 10.0 * static_cast<double>(strength)));
    hyper.attention_scale *= magnitude * magnitude;
  }
  TM_TRY(const int64_t experts, file.get_int_or(keys.key("expert_count"), 0));
  if (experts == 0) return hyper;
  TM_CHECK(read_experts(keys, {.normalised = false, .counts_shared = true, .may_be_sigmoids = true}, hyper));
  return hyper;
}

// What experts are scored by, and the groups that are looked at.
base::Result<void> add_choice_keys(const JsonMembers& config, bool third, GgufWriter& metadata) {
  TM_TRY(const std::string score, config.get_string_or("scoring_func", third ? "sigmoid" : "softmax"));
  if (score != "softmax" && score != "sigmoid") return config.wrong("scoring_func", "softmax or sigmoid");
  metadata.add_u32("deepseek2.expert_gating_func", score == "sigmoid" ? 2 : 1);
  TM_TRY(const std::string method, config.get_string_or("topk_method", third ? "noaux_tc" : "greedy"));
  const std::string_view of_groups = score == "sigmoid" ? "noaux_tc" : "group_limited_greedy";
  if (method == "greedy") return {};
  if (method != of_groups) {
    return config.wrong("topk_method", fmt::format("greedy or, where 'scoring_func' is {}, {}", score, of_groups));
  }
  TM_TRY(const int64_t groups, config.get_int_or("n_group", 1));
  TM_TRY(const int64_t used, config.get_int_or("topk_group", groups));
  if (groups < 1 || groups > tensor::kMostExperts) return config.wrong("n_group", "1 or more");
  if (used < 1 || used > groups) return config.wrong("topk_group", "1 to 'n_group'");
  metadata.add_u32("deepseek2.expert_group_count", static_cast<uint32_t>(groups));
  metadata.add_u32("deepseek2.expert_group_used_count", static_cast<uint32_t>(used));
  return {};
}

base::Result<void> add_deepseek2_keys(const JsonMembers& config, GgufWriter& metadata) {
  TM_TRY(const bool side_by_side, config.get_bool_or("rope_interleave", true));
  if (!side_by_side) {
    return config.error(ErrorCode::unsupported,
                        "'rope_interleave' is false; supported are rotated pairs that lie side "
                        "by side");
  }
  if (config.find("n_routed_experts") == nullptr) return {};
  TM_TRY(const int64_t every, config.get_int_or("moe_layer_freq", 1));
  if (every != 1) {
    return config.error(ErrorCode::unsupported,
                        fmt::format("'moe_layer_freq' is {}; supported is 1: all layers after the first "
                                    "'first_k_dense_replace' have experts",
                                    every));
  }
  const auto add_count = [&](std::string_view member, std::string_view key, int64_t least,
                             int64_t usual) -> base::Result<void> {
    TM_TRY(const int64_t value, config.get_int_or(member, usual));
    if (value < least || value > std::numeric_limits<int32_t>::max()) {
      return config.wrong(member, fmt::format("{} or more", least));
    }
    metadata.add_u32(fmt::format("deepseek2.{}", key), static_cast<uint32_t>(value));
    return {};
  };
  TM_CHECK(add_count("moe_intermediate_size", "expert_feed_forward_length", 1, 0));
  TM_CHECK(add_count("n_shared_experts", "expert_shared_count", 0, 0));
  TM_CHECK(add_count("first_k_dense_replace", "leading_dense_block_count", 0, 0));
  TM_TRY(const std::string type, config.get_string_or("model_type", ""));
  const bool third = type != "deepseek_v2";
  TM_TRY(const bool normalised, config.get_bool_or("norm_topk_prob", third));
  metadata.add_bool("deepseek2.expert_weights_norm", normalised);
  TM_TRY(const double scale, config.get_number_or("routed_scaling_factor", 1));
  metadata.add_f32("deepseek2.expert_weights_scale", static_cast<float>(scale));
  return add_choice_keys(config, third, metadata);
}

constexpr std::array<std::string_view, 3> kDeepseek2ModelTypes = {"deepseek_v2", "deepseek_v3", "kimi_k2"};

constexpr TensorNames kDeepseek2FolderNames = [] {
  TensorNames names = kFolderNames;
  names.shared_gate_input = {};
  names.shared_gate = "mlp.shared_experts.gate_proj";
  names.shared_up = "mlp.shared_experts.up_proj";
  names.shared_down = "mlp.shared_experts.down_proj";
  return names;
}();

}  // namespace

extern const Architecture kDeepseek2;
const Architecture kDeepseek2 = {
    .name = "deepseek2",
    .read_hyper_parameters = read_deepseek2,
    .parts = {.score_correction_bias = Presence::optional, .shared_gate = Presence::absent},
    .names = {},
    .folder = {.model_types = kDeepseek2ModelTypes,
               .names = kDeepseek2FolderNames,
               .yarn_scales_scores = true,
               .has_latents = true,
               .experts = "n_routed_experts",
               .shared_experts = true,
               .shared_experts_count = "n_shared_experts",
               .add_keys = add_deepseek2_keys},
};

}  // namespace tidemill::model
