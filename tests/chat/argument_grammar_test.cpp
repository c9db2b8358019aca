// Arguments in tags, in Python and in other spellings that are not JSON, held to their schemas.
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "base/utf8.hpp"
#include "chat/constraint.hpp"
#include "chat/reading.hpp"
#include "chat/sentences.hpp"
#include "chat/tool_grammars.hpp"
#include "grammar/acceptor.hpp"

namespace tidemill::chat::test {
namespace {

namespace json = base::json;
using Kind = ToolChoice::Kind;

// What Pydantic writes for Optional[str], zod for nullable(), and others: text beside null, by whatever keyword.
TEST(ToolGrammar, TakesTextBesideNullInTagsHoweverTheSchemaSaysIt) {
  const auto refusal = [](std::string_view format, const std::string& property) {
    grammar::GrammarBuilder builder;
    const std::vector<Tool> tools = {
        {"f", parsed(R"({"type": "object", "properties": {"a": )" + property + R"(}, "required": ["a"],
           "$defs": {"text": {"type": "string", "title": "T"}, "short": {"type": "string", "maxLength": 3},
                     "maybe": {"anyOf": [{"$ref": "#/$defs/text"}, {"type": "null"}]},
                     "loop": {"anyOf": [{"$ref": "#/$defs/loop"}, {"$ref": "#/$defs/loop"}, {"$ref": "#/$defs/loop"},
                                        {"$ref": "#/$defs/loop"}, {"$ref": "#/$defs/loop"}]}}})"),
         true}};
    ToolRules rules;
    rules.choice.kind = Kind::required;
    const auto output = tool_grammar(builder, *format_by_name(format), tools, rules);
    return output ? std::string() : output.error().to_string();
  };
  const std::vector<std::string> taken = {
      R"({"type": ["string", "null"], "default": null})",
      R"({"anyOf": [{"type": "string"}, {"type": "null"}]})",
      R"({"anyOf": [{"type": "string", "description": "x"}, {"type": "null"}], "default": null, "title": "A"})",
      R"({"anyOf": [{"type": "string"}, {"type": "boolean"}, {"type": "null"}]})",
      R"({"anyOf": [{"anyOf": [{"type": "null"}, {"type": "boolean"}]}, {"type": "string"}]})",
      R"({"oneOf": [{"type": "string"}, {"type": "null"}]})",
      R"({"allOf": [{"type": ["string", "null"]}], "description": "x"})",
      R"({"$ref": "#/$defs/maybe", "description": "x"})",
      R"({"anyOf": [{"type": "string", "minLength": 2}, {"type": "null"}]})",
      R"({"anyOf": [{"type": "string"}, {"type": "null"}], "maxLength": 3})",
      R"({"anyOf": [{"$ref": "#/$defs/short"}, {"type": "null"}]})",
      R"({"anyOf": [{"type": "string"}, {"type": "integer"}]})",
      R"({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})",
      R"({"anyOf": [{"type": "string"}, {"const": false}]})",
  };
  const std::vector<std::pair<std::string, std::string>> refused = {
      {R"({"oneOf": [{"type": ["string", "null"]}, {"type": "null"}]})", "#/properties/a/oneOf"},
      {R"({"$ref": "#/$defs/loop"})", "refers to itself"},
      {R"({"anyOf": [{"const": "12"}, {"type": "integer", "minimum": 20, "maximum": 10}]})",
       "'a' may be text or something else"},
      {R"({"anyOf": [{"type": "string", "minLength": 3, "maxLength": 2}, {"const": 1, "type": "null"}]})",
       "no value satisfies"},
  };
  for (const std::string_view format : {"qwen3_coder", "glm", "deepseek_v3_2"}) {
    for (const std::string& property : taken)
      EXPECT_EQ(refusal(format, property), "") << format << ": " << property;
    if (format == "deepseek_v3_2") continue;  // whose tags tell text apart
    for (const auto& [property, why] : refused)
      EXPECT_NE(refusal(format, property).find(why), std::string::npos)
          << format << ": " << property << ": " << refusal(format, property);
  }
}

TEST(ToolGrammar, ReadsTextBesideNullInTagsBack) {
  const std::vector<Tool> tools = {{"f", parsed(R"({"type": "object", "required": ["a"], "properties":
         {"a": {"anyOf": [{"type": "string"}, {"type": "boolean"}, {"type": "null"}]}}})"),
                                    true}};
  ToolRules rules;
  rules.choice.kind = Kind::required;
  for (const std::string_view name : {"qwen3_coder", "glm", "deepseek_v3_2"}) {
    const Format format = format_of(name, false);
    Sentences sentences(grammar_of(format, tools, rules), 7);
    for (int i = 0; i < 100; ++i) {
      const std::string sentence = sentences.next();
      const Reading reading = read(format, tools, Start::answer, sentence);
      ASSERT_TRUE(reading.sound && reading.complete && !reading.calls.empty()) << sentence;
      const auto arguments = base::parse_json(reading.calls[0].arguments, 200);
      ASSERT_TRUE(arguments && arguments->is_object()) << sentence;
      const json::value* a = arguments->get_object().if_contains("a");
      ASSERT_NE(a, nullptr) << sentence;
      EXPECT_TRUE(a->is_string() || a->is_bool() || a->is_null()) << sentence;
    }
  }
  // "null" is null where nothing else says what it is.
  const auto arguments_of = [&](std::string_view name, std::string_view text) {
    const Reading reading = read(format_of(name, false), tools, Start::answer, text);
    return reading.calls.size() == 1 ? parsed(reading.calls[0].arguments) : json::value();
  };
  const json::value null = parsed(R"({"a": null})");
  EXPECT_EQ(arguments_of("qwen3_coder",
                         "<tool_call>\n<function=f>\n<parameter=a>\nnull\n</parameter>\n</function>\n</tool_call>"),
            null);
  EXPECT_EQ(arguments_of("glm", "<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>null</arg_value>\n</tool_call>"), null);
  // Where the tag says what is text, null and booleans are written as what they are.
  const Format format = format_of("deepseek_v3_2", false);
  ::tidemill::test::Acceptor accepts(spelled_out(grammar_of(format, tools, rules)));
  const auto call = [](std::string_view is_text, std::string_view value) {
    return "<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"f\">\n<｜DSML｜parameter name=\"a\" string=\"" +
           std::string(is_text) + "\">" + std::string(value) +
           "</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜function_calls>";
  };
  for (const std::string_view word : {"null", "true", "false"}) {
    const std::string text = call("false", word);
    EXPECT_TRUE(accepts(text)) << text;
    const Reading reading = read(format, tools, Start::answer, text);
    ASSERT_EQ(reading.calls.size(), 1U) << text;
    EXPECT_EQ(parsed(reading.calls[0].arguments), parsed("{\"a\": " + std::string(word) + "}")) << text;
  }
  EXPECT_TRUE(accepts(call("true", "null")));
  EXPECT_EQ(arguments_of("deepseek_v3_2", call("true", "null")), parsed(R"({"a": "null"})"));
  EXPECT_FALSE(accepts(call("false", "7")));
  EXPECT_FALSE(accepts(call("false", "x")));
}

// The parameter "a" as DeepSeek V3.2 writes it.
std::string deepseek_call(std::string_view is_text, std::string_view value) {
  return "<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"f\">\n<｜DSML｜parameter name=\"a\" string=\"" +
         std::string(is_text) + "\">" + std::string(value) +
         "</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜function_calls>";
}

// Whether a call of a tool whose one parameter, "a", is as the schema says is among what may be written; as such it is
// read back as `meaning`.
void expect_deepseek_calls(const std::string& property, bool strict, std::string_view is_text,
                           const std::vector<std::pair<std::string, std::string>>& taken,
                           const std::vector<std::string>& refused) {
  SCOPED_TRACE(property);
  const std::vector<Tool> tools = {
      {"f", parsed(R"({"type": "object", "required": ["a"], "properties": {"a": )" + property + "}}"), strict}};
  ToolRules rules;
  rules.choice.kind = Kind::required;
  const Format format = format_of("deepseek_v3_2", false);
  ::tidemill::test::Acceptor accepts(spelled_out(grammar_of(format, tools, rules)));
  for (const auto& [value, meaning] : taken) {
    const std::string text = deepseek_call(is_text, value);
    EXPECT_TRUE(accepts(text)) << text;
    const Reading reading = read(format, tools, Start::answer, text);
    ASSERT_EQ(reading.calls.size(), 1U) << text;
    EXPECT_EQ(parsed(reading.calls[0].arguments), parsed("{\"a\": " + meaning + "}")) << text;
  }
  for (const std::string& value : refused)
    EXPECT_FALSE(accepts(deepseek_call(is_text, value))) << is_text << ": " << value;
}

TEST(ToolGrammar, HoldsTextAndOtherValuesEachToTheSchemaWhereTheTagTellsThemApart) {
  const std::string number = R"({"type": ["string", "integer"]})";
  expect_deepseek_calls(number, true, "true", {{"7", R"("7")"}, {"", R"("")"}, {"null", R"("null")"}}, {});
  expect_deepseek_calls(number, true, "false", {{"7", "7"}}, {"7.5", "null", "\"x\"", "x"});
  const std::string short_text = R"({"anyOf": [{"type": "string", "maxLength": 3}, {"type": "null"}], "title": "A"})";
  expect_deepseek_calls(short_text, true, "true", {{"abc", R"("abc")"}}, {"abcd"});
  expect_deepseek_calls(short_text, true, "false", {{"null", "null"}}, {"abc", "true"});
  // A list, in whose texts the closing tag may stand.
  const std::string list = R"({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})";
  expect_deepseek_calls(list, true, "true", {{"[", R"("[")"}, {R"(["a"])", R"("[\"a\"]")"}}, {});
  expect_deepseek_calls(list, true, "false",
                        {{R"(["a"])", R"(["a"])"}, {R"(["</｜DSML｜parameter>"])", R"(["</｜DSML｜parameter>"])"}},
                        {"[1]", "[", "\"a\""});
  const std::string listed = R"({"enum": ["x", 1, null]})";
  expect_deepseek_calls(listed, true, "true", {{"x", R"("x")"}}, {"1", "y"});
  expect_deepseek_calls(listed, true, "false", {{"1", "1"}, {"null", "null"}}, {"\"x\"", "2"});
  expect_deepseek_calls("{}", true, "true", {{"x", R"("x")"}}, {});
  expect_deepseek_calls("{}", true, "false", {{R"({"b": [1]})", R"({"b": [1]})"}}, {"x"});
  // One of the two, though the schema only says so in ways that are not looked through.
  const std::string hidden = R"({"type": "string", "nullable": true})";
  expect_deepseek_calls(hidden, true, "true", {{"x", R"("x")"}}, {});
  expect_deepseek_calls(hidden, true, "false", {}, {"null", "x", "1"});

  grammar::GrammarBuilder builder;
  ToolRules rules;
  rules.choice.kind = Kind::required;
  const std::vector<Tool> tools = {
      {"f", parsed(R"({"properties": {"a": {"type": ["string", "array"], "minLength": 3, "maxLength": 2, "minItems": 1,
                      "maxItems": 0}}})"),
       true}};
  const auto refused = tool_grammar(builder, *format_by_name("deepseek_v3_2"), tools, rules);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().to_string().find("minLength 3 and maxLength 2"), std::string::npos)
      << refused.error().to_string();
}

TEST(ToolGrammar, ReadsBackWhichOfTextAndOtherValuesTheTagSays) {
  const std::vector<Tool> tools = {{"f", parsed(R"({"required": ["a"], "properties": {"a": {"type":
         ["string", "number", "boolean", "null", "array", "object"]}}})"),
                                    true}};
  ToolRules rules;
  rules.choice.kind = Kind::required;
  rules.parallel = false;
  const Format format = format_of("deepseek_v3_2", false);
  Sentences sentences(grammar_of(format, tools, rules), 11);
  size_t texts = 0;
  constexpr size_t count = 300;
  for (size_t i = 0; i < count; ++i) {
    const std::string sentence = sentences.next();
    const Reading reading = read(format, tools, Start::answer, sentence);
    ASSERT_TRUE(reading.sound && reading.complete && reading.calls.size() == 1) << sentence;
    const auto arguments = base::parse_json(reading.calls[0].arguments, 200);
    ASSERT_TRUE(arguments && arguments->is_object()) << sentence;
    const bool is_text = sentence.find("name=\"a\" string=\"true\"") != std::string::npos;
    EXPECT_EQ(arguments->at("a").is_string(), is_text) << sentence;
    texts += is_text ? 1 : 0;
  }
  EXPECT_GT(texts, 0U);
  EXPECT_LT(texts, count);
}

TEST(ToolGrammar, WritesOtherValuesThanTextOfToolsThatAreNotStrictWhereTheTagTellsThemApart) {
  for (const char* property :
       {R"({"type": ["string", "null"]})", R"({"anyOf": [{"type": "string"}, {"type": "null"}]})", "{}"}) {
    expect_deepseek_calls(property, false, "true", {{"null", R"("null")"}, {"x", R"("x")"}}, {});
    expect_deepseek_calls(property, false, "false", {{"null", "null"}}, {"x"});
  }
  expect_deepseek_calls(R"({"type": "string"})", false, "false", {}, {"null", "x"});
  expect_deepseek_calls(R"({"type": "integer"})", false, "true", {}, {"x"});
}

// Also where that is only found when the grammar is built.
TEST(ToolGrammar, NamesTheToolAndTheParameterThatCanHaveNoValue) {
  for (const std::string_view name : {"hermes", "qwen3_coder", "glm", "deepseek_v3_2", "lfm2", "gemma"}) {
    grammar::GrammarBuilder builder;
    ToolRules rules;
    rules.choice.kind = Kind::required;
    const std::vector<Tool> tools = {{"f", parsed(R"({"type": "object", "required": ["a"], "properties":
        {"a": {"type": "string", "pattern": "^(?=.*[A-Z])[a-z]+$"}}})"),
                                      true}};
    const auto output = tool_grammar(builder, *format_by_name(name), tools, rules);
    ASSERT_TRUE(output && *output) << name;
    const auto built = std::move(builder).build(**output);
    ASSERT_FALSE(built) << name;
    EXPECT_NE(built.error().message().find("the parameters of the tool 'f': #/properties/a: pattern"),
              std::string::npos)
        << name << ": " << built.error().message();
  }
}

// The patterns do not contradict each other: what both match is read as numbers, which the bounds leave none of.
TEST(ToolGrammar, TellsWhereTextsAreOnlyLeftOutSinceTheyAreReadAsAnotherType) {
  ToolRules rules;
  rules.choice.kind = Kind::required;
  const std::vector<Tool> tools = {{"f", parsed(R"({"type": "object", "required": ["a"], "properties":
      {"a": {"type": ["string", "integer"], "allOf": [{"pattern": "^[1-9]+$"}, {"pattern": "^[1-9a]+$"}],
             "minimum": 5, "maximum": 3}}})"),
                                    true}};
  for (const std::string_view name : {"qwen3_coder", "glm"}) {
    grammar::GrammarBuilder builder;
    const auto output = tool_grammar(builder, *format_by_name(name), tools, rules);
    ASSERT_TRUE(output && *output) << name;
    const auto built = std::move(builder).build(**output);
    ASSERT_FALSE(built) << name;
    EXPECT_NE(built.error().message().find("leave no value but texts that are read as another type"), std::string::npos)
        << name << ": " << built.error().message();
  }
}

// However many parameters refer to however many of them; or to each other.
TEST(ToolGrammar, ReadsDefinitionsOnceForAllParameters) {
  const auto refusal = [](std::string_view format, const char* property) {
    json::object definitions;
    for (int i = 0; i < 5'000; ++i)
      definitions["d" + std::to_string(i)] = json::object{{"type", "integer"}};
    json::object properties;
    for (int i = 0; i < 500; ++i)
      properties["p" + std::to_string(i)] = parsed(property);
    const json::object schema = {{"type", "object"}, {"properties", properties}, {"$defs", definitions}};
    const std::vector<Tool> tools = {{"f", schema, true}};
    grammar::GrammarBuilder builder;
    ToolRules rules;
    rules.choice.kind = Kind::required;
    const auto built = tool_grammar(builder, *format_by_name(format), tools, rules);
    return built ? std::string() : built.error().to_string();
  };
  for (const std::string_view format : {"qwen3_coder", "lfm2"}) {
    EXPECT_EQ(refusal(format, R"({"$ref": "#/$defs/d7"})"), "");
    const char* to_another =
        R"({"type": "array", "items": {"$ref": "#/properties/p0/$defs/d"}, "$defs": {"d": {"type": "integer"}}})";
    EXPECT_EQ(refusal(format, to_another), "");
    const std::string missing = refusal(format, R"({"$ref": "#/$defs/none"})");
    EXPECT_NE(missing.find("JSON Schema, #/properties/p"), std::string::npos) << missing;
    EXPECT_NE(missing.find("/$ref: \"#/$defs/none\" points to nothing"), std::string::npos) << missing;
  }
}

// Schemas with every kind of keyword, in the spellings that are not JSON: what is written is read back, and satisfies.
TEST(ToolGrammar, HoldsOtherSpellingsToTheirSchemas) {
  const json::value schema = parsed(R"({"type": "object", "additionalProperties": false,
      "required": ["code", "zip", "kind", "size", "when"], "properties": {
        "zip": {"type": "string", "pattern": "^[0-9]{5}$"}, "code": {"type": "string", "minLength": 2, "maxLength": 4},
        "kind": {"anyOf": [{"enum": ["a", "b c", 7, null]}, {"type": "boolean"}]},
        "size": {"type": "integer", "minimum": -3, "maximum": 40},
        "when": {"type": "string", "format": "date"},
        "tree": {"$ref": "#/$defs/tree"}, "pair": {"type": "array", "minItems": 2, "maxItems": 2,
          "items": {"type": ["number", "null"]}}, "free": {"type": "object", "additionalProperties": {"type": "string"}}},
      "$defs": {"tree": {"type": "object", "required": ["name"], "additionalProperties": false,
        "properties": {"name": {"type": "string"}, "children": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}}}})");
  const auto holds = [](const json::object& value) {
    const std::string zip(value.at("zip").as_string());
    const std::string when(value.at("when").as_string());
    const size_t length = base::utf8::length(value.at("code").as_string());
    const json::value& kind = value.at("kind");
    const bool known = kind.is_bool() || kind == "a" || kind == "b c" || kind == 7 || kind.is_null();
    bool good = zip.size() == 5 && zip.find_first_not_of("0123456789") == std::string::npos && length >= 2 &&
                length <= 4 && known && value.at("size").is_int64() && value.at("size").as_int64() >= -3 &&
                value.at("size").as_int64() <= 40 && when.size() == 10;
    if (const json::value* tree = value.if_contains("tree")) good = good && tree->at("name").is_string();
    if (const json::value* pair = value.if_contains("pair")) good = good && pair->as_array().size() == 2;
    if (const json::value* free = value.if_contains("free")) {
      for (const auto& [key, member] : free->as_object())
        good = good && member.is_string();
    }
    return good;
  };
  for (const std::string_view name : {"gemma", "functiongemma", "lfm2"}) {
    const Format format = format_of(name, false);
    const std::vector<Tool> tools = {{"f", schema, true}};
    ToolRules rules;
    rules.choice.kind = Kind::required;
    const auto grammar = grammar_of(format, tools, rules);
    ASSERT_TRUE(grammar) << name;
    Sentences sentences(grammar, 23);
    for (int i = 0; i < 150; ++i) {
      const std::string sentence = sentences.next();
      const Reading reading = read(format, tools, Start::answer, sentence);
      ASSERT_TRUE(reading.sound && reading.complete) << sentence;
      for (const Call& call : reading.calls) {
        const auto arguments = base::parse_json(call.arguments, 200);
        ASSERT_TRUE(arguments && arguments->is_object()) << call.arguments << " in " << sentence;
        EXPECT_TRUE(holds(arguments->get_object())) << call.arguments << " in " << sentence;
      }
    }
  }
  // Text in tags, by pattern.
  for (const std::string_view name : {"qwen3_coder", "glm", "deepseek_v3_2"}) {
    const Format format = format_of(name, false);
    const std::vector<Tool> tools = {{"f", parsed(R"({"type": "object", "required": ["zip"], "properties":
        {"zip": {"type": "string", "pattern": "^[0-9]{5}$"}}})"),
                                      true}};
    ToolRules rules;
    rules.choice.kind = Kind::required;
    Sentences sentences(grammar_of(format, tools, rules), 2);
    for (int i = 0; i < 20; ++i) {
      const Reading reading = read(format, tools, Start::answer, sentences.next());
      ASSERT_FALSE(reading.calls.empty());
      EXPECT_EQ(parsed(reading.calls[0].arguments).at("zip").as_string().size(), 5U);
    }
  }
}

}  // namespace
}  // namespace tidemill::chat::test
