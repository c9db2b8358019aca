// The bodies of OpenAI's Conversations API, and how a request to /v1/responses names a conversation. Errors name the
// parameter. Pure functions; thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/json.hpp"
#include "base/result.hpp"

namespace tidemill::wire {

// Which items may be kept: those that this program can go on from; or any, where other servers are to read them.
enum class ItemKinds : uint8_t { own, any };

struct ConversationBody {
  base::json::array items;
  base::json::object metadata;  // empty where it is null or absent
};

// `required` is the member that has to be there: "items", "metadata" (which may be null), or none. Up to 20 items, as
// OpenAI's reference has it.
base::Result<ConversationBody> parse_conversation_body(std::string_view body, std::string_view required,
                                                       ItemKinds kinds);

// The id that the member `conversation` of a request gives: a string, or {"id": ...}.
base::Result<std::string> conversation_id_of(const base::json::value& conversation);
// What is told to a request that names a response to go on from, too.
base::Error conversation_and_response();

}  // namespace tidemill::wire
