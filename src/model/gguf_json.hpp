// Metadata as JSON, for scripts.
#pragma once

#include <cstddef>

#include "base/json.hpp"
#include "model/metadata.hpp"

namespace tidemill::model {

// Arrays of more elements than this are told of by their first few.
inline constexpr size_t kWholeArray = 32;
inline constexpr size_t kFirstOfArray = 8;

// Strings, numbers and booleans as what they are: of strings, what is no UTF-8 is U+FFFD; numbers that JSON has no word
// for (infinite, or none) are null; an F32 is the shortest decimal that stands for it. Arrays of up to kWholeArray
// strings, numbers or booleans are arrays; others are {"type", "count", "first"}, where "first" holds the first
// kFirstOfArray elements, and none if those are arrays themselves.
base::json::value to_json(const GgufValue& value);

}  // namespace tidemill::model
