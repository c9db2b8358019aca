// Arguments in Gemma's spelling: {key:<|"|>text<|"|>,other:[1,true]}, keys in alphabetical order as its template has
// them.
#include <algorithm>
#include <array>
#include <cctype>
#include <vector>

#include "chat/call_grammar.hpp"
#include "chat/json_stream.hpp"
#include "chat/schema_words.hpp"

namespace tidemill::chat {
namespace {

using grammar::Expression;
namespace json = base::json;

constexpr grammar::CodePointRange digits[] = {{'0', '9'}};
constexpr grammar::CodePointRange digits_from_one[] = {{'1', '9'}};
constexpr grammar::CodePointRange letters[] = {{'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
constexpr size_t max_digits = 15;

bool is_key(char byte) {
  return std::isalnum(static_cast<unsigned char>(byte)) != 0 || byte == '_' || byte == '-' || byte == '.';
}

class GemmaGrammar {
 public:
  GemmaGrammar(grammar::GrammarBuilder& builder, const CallSyntax& syntax, CallGrammar& calls)
      : builder_(builder), syntax_(syntax), calls_(calls) {}

  Expression any_object();
  base::Result<Expression> value(const json::value& schema, std::string_view where, size_t depth);

 private:
  using Schema = json::object;

  base::Result<Expression> object(const json::value& schema, std::string_view where, size_t depth);
  base::Result<Expression> array(const Schema& schema, std::string_view where, size_t depth);
  base::Result<Expression> listed(const json::array& values, std::string_view where);
  Expression any_value();
  Expression text();
  Expression integer();
  Expression number();
  Expression in_brackets(std::string_view open, Expression item, std::string_view close);

  grammar::GrammarBuilder& builder_;
  const CallSyntax& syntax_;
  CallGrammar& calls_;
};

Expression GemmaGrammar::text() {
  return builder_.sequence({calls_.spelled(syntax_.quote), calls_.text_to(syntax_.quote)});
}

Expression GemmaGrammar::integer() {
  return builder_.sequence(
      {builder_.optional(builder_.literal("-")),
       builder_.choice({builder_.literal("0"),
                        builder_.sequence({builder_.code_points(digits_from_one),
                                           builder_.repeat(builder_.code_points(digits), 0, max_digits - 1)})})});
}

Expression GemmaGrammar::number() {
  return builder_.sequence(
      {integer(), builder_.optional(builder_.sequence(
                      {builder_.literal("."), builder_.repeat(builder_.code_points(digits), 1, max_digits)}))});
}

Expression GemmaGrammar::in_brackets(std::string_view open, Expression item, std::string_view close) {
  const Expression more = builder_.repeat(builder_.sequence({builder_.literal(","), item}), 0, std::nullopt);
  return builder_.sequence(
      {builder_.literal(open), builder_.optional(builder_.sequence({item, more})), builder_.literal(close)});
}

Expression GemmaGrammar::any_object() {
  const grammar::Rule rule = builder_.declare("gemma value");
  const Expression letter = builder_.code_points(letters);
  const Expression key =
      builder_.sequence({letter, builder_.repeat(builder_.choice({letter, builder_.code_points(digits)}), 0, 63)});
  const Expression object = in_brackets("{", builder_.sequence({key, builder_.literal(":"), builder_.use(rule)}), "}");
  builder_.define(rule, builder_.choice({text(), number(), builder_.literal("true"), builder_.literal("false"),
                                         builder_.literal("null"), object, in_brackets("[", builder_.use(rule), "]")}));
  return object;
}

base::Result<Expression> GemmaGrammar::listed(const json::array& values, std::string_view where) {
  std::vector<Expression> each;
  for (const json::value& value : values) {
    if (value.is_object() || value.is_array()) {
      return base::Error(base::ErrorCode::unsupported, "'" + std::string(where) + "' lists an object or array");
    }
    if (value.is_string()) {
      const std::string_view word = value.get_string();
      if (word.find(syntax_.quote) != std::string_view::npos) continue;
      each.push_back(
          builder_.sequence({calls_.spelled(syntax_.quote), builder_.literal(word), calls_.spelled(syntax_.quote)}));
    } else {
      each.push_back(builder_.literal(json::serialize(value)));
    }
  }
  return builder_.choice(each);
}

base::Result<Expression> GemmaGrammar::array(const Schema& schema, std::string_view where, size_t depth) {
  constexpr std::array<std::string_view, 2> known = {"type", "items"};
  TM_CHECK(only_these_keywords(schema, known, where));
  const auto* items = schema.if_contains("items");
  TM_TRY(const Expression item, value(items != nullptr ? *items : json::value(true), where, depth));
  return in_brackets("[", item, "]");
}

// Properties in alphabetical order, each with a comma before it unless it is the first.
base::Result<Expression> GemmaGrammar::object(const json::value& schema, std::string_view where, size_t depth) {
  constexpr std::array<std::string_view, 6> known = {"type",  "properties", "required", "additionalProperties",
                                                     "$defs", "definitions"};
  TM_CHECK(only_these_keywords(schema.get_object(), known, where));
  const json::object properties = properties_of(schema);
  TM_CHECK(required_are_known(schema, properties));
  std::vector<std::string> keys;
  for (const auto& [key, property] : properties) {
    if (!std::all_of(key.begin(), key.end(), is_key)) {
      return base::Error(base::ErrorCode::unsupported,
                         "'" + std::string(key) + "' is no name that this model's tool format can write");
    }
    keys.emplace_back(key);
  }
  std::sort(keys.begin(), keys.end());
  // From the last property on: what may follow if something came before, and if nothing did.
  Expression after_some = builder_.literal("}");
  Expression after_none = after_some;
  for (auto key = keys.rbegin(); key != keys.rend(); ++key) {
    TM_TRY(const Expression its_value, value(properties.at(*key), *key, depth));
    const Expression one = builder_.sequence({builder_.literal(*key + ":"), its_value});
    const Expression then = after_some;
    const bool must = is_required(schema, *key);
    const Expression with_comma = builder_.sequence({builder_.literal(","), one, then});
    after_some = must ? with_comma : builder_.choice({with_comma, then});
    const Expression as_first = builder_.sequence({one, then});
    after_none = must ? as_first : builder_.choice({as_first, after_none});
  }
  return builder_.sequence({builder_.literal("{"), after_none});
}

base::Result<Expression> GemmaGrammar::value(const json::value& schema, std::string_view where, size_t depth) {
  if (depth == 0) return base::Error(base::ErrorCode::too_large, "'" + std::string(where) + "' is nested too deeply");
  if (schema.is_bool() || (schema.is_object() && schema.get_object().empty())) return any_value();
  if (!schema.is_object()) {
    return base::Error(base::ErrorCode::invalid_argument, "'" + std::string(where) + "' must be a schema");
  }
  const Schema& keywords = schema.get_object();
  const auto* type = keywords.if_contains("type");
  if (const auto values = listed_values(keywords)) {
    constexpr std::array<std::string_view, 3> known = {"type", "enum", "const"};
    TM_CHECK(only_these_keywords(keywords, known, where));
    return listed(*values, where);
  }
  if (type != nullptr && *type == "object") return object(schema, where, depth - 1);
  if (type != nullptr && *type == "array") return array(keywords, where, depth - 1);
  constexpr std::array<std::string_view, 1> known = {"type"};
  TM_CHECK(only_these_keywords(keywords, known, where));
  std::vector<Expression> each;
  const json::array types = type == nullptr    ? json::array()
                            : type->is_array() ? type->get_array()
                                               : json::array(1, *type);
  for (const json::value& name : types) {
    if (name == "string") {
      each.push_back(text());
    } else if (name == "integer") {
      each.push_back(integer());
    } else if (name == "number") {
      each.push_back(number());
    } else if (name == "boolean") {
      each.push_back(builder_.choice({builder_.literal("true"), builder_.literal("false")}));
    } else if (name == "null") {
      each.push_back(builder_.literal("null"));
    } else {
      return base::Error(base::ErrorCode::unsupported,
                         "'" + std::string(where) + "' has the type " + json::serialize(name) + " among others");
    }
  }
  return each.empty() ? any_value() : builder_.choice(each);
}

Expression GemmaGrammar::any_value() {
  return builder_.choice(
      {text(), number(), builder_.literal("true"), builder_.literal("false"), builder_.literal("null"), any_object()});
}

}  // namespace

base::Result<Expression> gemma_grammar(grammar::GrammarBuilder& builder, const CallSyntax& syntax, CallGrammar& calls,
                                       const Tool& tool) {
  GemmaGrammar gemma(builder, syntax, calls);
  if (!tool.strict || tool.parameters.is_null()) return gemma.any_object();
  json::value schema = tool.parameters;
  if (schema.is_object()) schema.get_object()["type"] = "object";
  return gemma.value(schema, "the parameters", JsonScanner::max_depth);
}

}  // namespace tidemill::chat
