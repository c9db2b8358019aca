// What an adaptive route chooses a model by.
#pragma once

#include <cstdint>

#include "gateway/request_outline.hpp"
#include "rollout/traits.hpp"

namespace tidemill::gateway {

// From the texts that the outline views, in one pass over the prompt; of its messages only the last is read. Works on
// all dialects. `prompt_tokens` is an estimate.
rollout::RequestTraits traits_of(const RequestOutline& outline, int64_t prompt_tokens);

}  // namespace tidemill::gateway
