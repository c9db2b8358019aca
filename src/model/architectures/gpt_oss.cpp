// gpt-oss: qwen2's attention with a bias on its output as well and a sink for each head; a window in every other layer,
// the first of them included; in every layer experts with biases, whose gates are clamped, and the softmax over those
// that are chosen alone. YaRN stretches contexts, between pairs that need not be whole.
#include <array>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "model/architectures/architecture.hpp"
#include "model/architectures/layer_types.hpp"
#include "model/gguf_writer.hpp"
#include "model/hugging_face/json_file.hpp"
#include "model/read_hyper_parameters.hpp"
#include "tensor/exp_constants.hpp"

namespace tidemill::model {
namespace {

constexpr int64_t kGptOssPeriod = 2;

base::Result<HyperParameters> read_gpt_oss(const Checkpoint& file) {
  TM_TRY(HyperParameters hyper, read_hyper_parameters(file, "gpt-oss", tensor::Rope::Pairing::halves,
                                                      Presence::required, {.whole_pairs = false}));
  const KeyReader keys(file, "gpt-oss");
  TM_CHECK(read_experts(keys, {}, hyper));
  TM_CHECK(read_windows(keys, {.period = kGptOssPeriod, .window = 128}, hyper));
  hyper.activation = tensor::Activation::silu_clamped;
  return hyper;
}

base::Result<void> add_gpt_oss_keys(const JsonMembers& config, GgufWriter& metadata) {
  TM_CHECK(check_layer_types(config, kGptOssPeriod));
  TM_TRY(const double limit, config.get_number_or("swiglu_limit", 7));
  if (limit != static_cast<double>(tensor::kClampedSiluLimit)) {
    return config.error(base::ErrorCode::unsupported,
                        fmt::format("'{}' is {}; supported is 7", config.name("swiglu_limit"), limit));
  }
  // Which the translation of all architectures has checked.
  TM_TRY(const int64_t inner, config.get_int("intermediate_size"));
  metadata.add_u32("gpt-oss.expert_feed_forward_length", static_cast<uint32_t>(inner));
  return {};
}

constexpr std::array<std::string_view, 1> kGptOssModelTypes = {"gpt_oss"};

constexpr std::array<std::pair<std::string_view, double>, 3> kGptOssDefaults = {{
    {"head_dim", 64},
    {"sliding_window", 128},
    {"rope_theta", 150000},
}};

constexpr TensorNames kGptOssFolderNames = [] {
  TensorNames names = kFolderNames;
  names.router = "mlp.router";
  names.expert_gate = "mlp.experts.gate_up_proj";  // rows of both take turns
  names.expert_up = "mlp.experts.gate_up_proj";
  names.expert_down = "mlp.experts.down_proj";
  return names;
}();

}  // namespace

extern const Architecture kGptOss;
const Architecture kGptOss = {
    .name = "gpt-oss",
    .read_hyper_parameters = read_gpt_oss,
    .parts = {.qkv_bias = Presence::required,
              .output_bias = Presence::required,
              .mixture_bias = Presence::required,
              .sinks = Presence::required},
    .names = {.feed_forward_norm = "post_attention_norm"},
    .folder = {.model_types = kGptOssModelTypes,
               .names = kGptOssFolderNames,
               .keeps_window = true,
               .experts = "num_local_experts",
               .joined_experts = true,
               .defaults = kGptOssDefaults,
               .add_keys = add_gpt_oss_keys},
};

}  // namespace tidemill::model
