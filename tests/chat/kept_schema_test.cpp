#include "chat/kept_schema.hpp"

#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "chat/reading.hpp"
#include "chat/sentences.hpp"
#include "chat/tool_grammars.hpp"

namespace tidemill::chat::test {
namespace {

namespace json = base::json;

// Holds to all but the keywords given.
HoldsParameters without(std::vector<std::string> keywords) {
  return [keywords](const json::value& parameters) {
    const std::string text = json::serialize(parameters);
    for (const std::string& keyword : keywords)
      if (text.find('"' + keyword + "\":") != std::string::npos) return Held::no;
    return Held::yes;
  };
}

json::value kept(std::string_view parameters, const HoldsParameters& holds) {
  const auto found = kept_parameters(parsed(parameters), holds, holds);
  return found ? *found : json::value("none");
}

TEST(KeptSchema, IsWithoutTheKeywordsThatCannotBeHeldTo) {
  EXPECT_EQ(kept(R"({"type": "object", "description": "d", "required": ["a"], "additionalProperties": false,
                     "properties": {"a": {"type": "array", "items": {"type": "string", "maxLength": 3}, "minItems": 1,
                                          "uniqueItems": true, "contains": {}, "description": "x"},
                                    "b": {"type": "integer", "minimum": 5}}})",
                 without({"uniqueItems", "contains"})),
            parsed(R"({"type": "object", "description": "d", "required": ["a"], "additionalProperties": false,
                       "properties": {"a": {"type": "array", "items": {"type": "string", "maxLength": 3}, "minItems": 1,
                                            "description": "x"},
                                      "b": {"type": "integer", "minimum": 5}}})"));
}

TEST(KeptSchema, LooksIntoWhatIsNestedAndReferredTo) {
  const std::string inner = R"({"type": "object", "required": ["c"], "properties":
      {"c": {"type": "array", "maxItems": 2%s}, "d": {"const": 4}}})";
  const auto with = [&](std::string_view more) {
    std::string text = inner;
    return text.replace(text.find("%s"), 2, more);
  };
  const std::string hard = with(R"(, "uniqueItems": true)");
  const std::string easy = with("");
  for (const auto& [property, left] : std::vector<std::pair<std::string, std::string>>{
           {hard, easy},
           {R"({"type": "array", "items": )" + hard + "}", R"({"type": "array", "items": )" + easy + "}"},
           {R"({"anyOf": [{"type": "null"}, )" + hard + "]}", R"({"anyOf": [{"type": "null"}, )" + easy + "]}"},
           {R"({"$ref": "#/$defs/x"})", R"({"type": "integer"})"}}) {
    // A definition that cannot be held to does no harm where nothing refers to it.
    const std::string definitions = R"("$defs": {"x": {"type": "integer", "unevaluatedItems": 1}})";
    const HoldsParameters holds = [](const json::value& parameters) {
      json::object looked_at = parameters.get_object();
      const bool refers = json::serialize(parameters).find("\"$ref\":") != std::string::npos;
      if (!refers) looked_at.erase("$defs");
      return without({"uniqueItems", "unevaluatedItems"})(looked_at);
    };
    EXPECT_EQ(kept(R"({"type": "object", "properties": {"a": )" + property + "}, " + definitions + "}", holds),
              parsed(R"({"type": "object", "properties": {"a": )" + left + "}, " + definitions + "}"));
  }
}

TEST(KeptSchema, TakesAnyAlternativeWhereOneAloneCannotBeHeldTo) {
  EXPECT_EQ(kept(R"({"properties": {"a": {"oneOf": [{"minimum": 1}, {"maximum": 2}]}}})", without({"oneOf"})),
            parsed(R"({"type": "object", "properties": {"a": {"anyOf": [{"minimum": 1}, {"maximum": 2}]}}})"));
}

TEST(KeptSchema, OfWhatCannotBeKeptAreTypesAndWhatIsRequired) {
  const HoldsParameters holds = [](const json::value& parameters) {
    const bool known_types = json::serialize(parameters).find("\"STRING\"") == std::string::npos;
    return known_types ? without({"enum", "minProperties"})(parameters) : Held::no;
  };
  EXPECT_EQ(kept(R"({"type": "OBJECT", "minProperties": 1, "required": ["z", "a"], "properties":
                     {"a": {"enum": ["x", null]}, "b": {"type": "STRING"}}})",
                 holds),
            parsed(R"({"type": "object", "required": ["a", "z"], "properties":
                       {"a": {"type": ["string", "null"]}, "b": {}, "z": {}}})"));
  // The properties may be elsewhere.
  EXPECT_EQ(kept(R"({"$ref": "#/$defs/p", "$defs": {"p": {"properties": {"a": {"type": "null"}}, "required": ["a"]}}})",
                 [](const json::value& parameters) {
                   return parameters.get_object().contains("$ref") ? Held::no : Held::yes;
                 }),
            parsed(R"({"type": "object", "properties": {"a": {"type": "null"}}, "required": ["a"],
                       "$defs": {"p": {"properties": {"a": {"type": "null"}}, "required": ["a"]}}})"));
  EXPECT_EQ(kept("true", without({})), json::value("none"));
  EXPECT_EQ(kept(R"({"properties": {"a": {}}})", without({"type"})), json::value("none"));
}

TEST(KeptSchema, IsSoughtWithinABound) {
  std::string properties;
  for (int i = 0; i < 300; ++i)
    properties.append(i == 0 ? "" : ",").append("\"p" + std::to_string(i) + R"(": {"type": "string", "pattern": "x"})");
  const json::value parameters = parsed(R"({"type": "object", "properties": {)" + properties + "}}");
  for (const Held refusal : {Held::no, Held::too_large}) {
    size_t of_one = 0;
    size_t of_all = 0;
    const auto found = kept_parameters(
        parameters,
        [&](const json::value& one) {
          ++of_one;
          return without({"pattern"})(one) == Held::yes ? Held::yes : refusal;
        },
        [&](const json::value& all) {
          ++of_all;
          return without({"pattern"})(all);
        });
    EXPECT_LE(of_one, refusal == Held::no ? 200U : 20U);
    EXPECT_LE(of_all, 4U);
    ASSERT_TRUE(found);
    EXPECT_EQ(found->at("properties").get_object().size(), 300U);
    EXPECT_EQ(found->at("properties").at("p299"), parsed(R"({"type": ["string"]})"));
  }
}

// As it is asked for: whether a call has a grammar.
TEST(KeptSchema, HoldsCallsInEveryKindOfFormat) {
  const json::value parameters = parsed(R"({"type": "object", "required": ["a", "b", "c"], "minProperties": 3,
      "properties": {"a": {"type": "integer", "minimum": 5, "maximum": 9},
                     "b": {"type": "array", "items": {"type": "integer"}, "uniqueItems": true, "minItems": 1},
                     "c": {"type": "string", "pattern": "^(.)\\1$", "maxLength": 3},
                     "d": {"oneOf": [{"type": "integer"}, {"type": "number"}]}}})");
  ToolRules rules;
  rules.choice.kind = ToolChoice::Kind::required;
  rules.parallel = false;
  for (const std::string_view name : {"hermes", "qwen3_coder", "glm", "deepseek_v3_2", "lfm2", "gemma", "harmony"}) {
    const Format format = format_of(name, false);
    const HoldsParameters holds = [&](const json::value& some) {
      grammar::GrammarBuilder builder;
      const std::vector<Tool> tools = {{"f", some, true, true}};
      const auto output = tool_grammar(builder, format, tools, rules);
      return output && *output && std::move(builder).build(**output) ? Held::yes : Held::no;
    };
    ASSERT_EQ(holds(parameters), Held::no) << name;
    const auto kept = kept_parameters(parameters, holds, holds);
    ASSERT_TRUE(kept) << name;
    const std::vector<Tool> tools = {{"f", *kept, true, true}};
    const std::vector<Tool> offered = {{"f", parameters, false}};
    Sentences sentences(grammar_of(format, tools, rules), 31);
    for (int i = 0; i < 30; ++i) {
      const std::string sentence = sentences.next();
      const Reading reading = read(format, offered, Start::answer, sentence);
      ASSERT_TRUE(reading.sound && reading.complete && reading.calls.size() == 1) << name << ": " << sentence;
      const json::value arguments = parsed(reading.calls[0].arguments);
      ASSERT_TRUE(arguments.is_object()) << sentence;
      const json::object& all = arguments.get_object();
      ASSERT_TRUE(all.contains("a") && all.contains("b") && all.contains("c")) << sentence;
      ASSERT_TRUE(all.at("a").is_int64()) << sentence;
      EXPECT_GE(all.at("a").get_int64(), 5) << sentence;
      EXPECT_LE(all.at("a").get_int64(), 9) << sentence;
      ASSERT_TRUE(all.at("b").is_array()) << sentence;
      EXPECT_GE(all.at("b").get_array().size(), 1U) << sentence;
      ASSERT_TRUE(all.at("c").is_string()) << sentence;
      EXPECT_LE(base::utf8::length(all.at("c").get_string()), 3U) << sentence;
      if (const json::value* d = all.if_contains("d")) {
        EXPECT_TRUE(d->is_number()) << sentence;
      }
    }
  }
}

}  // namespace
}  // namespace tidemill::chat::test
