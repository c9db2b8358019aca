#include "chat/kept_schema.hpp"

#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "chat/reading.hpp"
#include "chat/schema_words.hpp"
#include "chat/sentences.hpp"
#include "chat/tool_grammars.hpp"
#include "grammar/schema_document.hpp"
#include "grammar/schema_reader.hpp"

namespace tidemill::chat::test {
namespace {

namespace json = base::json;

// Holds to all but the keywords given.
HoldsParameters without(std::vector<std::string> keywords) {
  return [keywords](const json::value& parameters) -> Answer {
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

// A word that is no type says nothing, and what stands beside it holds.
TEST(KeptSchema, IsWithoutWordsThatAreNoTypes) {
  const HoldsParameters holds = [](const json::value& parameters) {
    return json::serialize(parameters).find("\"any\"") == std::string::npos ? Held::yes : Held::no;
  };
  EXPECT_EQ(kept(R"({"type": "object", "properties": {"a": {"type": "any", "enum": ["p", "q"]},
                     "b": {"type": ["null", "any"], "minimum": 3},
                     "c": {"type": "array", "items": {"type": "any", "maxLength": 2}, "maxItems": 1}}})",
                 holds),
            parsed(R"({"type": "object", "properties": {"a": {"enum": ["p", "q"]}, "b": {"minimum": 3},
                       "c": {"type": "array", "items": {"maxLength": 2}, "maxItems": 1}}})"));
}

TEST(KeptSchema, KnowsOtherWordsForTypes) {
  EXPECT_EQ(with_known_types(parsed(
                R"({"type": "OBJECT", "properties": {"type": {"type": "STRING", "enum": ["INTEGER"]},
                    "b": {"type": "Array", "items": {"type": ["int", "NULL"]}},
                    "c": {"anyOf": [{"type": "float"}, {"type": "bool"}, {"type": "dict"}, {"type": "list"}]},
                    "d": {"type": "str", "default": {"type": "str"}}, "e": {"type": "any"}, "f": {"type": 5}}})")),
            parsed(R"({"type": "object", "properties": {"type": {"type": "string", "enum": ["INTEGER"]},
                       "b": {"type": "array", "items": {"type": ["integer", "null"]}},
                       "c": {"anyOf": [{"type": "number"}, {"type": "boolean"}, {"type": "object"}, {"type": "array"}]},
                       "d": {"type": "string", "default": {"type": "str"}}, "e": {"type": "any"}, "f": {"type": 5}}})"));
}

TEST(KeptSchema, OfWhatCannotBeKeptAreTypesAndWhatIsRequired) {
  const HoldsParameters holds = [](const json::value& parameters) -> Answer {
    const bool known_types = json::serialize(parameters).find("\"STRING\"") == std::string::npos;
    if (!known_types) return Held::no;
    return without({"enum", "minProperties"})(parameters);
  };
  EXPECT_EQ(kept(R"({"type": "OBJECT", "minProperties": 1, "required": ["z", "a"], "properties":
                     {"a": {"enum": ["x", null]}, "b": {"type": "STRING"}}})",
                 holds),
            parsed(R"({"type": "object", "required": ["a", "z"], "properties":
                       {"a": {"type": ["string", "null"]}, "b": {"type": ["string"]}, "z": {}}})"));
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
          return without({"pattern"})(one).held == Held::yes ? Held::yes : refusal;
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

// By what questions take: where each takes a fifth of its limits, there are twenty. Annotations need none.
TEST(KeptSchema, IsSoughtWithinABoundOfWhatQuestionsTake) {
  std::string properties;
  for (int i = 0; i < 300; ++i)
    properties.append(i == 0 ? "" : ",").append("\"p" + std::to_string(i) + R"(": {"type": "string", "pattern": "x"})");
  const json::value parameters = parsed(R"({"type": "object", "properties": {)" + properties + "}}");
  size_t asked = 0;
  const HoldsParameters one = [&](const json::value& some) {
    ++asked;
    return Answer(without({"pattern"})(some).held, 0.2);
  };
  ASSERT_TRUE(kept_parameters(parameters, one, without({"pattern"})));
  EXPECT_GE(asked, 10U);
  EXPECT_LE(asked, 20U);
  // And of all of them together none that goes up to its limits is followed by another but the least.
  size_t of_all = 0;
  const HoldsParameters all = [&](const json::value&) {
    ++of_all;
    return Answer(Held::no, 1);
  };
  EXPECT_FALSE(kept_parameters(parameters, without({}), all));
  EXPECT_EQ(of_all, 2U);

  asked = 0;
  const HoldsParameters counted = [&](const json::value& some) {
    ++asked;
    return without({"pattern"})(some);
  };
  const json::value annotated = parsed(
      R"({"type": "object", "properties": {"a": {"type": "string", "pattern": "x", "title": "A", "description": "b",
          "default": "c", "examples": ["d"], "$comment": "e", "deprecated": true}}})");
  const auto kept = kept_parameters(annotated, counted, without({"pattern"}));
  ASSERT_TRUE(kept);
  EXPECT_EQ(asked, 3U);
  EXPECT_EQ(kept->at("properties").at("a").get_object().size(), 7U);
}

// Whether values fit, by the reader of schemas, which writes nothing; none where it refuses the schema.
class Fits {
 public:
  explicit Fits(json::value schema)
      : schema_(std::move(schema)), document_(grammar::SchemaDocument::open(schema_, {})), reader_(*document_, {}) {}

  std::optional<bool> operator()(const json::value& value) {
    const auto fit = reader_.accepts({document_->root()}, value);
    return fit ? std::optional(*fit) : std::nullopt;
  }

 private:
  const json::value schema_;
  base::Result<grammar::SchemaDocument> document_;
  grammar::SchemaReader reader_;
};

// A property that patterns allow, where no grammar can be held to them: at the top and in what is nested.
TEST(KeptSchema, LeavesNamesFreeWherePatternsOfNamesAreLost) {
  const Format format = format_of("hermes", false);
  ToolRules rules;
  rules.choice.kind = ToolChoice::Kind::required;
  const HoldsParameters holds = [&](const json::value& some) -> Answer {
    grammar::GrammarBuilder builder;
    const std::vector<Tool> tools = {{"f", some, true, true}};
    const auto output = tool_grammar(builder, format, tools, rules);
    return output && *output && std::move(builder).build(**output) ? Held::yes : Held::no;
  };
  const std::string patterns = R"("type": "object", "patternProperties": {"^a": {}, "^b": {}})";
  for (const char* closing : {R"("additionalProperties": false)", R"("unevaluatedProperties": false)"}) {
    const std::string map = "{" + patterns + ", " + closing + "}";
    for (const auto& [schema, value] : std::vector<std::pair<std::string, std::string>>{
             {map, R"({"a1": 1, "b": "x"})"},
             {R"({"type": "object", "properties": {"m": )" + map + "}}", R"({"m": {"a1": 1, "b": "x"}})"},
             {R"({"type": "object", "properties": {"m": {"type": "array", "items": )" + map + "}}}",
              R"({"m": [{"a1": 1, "b": "x"}]})"}}) {
      ASSERT_EQ(holds(parsed(schema)).held, Held::no) << schema;
      ASSERT_EQ(Fits(parsed(schema))(parsed(value)), true) << schema;
      const auto kept = kept_parameters(parsed(schema), holds, holds);
      ASSERT_TRUE(kept) << schema;
      EXPECT_EQ(Fits(*kept)(parsed(value)), true) << schema << " became " << json::serialize(*kept);
    }
  }
  // One pattern can be held to, without what its schema says too much.
  EXPECT_EQ(
      kept(R"({"type": "object", "additionalProperties": false,
                     "patternProperties": {"^a": {"type": "array", "uniqueItems": true}}})",
           without({"uniqueItems"})),
      parsed(R"({"type": "object", "additionalProperties": false, "patternProperties": {"^a": {"type": "array"}}})"));
}

TEST(KeptSchema, RequiresWhatIsRequiredBesideAReference) {
  EXPECT_EQ(kept(R"({"$ref": "#/$defs/p", "required": ["b"], "$defs": {"p": {"type": "object", "required": ["a"],
                     "properties": {"a": {"type": "null"}, "b": {"type": "null"}}}}})",
                 [](const json::value& parameters) {
                   return parameters.get_object().contains("$ref") ? Held::no : Held::yes;
                 })
                .at("required"),
            parsed(R"(["a", "b"])"));
}

// Schemas and values of few names and keywords, so that they have to do with each other.
class RandomParts {
 public:
  explicit RandomParts(uint32_t seed) : random_(seed) {}

  size_t below(size_t bound) { return random_() % bound; }
  bool one_in(size_t count) { return below(count) == 0; }
  std::string name() { return std::string(1, "abc"[below(3)]); }

  json::value value(int depth) {
    switch (below(depth > 0 ? 6 : 4)) {
      case 0:
        return nullptr;
      case 1:
        return static_cast<int64_t>(below(2));
      case 2:
        return "x";
      case 3:
        return "xyz";
      case 4: {
        json::array items;
        for (size_t i = below(3); i > 0; --i)
          items.push_back(value(depth - 1));
        return items;
      }
      default:
        return object(depth);
    }
  }
  json::object object(int depth) {
    json::object members;
    for (size_t i = below(4); i > 0; --i)
      members[name()] = value(depth - 1);
    return members;
  }

  json::object schema(int depth) {
    json::object made;
    if (depth == 0 || one_in(4)) {
      static constexpr std::string_view types[] = {"string", "integer", "object", "array", "null"};
      if (one_in(2)) made["type"] = json::string(types[below(5)]);
      if (one_in(4)) made["maxLength"] = 2;
      return made;
    }
    add_of_objects(made, depth - 1);
    if (one_in(3)) made["items"] = schema(depth - 1);
    if (one_in(4)) made["prefixItems"] = json::array{schema(depth - 1)};
    if (one_in(4)) made["uniqueItems"] = true;
    if (one_in(4)) made["anyOf"] = json::array{schema(depth - 1), schema(depth - 1)};
    if (one_in(4)) made["allOf"] = json::array{schema(depth - 1)};
    if (one_in(6)) {
      json::object list = schema(depth - 1);
      list["type"] = "array";
      made["oneOf"] = json::array{json::object{{"type", json::array{"object", "integer", "null", "string"}}}, list};
    }
    return made;
  }

 private:
  void add_of_objects(json::object& made, int depth) {
    if (one_in(2)) made["properties"] = json::object{{"a", schema(depth)}};
    if (one_in(3)) made["patternProperties"] = json::object{{"^[ab]$", schema(depth)}, {"^c", schema(depth)}};
    if (one_in(3)) made["additionalProperties"] = one_in(2) ? json::value(false) : json::value(schema(depth));
    if (one_in(3)) made["unevaluatedProperties"] = false;
    if (one_in(4)) made["dependentSchemas"] = json::object{{"a", schema(depth)}};
    if (one_in(4)) made["required"] = json::array{json::string(name())};
    if (one_in(4)) made["minProperties"] = 1;
  }

  std::mt19937 random_;
};

// Whatever cannot be held to: what is kept is never stricter.
TEST(KeptSchema, HoldsForAllValuesForWhichTheSchemaHolds) {
  const std::vector<std::string> keywords = {"patternProperties",
                                             "additionalProperties",
                                             "maxLength",
                                             "uniqueItems",
                                             "unevaluatedProperties",
                                             "dependentSchemas",
                                             "allOf",
                                             "anyOf",
                                             "minProperties",
                                             "oneOf",
                                             "items",
                                             "prefixItems"};
  RandomParts random(17);
  size_t fitting = 0;
  for (int i = 0; i < 400; ++i) {
    json::object parameters = random.schema(2);
    parameters["type"] = "object";
    std::vector<std::string> refused;
    for (const std::string& keyword : keywords)
      if (random.one_in(4)) refused.push_back(keyword);
    const auto kept = kept_parameters(parameters, without(refused), without(refused));
    ASSERT_TRUE(kept) << json::serialize(parameters);
    ASSERT_EQ(without(refused)(*kept).held, Held::yes);
    Fits asked_for(parameters);
    Fits left(*kept);
    for (int j = 0; j < 40; ++j) {
      const json::value value = random.object(3);
      if (asked_for(value) != true) continue;
      ++fitting;
      // The reader may find alternatives too many of which the whole schema leaves few.
      ASSERT_NE(left(value), false) << json::serialize(value) << " fits " << json::serialize(parameters) << " but not "
                                    << json::serialize(*kept);
    }
  }
  EXPECT_GT(fitting, 500U);
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
    ASSERT_EQ(holds(parameters).held, Held::no) << name;
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
