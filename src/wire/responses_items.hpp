// The items of OpenAI's Responses API, checked and brought to the form that chat templates read.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json.hpp"
#include "base/result.hpp"

namespace tidemill::wire {

// The messages that items are: "message" with text parts, "function_call", "function_call_output" (which carries the
// name of the function whose call it answers) and "reasoning", whose text is what the client got as such. What the
// assistant did in a row is one message of its. `instructions`, unless empty, stand first as the system's. Images,
// files and other items are `unsupported`. An output comes somewhere behind its call, and every call has one. The first
// `known` items are not the request's own: errors name them by their response. `places` are the messages', by their
// first items.
base::Result<base::json::array> messages_of_items(const base::json::array& items, std::string_view instructions,
                                                  size_t known, std::vector<std::string>& places);

}  // namespace tidemill::wire
