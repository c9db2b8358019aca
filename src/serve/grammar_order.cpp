#include "serve/grammar_order.hpp"

#include <algorithm>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include <fmt/core.h>

#include "base/json.hpp"
#include "chat/constraint.hpp"
#include "chat/kept_schema.hpp"
#include "chat/schema_words.hpp"
#include "chat/spelling.hpp"
#include "grammar/gbnf.hpp"
#include "grammar/json_schema.hpp"
#include "grammar/json_string.hpp"
#include "grammar/regex.hpp"
#include "serve/loaded_model.hpp"

namespace tidemill::serve {

using base::Error;
using base::ErrorCode;
using base::Result;
namespace json = base::json;

namespace {

using OutputKind = wire::OutputFormat::Kind;
using Effort = GrammarCache::Effort;
using Grammar = GrammarCache::Grammar;

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
Result<void> check_beginnings(const wire::OutputFormat& output, std::span<const std::string> openings,
                              const grammar::GrammarLimits& limits) {
  if (openings.empty()) return {};
  grammar::GrammarBuilder builder(limits);
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

// The texts of a pattern, which says why if there turn out to be none: where it looks ahead, they must hold together.
// `is_free`: any text that matches may be written.
grammar::Expression told(const std::string& pattern, grammar::Expression texts, bool is_free,
                         grammar::GrammarBuilder& builder) {
  constexpr size_t most_bytes = 200;
  const bool looks_ahead = pattern.find("(?=") != std::string::npos || pattern.find("(?!") != std::string::npos;
  if (!looks_ahead) return texts;
  const grammar::Rule rule = builder.declare("the pattern");
  builder.define(rule, texts);
  builder.explain(rule, fmt::format("what the pattern {} looks ahead for contradicts the rest of it{}",
                                    grammar::brief_json(json::value(pattern), most_bytes),
                                    is_free ? "" : ", or what it matches would be read as calls"));
  return builder.use(rule);
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
      const bool is_free = openings.empty();
      return told(output.pattern, is_free ? matching : builder.both(matching, builder.text_without(openings)), is_free,
                  builder);
    }
    case OutputKind::grammar:
      TM_CHECK(check_beginnings(output, openings, builder.limits()));
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

// Whether the content has a form, and calls may come in its place.
bool form_or_calls(const GrammarOrder& order) {
  return order.output.kind != OutputKind::text && order.reading && !order.reading->tools.empty() &&
         !order.reading->must_call;
}

// Whether a tool is to be held to its schema though it is not strict, where a grammar can follow the schema: where the
// tool prefers it, and where a call must be made, which is held to a grammar anyway.
bool wants_strictness(const GrammarOrder& order, size_t tool) {
  const chat::Tool& one = order.reading->tools[tool];
  if (one.strict || one.parameters.is_null()) return false;
  const bool other = order.tool_choice.kind == wire::ToolChoice::Kind::named && one.name != order.tool_choice.name;
  return !other && (order.reading->must_call || order.reading->prefer_strict[tool]);
}

bool wants_more_strictness(const GrammarOrder& order) {
  for (size_t i = 0; order.reading && i < order.reading->tools.size(); ++i) {
    if (wants_strictness(order, i)) return true;
  }
  return false;
}

// What may be spent on trying one tool of so many: they must find room in one grammar, and trying all of them must not
// take much longer than compiling that.
grammar::GrammarLimits trial_limits(Effort effort, size_t tools, const std::stop_token& stop) {
  grammar::GrammarLimits limits = GrammarCache::limits(effort);
  limits.stop = stop;
  const size_t share = std::max<size_t>(1, tools / (effort == Effort::full ? 4 : 16));
  limits.max_nodes /= share;
  limits.max_alternatives /= share;
  limits.max_states /= share;
  return limits;
}

// Whether a call of the tool has a grammar within the limits.
Result<void> try_call(const chat::Format& format, const chat::Tool& tool, const grammar::GrammarLimits& limits) {
  const chat::ToolRules alone{.choice = {chat::ToolChoice::Kind::required, ""}, .parallel = false, .content = {}};
  grammar::GrammarBuilder trial(limits);
  TM_TRY(const auto expression, chat::tool_grammar(trial, format, std::span(&tool, 1), alone));
  if (!expression) return Error(ErrorCode::internal, "a call that must come has no grammar");
  TM_CHECK(std::move(trial).build(*expression));
  return {};
}

// What can be kept of a strict tool's schema, to all of which no grammar can be held.
std::optional<json::value> kept_of(const chat::Format& format, const chat::Tool& strict,
                                   const grammar::GrammarLimits& limits) {
  const auto held_within = [&](const grammar::GrammarLimits& bounds) {
    return [&format, &strict, bounds](const json::value& parameters) {
      chat::Tool tool = strict;
      tool.parameters = parameters;
      grammar::GrammarLimits counted = bounds;
      counted.spent = std::make_shared<double>(0);
      const Result<void> tried = try_call(format, tool, counted);
      const bool too_large = !tried && tried.error().code() == ErrorCode::too_large;
      const chat::Held refused = too_large ? chat::Held::too_large : chat::Held::no;
      return chat::Answer(tried ? chat::Held::yes : refused, *counted.spent);
    };
  };
  // One property of many, each of which is tried: all of these questions take about as much as the limits.
  grammar::GrammarLimits of_one = limits;
  of_one.max_nodes /= 4;
  of_one.max_alternatives /= 4;
  of_one.max_states /= 4;
  return chat::kept_parameters(strict.parameters, held_within(of_one), held_within(limits));
}

// The tools with as much strictness as was asked for or is wanted, and where a grammar cannot follow all of a schema
// with what it can of it. Error `too_large`: the effort does not suffice to tell; `cancelled`: it was stopped.
Result<std::vector<chat::Tool>> strict_where_possible(const GrammarOrder& order, Effort effort,
                                                      const std::stop_token& stop) {
  std::vector<chat::Tool> tools = order.reading->tools;
  const chat::Format& format = order.reading->format;
  if (format.tools == chat::ToolFormat::none) return tools;
  const grammar::GrammarLimits limits = trial_limits(effort, tools.size(), stop);
  for (size_t i = 0; i < tools.size(); ++i) {
    if (!wants_strictness(order, i)) continue;
    chat::Tool strict = tools[i];
    strict.strict = true;
    strict.loosely = true;
    strict.parameters = chat::with_known_types(std::move(strict.parameters));
    if (const Result<void> tried = try_call(format, strict, limits); !tried) {
      if (tried.error().code() == ErrorCode::cancelled) return tried.error();
      if (effort == Effort::slight) return Error(ErrorCode::too_large, tried.error().message());
      auto kept = kept_of(format, strict, limits);
      if (stop.stop_requested()) return grammar::stopped();
      if (!kept) continue;
      strict.parameters = std::move(*kept);
    }
    tools[i] = std::move(strict);
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

// As strict as is wanted, or only as was asked for.
enum class Strictness : uint8_t { wanted, asked };

Result<grammar::Expression> build(grammar::GrammarBuilder& builder, const GrammarOrder& order, Strictness strictness,
                                  Effort effort) {
  std::optional<grammar::Expression> content;
  if (order.output.kind != OutputKind::text) {
    const std::vector<std::string> openings =
        form_or_calls(order) ? openings_of(*order.reading) : std::vector<std::string>();
    TM_TRY(content, content_expression(order.output, openings, builder));
  }
  if (!order.reading) return *content;
  std::vector<chat::Tool> tools = order.reading->tools;
  if (strictness == Strictness::wanted) {
    TM_TRY(tools, strict_where_possible(order, effort, builder.limits().stop));
  }
  const chat::ToolRules rules{.choice = to_chat(order.tool_choice),
                              .parallel = order.parallel_calls,
                              .start = order.reading->start,
                              .may_reason = order.may_reason,
                              .reasons_once = order.reasons_once,
                              .always = order.constrains_calls || order.reasons_once,
                              .content = content};
  auto built = chat::tool_grammar(builder, order.reading->format, tools, rules);
  if (!built) {
    Error error = std::move(built).error();
    return error.param().empty() ? std::move(error).with_param("tools") : std::move(error);
  }
  if (!*built) return Error(ErrorCode::internal, "the tools gave no grammar");
  return **built;
}

// The error in the request's words.
Error named(Error error, const GrammarOrder& order) {
  if (error.param().empty())
    error = std::move(error).with_param(order.output.kind != OutputKind::text ? order.output.param : "tools");
  // Over a limit of grammars, which is not the context's.
  if (error.code() != ErrorCode::too_large) return error;
  return Error(ErrorCode::unsupported, error.to_string()).with_param(error.param());
}

std::string key_of(const GrammarOrder& order, Strictness strictness) {
  return strictness == Strictness::wanted ? order.key : order.key + " as asked";
}

}  // namespace

std::string key_of(const GrammarOrder& order) {
  json::array tools;
  json::array preferences;
  if (order.reading) {
    for (const chat::Tool& tool : order.reading->tools)
      tools.push_back({json::string(tool.name), tool.parameters, tool.strict});
    for (const bool prefers : order.reading->prefer_strict)
      preferences.emplace_back(prefers);
  }
  json::array choices;
  for (const std::string& choice : order.output.choices)
    choices.push_back(json::string(choice));
  const json::array key{static_cast<int>(order.output.kind),
                        json::string(order.output.param),  // which errors name
                        order.output.schema,
                        json::string(order.output.pattern),
                        std::move(choices),
                        std::move(tools),
                        static_cast<int>(order.tool_choice.kind),
                        json::string(order.tool_choice.name),
                        order.parallel_calls,
                        order.constrains_calls,
                        order.reading ? static_cast<int>(order.reading->start) : 0,
                        order.reading.has_value(),
                        order.reading && order.reading->format.syntax.bare,
                        std::move(preferences),
                        order.may_reason,
                        order.reasons_once};
  return json::serialize(key);
}

Grammar find_grammar(const LoadedModel& model, const GrammarOrder& order) {
  auto found = model.grammars().find(order.key);
  if (found && !*found && wants_more_strictness(order)) found = model.grammars().find(key_of(order, Strictness::asked));
  return found && *found ? **found : nullptr;
}

std::optional<Result<Grammar>> compile_grammar(const LoadedModel& model, const GrammarOrder& order, Effort effort,
                                               const std::stop_token& stop) {
  if (effort == Effort::slight && order.key.size() > GrammarCache::limits(effort).max_source_bytes) return std::nullopt;
  const auto attempt = [&](Strictness strictness) {
    const auto made = [&](grammar::GrammarBuilder& builder) { return build(builder, order, strictness, effort); };
    return model.grammars().find_or_compile(key_of(order, strictness), made, effort, stop);
  };
  const auto put_off = [effort](const Result<Grammar>& outcome) {
    return effort == Effort::slight && !outcome && outcome.error().code() == ErrorCode::too_large;
  };
  auto compiled = attempt(Strictness::wanted);
  if (put_off(compiled)) return std::nullopt;
  const auto is_stopped = [&] { return !compiled && compiled.error().code() == ErrorCode::cancelled; };
  // Schemas that can be followed one by one may be too much together.
  if (!compiled && !is_stopped() && wants_more_strictness(order)) compiled = attempt(Strictness::asked);
  if (is_stopped()) return compiled;
  if (put_off(compiled)) return std::nullopt;
  if (!compiled) return named(std::move(compiled).error(), order);
  return compiled;
}

}  // namespace tidemill::serve
