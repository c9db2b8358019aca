// The items of OpenAI's Responses API, checked and brought to the form that chat templates read.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json.hpp"
#include "base/result.hpp"
#include "wire/json_fields.hpp"

namespace tidemill::wire {

// The first items where they are not the request's own: errors name them by where they are from.
struct KnownItems {
  size_t count = 0;
  std::string_view from = "previous_response_id";
};

// The messages that items are: "message" with text parts, "function_call", "function_call_output" (which carries the
// name of the function whose call it answers) and "reasoning", whose text is what the client got as such. What the
// assistant did in a row is one message of its. `instructions`, unless empty, stand first as the system's. Images,
// files and other items are `unsupported`. An output comes somewhere behind its call, and every call has one. `places`
// are the messages', by their first items.
base::Result<base::json::array> messages_of_items(const base::json::array& items, std::string_view instructions,
                                                  const KnownItems& known, std::vector<std::string>& places);

// Whether an item that is kept for later is one that the above can read, for all that can be seen of it alone.
base::Result<void> check_item(const JsonFields& item);

}  // namespace tidemill::wire
