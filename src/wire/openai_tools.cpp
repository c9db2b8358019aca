#include "wire/openai_tools.hpp"

#include <algorithm>
#include <array>
#include <set>
#include <string>
#include <utility>

#include <fmt/core.h>

#include "base/lower_case.hpp"
#include "base/utf8.hpp"
#include "wire/request_limits.hpp"

namespace tidemill::wire {

using base::Error;
using base::ErrorCode;
using base::Result;
namespace json = base::json;

namespace {

constexpr size_t max_name = 128;  // Anthropic's, with room for the names of MCP tools; OpenAI takes 64

Error invalid(std::string_view path, std::string message) {
  return Error(ErrorCode::invalid_argument, std::move(message)).with_param(std::string(path));
}

Result<Tool> parse_tool(const JsonFields& entry) {
  TM_TRY(const auto type, entry.string("type"));
  if (type && *type != "function") {
    return entry.unsupported("type", fmt::format("tools of type \"{}\" are not supported, only \"function\" is",
                                                 base::utf8::prefix(*type, 40)));
  }
  TM_TRY(const json::object* object, entry.object("function"));
  if (object == nullptr) {
    return entry.invalid("function", fmt::format("'{}' is required: an object with a name", entry.path("function")));
  }
  return parse_function(JsonFields(*object, entry.path("function")));
}

// That the type of what can be of one alone is that, where it is told.
Result<void> check_type(const JsonFields& fields, std::string_view wanted) {
  TM_TRY(const auto type, fields.string("type"));
  if (!type || *type == wanted) return {};
  return fields.invalid("type", fmt::format("'{}' must be \"{}\" here, not \"{}\"", fields.path("type"), wanted,
                                            base::utf8::prefix(base::utf8::sanitize(*type), 40)));
}

std::string in_lower_case(const json::value& word) {
  return word.is_string() ? base::lower(std::string_view(word.get_string())) : std::string();
}

// Gemini's clients write types in capitals.
bool is_object_type(const json::value& type) {
  return in_lower_case(type) == "object";
}

// Of a word that names no type of JSON Schema nobody can tell; some say "dict".
bool may_be_object(const json::value& type) {
  constexpr std::array<std::string_view, 6> others = {"array", "boolean", "integer", "null", "number", "string"};
  return type.is_string() && std::ranges::find(others, in_lower_case(type)) == others.end();
}

// `schema` is what the field of this name holds.
Result<OutputFormat> schema_format(const JsonFields& fields, std::string_view name, json::value schema) {
  if (!schema.is_object() && !schema.is_bool()) return fields.mismatch(name, "a JSON Schema", schema);
  OutputFormat output;
  output.kind = OutputFormat::Kind::json_schema;
  output.param = fields.path(name);
  output.schema = std::move(schema);
  return output;
}

// {"type": "json_schema", "json_schema": {"name", "schema", "strict"}} and its simpler kin.
Result<OutputFormat> parse_response_format(const json::object& object) {
  const JsonFields format(object, "response_format");
  OutputFormat output;
  TM_TRY(const auto type, format.string("type"));
  if (!type) {
    return format.invalid("type", "'response_format.type' is required: \"text\", \"json_object\" or \"json_schema\"");
  }
  if (*type == "text") return output;
  if (*type == "json_object") {
    // llama.cpp's takes a schema here.
    if (format.find("schema") != nullptr) return schema_format(format, "schema", *format.find("schema"));
    output.kind = OutputFormat::Kind::json_object;
    return output;
  }
  if (*type != "json_schema") {
    return format.invalid(
        "type", fmt::format("'response_format.type' must be \"text\", \"json_object\" or \"json_schema\", not \"{}\"",
                            base::utf8::prefix(*type, 40)));
  }
  TM_TRY(const json::object* wrapped, format.object("json_schema"));
  if (wrapped == nullptr) {
    return format.invalid("json_schema", "'response_format.json_schema' is required: an object with 'schema'");
  }
  const JsonFields inner(*wrapped, "response_format.json_schema");
  TM_TRY(const auto name, inner.string("name"));
  if (name && !is_tool_name(*name)) {
    return inner.invalid("name", fmt::format("'response_format.json_schema.name' must be {}", tool_name_rule));
  }
  TM_CHECK(inner.boolean("strict"));  // it is held to in any case
  TM_CHECK(inner.string("description"));
  if (inner.find("schema") == nullptr) {
    return inner.invalid("schema", "'response_format.json_schema.schema' is required: a JSON Schema");
  }
  TM_TRY(OutputFormat held, schema_format(inner, "schema", *inner.find("schema")));
  held.name = name.value_or("");
  return held;
}

Result<OutputFormat> parse_guided(const JsonFields& fields, std::string_view name, OutputFormat::Kind kind) {
  OutputFormat output;
  output.kind = kind;
  output.param = fields.path(name);
  if (kind == OutputFormat::Kind::json_object) {
    TM_TRY(const auto wanted, fields.boolean(name));
    return wanted.value_or(false) ? output : OutputFormat();
  }
  if (kind == OutputFormat::Kind::json_schema) {
    const json::value& schema = *fields.find(name);
    if (!schema.is_string()) return schema_format(fields, name, schema);
    // vLLM takes the schema as text too.
    auto parsed = base::parse_json(std::string_view(schema.get_string()), max_body_depth, base::PastDoubles::refused);
    if (!parsed) return std::move(parsed).error().wrap(output.param).with_param(output.param);
    return schema_format(fields, name, std::move(*parsed));
  }
  if (kind == OutputFormat::Kind::choice) {
    TM_TRY(const json::array* array, fields.array(name));
    for (const json::value& item : *array) {
      if (!item.is_string()) return fields.mismatch(name, "an array of strings", item);
      output.choices.emplace_back(item.get_string());
    }
    if (output.choices.empty()) return fields.invalid(name, fmt::format("'{}' must hold a choice", output.param));
    return output;
  }
  TM_TRY(const auto pattern, fields.string(name));
  output.pattern = *pattern;
  return output;
}

}  // namespace

bool is_tool_name(std::string_view name) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
           c == '.';
  };
  return !name.empty() && name.size() <= max_name && std::all_of(name.begin(), name.end(), allowed);
}

Result<void> check_parameters(const json::object& schema, const std::string& path) {
  const json::value* type = schema.if_contains("type");
  if (type == nullptr) return {};
  const json::array* several = type->if_array();
  const bool fine = several == nullptr ? may_be_object(*type) : std::ranges::any_of(*several, is_object_type);
  if (fine) return {};
  const JsonFields fields(schema, path);
  return fields.invalid("type", fmt::format("'{}' must be \"object\": the arguments of a call are one, not {}",
                                            fields.path("type"), base::utf8::prefix(json::serialize(*type), 80)));
}

Result<Tool> parse_function(const JsonFields& function) {
  Tool tool;
  TM_TRY(const auto name, function.string("name"));
  if (!name) return function.invalid("name", fmt::format("'{}' is required", function.path("name")));
  tool.name = *name;
  TM_TRY(const auto description, function.string("description"));
  tool.description = description.value_or("");
  TM_TRY(const json::object* parameters, function.object("parameters"));
  if (parameters != nullptr) {
    TM_CHECK(check_parameters(*parameters, function.path("parameters")));
    tool.parameters = *parameters;
  }
  TM_TRY(const auto strict, function.boolean("strict"));
  tool.strict = strict.value_or(false);
  return tool;
}

Result<std::vector<Tool>> parse_tools(const JsonFields& fields) {
  std::vector<Tool> tools;
  TM_TRY(const json::array* array, fields.array("tools", max_tools));
  if (array == nullptr) return tools;
  for (size_t i = 0; i < array->size(); ++i) {
    const std::string place = fmt::format("tools[{}]", i);
    const json::object* object = (*array)[i].if_object();
    if (object == nullptr) return fields.mismatch(place, "an object", (*array)[i]);
    TM_TRY(Tool tool, parse_tool(JsonFields(*object, fields.path(place))));
    tools.push_back(std::move(tool));
  }
  return tools;
}

Result<ToolChoice> parse_tool_choice(const JsonFields& fields, const std::vector<Tool>& tools) {
  ToolChoice choice;
  if (tools.empty()) choice.kind = ToolChoice::Kind::none;
  const json::value* value = fields.find("tool_choice");
  if (value == nullptr) return choice;
  constexpr std::string_view wanted =
      "\"none\", \"auto\", \"required\" or {\"type\": \"function\", \"function\": {\"name\": ...}}";
  if (value->is_string()) {
    const std::string_view word(value->get_string());
    if (word == "none") {
      choice.kind = ToolChoice::Kind::none;
    } else if (word == "required" || word == "any") {  // Mistral says "any"
      choice.kind = ToolChoice::Kind::required;
    } else if (word != "auto") {
      return fields.mismatch("tool_choice", wanted, *value);
    }
    return choice;
  }
  const json::object* object = value->if_object();
  if (object == nullptr) return fields.mismatch("tool_choice", wanted, *value);
  const JsonFields named(*object, fields.path("tool_choice"));
  TM_TRY(const json::object* allowed, named.object("allowed_tools"));
  TM_CHECK(check_type(named, allowed == nullptr ? "function" : "allowed_tools"));
  if (allowed != nullptr) return parse_allowed_tools(JsonFields(*allowed, named.path("allowed_tools")));
  TM_TRY(const json::object* function, named.object("function"));
  if (function == nullptr) return fields.mismatch("tool_choice", wanted, *value);
  TM_TRY(const auto name, JsonFields(*function, named.path("function")).string("name"));
  if (!name) return fields.invalid("tool_choice", "'tool_choice.function.name' is required");
  choice.kind = ToolChoice::Kind::named;
  choice.name = *name;
  return choice;
}

Result<ToolChoice> parse_allowed_tools(const JsonFields& allowed) {
  ToolChoice choice;
  TM_TRY(const auto mode, allowed.string("mode"));
  if (mode == "required") {
    choice.kind = ToolChoice::Kind::required;
  } else if (mode != "auto") {
    return allowed.invalid("mode", fmt::format("'{}' must be \"auto\" or \"required\"", allowed.path("mode")));
  }
  TM_TRY(const json::array* tools, allowed.array("tools"));
  for (size_t i = 0; tools != nullptr && i < tools->size(); ++i) {
    const std::string place = fmt::format("tools[{}]", i);
    const json::object* object = (*tools)[i].if_object();
    if (object == nullptr) return allowed.mismatch(place, "an object", (*tools)[i]);
    const JsonFields tool(*object, allowed.path(place));
    TM_CHECK(check_type(tool, "function"));
    TM_TRY(const json::object* function, tool.object("function"));
    const JsonFields holder = function == nullptr ? tool : JsonFields(*function, tool.path("function"));
    TM_TRY(const auto name, holder.string("name"));
    if (!name) return holder.invalid("name", fmt::format("'{}' is required", holder.path("name")));
    choice.allowed.push_back(*name);
  }
  if (choice.allowed.empty()) {
    return allowed.invalid("tools", fmt::format("'{}' must hold a tool", allowed.path("tools")));
  }
  return choice;
}

Result<void> check_tools(const std::vector<Tool>& tools, const ToolChoice& choice, std::string_view path) {
  if (tools.size() > max_tools) {
    return invalid(path, fmt::format("'{}' has {} entries; at most {} are taken", path, tools.size(), max_tools));
  }
  std::set<std::string_view> names;
  for (const Tool& tool : tools) {
    if (!is_tool_name(tool.name)) {
      return invalid(path, fmt::format("'{}' has a tool named \"{}\"; a name must be {}", path,
                                       base::utf8::prefix(base::utf8::sanitize(tool.name), 80), tool_name_rule));
    }
    if (!names.insert(tool.name).second) {
      return invalid(path, fmt::format("'{}' has two tools named \"{}\"", path, tool.name));
    }
  }
  const bool must_call = choice.kind == ToolChoice::Kind::required || choice.kind == ToolChoice::Kind::named;
  if (must_call && tools.empty()) {
    return invalid("tool_choice", fmt::format("'tool_choice' asks for a call, but there are no '{}'", path));
  }
  for (const std::string& name : choice.allowed) {
    if (names.contains(name)) continue;
    return invalid("tool_choice", fmt::format("'tool_choice' allows \"{}\", which is not one of '{}'",
                                              base::utf8::prefix(base::utf8::sanitize(name), 80), path));
  }
  if (choice.kind == ToolChoice::Kind::named && !names.contains(choice.name)) {
    return invalid("tool_choice", fmt::format("'tool_choice' names \"{}\", which is not one of '{}'",
                                              base::utf8::prefix(base::utf8::sanitize(choice.name), 80), path));
  }
  return {};
}

Result<OutputFormat> parse_output_format(const JsonFields& fields) {
  using Kind = OutputFormat::Kind;
  struct Field {
    std::string_view name;
    Kind kind;
  };
  constexpr std::array<Field, 6> guided = {{{"guided_json", Kind::json_schema},
                                            {"guided_json_object", Kind::json_object},
                                            {"guided_regex", Kind::regex},
                                            {"guided_choice", Kind::choice},
                                            {"guided_grammar", Kind::grammar},
                                            {"grammar", Kind::grammar}}};
  constexpr std::array<Field, 5> structured = {{{"json", Kind::json_schema},
                                                {"json_object", Kind::json_object},
                                                {"regex", Kind::regex},
                                                {"choice", Kind::choice},
                                                {"grammar", Kind::grammar}}};

  OutputFormat output;
  std::string given;  // the field that asked for a form
  const auto take = [&](Result<OutputFormat> parsed, std::string name) -> Result<void> {
    if (!parsed) return std::move(parsed).error();
    if (parsed->kind == Kind::text) return {};
    if (!given.empty()) {
      return fields.invalid(name, fmt::format("'{}' and '{}' both say what the output must be; give one", given, name));
    }
    given = std::move(name);
    output = std::move(*parsed);
    return {};
  };
  TM_TRY(const json::object* format, fields.object("response_format"));
  if (format != nullptr) TM_CHECK(take(parse_response_format(*format), "response_format"));
  for (const Field& field : guided) {
    if (fields.find(field.name) == nullptr) continue;
    TM_CHECK(take(parse_guided(fields, field.name, field.kind), std::string(field.name)));
  }
  TM_TRY(const json::object* object, fields.object("structured_outputs"));
  if (object != nullptr) {
    const JsonFields inner(*object, fields.path("structured_outputs"));
    for (const auto& [name, value] : *object) {
      const auto knows = [name = std::string_view(name)](const Field& field) { return field.name == name; };
      if (value.is_null() || std::ranges::any_of(structured, knows)) continue;
      return inner.unsupported(name, fmt::format("'{}' is not supported, only json, json_object, regex, choice and "
                                                 "grammar are",
                                                 inner.path(base::utf8::prefix(name, 40))));
    }
    for (const Field& field : structured) {
      if (inner.find(field.name) == nullptr) continue;
      TM_CHECK(take(parse_guided(inner, field.name, field.kind), inner.path(field.name)));
    }
  }
  return output;
}

void set_reasoning_effort(std::string_view effort, json::object& template_variables) {
  template_variables["reasoning_effort"] = effort;
  if (effort == "none") template_variables["enable_thinking"] = false;
}

json::object template_tool(const Tool& tool) {
  json::object function{{"name", tool.name}, {"description", tool.description}};  // some templates fail without one
  function["parameters"] = tool.parameters.is_null()
                               ? json::value(json::object{{"type", "object"}, {"properties", json::object()}})
                               : tool.parameters;
  return {{"type", "function"}, {"function", std::move(function)}};
}

}  // namespace tidemill::wire
