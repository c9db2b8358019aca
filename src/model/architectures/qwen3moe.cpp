// Qwen 3 as mixtures: qwen3's attention, and in every layer experts whose weights add up to one.
#include <array>
#include <string_view>

#include "model/architectures/architecture.hpp"
#include "model/architectures/qwen_mixture.hpp"
#include "model/read_hyper_parameters.hpp"

namespace tidemill::model {
namespace {

base::Result<HyperParameters> read_qwen3moe(const Checkpoint& file) {
  TM_TRY(HyperParameters hyper,
         read_hyper_parameters(file, "qwen3moe", tensor::Rope::Pairing::halves, Presence::required));
  const KeyReader keys(file, "qwen3moe");
  TM_CHECK(read_experts(keys, {.divided = true}, hyper));
  warn_of_window(keys, hyper);
  return hyper;
}

base::Result<void> add_qwen3moe_keys(const JsonMembers& config, GgufWriter& metadata) {
  return add_qwen_mixture_keys(config, "qwen3moe", metadata);
}

constexpr std::array<std::string_view, 1> kQwen3MoeModelTypes = {"qwen3_moe"};

}  // namespace

extern const Architecture kQwen3Moe;
const Architecture kQwen3Moe = {
    .name = "qwen3moe",
    .read_hyper_parameters = read_qwen3moe,
    .parts = {.head_norms = Presence::required},
    .names = {},
    .folder = {.model_types = kQwen3MoeModelTypes, .experts = "num_experts", .add_keys = add_qwen3moe_keys},
};

}  // namespace tidemill::model
