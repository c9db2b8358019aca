#include "grammar/other_readings.hpp"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tidemill::grammar {
namespace {

std::vector<std::string> words_of(const OtherReadings& readings) {
  std::vector<std::string> words;
  if (readings.null) words.insert(words.end(), {"null", "None"});
  if (readings.boolean) words.insert(words.end(), {"true", "false", "True", "False"});
  return words;
}

Expression any_space(GrammarBuilder& builder) {
  const CodePointRange spaces[] = {{'\t', '\n'}, {'\r', '\r'}, {' ', ' '}};
  return builder.repeat(builder.code_points(spaces), 0, std::nullopt);
}

Expression number_text(GrammarBuilder& builder) {
  const CodePointRange digits[] = {{'0', '9'}};
  const CodePointRange first_digits[] = {{'1', '9'}};
  const CodePointRange exponent_marks[] = {{'E', 'E'}, {'e', 'e'}};
  const CodePointRange signs[] = {{'+', '+'}, {'-', '-'}};
  const Expression digit = builder.code_points(digits);
  const Expression minus = builder.optional(builder.literal("-"));
  const Expression point = builder.literal(".");
  const Expression whole = builder.sequence(
      {minus, builder.choice({builder.literal("0"), builder.sequence({builder.code_points(first_digits),
                                                                      builder.repeat(digit, 0, std::nullopt)})})});
  const Expression some = builder.repeat(digit, 1, std::nullopt);
  const Expression fraction = builder.optional(builder.sequence({point, some}));
  const Expression mark = builder.code_points(exponent_marks);
  const Expression exponent = builder.sequence({mark, builder.optional(builder.code_points(signs))});
  return builder.sequence({whole, fraction, builder.optional(builder.sequence({exponent, some}))});
}

Expression any_characters(GrammarBuilder& builder) {
  return builder.repeat(builder.any_character(), 0, std::nullopt);
}

// As JSON has it, or more: any character may be raw, or stand behind a backslash.
Expression characters_in_quotes(GrammarBuilder& builder) {
  const CodePointSet marks({{'"', '"'}, {'\\', '\\'}});
  const Expression escaped = builder.sequence({builder.literal("\\"), builder.any_character()});
  const Expression plain = builder.code_points(CodePointSet::all().without(marks));
  return builder.repeat(builder.choice({plain, escaped}), 0, std::nullopt);
}

}  // namespace

Expression texts_read_otherwise(GrammarBuilder& builder, const OtherReadings& readings) {
  std::vector<Expression> ways;
  for (const std::string& word : words_of(readings))
    ways.push_back(builder.literal(word));
  if (readings.number) ways.push_back(number_text(builder));
  const auto enclosed = [&](std::string_view open, std::string_view close) {
    return builder.sequence({builder.literal(open), any_characters(builder), builder.literal(close)});
  };
  if (readings.array) ways.push_back(enclosed("[", "]"));
  if (readings.object) ways.push_back(enclosed("{", "}"));
  if (readings.text) {
    const Expression quote = builder.literal("\"");
    ways.push_back(builder.sequence({quote, characters_in_quotes(builder), quote}));
  }
  const Expression space = any_space(builder);
  return builder.sequence({space, builder.choice(ways), space});
}

}  // namespace tidemill::grammar
