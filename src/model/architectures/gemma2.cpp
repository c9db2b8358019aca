// Gemma 2: norms before and behind each block, GELU gates, scores and logits that are capped, and a window in every
// other layer, the first of them included.
#include <array>
#include <string_view>

#include "model/architectures/architecture.hpp"
#include "model/architectures/gemma.hpp"
#include "model/hugging_face/json_file.hpp"
#include "model/read_hyper_parameters.hpp"

namespace tidemill::model {
namespace {

constexpr int64_t kGemma2Period = 2;
constexpr int64_t kGemma2LargestLayers = 46;  // of the 27B

base::Result<HyperParameters> read_gemma2(const Checkpoint& file) {
  TM_TRY(HyperParameters hyper, read_hyper_parameters(file, "gemma2", tensor::Rope::Pairing::halves));
  const KeyReader keys(file, "gemma2");
  TM_CHECK(read_gemma_parts(keys, kGemma2LargestLayers, hyper));
  // Older files name neither window nor caps: those of all released models.
  TM_CHECK(read_windows(keys, {.period = kGemma2Period, .window = 4096}, hyper));
  TM_TRY(const double attention_cap, keys.positive_or("attn_logit_softcapping", 50));
  TM_TRY(const double logit_cap, keys.positive_or("final_logit_softcapping", 30));
  hyper.attention_soft_cap = static_cast<float>(attention_cap);
  hyper.logit_soft_cap = static_cast<float>(logit_cap);
  return hyper;
}

base::Result<void> add_gemma2_keys(const JsonMembers& config, GgufWriter& metadata) {
  for (const std::string_view cap : {"attn_logit_softcapping", "final_logit_softcapping"}) {
    const base::json::value* value = config.object().if_contains(cap);
    if (value == nullptr || !value->is_null()) continue;
    return config.error(base::ErrorCode::unsupported, "'" + config.name(cap) + "' is null; supported is a number");
  }
  return add_gemma_keys(config, "gemma2", kGemma2Period, metadata);
}

constexpr std::array<std::string_view, 1> kGemma2ModelTypes = {"gemma2"};

}  // namespace

extern const Architecture kGemma2;
const Architecture kGemma2 = {
    .name = "gemma2",
    .read_hyper_parameters = read_gemma2,
    .parts = {.post_norms = Presence::required},
    .names = {},
    .folder = {.model_types = kGemma2ModelTypes,
               .names = kGemmaFolderNames,
               .keeps_window = true,
               .norms_less_one = true,
               .activations = kGemmaActivations,
               .add_keys = add_gemma2_keys},
};

}  // namespace tidemill::model
