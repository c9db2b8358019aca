// Arguments as keywords of a call in Python.
#include <array>
#include <vector>

#include "chat/call_grammar.hpp"
#include "chat/python_arguments.hpp"
#include "chat/schema_words.hpp"

namespace tidemill::chat {
namespace {

using grammar::Expression;
namespace json = base::json;

grammar::JsonSchemaOptions python() {
  return {.notation = {.end_of_text = {}, .quote = {}, .python = true}};
}

Expression any_arguments(grammar::GrammarBuilder& builder) {
  const grammar::CodePointRange first[] = {{'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
  const grammar::CodePointRange others[] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
  const Expression key =
      builder.sequence({builder.code_points(first), builder.repeat(builder.code_points(others), 0, 63)});
  const Expression one = builder.sequence({key, builder.literal("="), grammar::any_json_value(builder, python())});
  const Expression more = builder.sequence({builder.literal(","), builder.optional(builder.literal(" ")), one});
  return builder.optional(builder.sequence({one, builder.repeat(more, 0, std::nullopt)}));
}

}  // namespace

base::Result<Expression> python_grammar(grammar::GrammarBuilder& builder, const Tool& tool) {
  const bool is_open = tool.loosely && takes_any_names(tool.parameters);
  if (!tool.strict || !tool.parameters.is_object() || is_open) return any_arguments(builder);
  const json::object& schema = tool.parameters.get_object();
  constexpr std::array<std::string_view, 6> known = {"type",  "properties", "required", "additionalProperties",
                                                     "$defs", "definitions"};
  TM_CHECK(only_these_keywords(schema, known, "the parameters"));
  const json::object properties = properties_of(schema);
  TM_CHECK(required_are_known(schema, properties));
  const auto required = required_of(tool.parameters);
  TM_TRY(grammar::JsonProperties written, grammar::JsonProperties::open(builder, tool.parameters, tool.loosely));
  grammar::JsonSchemaOptions options = python();
  options.whose = parameters_of(tool) + ": ";
  const Expression comma = builder.sequence({builder.literal(","), builder.optional(builder.literal(" "))});
  // From the last property on: what may follow if something came before, and if nothing did.
  Expression after_some = builder.empty();
  Expression after_none = builder.empty();
  for (size_t i = properties.size(); i-- > 0;) {
    const std::string_view key = properties.begin()[static_cast<std::ptrdiff_t>(i)].key();
    if (!PythonArguments::reads_keyword(key)) return cannot_write(key);
    auto value = written.write(key, options);
    if (!value) return std::move(value).error().wrap("the parameter '" + std::string(key) + "'");
    const Expression one = builder.sequence({builder.literal(std::string(key) + "="), *value});
    const bool must = required.contains(key);
    const Expression as_first = builder.sequence({one, after_some});
    const Expression with_comma = builder.sequence({comma, one, after_some});
    after_none = must ? as_first : builder.choice({as_first, after_none});
    after_some = must ? with_comma : builder.choice({with_comma, after_some});
  }
  return after_none;
}

}  // namespace tidemill::chat
