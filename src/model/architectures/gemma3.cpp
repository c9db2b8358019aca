// Gemma 3: Gemma 2's norms and gates, queries and keys that are normalised instead of scores that are capped, and a
// window in five of six layers, which rotate by a smaller base than the sixth. Of models that read images, the part
// that writes is run.
#include <array>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "model/architectures/architecture.hpp"
#include "model/architectures/gemma.hpp"
#include "model/gguf_writer.hpp"
#include "model/hugging_face/json_file.hpp"
#include "model/limits.hpp"
#include "model/read_hyper_parameters.hpp"
#include "model/read_rotation.hpp"

namespace tidemill::model {
namespace {

constexpr int64_t kGemma3Period = 6;
constexpr int64_t kGemma3LargestLayers = 62;  // of the 27B
constexpr double kGemma3WindowBase = 10000;   // of the rotation in layers with a window

base::Result<HyperParameters> read_gemma3(const Checkpoint& file) {
  TM_TRY(HyperParameters hyper, read_hyper_parameters(file, "gemma3", tensor::Rope::Pairing::halves));
  const KeyReader keys(file, "gemma3");
  TM_CHECK(read_gemma_parts(keys, kGemma3LargestLayers, hyper));
  TM_CHECK(read_windows(keys, {.period = kGemma3Period}, hyper));
  TM_TRY(const double window_base, keys.positive_or("rope.freq_base_swa", kGemma3WindowBase));
  if (hyper.window > 0) hyper.window_rope = plain_rotation(hyper.rope, window_base);
  TM_TRY(hyper.attention_soft_cap, keys.factor_or("attn_logit_softcapping", 0));
  TM_TRY(hyper.logit_soft_cap, keys.factor_or("final_logit_softcapping", 0));
  return hyper;
}

// Layers with a window rotate by a base of their own, and by nothing else that could be said of them.
base::Result<void> refuse_scaling(const JsonMembers& sliding) {
  if (!sliding.exists()) return {};
  for (const auto& [key, value] : sliding.object()) {
    const std::string_view name = key;
    const bool plain = (name == "rope_type" || name == "type") && value == "default";
    if (value.is_null() || plain || name == "rope_theta") continue;
    return sliding.error(base::ErrorCode::unsupported,
                         fmt::format("'{}' is {}; layers with a window rotate by 'rope_theta' alone",
                                     printable(sliding.name(name)), printable(base::json::serialize(value))));
  }
  return {};
}

base::Result<void> add_gemma3_keys(const JsonMembers& config, GgufWriter& metadata) {
  TM_TRY(const bool both_ways, config.get_bool_or("use_bidirectional_attention", false));
  if (both_ways) {
    return config.error(base::ErrorCode::unsupported,
                        "'use_bidirectional_attention' is true; models that write see what came before alone");
  }
  // Newer files have one object for each way of rotating.
  TM_TRY(const JsonMembers rotations, config.members("rope_parameters"));
  TM_TRY(const JsonMembers sliding, rotations.members("sliding_attention"));
  TM_CHECK(refuse_scaling(sliding));
  TM_TRY(const double older, config.get_number_or("rope_local_base_freq", kGemma3WindowBase));
  TM_TRY(const double window_base, sliding.get_number_or("rope_theta", older));
  metadata.add_f32("gemma3.rope.freq_base_swa", static_cast<float>(window_base));
  const bool renamed = config.find("_sliding_window_pattern") != nullptr;
  const std::string_view member = renamed ? "_sliding_window_pattern" : "sliding_window_pattern";
  TM_TRY(const int64_t period, config.get_int_or(member, kGemma3Period));
  if (period < 1 || period > kMaxLayers) return config.wrong(member, fmt::format("1 to {}", kMaxLayers));
  if (period != kGemma3Period) {
    metadata.add_u32("gemma3.attention.sliding_window_pattern", static_cast<uint32_t>(period));
  }
  return add_gemma_keys(config, "gemma3", period, metadata);
}

constexpr std::array<std::string_view, 1> kGemma3ModelTypes = {"gemma3_text"};
constexpr std::array<std::string_view, 1> kGemma3ImageModelTypes = {"gemma3"};

// Gemma3TextConfig's, which the files of models that read images leave out.
constexpr std::array<std::pair<std::string_view, double>, 8> kGemma3Defaults = {{
    {"vocab_size", 262208},
    {"num_attention_heads", 8},
    {"num_key_value_heads", 4},
    {"head_dim", 256},
    {"max_position_embeddings", 131072},
    {"rms_norm_eps", 1e-6},
    {"rope_theta", 1000000},
    {"sliding_window", 4096},
}};

}  // namespace

extern const Architecture kGemma3;
const Architecture kGemma3 = {
    .name = "gemma3",
    .read_hyper_parameters = read_gemma3,
    .parts = {.head_norms = Presence::required, .post_norms = Presence::required},
    .names = {},
    .folder = {.model_types = kGemma3ModelTypes,
               .image_model_types = kGemma3ImageModelTypes,
               .names = kGemmaFolderNames,
               .keeps_window = true,
               .norms_less_one = true,
               .activations = kGemmaActivations,
               .defaults = kGemma3Defaults,
               .add_keys = add_gemma3_keys},
};

}  // namespace tidemill::model
