// The older words of Chat Completions for tools: "functions", "function_call" and messages of the role "function", as
// what they have become.
#pragma once

#include "base/json.hpp"
#include "base/result.hpp"
#include "wire/json_fields.hpp"
#include "wire/request.hpp"

namespace tidemill::wire {

// "functions": [{"name", "description", "parameters"}] and "function_call": "none", "auto" or {"name"}: the request's
// tools, of which one is called at a time, and the choice among them. Nothing where neither is there. Both forms at
// once are an error.
base::Result<void> parse_functions(const JsonFields& fields, GenerateRequest& request);

// In parsed messages: an assistant's "function_call" becomes one of "tool_calls", and a message of the role "function"
// the result of the last of them that has its name.
base::Result<void> translate_functions(base::json::array& messages, std::string_view name);

}  // namespace tidemill::wire
