// Qwen 1.5, 2 and 2.5: biases on query, key and value, pairs half a head apart.
#include <array>
#include <string_view>

#include "model/architectures/architecture.hpp"
#include "model/read_hyper_parameters.hpp"

namespace tidemill::model {
namespace {

base::Result<HyperParameters> read_qwen2(const Checkpoint& file) {
  TM_TRY(HyperParameters hyper, read_hyper_parameters(file, "qwen2", tensor::Rope::Pairing::halves));
  warn_of_window(KeyReader(file, "qwen2"), hyper);
  return hyper;
}

constexpr std::array<std::string_view, 1> kQwen2ModelTypes = {"qwen2"};

}  // namespace

extern const Architecture kQwen2;
const Architecture kQwen2 = {
    .name = "qwen2",
    .read_hyper_parameters = read_qwen2,
    .parts = {.qkv_bias = Presence::required},
    .names = {},
    .folder = {.model_types = kQwen2ModelTypes},
};

}  // namespace tidemill::model
