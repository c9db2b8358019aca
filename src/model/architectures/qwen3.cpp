// Qwen 3 (dense): no biases; every query and key head is normalised before it is rotated, and a head's size is its own
// number (attention.key_length) rather than width / heads.
#include <array>
#include <string_view>

#include "model/architectures/architecture.hpp"
#include "model/read_hyper_parameters.hpp"

namespace tidemill::model {
namespace {

base::Result<HyperParameters> read_qwen3(const Checkpoint& file) {
  TM_TRY(HyperParameters hyper, read_hyper_parameters(file, "qwen3", tensor::Rope::Pairing::halves));
  warn_of_window(KeyReader(file, "qwen3"), hyper);
  return hyper;
}

constexpr std::array<std::string_view, 1> kQwen3ModelTypes = {"qwen3"};

}  // namespace

extern const Architecture kQwen3;
const Architecture kQwen3 = {
    .name = "qwen3",
    .read_hyper_parameters = read_qwen3,
    .parts = {.head_norms = Presence::required},
    .names = {},
    .folder = {.model_types = kQwen3ModelTypes},
};

}  // namespace tidemill::model
