// Granite 3 (dense): llama's shape with four multipliers: of the embeddings, of what attention and feed-forward add to
// the hidden state, of attention scores (in place of one over the root of a head's size), and of logits (a divisor).
#include <array>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "model/architectures/architecture.hpp"
#include "model/gguf_writer.hpp"
#include "model/hugging_face/json_file.hpp"
#include "model/read_hyper_parameters.hpp"

namespace tidemill::model {
namespace {

base::Result<HyperParameters> read_granite(const Checkpoint& file) {
  TM_TRY(HyperParameters hyper, read_hyper_parameters(file, "granite", tensor::Rope::Pairing::adjacent));
  const KeyReader keys(file, "granite");
  TM_TRY(hyper.embedding_scale, keys.factor_or("embedding_scale", 1));
  TM_TRY(hyper.residual_scale, keys.factor_or("residual_scale", 1));
  TM_TRY(hyper.attention_scale, keys.factor_or("attention.scale", hyper.attention_scale));
  TM_TRY(const double logit_divisor, keys.positive("logit_scale"));
  hyper.logit_scale = static_cast<float>(1 / logit_divisor);
  // What GGUF has for models without positions.
  TM_TRY(const bool rotates, file.get_bool_or(keys.key("rope.scaling.finetuned"), true));
  if (!rotates) {
    hyper.rope.frequencies.clear();
    hyper.short_rope.reset();
    hyper.short_context = 0;
  }
  return hyper;
}

// config.json's names, whose values are 1 where they are absent, and GGUF's.
constexpr std::array<std::pair<std::string_view, std::string_view>, 4> kMultipliers = {{
    {"embedding_multiplier", "embedding_scale"},
    {"residual_multiplier", "residual_scale"},
    {"attention_multiplier", "attention.scale"},
    {"logits_scaling", "logit_scale"},
}};

base::Result<void> add_granite_keys(const JsonMembers& config, GgufWriter& metadata) {
  for (const auto& [member, key] : kMultipliers) {
    TM_TRY(const double value, config.get_number_or(member, 1));
    metadata.add_f32(fmt::format("granite.{}", key), static_cast<float>(value));
  }
  return {};
}

constexpr std::array<std::string_view, 1> kGraniteModelTypes = {"granite"};

}  // namespace

extern const Architecture kGranite;
const Architecture kGranite = {
    .name = "granite",
    .read_hyper_parameters = read_granite,
    .parts = {.qkv_bias = Presence::optional,
              .output_bias = Presence::optional,
              .feed_forward_bias = Presence::optional},
    .names = {},
    .folder = {.model_types = kGraniteModelTypes, .pairs_side_by_side = true, .add_keys = add_granite_keys},
};

}  // namespace tidemill::model
