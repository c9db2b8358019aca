#include "model/hugging_face/latent_config.hpp"

#include <string_view>

#include <fmt/format.h>

#include "model/limits.hpp"

namespace tidemill::model {

using base::Result;

Result<LatentConfig> read_latent_config(const JsonMembers& config) {
  const auto count = [&](std::string_view member) -> Result<int64_t> {
    TM_TRY(const int64_t value, config.get_int(member));
    if (value >= 1 && value <= kMaxWidth) return value;
    return config.wrong(member, fmt::format("1 to {}", kMaxWidth));
  };
  LatentConfig latent;
  TM_TRY(latent.shape.rank, count("kv_lora_rank"));
  TM_TRY(latent.shape.key_dim, count("qk_nope_head_dim"));
  TM_TRY(latent.rotated, count("qk_rope_head_dim"));
  TM_TRY(latent.shape.value_dim, count("v_head_dim"));
  if (config.find("q_lora_rank") != nullptr) {
    TM_TRY(latent.shape.query_rank, count("q_lora_rank"));
  }
  return latent;
}

}  // namespace tidemill::model
