// Qwen 1.5 and 2 as mixtures: qwen2's attention; in every layer experts, whose weights are not made to add up to one,
// and one more that all rows use, times a sigmoid.
#include <array>
#include <string_view>

#include "model/architectures/architecture.hpp"
#include "model/architectures/qwen_mixture.hpp"
#include "model/read_hyper_parameters.hpp"

namespace tidemill::model {
namespace {

base::Result<HyperParameters> read_qwen2moe(const Checkpoint& file) {
  TM_TRY(HyperParameters hyper,
         read_hyper_parameters(file, "qwen2moe", tensor::Rope::Pairing::halves, Presence::required));
  const KeyReader keys(file, "qwen2moe");
  TM_CHECK(read_experts(keys, {.normalised = false, .shared = true, .divided = true}, hyper));
  warn_of_window(keys, hyper);
  return hyper;
}

base::Result<void> add_qwen2moe_keys(const JsonMembers& config, GgufWriter& metadata) {
  return add_qwen_mixture_keys(config, "qwen2moe", metadata);
}

constexpr std::array<std::string_view, 1> kQwen2MoeModelTypes = {"qwen2_moe"};

}  // namespace

extern const Architecture kQwen2Moe;
const Architecture kQwen2Moe = {
    .name = "qwen2moe",
    .read_hyper_parameters = read_qwen2moe,
    .parts = {.qkv_bias = Presence::required},
    .names = {},
    .folder = {.model_types = kQwen2MoeModelTypes,
               .experts = "num_experts",
               .shared_experts = true,
               .add_keys = add_qwen2moe_keys},
};

}  // namespace tidemill::model
