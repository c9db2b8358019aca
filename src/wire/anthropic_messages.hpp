// The conversation of Anthropic's Messages API, checked and brought to the form that chat templates read.
#pragma once

#include <string>
#include <vector>

#include "base/json.hpp"
#include "base/result.hpp"
#include "wire/json_fields.hpp"

namespace tidemill::wire {

// "system" and "messages". A turn of the user becomes messages of the roles "tool" (one for each tool_result, which
// carries the name of the tool whose call it answers) and "user", in the order of its blocks; a turn of the assistant
// becomes one message with its thinking as "reasoning_content" and its tool_use blocks as "tool_calls". Turns of one
// role in a row are one turn, as the original has it. Every tool_use has its tool_result in the turn behind it, and
// none stands elsewhere. Thinking that is redacted is left out: nobody here can read it. The role "system" may come
// between turns, as in the original.
// Images, documents and other blocks are `unsupported`. The text of a last turn of the assistant's, which asks to be
// continued, is handed out as `beginning` instead; it may not use tools. Markers for the cache may stand anywhere.
// `places` are the messages' in the request.
base::Result<base::json::array> parse_conversation(const JsonFields& fields, std::string& beginning,
                                                   std::vector<std::string>& places);

// The marker for the cache of a block, a tool or the body: an object with a `type`. It is without effect.
base::Result<void> check_cache_control(const JsonFields& fields);

}  // namespace tidemill::wire
