#include "serve/output_form.hpp"

#include <algorithm>
#include <span>
#include <string>
#include <utility>

#include <fmt/core.h>

#include "chat/constraint.hpp"
#include "chat/spelling.hpp"
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

// That no text of the grammar begins with one of `openings`: it would be read as the call of a tool whose schema it
// need not follow.
Result<void> check_beginnings(const wire::OutputFormat& output, std::span<const std::string> openings) {
  if (openings.empty()) return {};
  grammar::GrammarBuilder builder;
  const auto root = grammar::gbnf(builder, output.pattern);
  if (!root) return {};  // its error is told by who translates it
  const auto alone = std::move(builder).build(*root);
  for (const std::string& opening : openings) {
    if (!alone || !(*alone)->may_begin(opening)) continue;
    return Error(
               ErrorCode::unsupported,
               fmt::format("the grammar allows text that begins as a call does, with \"{}\", and would be read as one, "
                           "though there are tools that are strict: let it begin with anything else, set 'tool_choice' "
                           "to none or required, or leave 'strict' out",
                           opening))
        .with_param(output.param);
  }
  return {};
}

// What the content must be, in the builder's terms.
// `openings` are texts that it must not begin with, as far as that can be told.
Result<grammar::Expression> content_expression(const wire::OutputFormat& output, std::span<const std::string> openings,
                                               grammar::GrammarBuilder& builder) {
  const auto named = [&](auto result) -> Result<grammar::Expression> {
    if (!result) return std::move(result).error().with_param(output.param);
    return *result;
  };
  switch (output.kind) {
    case OutputKind::json_object:
      return grammar::any_json_object(builder);
    case OutputKind::json_schema:
      return named(grammar::json_schema(builder, output.schema));
    case OutputKind::regex: {
      TM_TRY(const grammar::Expression matching, named(grammar::regular_expression(builder, output.pattern)));
      return openings.empty() ? matching : builder.both(matching, builder.text_without(openings));
    }
    case OutputKind::grammar:
      TM_CHECK(check_beginnings(output, openings));
      return named(grammar::gbnf(builder, output.pattern));
    case OutputKind::choice: {
      std::vector<std::string> texts;
      for (const std::string& text : output.choices) {
        const std::string_view begun = chat::trimmed(text);
        if (std::ranges::none_of(openings, [&](const std::string& opening) { return begun.starts_with(opening); }))
          texts.push_back(text);
      }
      return texts.empty() ? builder.nothing() : builder.one_of(texts);
    }
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
                        form.reading && form.reading->format.syntax.bare,
                        std::move(preferences),
                        thinking_is_off(request)};
  return json::serialize(key);
}

bool must_call(const wire::GenerateRequest& request) {
  using Kind = wire::ToolChoice::Kind;
  return request.tool_choice.kind == Kind::required || request.tool_choice.kind == Kind::named;
}

bool may_call(const wire::GenerateRequest& request) {
  return !request.tools.empty() && request.tool_choice.kind != wire::ToolChoice::Kind::none;
}

// Whether the content has a form, and calls may come in its place.
bool form_or_calls(const wire::GenerateRequest& request) {
  return request.output.kind != OutputKind::text && may_call(request) && !must_call(request);
}

ReadingRules reading_rules(const LoadedModel& model, const wire::GenerateRequest& request, std::string_view rendered) {
  ReadingRules rules;
  rules.format = tool_format(model.chat(), request);
  bool strict = false;
  for (const wire::Tool& tool : request.tools) {
    const std::vector<std::string>& allowed = request.tool_choice.allowed;
    const bool callable = allowed.empty() || std::ranges::find(allowed, tool.name) != allowed.end();
    if (!callable || !may_call(request)) continue;
    rules.tools.push_back({tool.name, tool.parameters, tool.strict});
    rules.prefer_strict.push_back(tool.prefers_strict);
    strict = strict || tool.strict || tool.prefers_strict;
  }
  if (form_or_calls(request)) {
    // What an answer in the form holds is no call. JSON that could be either cannot keep to both the form's and the
    // tool's schema.
    chat::CallSyntax& syntax = rules.format.syntax;
    syntax.first_only = true;
    if (strict && !chat::trimmed(syntax.open).empty()) syntax.bare = false;
  }
  // A begun answer is behind the reasoning, whatever it says.
  rules.start = request.answer_has_begun()                      ? chat::Start::content
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

// What a call of a tool that has a schema to keep begins with: no content may.
std::vector<std::string> openings_of(const ReadingRules& reading) {
  bool strict = false;
  for (size_t i = 0; i < reading.tools.size(); ++i)
    strict = strict || reading.tools[i].strict || reading.prefer_strict[i];
  return strict ? chat::call_triggers(reading.format.syntax) : std::vector<std::string>();
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
    if (!request.tools.empty() || rules.format.reasons() || announced) form.reading = std::move(rules);
  }
  const bool formed = request.output.kind != OutputKind::text;
  if (!formed && !constrains_calls(request)) return form;

  bool preferred = true;  // as strict as is wanted, or only as was asked for
  const auto build = [&](grammar::GrammarBuilder& builder) -> Result<grammar::Expression> {
    std::optional<grammar::Expression> content;
    if (formed) {
      const std::vector<std::string> openings =
          form_or_calls(request) ? openings_of(*form.reading) : std::vector<std::string>();
      TM_TRY(content, content_expression(request.output, openings, builder));
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
