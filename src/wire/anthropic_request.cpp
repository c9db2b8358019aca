#include "wire/anthropic_request.hpp"

#include <array>
#include <memory>
#include <utility>

#include <fmt/core.h>

#include "base/utf8.hpp"
#include "wire/anthropic_answer.hpp"
#include "wire/anthropic_messages.hpp"
#include "wire/error_body.hpp"
#include "wire/json_fields.hpp"
#include "wire/openai_tools.hpp"
#include "wire/request_limits.hpp"

namespace tidemill::wire {

using base::Result;
namespace json = base::json;

namespace {

constexpr size_t max_stop_strings = 64;

Result<void> refuse_unsupported(const JsonFields& fields) {
  constexpr std::array<JsonFields::Refused, 2> refused = {{
      {"container", "code execution in containers is not supported"},
      {"mcp_servers", "calling MCP servers from here is not supported; call them yourself and send 'tools'"},
  }};
  return fields.refuse(refused);
}

// Conversations are not kept between messages, so that no thread is ever found. In answer to that the original's
// clients begin the thread anew, with all that it held.
Result<void> check_thread(const JsonFields& fields) {
  TM_TRY(const json::object* object, fields.object("thread"));
  if (object == nullptr) return {};
  const JsonFields thread(*object, "thread");
  TM_TRY(const std::string type, thread.required_string("type"));
  if (type == "create") return {};
  if (type != "continue") return thread.invalid("type", "'thread.type' must be \"create\" or \"continue\"");
  TM_TRY(const std::string id, thread.required_string("previous_message_id"));
  return base::Error(base::ErrorCode::not_found,
                     fmt::format("'{}' names no thread that could go on (\"{}\"): none are kept here. Send the whole "
                                 "conversation, without 'thread' or with the type \"create\"",
                                 thread_param, base::utf8::prefix(base::utf8::sanitize(id), 80)))
      .with_param(std::string(thread_param));
}

Result<void> check_metadata(const JsonFields& fields) {
  TM_TRY(const json::object* metadata, fields.object("metadata"));
  if (metadata != nullptr) TM_CHECK(JsonFields(*metadata, "metadata").string("user_id"));
  return {};
}

Result<Tool> parse_tool(const JsonFields& entry) {
  TM_TRY(const auto type, entry.string("type"));
  if (type && *type != "custom") {
    return entry.unsupported("type",
                             fmt::format("tools of type \"{}\" are not supported, only tools with a name and an "
                                         "'input_schema' are",
                                         base::utf8::prefix(base::utf8::sanitize(*type), 40)));
  }
  Tool tool;
  TM_TRY(const auto name, entry.string("name"));
  if (!name) return entry.invalid("name", fmt::format("'{}' is required", entry.path("name")));
  tool.name = *name;
  TM_TRY(const auto description, entry.string("description"));
  tool.description = description.value_or("");
  TM_TRY(const json::object* schema, entry.object("input_schema"));
  if (schema == nullptr) {
    return entry.invalid("input_schema",
                         fmt::format("'{}' is required: a JSON Schema of an object", entry.path("input_schema")));
  }
  TM_CHECK(check_parameters(*schema, entry.path("input_schema")));
  tool.parameters = *schema;
  TM_TRY(const auto strict, entry.boolean("strict"));
  tool.strict = strict.value_or(false);
  TM_CHECK(check_cache_control(entry));
  return tool;
}

Result<void> parse_tool_fields(const JsonFields& fields, GenerateRequest& request) {
  TM_TRY(const json::array* tools, fields.array("tools", max_tools));
  for (size_t i = 0; tools != nullptr && i < tools->size(); ++i) {
    const std::string place = fmt::format("tools[{}]", i);
    const json::object* object = (*tools)[i].if_object();
    if (object == nullptr) return fields.mismatch(place, "an object", (*tools)[i]);
    TM_TRY(Tool tool, parse_tool(JsonFields(*object, place)));
    request.tools.push_back(std::move(tool));
  }
  if (request.tools.empty()) request.tool_choice.kind = ToolChoice::Kind::none;
  TM_TRY(const json::object* object, fields.object("tool_choice"));
  if (object != nullptr) {
    const JsonFields choice(*object, "tool_choice");
    TM_TRY(const auto type, choice.string("type"));
    TM_TRY(const auto name, choice.string("name"));
    if (type == "any") {
      request.tool_choice.kind = ToolChoice::Kind::required;
    } else if (type == "none") {
      request.tool_choice.kind = ToolChoice::Kind::none;
    } else if (type == "tool") {
      if (!name) return choice.invalid("name", "'tool_choice.name' is required for the type \"tool\"");
      request.tool_choice = {.kind = ToolChoice::Kind::named, .name = *name, .allowed = {}};
    } else if (type != "auto") {
      return choice.invalid("type", "'tool_choice.type' must be \"auto\", \"any\", \"tool\" or \"none\"");
    }
    TM_TRY(const auto one_call, choice.boolean("disable_parallel_tool_use"));
    request.parallel_tool_calls = !one_call.value_or(false);
  }
  return check_tools(request.tools, request.tool_choice, "tools");
}

// Thinking is off unless it is asked for, as in the original.
Result<void> parse_thinking(const JsonFields& fields, GenerateRequest& request) {
  bool on = false;
  TM_TRY(const json::object* object, fields.object("thinking"));
  if (object != nullptr) {
    const JsonFields thinking(*object, "thinking");
    TM_TRY(const auto type, thinking.string("type"));
    if (type == "enabled") {
      on = true;
      TM_TRY(const auto budget, thinking.limit("budget_tokens", 1));
      if (!budget) return thinking.invalid("budget_tokens", "'thinking.budget_tokens' is required where it is enabled");
      if (request.max_tokens && *budget >= *request.max_tokens) {
        return thinking.invalid("budget_tokens", fmt::format("'thinking.budget_tokens' ({}) must be less than "
                                                             "'max_tokens' ({})",
                                                             *budget, *request.max_tokens));
      }
      request.reasoning_tokens = budget;
    } else if (type == "adaptive" || type == "between_tools") {
      on = true;
    } else if (type != "disabled") {
      return thinking.invalid("type", "'thinking.type' must be \"enabled\", \"disabled\" or \"adaptive\"");
    }
  }
  request.template_variables["enable_thinking"] = on;
  return {};
}

Result<void> parse_format(const JsonFields& parent, std::string_view name, GenerateRequest& request) {
  TM_TRY(const json::object* object, parent.object(name));
  if (object == nullptr) return {};
  const JsonFields format(*object, parent.path(name));
  TM_TRY(const auto type, format.string("type"));
  if (type != "json_schema") {
    return format.invalid("type", fmt::format("'{}' must be \"json_schema\"", format.path("type")));
  }
  TM_TRY(const json::object* schema, format.object("schema"));
  if (schema == nullptr) {
    return format.invalid("schema", fmt::format("'{}' is required: a JSON Schema", format.path("schema")));
  }
  request.output.kind = OutputFormat::Kind::json_schema;
  request.output.schema = *schema;
  request.output.param = format.path("schema");
  return {};
}

// "output_config", and "output_format", as a part of it was called at first.
Result<void> parse_output(const JsonFields& fields, GenerateRequest& request) {
  TM_CHECK(parse_format(fields, "output_format", request));
  TM_TRY(const json::object* object, fields.object("output_config"));
  if (object == nullptr) return {};
  const JsonFields config(*object, "output_config");
  TM_CHECK(parse_format(config, "format", request));
  TM_TRY(const auto effort, config.string("effort"));
  if (effort) request.template_variables["reasoning_effort"] = *effort;
  return {};
}

Result<void> parse_stop(const JsonFields& fields, GenerateRequest& request) {
  TM_TRY(const json::array* sequences, fields.array("stop_sequences"));
  if (sequences == nullptr) return {};
  if (sequences->size() > max_stop_strings) {
    return fields.invalid("stop_sequences", fmt::format("'stop_sequences' has {} strings; at most {} are taken",
                                                        sequences->size(), max_stop_strings));
  }
  for (const json::value& item : *sequences) {
    if (!item.is_string()) return fields.mismatch("stop_sequences", "an array of strings", item);
    if (item.get_string().empty()) {
      return fields.invalid("stop_sequences", "'stop_sequences' must not hold an empty string");
    }
    request.stop.emplace_back(item.get_string());
  }
  return {};
}

Result<void> parse_sampling(const JsonFields& fields, SamplingFields& sampling) {
  TM_TRY(sampling.temperature, fields.number("temperature", 0, 1));
  TM_TRY(sampling.top_p, fields.number_above("top_p", 0, 1));
  TM_TRY(sampling.top_k, fields.integer("top_k", 0, max_int));
  return {};
}

// What an answer that has begun cannot be asked for.
Result<void> check_beginning(const JsonFields& fields, const GenerateRequest& request) {
  if (request.answer_begins.empty()) return {};
  const std::string_view begun = "a last message of the assistant's, which the answer goes on from";
  using Kind = ToolChoice::Kind;
  if (request.template_variables.at("enable_thinking") == true) {
    return fields.invalid("messages", fmt::format("'messages' end with {}: 'thinking' must be off then", begun));
  }
  if (request.output.kind != OutputFormat::Kind::text) {
    return fields.invalid("messages", fmt::format("'messages' end with {}: no output format can be kept then", begun));
  }
  if (request.tool_choice.kind == Kind::required || request.tool_choice.kind == Kind::named) {
    return fields.invalid("messages",
                          fmt::format("'messages' end with {}: 'tool_choice' cannot ask for a call then", begun));
  }
  return {};
}

// What changes nothing here, but has the type that the original demands.
Result<void> check_tolerated(const JsonFields& fields) {
  TM_CHECK(check_metadata(fields));
  TM_CHECK(check_cache_control(fields));
  for (const char* name : {"service_tier", "inference_geo", "speed"})
    TM_CHECK(fields.string(name));
  TM_CHECK(fields.object("context_management"));
  return {};
}

// What decides the prompt.
Result<GenerateRequest> parse_prompt(const JsonFields& fields, bool needs_max_tokens) {
  GenerateRequest request;
  request.dialect = Dialect::messages;
  TM_TRY(const auto model, fields.string("model"));
  request.model = model.value_or("");
  TM_CHECK(refuse_unsupported(fields));
  TM_CHECK(check_thread(fields));
  TM_TRY(request.max_tokens, fields.limit("max_tokens", 1));
  if (needs_max_tokens && !request.max_tokens) {
    return fields.invalid("max_tokens", "'max_tokens' is required: the most tokens of the answer");
  }
  TM_CHECK(check_tolerated(fields));
  TM_TRY(request.messages, parse_conversation(fields, request.answer_begins, request.places));
  if (fields.find("system") != nullptr) request.system_param = "system";
  TM_CHECK(parse_tool_fields(fields, request));
  TM_CHECK(parse_thinking(fields, request));
  TM_CHECK(parse_output(fields, request));
  TM_CHECK(check_beginning(fields, request));
  return request;
}

// Whether the client wants to see the model think ("thinking.display").
Result<bool> shows_thinking(const JsonFields& fields) {
  TM_TRY(const json::object* object, fields.object("thinking"));
  if (object == nullptr) return true;
  TM_TRY(const auto display, JsonFields(*object, "thinking").string("display"));
  return display != "omitted";
}

Result<GenerateRequest> parse_request(const JsonFields& fields) {
  TM_TRY(GenerateRequest request, parse_prompt(fields, true));
  TM_CHECK(parse_stop(fields, request));
  TM_CHECK(parse_sampling(fields, request.sampling));
  TM_TRY(const auto stream, fields.boolean("stream"));
  request.stream = stream.value_or(false);
  return request;
}

}  // namespace

Result<GenerateRequest> parse_messages_request(std::string_view body) {
  TM_TRY(const json::object object, parse_body(body));
  return parse_request(JsonFields(object));
}

Result<Asked> ask_messages(std::string_view body) {
  TM_TRY(const json::object object, parse_body(body));
  const JsonFields fields(object);
  TM_TRY(GenerateRequest request, parse_request(fields));
  TM_TRY(const bool thinking, shows_thinking(fields));
  const MessagesForm form{.max_tokens = *request.max_tokens, .thinking = thinking};
  const auto answer = [form](const AnswerInfo& info) { return std::make_unique<MessagesAnswer>(form, info); };
  return Asked{std::move(request), answer};
}

Result<Asked> ask_count_tokens(std::string_view body) {
  TM_TRY(const json::object object, parse_body(body));
  TM_TRY(GenerateRequest request, parse_prompt(JsonFields(object), false));
  return Asked{std::move(request), {}};
}

}  // namespace tidemill::wire
