// Llama 1 to 3.x, and the many models that share its shape (Mistral, Mixtral, Yi, SmolLM, DeepSeek-LLM, ...).
//
// llama.cpp's converter reorders the rows of the query and key projections so that rotated pairs lie side by side, and
// writes Llama 3's frequency scaling as the tensor rope_freqs.weight, which the common reader applies.
#include <array>
#include <string_view>

#include "model/architectures/architecture.hpp"
#include "model/read_hyper_parameters.hpp"

namespace tidemill::model {
namespace {

base::Result<HyperParameters> read_llama(const Checkpoint& file) {
  TM_TRY(HyperParameters hyper,
         read_hyper_parameters(file, "llama", tensor::Rope::Pairing::adjacent, Presence::optional));
  const KeyReader keys(file, "llama");
  // Mixtral's layers are mixtures.
  if (keys.has("expert_count")) {
    TM_TRY(const int64_t experts, file.get_int(keys.key("expert_count")));
    if (experts != 0) TM_CHECK(read_experts(keys, {}, hyper));
  }
  // Mistral's first model has a window in every layer.
  TM_CHECK(read_windows(keys, {.period = 0}, hyper));
  return hyper;
}

constexpr std::array<std::string_view, 3> kLlamaModelTypes = {"llama", "mistral", "mixtral"};

// Those of Mixtral's experts, besides.
constexpr TensorNames kLlamaFolderNames = [] {
  TensorNames names = kFolderNames;
  names.router = "block_sparse_moe.gate";
  names.expert_gate = "block_sparse_moe.experts.{}.w1";
  names.expert_up = "block_sparse_moe.experts.{}.w3";
  names.expert_down = "block_sparse_moe.experts.{}.w2";
  return names;
}();

}  // namespace

extern const Architecture kLlama;
const Architecture kLlama = {
    .name = "llama",
    .read_hyper_parameters = read_llama,
    .parts = {.qkv_bias = Presence::optional,
              .output_bias = Presence::optional,
              .feed_forward_bias = Presence::optional},
    .names = {},
    .folder = {.model_types = kLlamaModelTypes,
               .names = kLlamaFolderNames,
               .keeps_window = true,
               .pairs_side_by_side = true,
               .experts = "num_local_experts"},
};

}  // namespace tidemill::model
