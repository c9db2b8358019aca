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

}  // namespace tidemill::wire
