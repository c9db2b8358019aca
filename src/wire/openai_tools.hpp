// Tools, the choice among them, and the form of the output, in the words of OpenAI's Chat Completions and of vLLM.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "wire/json_fields.hpp"
#include "wire/request.hpp"

namespace tidemill::wire {

// A name that tools and schemas may have, and the same in words.
bool is_tool_name(std::string_view name);
inline constexpr std::string_view tool_name_rule = "1 to 128 letters, digits, '_', '-' or '.'";

// That the "type" of the schema of a tool's arguments, at `path` in the request, may mean an object: "object" in any
// case, a list that has it, a word that is no type of JSON Schema, or nothing.
base::Result<void> check_parameters(const base::json::object& schema, const std::string& path);

// A function's "name", which must be there, "description", "parameters" and "strict".
base::Result<Tool> parse_function(const JsonFields& function);

// "tools": [{"type": "function", "function": {"name", "description", "parameters", "strict"}}]. At most 1,024, names
// distinct.
base::Result<std::vector<Tool>> parse_tools(const JsonFields& fields);
// "tool_choice": "none", "auto", "required", {"type": "function", "function": {"name"}} or {"type": "allowed_tools",
// "allowed_tools": {"mode", "tools"}}; absent: automatic, or none where there are no tools. A name must be one of
// `tools`.
base::Result<ToolChoice> parse_tool_choice(const JsonFields& fields, const std::vector<Tool>& tools);
// {"mode": "auto" or "required", "tools": [...]}: what a choice of type "allowed_tools" says, each tool a function with
// its name beside its type or below "function".
base::Result<ToolChoice> parse_allowed_tools(const JsonFields& allowed);
// Checks a tool list and a choice of it that came in another dialect's words: names, repetition, and that the choice
// can be kept. `path` names the list in the request.
base::Result<void> check_tools(const std::vector<Tool>& tools, const ToolChoice& choice, std::string_view path);

// "response_format", and vLLM's guided_json, guided_regex, guided_choice, guided_grammar, structured_outputs and
// llama.cpp's grammar, of which there may be one.
base::Result<OutputFormat> parse_output_format(const JsonFields& fields);

// "reasoning_effort" as templates know it: the word itself, and thinking off for "none".
void set_reasoning_effort(std::string_view effort, base::json::object& template_variables);

// A tool as chat templates read it: {"type": "function", "function": {...}}.
base::json::object template_tool(const Tool& tool);

}  // namespace tidemill::wire
