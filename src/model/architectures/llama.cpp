// Llama 1 to 3.x, and the many models that share its shape (Mistral, Yi, SmolLM, DeepSeek-LLM, ...).
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
  TM_TRY(HyperParameters hyper, read_hyper_parameters(file, "llama", tensor::Rope::Pairing::adjacent));
  // Mistral's first model has a window in every layer.
  TM_CHECK(read_windows(KeyReader(file, "llama"), {.period = 0}, hyper));
  return hyper;
}

constexpr std::array<std::string_view, 2> kLlamaModelTypes = {"llama", "mistral"};

}  // namespace

extern const Architecture kLlama;
const Architecture kLlama = {
    .name = "llama",
    .read_hyper_parameters = read_llama,
    .parts = {.qkv_bias = Presence::optional,
              .output_bias = Presence::optional,
              .feed_forward_bias = Presence::optional},
    .names = {},
    .folder = {.model_types = kLlamaModelTypes, .keeps_window = true, .pairs_side_by_side = true},
};

}  // namespace tidemill::model
