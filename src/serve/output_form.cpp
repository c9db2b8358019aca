#include "serve/output_form.hpp"

#include <algorithm>
#include <span>
#include <string>
#include <utility>

#include "chat/constraint.hpp"
#include "grammar/gbnf.hpp"
#include "grammar/json_schema.hpp"
#include "grammar/regex.hpp"
#include "serve/tool_prompt.hpp"

namespace tidemill::serve {

using base::Error;
using base::ErrorCode;
using base::Result;
namespace json = base::json;

namespace {

using OutputKind = wire::OutputFormat::Kind;

chat::ToolChoice to_chat(const wire::ToolChoice& choice) {
  using From = wire::ToolChoice::Kind;
  using To = chat::ToolChoice::Kind;
  switch (choice.kind) {
    case From::none:
      return {To::none, ""};
    case From::automatic:
      return {To::automatic, ""};
    case From::required:
      return {To::required, ""};
    case From::named:
      return {To::named, choice.name};
  }
  return {To::none, ""};
}

// What the content must be, in the builder's terms.
Result<grammar::Expression> content_expression(const wire::OutputFormat& output, grammar::GrammarBuilder& builder) {
  const auto named = [&](auto result) -> Result<grammar::Expression> {
    if (!result) return std::move(result).error().with_param(output.param);
    return *result;
  };
  switch (output.kind) {
    case OutputKind::json_object:
      return grammar::any_json_object(builder);
    case OutputKind::json_schema:
      return named(grammar::json_schema(builder, output.schema));
    case OutputKind::regex:
      return named(grammar::regular_expression(builder, output.pattern));
    case OutputKind::grammar:
      return named(grammar::gbnf(builder, output.pattern));
    case OutputKind::choice:
      return builder.one_of(output.choices);
    case OutputKind::text:
      break;
  }
  return Error(ErrorCode::internal, "text has no grammar");
}

bool thinking_is_off(const wire::GenerateRequest& request) {
  const json::value* on = request.template_variables.if_contains("enable_thinking");
  return on != nullptr && *on == false;
}

// Equal for requests whose outputs have the same grammar.
std::string cache_key(const wire::GenerateRequest& request, const OutputForm& form) {
  const wire::OutputFormat& output = request.output;
  json::array tools;
  if (form.reading) {
    for (const chat::Tool& tool : form.reading->tools)
      tools.push_back({json::string(tool.name), tool.parameters, tool.strict});
  }
  json::array preferences;
  for (size_t i = 0; form.reading && i < form.reading->prefer_strict.size(); ++i)
    preferences.emplace_back(static_cast<bool>(form.reading->prefer_strict[i]));
  json::array choices;
  for (const std::string& choice : output.choices)
    choices.push_back(json::string(choice));
  const json::array key{static_cast<int>(output.kind),
                        output.schema,
                        json::string(output.pattern),
                        std::move(choices),
                        std::move(tools),
                        static_cast<int>(request.tool_choice.kind),
                        json::string(request.tool_choice.name),
                        request.parallel_tool_calls,
                        form.reading ? static_cast<int>(form.reading->start) : 0,
                        form.reading.has_value(),
                        std::move(preferences),
                        thinking_is_off(request)};
  return json::serialize(key);
}

bool must_call(const wire::GenerateRequest& request) {
  using Kind = wire::ToolChoice::Kind;
  return request.tool_choice.kind == Kind::required || request.tool_choice.kind == Kind::named;
}

ReadingRules reading_rules(const LoadedModel& model, const wire::GenerateRequest& request, std::string_view rendered) {
  ReadingRules rules;
  rules.format = tool_format(model.chat(), request);
  for (const wire::Tool& tool : request.tools) {
    const std::vector<std::string>& allowed = request.tool_choice.allowed;
    if (!allowed.empty() && std::ranges::find(allowed, tool.name) == allowed.end()) continue;
    rules.tools.push_back({tool.name, tool.parameters, tool.strict});
    rules.prefer_strict.push_back(tool.prefers_strict);
  }
  // A begun answer is behind the reasoning, whatever it says.
  rules.start = !request.answer_begins.empty()                  ? chat::Start::content
                : chat::opens_reasoning(rules.format, rendered) ? chat::Start::reasoning
                                                                : chat::Start::answer;
  rules.must_call = must_call(request);
  return rules;
}

// Whether a tool is to be held to its schema though it is not strict, where a grammar can follow the schema: where the
// tool prefers it, and where a call must be made, which is held to a grammar anyway.
bool wants_strictness(const ReadingRules& reading, size_t tool, const wire::GenerateRequest& request) {
  const chat::Tool& one = reading.tools[tool];
  if (one.strict || one.parameters.is_null()) return false;
  const bool other = request.tool_choice.kind == wire::ToolChoice::Kind::named && one.name != request.tool_choice.name;
  return !other && (must_call(request) || reading.prefer_strict[tool]);
}

// The tools with as much strictness as was asked for or is wanted.
std::vector<chat::Tool> strict_where_possible(const ReadingRules& reading, const wire::GenerateRequest& request) {
  std::vector<chat::Tool> tools = reading.tools;
  // They must find room in one grammar, and trying them must not take longer than that.
  grammar::GrammarLimits limits;
  const size_t share = std::max<size_t>(1, tools.size() / 4);
  limits.max_nodes /= share;
  limits.max_alternatives /= share;
  limits.max_states /= share;
  for (size_t i = 0; i < tools.size(); ++i) {
    chat::Tool& tool = tools[i];
    if (!wants_strictness(reading, i, request)) continue;
    chat::Tool strict = tool;
    strict.strict = true;
    strict.loose_formats = true;
    const chat::ToolRules alone{.choice = {chat::ToolChoice::Kind::required, ""}, .parallel = false, .content = {}};
    grammar::GrammarBuilder trial(limits);
    const auto expression = chat::tool_grammar(trial, reading.format, std::span(&strict, 1), alone);
    if (expression && *expression && std::move(trial).build(**expression)) tool = std::move(strict);
  }
  return tools;
}

bool wants_more_strictness(const OutputForm& form, const wire::GenerateRequest& request) {
  for (size_t i = 0; form.reading && i < form.reading->tools.size(); ++i) {
    if (wants_strictness(*form.reading, i, request)) return true;
  }
  return false;
}

bool constrains_calls(const wire::GenerateRequest& request) {
  if (request.tools.empty()) return false;
  if (request.tool_choice.kind != wire::ToolChoice::Kind::automatic || !request.tool_choice.allowed.empty())
    return true;
  if (!request.parallel_tool_calls) return true;
  for (const wire::Tool& tool : request.tools) {
    if (tool.strict || tool.prefers_strict) return true;
  }
  return false;
}

}  // namespace

Result<OutputForm> output_form(const LoadedModel& model, const wire::GenerateRequest& request,
                               std::string_view rendered) {
  OutputForm form;
  const bool conversation = request.dialect != wire::Dialect::completions;
  if (conversation) {
    ReadingRules rules = reading_rules(model, request, rendered);
    const bool announced = !rules.format.syntax.recipient.empty();  // an answer begins with a recipient's name
    if (!rules.tools.empty() || rules.format.reasons() || announced) form.reading = std::move(rules);
  }
  const bool formed = request.output.kind != OutputKind::text;
  if (!formed && !constrains_calls(request)) return form;

  bool preferred = true;  // as strict as is wanted, or only as was asked for
  const auto build = [&](grammar::GrammarBuilder& builder) -> Result<grammar::Expression> {
    std::optional<grammar::Expression> content;
    if (formed) {
      TM_TRY(content, content_expression(request.output, builder));
    }
    if (!form.reading) return *content;
    const std::vector<chat::Tool> tools =
        preferred ? strict_where_possible(*form.reading, request) : form.reading->tools;
    const chat::ToolRules rules{.choice = to_chat(request.tool_choice),
                                // Who names a function wants it called, once.
                                .parallel = request.parallel_tool_calls && model.chat().takes_parallel_calls() &&
                                            request.tool_choice.kind != wire::ToolChoice::Kind::named,
                                .start = form.reading->start,
                                .may_reason = !thinking_is_off(request),
                                .always = constrains_calls(request),
                                .content = content};
    auto built = chat::tool_grammar(builder, form.reading->format, tools, rules);
    if (!built) {
      Error error = std::move(built).error();
      return error.param().empty() ? std::move(error).with_param("tools") : std::move(error);
    }
    if (!*built) return Error(ErrorCode::internal, "the tools gave no grammar");
    return **built;
  };
  const std::string key = cache_key(request, form);
  auto compiled = model.grammars().find_or_compile(key, build);
  if (!compiled && wants_more_strictness(form, request)) {
    // Schemas that can be followed one by one may be too much together.
    preferred = false;
    compiled = model.grammars().find_or_compile(key + " as asked", build);
  }
  if (!compiled) {
    Error error = std::move(compiled).error();
    if (error.param().empty()) error = std::move(error).with_param(formed ? request.output.param : "tools");
    // Over a limit of grammars, which is not the context's.
    if (error.code() != ErrorCode::too_large) return error;
    return Error(ErrorCode::unsupported, error.to_string()).with_param(error.param());
  }
  form.grammar = std::move(*compiled);
  return form;
}

}  // namespace tidemill::serve
