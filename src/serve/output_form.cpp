#include "serve/output_form.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "chat/spelling.hpp"
#include "serve/tool_prompt.hpp"

namespace tidemill::serve {

using base::Result;
namespace json = base::json;

namespace {

using OutputKind = wire::OutputFormat::Kind;

bool thinking_is_off(const wire::GenerateRequest& request) {
  const json::value* on = request.template_variables.if_contains("enable_thinking");
  return on != nullptr && *on == false;
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
  // gpt-oss may open analysis after analysis. Where that has a budget, only a grammar keeps the next one from opening.
  const bool reasons_once = request.reasoning_tokens && !request.answer_has_begun() && form.reading &&
                            form.reading->format.tools == chat::ToolFormat::harmony;
  if (!formed && !constrains_calls(request) && !reasons_once) return form;

  GrammarOrder order{.output = request.output,
                     .reading = form.reading,
                     .tool_choice = request.tool_choice,
                     // Who names a function wants it called, once.
                     .parallel_calls = request.parallel_tool_calls && model.chat().takes_parallel_calls() &&
                                       request.tool_choice.kind != wire::ToolChoice::Kind::named,
                     .may_reason = !thinking_is_off(request),
                     .reasons_once = reasons_once,
                     .constrains_calls = constrains_calls(request),
                     .key = {}};
  order.key = key_of(order);
  form.grammar = find_grammar(model, order);
  if (form.grammar == nullptr) form.order = std::move(order);
  return form;
}

}  // namespace tidemill::serve
