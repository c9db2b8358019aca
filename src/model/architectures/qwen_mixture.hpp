// What config.json says of Qwen's mixtures.
#pragma once

#include <string_view>

#include "base/result.hpp"
#include "model/architectures/architecture.hpp"

namespace tidemill::model {

// Adds expert_feed_forward_length, expert_shared_feed_forward_length and expert_weights_norm to the keys of
// `architecture`. Errors: `unsupported` where some layers are no mixtures.
base::Result<void> add_qwen_mixture_keys(const JsonMembers& config, std::string_view architecture,
                                         GgufWriter& metadata);

}  // namespace tidemill::model
