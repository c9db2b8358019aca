// What config.json says of latent attention.
#pragma once

#include <cstdint>

#include "base/result.hpp"
#include "model/hugging_face/json_file.hpp"
#include "model/hyper_parameters.hpp"

namespace tidemill::model {

struct LatentConfig {
  LatentShape shape;
  int64_t rotated = 0;  // elements beside the latent, of which each head has as many
};

// From kv_lora_rank, q_lora_rank (which may be absent), qk_nope_head_dim, qk_rope_head_dim and v_head_dim. Errors:
// `not_found` and `corrupt`, naming the member.
base::Result<LatentConfig> read_latent_config(const JsonMembers& config);

}  // namespace tidemill::model
