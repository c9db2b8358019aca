// Arguments as parameters in tags.
#include <algorithm>
#include <array>
#include <optional>

#include "chat/call_grammar.hpp"
#include "chat/parameter_arguments.hpp"
#include "chat/schema_words.hpp"
#include "chat/spelling.hpp"
#include "chat/value_types.hpp"
#include "grammar/json_schema.hpp"
#include "grammar/other_readings.hpp"

namespace tidemill::chat {
namespace {

using grammar::Expression;
using Texts = grammar::JsonSchemaOptions::Texts;
namespace json = base::json;

class ParameterGrammar {
 public:
  ParameterGrammar(grammar::GrammarBuilder& builder, const CallSyntax& syntax, CallGrammar& calls, const Tool& tool)
      : builder_(builder), syntax_(syntax), calls_(calls), tool_(tool), types_(tool.parameters) {}

  base::Result<Expression> arguments();

 private:
  base::Result<Expression> parameter(std::string_view key, const json::value& schema);
  base::Result<Expression> strict_parameter(std::string_view key, const json::value& schema);
  base::Result<Expression> strict_value(std::string_view key, const json::value& schema, ValueTypes types);
  base::Result<Expression> unmarked_value(std::string_view key, const json::value& schema, ValueTypes types);
  base::Result<Expression> text_value(std::string_view key, Texts texts, const grammar::OtherReadings& others = {});
  base::Result<Expression> held_to(std::string_view key, grammar::JsonSchemaOptions options = {});
  bool marks_text() const { return !syntax_.text_key_end.empty(); }  // the tag says what is text
  Expression in_tags(Expression key, bool is_text, Expression value);
  Expression under_its_name(std::string_view key, Expression parameter);
  Expression free_parameter(Expression key, ValueTypes types);
  Expression free_text();
  Expression end_of_value();

  grammar::GrammarBuilder& builder_;
  const CallSyntax& syntax_;
  CallGrammar& calls_;
  const Tool& tool_;
  TypeSearch types_;
  std::optional<grammar::JsonProperties> written_;  // of a strict tool
};

// White space around a value is part of it, where the format does not write each on lines of its own.
Expression ParameterGrammar::end_of_value() {
  const Expression close = calls_.spelled(syntax_.value_close.substr(syntax_.values_on_lines ? 1 : 0));
  return syntax_.values_on_lines ? builder_.sequence({builder_.literal("\n"), close}) : close;
}

Expression ParameterGrammar::in_tags(Expression key, bool is_text, Expression value) {
  const std::string_view key_end = trimmed(is_text && marks_text() ? syntax_.text_key_end : syntax_.key_end);
  const Expression line = builder_.literal(syntax_.values_on_lines ? "\n" : "");
  return builder_.sequence({calls_.spelled(syntax_.parameter_open), key, calls_.spelled(key_end),
                            syntax_.value_open.empty() ? builder_.empty() : builder_.optional(builder_.literal("\n")),
                            calls_.spelled(syntax_.value_open), line, value, end_of_value()});
}

Expression ParameterGrammar::free_text() {
  const std::string close(trimmed(syntax_.value_close));
  return builder_.text_without(std::span(&close, 1));
}

Expression ParameterGrammar::free_parameter(Expression key, ValueTypes types) {
  const bool may_be_other = types != ValueTypes::text && (marks_text() || !admits(types, ValueTypes::text));
  std::vector<Expression> ways;
  if (admits(types, ValueTypes::text)) ways.push_back(in_tags(key, true, free_text()));
  if (may_be_other) ways.push_back(in_tags(key, false, grammar::any_json_value(builder_)));
  return builder_.choice(ways);
}

base::Result<Expression> ParameterGrammar::held_to(std::string_view key, grammar::JsonSchemaOptions options) {
  options.whose = parameters_of(tool_) + ": ";
  auto written = written_->write(key, options);
  if (!written) return std::move(written).error().wrap("the parameter '" + std::string(key) + "'");
  return written;
}

base::Result<Expression> ParameterGrammar::text_value(std::string_view key, Texts texts,
                                                      const grammar::OtherReadings& others) {
  const grammar::JsonSchemaOptions raw{
      .notation = {.end_of_text = std::string(trimmed(syntax_.value_close)), .quote = {}, .other_readings = others},
      .texts = texts};
  return held_to(key, raw);
}

base::Result<Expression> ParameterGrammar::strict_value(std::string_view key, const json::value& schema,
                                                        ValueTypes types) {
  if (types == ValueTypes::text) return text_value(key, Texts::allowed);
  return admits(types, ValueTypes::text) ? unmarked_value(key, schema, types) : held_to(key);
}

// What looks like another type that it may have is read as that (ParameterArguments): texts that do are left out, but
// for those of types all of whose values are fine.
base::Result<Expression> ParameterGrammar::unmarked_value(std::string_view key, const json::value& schema,
                                                          ValueTypes types) {
  constexpr ValueTypes plain = ValueTypes::text | ValueTypes::null | ValueTypes::boolean;
  const ValueTypes whole = types_.held_whole(schema) & plain;
  if ((types | whole) == whole) return free_text();
  const ValueTypes fine = admits(whole, ValueTypes::text) ? whole : ValueTypes::none;
  const auto mistaken_for = [&](ValueTypes type) { return admits(types, type) && !admits(fine, type); };
  const grammar::OtherReadings others{.null = mistaken_for(ValueTypes::null),
                                      .boolean = mistaken_for(ValueTypes::boolean),
                                      .number = mistaken_for(ValueTypes::number),
                                      .array = mistaken_for(ValueTypes::array),
                                      .object = mistaken_for(ValueTypes::object),
                                      .text = mistaken_for(ValueTypes::text)};
  TM_TRY(const Expression text, text_value(key, Texts::only, others));
  // The closing tag ends what may be text, wherever it stands, so texts within other values spell it with escapes.
  const grammar::Notation escaping{.end_of_text = {}, .quote = {}, .escaped = trimmed(syntax_.value_close).front()};
  TM_TRY(const Expression other, held_to(key, {.notation = escaping, .texts = Texts::none}));
  const Expression either = builder_.choice({text, other});
  if (either != builder_.nothing() || builder_.failed()) return either;
  TM_CHECK(held_to(key));  // tells why it has no value
  return base::Error(base::ErrorCode::unsupported,
                     "'" + std::string(key) +
                         "' may be text or something else, which this model's tool format does not tell apart, and all "
                         "of its texts would be read as something else; give it one type, or leave out strict");
}

base::Result<Expression> ParameterGrammar::strict_parameter(std::string_view key, const json::value& schema) {
  const ValueTypes types = types_.admitted(schema);
  const Expression name = builder_.literal(key);
  const bool may_be_text = admits(types, ValueTypes::text);
  if (!marks_text() || !may_be_text || types == ValueTypes::text) {
    TM_TRY(const Expression value, strict_value(key, schema, types));
    return in_tags(name, may_be_text, value);
  }
  // Each way has of the schema's values what it can say.
  TM_TRY(const Expression text, text_value(key, Texts::only));
  TM_TRY(const Expression other, held_to(key, {.texts = Texts::none}));
  const Expression either = builder_.choice({in_tags(name, true, text), in_tags(name, false, other)});
  const bool is_none = either == builder_.nothing() && !builder_.failed();
  if (is_none) TM_CHECK(held_to(key));  // tells why
  return either;
}

// For errors of limits, which are gone over when the grammar is built.
Expression ParameterGrammar::under_its_name(std::string_view key, Expression parameter) {
  if (parameter == builder_.nothing()) return parameter;
  const grammar::Rule rule = builder_.declare(parameters_of(tool_) + ": " + std::string(key));
  builder_.define(rule, parameter);
  return builder_.use(rule);
}

base::Result<Expression> ParameterGrammar::parameter(std::string_view key, const json::value& schema) {
  if (tool_.strict) return strict_parameter(key, schema);
  return free_parameter(builder_.literal(key), types_.admitted(schema));
}

base::Result<Expression> ParameterGrammar::arguments() {
  const auto* schema = tool_.parameters.if_object();
  if (tool_.strict && schema != nullptr) {
    constexpr std::array<std::string_view, 6> known = {"type",  "properties", "required", "additionalProperties",
                                                       "$defs", "definitions"};
    TM_CHECK(only_these_keywords(*schema, known, "the parameters"));
  }
  const json::object properties = properties_of(tool_.parameters);
  if (tool_.strict) {
    TM_CHECK(required_are_known(tool_.parameters, properties));
    TM_TRY(written_, grammar::JsonProperties::open(builder_, tool_.parameters, tool_.loosely));
  }
  const auto required = required_of(tool_.parameters);
  std::vector<Expression> parts;
  for (const auto& [key, property] : properties) {
    if (!ParameterArguments::reads_key(key)) {
      if (tool_.strict) return cannot_write(key);
      continue;
    }
    TM_TRY(Expression one, parameter(key, property));
    if (tool_.strict) one = under_its_name(key, one);
    parts.push_back(tool_.strict && required.contains(key) ? one : builder_.optional(one));
  }
  const bool is_open = tool_.strict ? tool_.loosely && takes_any_names(tool_.parameters) : properties.empty();
  if (is_open) {
    const grammar::CodePointRange letters[] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
    const Expression key = builder_.repeat(builder_.code_points(letters), 1, 64);
    parts.push_back(builder_.repeat(free_parameter(key, ValueTypes::any), 0, std::nullopt));
  }
  return builder_.sequence(parts);
}

}  // namespace

base::Result<Expression> parameters_grammar(grammar::GrammarBuilder& builder, const CallSyntax& syntax,
                                            CallGrammar& calls, const Tool& tool) {
  return ParameterGrammar(builder, syntax, calls, tool).arguments();
}

}  // namespace tidemill::chat
