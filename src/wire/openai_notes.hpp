// What clients note on a request for themselves: "user", "safety_identifier", "prompt_cache_key" and "metadata"; and
// what they hint at.
#pragma once

#include "base/result.hpp"
#include "wire/json_fields.hpp"

namespace tidemill::wire {

// No answer depends on them, but they have the form that OpenAI's reference demands: strings, and as metadata an object
// of up to 16 strings of at most 512 characters, under names of at most 64.
base::Result<void> check_notes(const JsonFields& fields);
// The metadata alone.
base::Result<void> check_metadata(const JsonFields& fields);

// Nor does one on what a service is asked to do with a request, which changes nothing here: "service_tier", "verbosity"
// and "prompt_cache_retention" are strings, "store" is a boolean, "prediction" an object with a text or parts as its
// "content".
base::Result<void> check_hints(const JsonFields& fields);

}  // namespace tidemill::wire
