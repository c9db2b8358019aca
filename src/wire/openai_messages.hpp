// OpenAI's chat messages, checked and brought to the form that chat templates read.
#pragma once

#include <string_view>

#include "base/json.hpp"
#include "base/result.hpp"
#include "wire/json_fields.hpp"

namespace tidemill::wire {

// The array of messages under `name`, which must hold at least one. Every message has a known role; `content` becomes a
// string or null (text parts joined by line feeds); the arguments of tool calls become objects where they parse as
// such. Other members are kept. Images, audio and files are `unsupported`.
base::Result<base::json::array> parse_messages(const JsonFields& fields, std::string_view name);

// That calls and results belong together, as OpenAI demands: a message of the role "tool" stands behind the assistant's
// whose call it answers, with nothing but its like between them, and every call that has an id is answered there, two
// of the same id by two results. A call without an id, which other servers take, needs no answer; a result without one
// answers the next call. parse_messages has taken the array under `name`.
base::Result<void> check_tool_rounds(const JsonFields& fields, std::string_view name);

}  // namespace tidemill::wire
