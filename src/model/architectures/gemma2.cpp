// Gemma 2: norms before and behind each block, GELU gates, scores and logits that are capped, and a window in every
// other layer, the first of them included.
#include <array>
#include <string_view>

#include <fmt/format.h>

#include "model/architectures/architecture.hpp"
#include "model/architectures/gemma.hpp"
#include "model/gguf_writer.hpp"
#include "model/hugging_face/json_file.hpp"
#include "model/read_hyper_parameters.hpp"

namespace tidemill::model {
namespace {

constexpr int64_t kGemma2Period = 2;
constexpr int64_t kGemma2LargestLayers = 46;  // of the 27B

// 0 is no cap.
base::Result<float> read_cap(const KeyReader& keys, std::string_view name, float unsaid) {
  if (!keys.has(name)) return unsaid;
  return keys.factor_or(name, 0);
}

base::Result<HyperParameters> read_gemma2(const Checkpoint& file) {
  TM_TRY(HyperParameters hyper, read_hyper_parameters(file, "gemma2", tensor::Rope::Pairing::halves));
  const KeyReader keys(file, "gemma2");
  TM_CHECK(read_gemma_parts(keys, kGemma2LargestLayers, hyper));
  // Older files name neither window nor caps: those of all released models.
  TM_CHECK(read_windows(keys, {.period = kGemma2Period, .window = 4096}, hyper));
  TM_TRY(hyper.attention_soft_cap, read_cap(keys, "attn_logit_softcapping", 50));
  TM_TRY(hyper.logit_soft_cap, read_cap(keys, "final_logit_softcapping", 30));
  return hyper;
}

base::Result<void> add_gemma2_keys(const JsonMembers& config, GgufWriter& metadata) {
  for (const std::string_view cap : {"attn_logit_softcapping", "final_logit_softcapping"}) {
    const base::json::value* value = config.object().if_contains(cap);
    if (value == nullptr) continue;
    if (value->is_null()) {  // no cap, and not the one of a file that does not say
      metadata.add_f32(fmt::format("gemma2.{}", cap), 0);
      continue;
    }
    TM_TRY(const double number, config.get_number(cap));
    if (!(number > 0)) return config.wrong(cap, "a positive number, or null for none");
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
