#include "chat/constraint.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "chat/call_grammar.hpp"
#include "chat/call_reader.hpp"
#include "chat/spelling.hpp"

namespace tidemill::chat {
namespace {

namespace json = base::json;
using grammar::Expression;
using Kind = ToolChoice::Kind;

constexpr size_t most_messages = 8;  // of harmony, before a call or the answer

// Arguments are an object, whether the schema says so or not.
base::Result<void> take_objects(const Tool& tool) {
  const auto* schema = tool.parameters.if_object();
  const json::value* type = schema != nullptr ? schema->if_contains("type") : nullptr;
  if (!tool.strict || type == nullptr || *type == "object") return {};
  const json::array* several = type->if_array();
  const auto is_object = [](const json::value& one) { return one == "object"; };
  if (several != nullptr && std::any_of(several->begin(), several->end(), is_object)) return {};
  return base::Error(base::ErrorCode::invalid_argument,
                     "the parameters of the tool '" + tool.name + "' must be of type object");
}

class Constraint {
 public:
  Constraint(grammar::GrammarBuilder& builder, const Format& format, std::span<const Tool> tools,
             const ToolRules& rules)
      : builder_(builder),
        format_(format),
        rules_(rules),
        called_(callable(tools, rules.choice)),
        calls_(builder, format.syntax, called_) {}

  base::Result<Expression> output();

 private:
  static std::vector<Tool> callable(std::span<const Tool> tools, const ToolChoice& choice);
  bool must_call() const { return rules_.choice.kind == Kind::required || rules_.choice.kind == Kind::named; }

  bool goes_on() const { return rules_.start == Start::content; }

  base::Result<Expression> tagged();
  base::Result<Expression> automatic();
  base::Result<Expression> harmony();
  base::Result<Expression> harmony_call();
  Expression message_before(std::string_view channel, Expression text);
  Expression reasoning();
  Expression some_space();
  Expression content();
  Expression plain_text();
  Expression text_then(Expression text, Expression calls);
  Expression answer_recipient(Expression content);

  grammar::GrammarBuilder& builder_;
  const Format& format_;
  const ToolRules& rules_;
  const std::vector<Tool> called_;
  CallGrammar calls_;
};

std::vector<Tool> Constraint::callable(std::span<const Tool> tools, const ToolChoice& choice) {
  std::vector<Tool> called;
  for (const Tool& tool : tools) {
    if (choice.kind != Kind::named || tool.name == choice.name) called.push_back(tool);
  }
  return called;
}

base::Result<Expression> Constraint::output() {
  if (rules_.choice.kind != Kind::none && format_.tools != ToolFormat::none) {
    for (const Tool& tool : called_)
      TM_CHECK(take_objects(tool));
  }
  return format_.tools == ToolFormat::harmony ? harmony() : tagged();
}

// Through the closing tag if the prompt has opened it, else none or all of it.
Expression Constraint::reasoning() {
  if (!format_.reasons() || goes_on()) return builder_.empty();
  std::vector<std::string> not_inside = {std::string(trimmed(format_.reasoning_close))};
  if (format_.syntax.control) {
    const std::vector<std::string> triggers = call_triggers(format_.syntax);
    not_inside.insert(not_inside.end(), triggers.begin(), triggers.end());
  }
  const Expression rest = builder_.sequence(
      {builder_.text_without(not_inside), calls_.spelled(trimmed(format_.reasoning_close)), some_space()});
  if (rules_.start == Start::reasoning) return rest;
  if (format_.reasoning_open.empty() || !rules_.may_reason) return builder_.empty();
  return builder_.optional(builder_.sequence({some_space(), calls_.spelled(trimmed(format_.reasoning_open)), rest}));
}

// What models put between a turn's beginning, reasoning and calls.
Expression Constraint::some_space() {
  const grammar::CodePointRange spaces[] = {{'\n', '\n'}, {' ', ' '}};
  return builder_.repeat(builder_.code_points(spaces), 0, 4);
}

// Text in which no call begins, and no reasoning either.
Expression Constraint::plain_text() {
  std::vector<std::string> triggers = call_triggers(format_.syntax);
  if (const std::string_view open = trimmed(format_.reasoning_open); !open.empty()) triggers.emplace_back(open);
  if (triggers.empty()) return builder_.repeat(builder_.any_character(), 0, std::nullopt);
  const Expression text = builder_.text_without(triggers);
  if (!format_.syntax.bare || rules_.choice.kind == Kind::none || goes_on()) return text;
  // Where JSON alone is a call, text must not begin with any.
  const grammar::CodePointRange spaces[] = {{'\t', '\n'}, {'\r', '\r'}, {' ', ' '}};
  const grammar::CodePointRange others[] = {{0, 8},
                                            {11, 12},
                                            {14, 31},
                                            {'!', 'Z'},
                                            {'\\', 'z'},
                                            {'|', char32_t{0xD7FF}},
                                            {char32_t{0xE000}, char32_t{0x10FFFF}}};
  const Expression other_begin = builder_.sequence(
      {builder_.repeat(builder_.code_points(spaces), 0, std::nullopt),
       builder_.optional(builder_.sequence(
           {builder_.code_points(others), builder_.repeat(builder_.any_character(), 0, std::nullopt)}))});
  return builder_.both(text, other_begin);
}

Expression Constraint::answer_recipient(Expression content) {
  if (format_.syntax.recipient.empty() || goes_on()) return content;
  return builder_.sequence({builder_.literal(format_.syntax.recipient + "\n"), content});
}

Expression Constraint::content() {
  return answer_recipient(rules_.content ? *rules_.content : plain_text());
}

// Text, and perhaps calls.
Expression Constraint::text_then(Expression text, Expression calls) {
  const CallSyntax& syntax = format_.syntax;
  // Behind text the opening must be there, which the prompt may have written for what comes first, and which calls
  // alone may do without.
  if (!syntax.recipient.empty() || syntax.bare) {
    return builder_.sequence({text, builder_.optional(builder_.sequence({calls_.spelled(syntax.open), calls}))});
  }
  // Behind a closing tag the model may say more, and call again. Without one, what follows could be read as a part of
  // the call.
  const bool closed =
      !trimmed(syntax.list || syntax.section_close.empty() ? syntax.close : syntax.section_close).empty();
  if (!closed) return builder_.sequence({text, builder_.optional(calls)});
  const std::optional<size_t> most = rules_.parallel ? std::optional<size_t>() : std::optional<size_t>(1);
  return builder_.sequence({text, builder_.repeat(builder_.sequence({calls, plain_text()}), 0, most)});
}

base::Result<Expression> Constraint::automatic() {
  TM_TRY(const Expression calls, calls_.calls(rules_.parallel));
  if (rules_.content) return builder_.choice({content(), calls});
  const Expression either = text_then(content(), calls);
  const bool calls_alone = !goes_on() && (!format_.syntax.recipient.empty() || format_.syntax.bare);
  return calls_alone ? builder_.choice({calls, either}) : either;
}

base::Result<Expression> Constraint::tagged() {
  if (must_call()) {
    TM_TRY(const Expression calls, calls_.calls(rules_.parallel));
    return builder_.sequence({reasoning(), some_space(), calls});
  }
  if (rules_.choice.kind == Kind::none || called_.empty() || format_.tools == ToolFormat::none) {
    return builder_.sequence({reasoning(), content()});
  }
  TM_TRY(const Expression either, automatic());
  return builder_.sequence({reasoning(), either});
}

// The recipient stands behind the channel, where the model writes it, or before it, where its template does.
base::Result<Expression> Constraint::harmony_call() {
  const Expression channel = builder_.sequence({builder_.special("<|channel|>"), builder_.literal("commentary")});
  const Expression blank = builder_.literal(" ");
  const Expression as_json = builder_.sequence({blank, builder_.optional(builder_.special("<|constrain|>")),
                                                builder_.literal("json"), builder_.special("<|message|>")});
  std::vector<Expression> each;
  for (const Tool& tool : called_) {
    if (!reads_name(format_.syntax, tool.name)) return cannot_write(tool.name).wrap("the tools");
    TM_TRY(const Expression arguments, calls_.arguments(tool));
    const Expression recipient = builder_.literal(" to=functions." + tool.name);
    each.push_back(builder_.sequence(
        {builder_.choice({builder_.sequence({channel, recipient}), builder_.sequence({recipient, channel})}), as_json,
         arguments}));
  }
  return builder_.sequence({builder_.choice(each), builder_.special("<|call|>")});
}

// A message in this channel, and the beginning of the next.
Expression Constraint::message_before(std::string_view channel, Expression text) {
  return builder_.sequence({builder_.special("<|channel|>"), builder_.literal(channel), builder_.special("<|message|>"),
                            text, builder_.special("<|end|>"), builder_.special("<|start|>"),
                            builder_.literal("assistant")});
}

// Analysis (once, where it has a budget) and, unless a call must come or the content has a form, words to the user
// (preambles, which are content) as the model likes; then one call or the answer. The call ends the output: <|call|>
// hands over to the tool, and the model is trained to be answered before it goes on.
base::Result<Expression> Constraint::harmony() {
  const std::vector<std::string> ends = {"<|end|>", "<|call|>", "<|return|>", "<|start|>", "<|channel|>"};
  const Expression text = builder_.text_without(ends);
  if (goes_on()) return text;
  const Expression analysis = message_before("analysis", text);
  const Expression answer = builder_.sequence({builder_.special("<|channel|>"), builder_.literal("final"),
                                               builder_.special("<|message|>"), rules_.content.value_or(text)});
  Expression end = answer;
  if (rules_.choice.kind != Kind::none && !called_.empty()) {
    TM_TRY(const Expression call, harmony_call());
    end = must_call() ? call : builder_.choice({answer, call});
  }
  const Expression preamble = message_before("commentary", text);
  const bool may_speak = !must_call() && !rules_.content;
  if (rules_.reasons_once) {
    const Expression said = may_speak ? builder_.repeat(preamble, 0, most_messages) : builder_.empty();
    return builder_.sequence({said, builder_.optional(builder_.sequence({analysis, said})), end});
  }
  if (!may_speak) return builder_.sequence({builder_.repeat(analysis, 0, most_messages), end});
  return builder_.sequence({builder_.repeat(builder_.choice({analysis, preamble}), 0, most_messages), end});
}

}  // namespace

base::Result<std::optional<Expression>> tool_grammar(grammar::GrammarBuilder& builder, const Format& format,
                                                     std::span<const Tool> tools, const ToolRules& rules) {
  const Kind kind = rules.choice.kind;
  const bool must = kind == Kind::required || kind == Kind::named;
  if (must && format.tools == ToolFormat::none) {
    return base::Error(base::ErrorCode::unsupported,
                       "this model's chat template shows no way to call tools; choose one with --tool-format")
        .with_param("tool_choice");
  }
  if (must && tools.empty()) {
    return base::Error(base::ErrorCode::invalid_argument, "tool_choice asks for a call, but there are no tools")
        .with_param("tool_choice");
  }
  const auto has_name = [&](const Tool& tool) { return tool.name == rules.choice.name; };
  if (kind == Kind::named && std::none_of(tools.begin(), tools.end(), has_name)) {
    return base::Error(base::ErrorCode::invalid_argument,
                       "tool_choice names the function '" + rules.choice.name + "', which is not among the tools")
        .with_param("tool_choice");
  }
  const bool strict = std::any_of(tools.begin(), tools.end(), [](const Tool& tool) { return tool.strict; });
  if (!rules.content && kind == Kind::none && format.tools == ToolFormat::none) return std::optional<Expression>();
  if (!rules.content && kind == Kind::automatic && ((!strict && !rules.always) || format.tools == ToolFormat::none)) {
    return std::optional<Expression>();
  }
  TM_TRY(const Expression output, Constraint(builder, format, tools, rules).output());
  return std::optional<Expression>(output);
}

}  // namespace tidemill::chat
