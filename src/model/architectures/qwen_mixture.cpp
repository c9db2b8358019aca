#include "model/architectures/qwen_mixture.hpp"

#include <limits>

#include <fmt/format.h>

#include "model/gguf_writer.hpp"
#include "model/hugging_face/json_file.hpp"

namespace tidemill::model {

base::Result<void> add_qwen_mixture_keys(const JsonMembers& config, std::string_view architecture,
                                         GgufWriter& metadata) {
  TM_TRY(const int64_t step, config.get_int_or("decoder_sparse_step", 1));
  const base::json::value* dense = config.find("mlp_only_layers");
  const bool all = dense == nullptr || (dense->is_array() && dense->as_array().empty());
  if (step != 1 || !all) {
    return config.error(base::ErrorCode::unsupported,
                        "'decoder_sparse_step' or 'mlp_only_layers' leave layers without experts; supported are "
                        "models whose layers all have them");
  }
  const auto add_count = [&](std::string_view member, std::string_view key) -> base::Result<void> {
    if (config.find(member) == nullptr) return {};
    TM_TRY(const int64_t value, config.get_int(member));
    if (value < 1 || value > std::numeric_limits<int32_t>::max()) return config.wrong(member, "1 or more");
    metadata.add_u32(fmt::format("{}.{}", architecture, key), static_cast<uint32_t>(value));
    return {};
  };
  TM_CHECK(add_count("moe_intermediate_size", "expert_feed_forward_length"));
  TM_CHECK(add_count("shared_expert_intermediate_size", "expert_shared_feed_forward_length"));
  TM_TRY(const bool normalised, config.get_bool_or("norm_topk_prob", false));
  metadata.add_bool(fmt::format("{}.expert_weights_norm", architecture), normalised);
  return {};
}

}  // namespace tidemill::model
