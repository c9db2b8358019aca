// JSON that was cut off.
#pragma once

#include <string_view>

#include "base/json.hpp"

namespace tidemill::base {

// The object that `text`, the beginning of a JSON object's text, has come to: members and items whose values are
// complete, those of objects and lists that were cut off included. Texts and keys that are not whole are left out, as
// are words, and numbers that could go on. So Anthropic's SDK reads the input of a tool while it is being written. What
// stands behind a fault of JSON is left out too; where no object begins, there are no members.
json::object begun_object(std::string_view text);

}  // namespace tidemill::base
