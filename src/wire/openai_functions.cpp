#include "wire/openai_functions.hpp"

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include <fmt/core.h>

#include "base/utf8.hpp"
#include "wire/openai_tools.hpp"
#include "wire/request_limits.hpp"

namespace tidemill::wire {

using base::Result;
namespace json = base::json;

namespace {

Result<void> parse_function_call(const JsonFields& fields, GenerateRequest& request) {
  constexpr std::string_view wanted = "\"none\", \"auto\" or {\"name\": ...}";
  const json::value* value = fields.find("function_call");
  if (value == nullptr) return {};
  if (request.tools.empty()) return fields.invalid("function_call", "'function_call' needs 'functions'");
  ToolChoice& choice = request.tool_choice;
  if (const json::object* object = value->if_object()) {
    TM_TRY(choice.name, JsonFields(*object, fields.path("function_call")).required_string("name"));
    choice.kind = ToolChoice::Kind::named;
    const auto has_name = [&](const Tool& tool) { return tool.name == choice.name; };
    if (std::ranges::any_of(request.tools, has_name)) return {};
    return fields.invalid("function_call", fmt::format("'function_call' names \"{}\", which is not one of 'functions'",
                                                       base::utf8::prefix(base::utf8::sanitize(choice.name), 80)));
  }
  if (*value == "none") {
    choice.kind = ToolChoice::Kind::none;
  } else if (*value != "auto") {
    return fields.mismatch("function_call", wanted, *value);
  }
  return {};
}

}  // namespace

Result<void> parse_functions(const JsonFields& fields, GenerateRequest& request) {
  TM_TRY(const json::array* functions, fields.array("functions", max_tools));
  const bool newer = fields.find("tools") != nullptr || fields.find("tool_choice") != nullptr;
  const bool older = functions != nullptr || fields.find("function_call") != nullptr;
  if (!older) return {};
  if (newer) {
    return fields.invalid(functions != nullptr ? "functions" : "function_call",
                          "'functions' and 'function_call' are the older form of 'tools' and 'tool_choice'; give one");
  }
  for (size_t i = 0; functions != nullptr && i < functions->size(); ++i) {
    const std::string place = fmt::format("functions[{}]", i);
    const json::object* object = (*functions)[i].if_object();
    if (object == nullptr) return fields.mismatch(place, "an object", (*functions)[i]);
    TM_TRY(Tool tool, parse_function(JsonFields(*object, fields.path(place))));
    request.tools.push_back(std::move(tool));
  }
  request.tool_choice.kind = request.tools.empty() ? ToolChoice::Kind::none : ToolChoice::Kind::automatic;
  request.parallel_tool_calls = false;
  request.tells_function_call = true;
  TM_CHECK(check_tools(request.tools, {}, "functions"));
  return parse_function_call(fields, request);
}

Result<void> translate_functions(json::array& messages, std::string_view name) {
  std::map<std::string, std::string> ids;  // of the last call of each function
  for (size_t i = 0; i < messages.size(); ++i) {
    json::object& message = messages[i].get_object();
    const JsonFields fields(message, fmt::format("{}[{}]", name, i));
    const std::string own_id = fmt::format("call_function_{}", i);
    TM_TRY(const json::object* call, fields.object("function_call"));
    if (call != nullptr) {
      const JsonFields inner(*call, fields.path("function_call"));
      TM_TRY(const std::string function, inner.required_string("name"));
      TM_TRY(const std::string text, inner.required_string("arguments"));
      json::value arguments = json::string(text);
      if (auto parsed = base::parse_json(text); parsed && parsed->is_object()) arguments = std::move(*parsed);
      if (fields.find("tool_calls") != nullptr) {
        return fields.invalid("function_call", "'function_call' is the older form of 'tool_calls'; give one");
      }
      ids[function] = own_id;
      message["tool_calls"] = json::array{json::object{
          {"id", own_id}, {"type", "function"}, {"function", {{"name", function}, {"arguments", arguments}}}}};
      message.erase("function_call");
    }
    if (message.at("role") != "function") continue;
    TM_TRY(const std::string function, fields.required_string("name"));
    const auto id = ids.find(function);
    message["role"] = "tool";
    message["tool_call_id"] = id == ids.end() ? own_id : id->second;
  }
  return {};
}

}  // namespace tidemill::wire
