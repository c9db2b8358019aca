#include "wire/responses_request.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/core.h>

#include "base/utf8.hpp"
#include "wire/conversation_body.hpp"
#include "wire/json_fields.hpp"
#include "wire/openai_notes.hpp"
#include "wire/openai_tools.hpp"
#include "wire/request_limits.hpp"
#include "wire/responses_items.hpp"

namespace tidemill::wire {

using base::Error;
using base::ErrorCode;
using base::Result;
namespace json = base::json;

namespace {

json::value or_null(const json::value* value) {
  return value == nullptr ? json::value(nullptr) : *value;
}

Result<void> refuse_unsupported(const JsonFields& fields) {
  constexpr std::array<JsonFields::Refused, 3> refused = {{
      {"prompt", "stored prompts are not supported; send 'instructions' and 'input'"},
      {"context_management", "compaction is not supported; use 'truncation': \"auto\""},
      {"moderation", "moderation is not supported"},
  }};
  TM_CHECK(fields.refuse(refused));
  TM_TRY(const auto background, fields.boolean("background"));
  if (background.value_or(false))
    return fields.unsupported("background", "answers in the background are not supported");
  return {};
}

Result<void> parse_input(const JsonFields& fields, ResponsesRequest& asked) {
  const json::value* input = fields.find("input");
  // What came before may say it all.
  const bool goes_on = fields.find("conversation") != nullptr || fields.find("previous_response_id") != nullptr;
  if (input == nullptr && goes_on) return {};
  if (input == nullptr) return fields.invalid("input", "'input' is required: a string or an array of items");
  if (input->is_string()) {
    json::array content{json::object{{"type", "input_text"}, {"text", *input}}};
    asked.items.push_back(json::object{{"type", "message"}, {"role", "user"}, {"content", std::move(content)}});
    return {};
  }
  if (!input->is_array()) return fields.mismatch("input", "a string or an array of items", *input);
  TM_TRY(const json::array* items, fields.array("input", max_messages));
  asked.items = *items;
  PartCount parts;
  for (size_t i = 0; i < items->size(); ++i) {
    const json::object* object = (*items)[i].if_object();
    if (object == nullptr) return fields.mismatch(fmt::format("input[{}]", i), "an object", (*items)[i]);
    const JsonFields item(*object, fmt::format("input[{}]", i));
    TM_CHECK(parts.add(item, {"content", "summary", "output"}));
    const json::value* type = item.find("type");
    if (type == nullptr || *type != "item_reference") continue;
    TM_TRY(const auto id, item.string("id"));
    if (!id) return item.invalid("id", fmt::format("'{}' is required", item.path("id")));
    asked.references.push_back(*id);
  }
  return {};
}

// Functions in their flat form. A schema binds where "strict" says so, and where nothing is said if it can be followed;
// then it is echoed as null, since only the model's format decides.
Result<void> parse_tool_list(const JsonFields& fields, ResponsesRequest& asked) {
  json::array& echo = asked.form.echo["tools"].emplace_array();
  TM_TRY(const json::array* tools, fields.array("tools", max_tools));
  for (size_t i = 0; tools != nullptr && i < tools->size(); ++i) {
    const std::string place = fmt::format("tools[{}]", i);
    const json::object* object = (*tools)[i].if_object();
    if (object == nullptr) return fields.mismatch(place, "an object", (*tools)[i]);
    const JsonFields entry(*object, place);
    TM_TRY(const auto type, entry.string("type"));
    if (type != "function") {
      return entry.unsupported("type", fmt::format("tools of type \"{}\" are not supported, only \"function\" is",
                                                   base::utf8::prefix(base::utf8::sanitize(type.value_or("")), 40)));
    }
    TM_TRY(Tool tool, parse_function(entry));
    echo.push_back(json::object{{"type", "function"},
                                {"name", tool.name},
                                {"description", or_null(entry.find("description"))},
                                {"parameters", tool.parameters},
                                {"strict", or_null(entry.find("strict"))}});
    tool.prefers_strict = entry.find("strict") == nullptr;
    asked.request.tools.push_back(std::move(tool));
  }
  return {};
}

Result<void> parse_tool_fields(const JsonFields& fields, ResponsesRequest& asked) {
  TM_CHECK(parse_tool_list(fields, asked));
  GenerateRequest& request = asked.request;
  ToolChoice& choice = request.tool_choice;
  if (request.tools.empty()) choice.kind = ToolChoice::Kind::none;
  const json::value* value = fields.find("tool_choice");
  asked.form.echo["tool_choice"] = value == nullptr ? json::value("auto") : *value;
  if (value != nullptr) {
    constexpr std::string_view wanted = "\"none\", \"auto\", \"required\" or {\"type\": \"function\", \"name\": ...}";
    if (*value == "none") {
      choice.kind = ToolChoice::Kind::none;
    } else if (*value == "required") {
      choice.kind = ToolChoice::Kind::required;
    } else if (const json::object* object = value->if_object()) {
      const JsonFields named(*object, "tool_choice");
      TM_TRY(const auto type, named.string("type"));
      if (type != "function" && type != "allowed_tools") {
        return named.unsupported("type", "only the choice of a function or of allowed tools is supported");
      }
      TM_TRY(const auto name, named.string("name"));
      if (type == "allowed_tools") {
        TM_TRY(choice, parse_allowed_tools(named));
      } else if (name) {
        choice = {.kind = ToolChoice::Kind::named, .name = *name, .allowed = {}};
      } else {
        return named.invalid("name", "'tool_choice.name' is required");
      }
    } else if (*value != "auto") {
      return fields.mismatch("tool_choice", wanted, *value);
    }
  }
  TM_TRY(const auto parallel, fields.boolean("parallel_tool_calls"));
  request.parallel_tool_calls = parallel.value_or(true);
  asked.form.echo["parallel_tool_calls"] = request.parallel_tool_calls;
  return check_tools(request.tools, choice, "tools");
}

Result<void> parse_text_options(const JsonFields& fields, ResponsesRequest& asked) {
  json::object echo{{"format", {{"type", "text"}}}, {"verbosity", nullptr}};
  TM_TRY(const json::object* object, fields.object("text"));
  const json::object empty;
  const JsonFields text(object == nullptr ? empty : *object, "text");
  TM_TRY(const auto verbosity, text.string("verbosity"));
  if (verbosity) echo["verbosity"] = *verbosity;
  TM_TRY(const json::object* given, text.object("format"));
  if (given != nullptr) {
    const JsonFields format(*given, "text.format");
    OutputFormat& output = asked.request.output;
    TM_TRY(const auto type, format.string("type"));
    if (type == "json_object") {
      output.kind = OutputFormat::Kind::json_object;
      output.param = "text.format";
    } else if (type == "json_schema") {
      output.kind = OutputFormat::Kind::json_schema;
      output.param = "text.format.schema";
      TM_TRY(const auto name, format.string("name"));
      if (!name || !is_tool_name(*name)) {
        return format.invalid("name", fmt::format("'text.format.name' is required: {}", tool_name_rule));
      }
      output.name = *name;
      TM_TRY(const json::object* schema, format.object("schema"));
      if (schema == nullptr) return format.invalid("schema", "'text.format.schema' is required: a JSON Schema");
      output.schema = *schema;
      TM_CHECK(format.boolean("strict"));  // it is held to in any case
      TM_CHECK(format.string("description"));
    } else if (type != "text") {
      return format.invalid("type", "'text.format.type' must be \"text\", \"json_object\" or \"json_schema\"");
    }
    echo["format"] = *given;
  }
  asked.form.echo["text"] = std::move(echo);
  return {};
}

Result<void> parse_reasoning(const JsonFields& fields, ResponsesRequest& asked) {
  json::object echo{{"effort", nullptr}, {"summary", nullptr}};
  TM_TRY(const json::object* object, fields.object("reasoning"));
  if (object != nullptr) {
    const JsonFields reasoning(*object, "reasoning");
    TM_TRY(const auto effort, reasoning.string("effort"));
    if (effort) {
      set_reasoning_effort(*effort, asked.request.template_variables);
      echo["effort"] = *effort;
    }
    TM_TRY(const auto summary, reasoning.string("summary"));
    if (summary) echo["summary"] = *summary;
    TM_CHECK(reasoning.string("generate_summary"));  // what "summary" was called at first
  }
  asked.form.echo["reasoning"] = std::move(echo);
  return {};
}

// What is to come along with the answer. What belongs to tools that are not here never does.
Result<void> parse_include(const JsonFields& fields, ResponsesRequest& asked) {
  TM_TRY(const json::array* include, fields.array("include"));
  for (size_t i = 0; include != nullptr && i < include->size(); ++i) {
    const json::value& item = (*include)[i];
    if (!item.is_string()) return fields.mismatch("include", "an array of strings", item);
    if (item == "message.output_text.logprobs") asked.request.logprobs = true;
  }
  TM_TRY(const auto top, fields.integer("top_logprobs", 0, 20));
  asked.request.top_logprobs = static_cast<int>(top.value_or(0));
  asked.request.logprobs = asked.request.logprobs || asked.request.top_logprobs > 0;
  asked.form.logprobs = asked.request.logprobs;
  asked.form.top_logprobs = asked.request.top_logprobs;
  asked.form.echo["top_logprobs"] = asked.request.top_logprobs;
  return {};
}

Result<void> parse_sampling(const JsonFields& fields, ResponsesRequest& asked) {
  SamplingFields& sampling = asked.request.sampling;
  TM_TRY(sampling.temperature, fields.number("temperature", 0, 2));
  TM_TRY(sampling.top_p, fields.number_above("top_p", 0, 1));
  asked.form.echo["temperature"] = sampling.temperature.value_or(1);
  asked.form.echo["top_p"] = sampling.top_p.value_or(1);
  TM_TRY(asked.request.max_tokens, fields.limit("max_output_tokens", 1));
  asked.form.echo["max_output_tokens"] = or_null(fields.find("max_output_tokens"));
  return {};
}

Result<void> parse_truncation(const JsonFields& fields, ResponsesRequest& asked) {
  TM_TRY(const auto truncation, fields.string("truncation"));
  if (truncation && *truncation != "auto" && *truncation != "disabled") {
    return fields.invalid("truncation", "'truncation' must be \"auto\" or \"disabled\"");
  }
  asked.request.drop_oldest = truncation == "auto";
  asked.form.echo["truncation"] = truncation.value_or("disabled");
  return {};
}

Result<void> parse_keeping(const JsonFields& fields, ResponsesRequest& asked) {
  TM_TRY(const auto store, fields.boolean("store"));
  asked.store = store.value_or(true);
  asked.form.echo["store"] = asked.store;
  TM_TRY(const auto previous, fields.string("previous_response_id"));
  asked.previous_response_id = previous.value_or("");
  asked.form.echo["previous_response_id"] = or_null(fields.find("previous_response_id"));
  if (const json::value* conversation = fields.find("conversation"); conversation != nullptr) {
    TM_TRY(asked.conversation, conversation_id_of(*conversation));
    if (!asked.previous_response_id.empty()) return conversation_and_response();
    asked.form.echo["conversation"] = json::object{{"id", asked.conversation}};
  }
  TM_CHECK(check_notes(fields));
  TM_CHECK(check_hints(fields));
  TM_CHECK(fields.integer("max_tool_calls", 1, max_int));  // of tools that a server runs, which are not here
  TM_TRY(const json::object* metadata, fields.object("metadata"));
  asked.form.echo["metadata"] = metadata == nullptr ? json::object() : *metadata;
  for (const char* name : {"user", "safety_identifier", "prompt_cache_key"}) {
    TM_TRY(const auto text, fields.string(name));
    if (text) asked.form.echo[name] = *text;
  }
  return {};
}

}  // namespace

Result<ResponsesRequest> parse_responses_request(std::string_view body) {
  TM_TRY(const json::object object, parse_body(body));
  const JsonFields fields(object);
  ResponsesRequest asked;
  asked.request.dialect = Dialect::responses;
  TM_TRY(const auto model, fields.string("model"));
  asked.request.model = model.value_or("");
  TM_CHECK(refuse_unsupported(fields));
  TM_CHECK(parse_input(fields, asked));
  TM_TRY(const auto instructions, fields.string("instructions"));
  asked.instructions = instructions.value_or("");
  asked.form.echo["instructions"] = or_null(fields.find("instructions"));
  TM_CHECK(parse_tool_fields(fields, asked));
  TM_CHECK(parse_text_options(fields, asked));
  TM_CHECK(parse_reasoning(fields, asked));
  TM_CHECK(parse_include(fields, asked));
  TM_CHECK(parse_sampling(fields, asked));
  TM_CHECK(parse_truncation(fields, asked));
  TM_CHECK(parse_keeping(fields, asked));
  TM_TRY(const auto stream, fields.boolean("stream"));
  asked.request.stream = stream.value_or(false);
  TM_TRY(const json::object* options, fields.object("stream_options"));
  if (options != nullptr) TM_CHECK(JsonFields(*options, "stream_options").boolean("include_obfuscation"));
  return asked;
}

Result<void> join_conversation(ResponsesRequest& asked, const json::array& earlier,
                               const std::map<std::string, json::value>& referenced) {
  json::array items = earlier;
  for (size_t i = 0; i < asked.items.size(); ++i) {
    const json::object& item = asked.items[i].get_object();
    const json::value* type = item.if_contains("type");
    if (type == nullptr || *type != "item_reference") {
      items.push_back(item);
      continue;
    }
    const std::string id(item.at("id").get_string());
    const auto found = referenced.find(id);
    if (found == referenced.end()) {
      return Error(ErrorCode::invalid_argument,
                   fmt::format("no item with the id \"{}\" is kept: send the item itself", base::utf8::prefix(id, 80)))
          .with_param(fmt::format("input[{}].id", i));
    }
    // One that the earlier items hold is there already.
    const auto same = [&](const json::value& other) {
      const json::value* other_id = other.is_object() ? other.get_object().if_contains("id") : nullptr;
      return other_id != nullptr && *other_id == item.at("id");
    };
    if (std::none_of(items.begin(), items.end(), same)) items.push_back(found->second);
  }
  const KnownItems known{.count = earlier.size(),
                         .from = asked.conversation.empty() ? "previous_response_id" : "conversation"};
  TM_TRY(asked.request.messages, messages_of_items(items, asked.instructions, known, asked.request.places));
  if (!asked.instructions.empty()) asked.request.system_param = "instructions";
  if (asked.request.messages.empty()) {
    return Error(ErrorCode::invalid_argument, "'input' must hold at least one message").with_param("input");
  }
  asked.items = std::move(items);
  return {};
}

}  // namespace tidemill::wire
