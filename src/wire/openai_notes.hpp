// What clients note on a request for themselves: "user", "safety_identifier", "prompt_cache_key" and "metadata".
#pragma once

#include "base/result.hpp"
#include "wire/json_fields.hpp"

namespace tidemill::wire {

// No answer depends on them, but they have the form that OpenAI's reference demands: strings, and as metadata an object
// of up to 16 strings of at most 512 characters, under names of at most 64.
base::Result<void> check_notes(const JsonFields& fields);
// The metadata alone.
base::Result<void> check_metadata(const JsonFields& fields);

}  // namespace tidemill::wire
