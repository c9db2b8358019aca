// What is said of schemas that are refused: where, and what contradicts what.
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "grammar/json_schema.hpp"
#include "grammar/schema_cases.hpp"

namespace tidemill::grammar {
namespace {

using base::ErrorCode;
using test::check;
using test::expect_refusal;
using test::refusal;

TEST(JsonSchema, UnsupportedIsSaid) {
  const auto unsupported = [](const char* schema, const char* part) {
    expect_refusal(schema, ErrorCode::unsupported, part);
  };
  unsupported(R"({"properties":{"a/b":{"type":"array","uniqueItems":true}},"type":"object"})",
              "#/properties/a~1b/uniqueItems");
  unsupported(R"({"type":"array","items":{"enum":[1,2,3,4,5,6,7,8,9,10,11]},"uniqueItems":true})", "#/uniqueItems");
  unsupported(R"({"type":"array","items":{"type":"string"},"uniqueItems":true})", "#/uniqueItems");
  unsupported(R"({"type":"array","contains":{"type":"null"}})", "#/contains");
  unsupported(R"({"not":{"required":["a"]}})", "#/not");
  unsupported(R"({"if":{"type":"null"},"then":{"const":1}})", "#/if");
  unsupported(R"({"type":"number","multipleOf":0.01})", "#/multipleOf");
  unsupported(R"({"oneOf":[{"type":"integer"},{"type":"number"}]})", "#/oneOf");
  unsupported(R"({"$ref":"https://example.com/s.json"})", "#/$ref");
  unsupported(R"({"$dynamicRef":"#x"})", "#/$dynamicRef");
  unsupported(R"({"type":"string","pattern":"(?=a)b"})", "#/pattern");
  unsupported(R"({"type":"object","minProperties":2})", "#/minProperties");
  unsupported(R"({"type":"object","patternProperties":{"a":{"type":"null"},"b":{"type":"integer"}}})",
              "#/patternProperties");
  unsupported(R"({"type":"object","patternProperties":{"a":{}},"additionalProperties":{"type":"null"}})",
              "#/patternProperties");
  unsupported(R"({"type":"array","prefixItems":[{}],"unevaluatedItems":false})", "#/unevaluatedItems");
}

TEST(JsonSchema, WhatIsNoSchemaIsSaid) {
  const auto invalid = [](const char* schema, const char* part) {
    expect_refusal(schema, ErrorCode::invalid_argument, part);
  };
  invalid(R"({"type":"dict"})", "#/type");
  invalid("3", "#");
  invalid(R"({"properties":{"a":1}})", "#/properties/a");
  invalid(R"({"type":"string","minLength":-1})", "#/minLength");
  invalid(R"({"required":"a"})", "#/required");
  invalid(R"({"enum":"a"})", "#/enum");
  invalid(R"({"anyOf":[]})", "#/anyOf");
  invalid(R"({"$ref":"#/$defs/no"})", "#/$ref");
  invalid(R"({"$ref":"#"})", "refers to itself");
  invalid(
      R"({"$defs":{"a":{"$ref":"#/$defs/b"},"b":{"anyOf":[{"$ref":"#/$defs/a"},{"type":"null"}]}},"$ref":"#/$defs/a"})",
      "refers to itself");
  invalid(R"({"type":"string","pattern":"("})", "#/pattern");
}

TEST(JsonSchema, WhatNothingSatisfiesIsSaid) {
  for (const char* schema :
       {"false", R"({"type":"string","enum":[1]})", R"({"allOf":[{"type":"string"},{"type":"null"}]})",
        R"({"type":"integer","minimum":2,"maximum":1})",
        R"({"type":"integer","exclusiveMinimum":1,"exclusiveMaximum":2})",
        R"({"type":"string","minLength":2,"maxLength":1})", R"({"type":"array","minItems":1,"items":false})",
        R"({"type":"object","required":["a"],"additionalProperties":false})",
        R"({"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]})",
        R"({"type":"string","allOf":[{"pattern":"^a$"},{"pattern":"^b$"}]})", R"({"not":{}})"}) {
    SCOPED_TRACE(schema);
    EXPECT_NE(refusal(schema, ErrorCode::invalid_argument), "");
  }
}

TEST(JsonSchema, RecursionWithoutAnEndIsNamed) {
  const auto endless = [](const char* schema, const char* part) {
    expect_refusal(schema, ErrorCode::invalid_argument, part);
  };
  endless(R"({"$ref":"#/$defs/n","$defs":{"n":{"type":"object",
              "properties":{"id":{},"next":{"$ref":"#/$defs/n"}},"required":["id","next"]}}})",
          "'#/$defs/n/properties/next' needs itself, so it has no end");
  endless(R"({"type":"object","required":["a"],
              "properties":{"a":{"type":"object","properties":{"b":{"$ref":"#"}},"required":["b"]}}})",
          "'#/properties/a' needs itself through '#/properties/a/properties/b'");
  endless(R"({"type":"array","items":{"$ref":"#"},"minItems":1})", "'#/items' needs itself");
  // An end is enough.
  test::check({R"({"type":"object","properties":{"a":{"anyOf":[{"$ref":"#"},{"type":"null"}]}},"required":["a"]})",
               {R"({"a":null})", R"({"a":{"a":null}})"},
               {"{}"}});
}

TEST(JsonSchema, AnImpossiblePropertyIsNamed) {
  expect_refusal(R"({"type":"object","properties":{"a":{"type":"array","enum":["x"]}},"required":["a"]})",
                 ErrorCode::invalid_argument, R"(#/properties/a: type "array" and enum ["x"] leave no value)");
  expect_refusal(R"({"type":"object","required":["a"],"additionalProperties":false})", ErrorCode::invalid_argument,
                 "#/additionalProperties: \"a\" is required, and can have no value");
}

TEST(JsonSchema, CountsAndClosedObjectsThatExcludeEachOtherAreNamed) {
  const auto told = [](const char* schema, const char* part) {
    expect_refusal(schema, ErrorCode::invalid_argument, part);
  };
  told(R"({"allOf":[{"type":"object","properties":{"a":{"const":1}},"required":["a"],"additionalProperties":false},
                    {"type":"object","properties":{"b":{"const":1}},"additionalProperties":false}]})",
       "#/allOf/1/additionalProperties: \"a\" is required, and can have no value");
  told(R"({"type":"object","properties":{"a":{"type":"null"}},"required":["a"],"additionalProperties":false,
           "dependentRequired":{"a":["z"]}})",
       "#/additionalProperties: \"z\" is required, and can have no value");
  told(R"({"type":"object","properties":{"a":{"type":"null"}},"additionalProperties":false,"minProperties":2})",
       "#: minProperties 2 and 1 properties that may be there leave no value");
  told(R"({"type":"object","properties":{"a":{},"b":{}},"required":["a","b"],"maxProperties":1})",
       "#: maxProperties 1 and 2 required properties leave no value");
  told(R"({"type":"array","prefixItems":[{"const":1}],"items":false,"minItems":2})",
       "#: minItems 2 and no items past number 1 leave no value");
  told(R"({"type":"array","items":{"enum":[1,2]},"uniqueItems":true,"minItems":3})",
       "#: minItems 3 and uniqueItems, of 2 values, leave no value");
}

// Of patterns that is only found when they are computed; of types and values when they are read.
TEST(JsonSchema, ConditionsThatExcludeEachOtherAreNamed) {
  const auto within = [](const std::string& schema) {
    return R"({"type":"object","properties":{"a":)" + schema + R"(},"required":["a"]})";
  };
  const std::vector<std::pair<std::string, std::string>> conditions = {
      {R"x({"type":"string","pattern":"^(?=a)(?!a)"})x",
       R"x(pattern "^(?=a)(?!a)" leaves no value: what it looks ahead for contradicts the rest of it)x"},
      {R"x({"type":"string","pattern":"^(?=.*[A-Z])[a-z]+$"})x", R"x(pattern "^(?=.*[A-Z])[a-z]+$" leaves no value)x"},
      {R"({"type":"string","pattern":"^a$","allOf":[{"pattern":"^b$"}]})",
       R"(pattern "^a$" and pattern "^b$" leave no value)"},
      {R"({"type":"string","pattern":"^(ab)+$","minLength":3,"maxLength":3})",
       R"(pattern "^(ab)+$", minLength 3 and maxLength 3 leave no value)"},
      {R"({"type":"string","format":"date","pattern":"x"})", R"(format "date" and pattern "x" leave no value)"},
      {R"({"type":"integer","enum":["a","b"]})", R"(type "integer" and enum ["a","b"] leave no value)"},
      {R"({"enum":["a"],"minLength":2})", R"(enum ["a"] and minLength 2 leave no value)"},
      {R"({"enum":[{"a":1}],"additionalProperties":false})", R"(enum [{"a":1}] and additionalProperties false)"},
      {R"({"const":{"a":1},"patternProperties":{"a":{"type":"null"}}})",
       R"(const {"a":1} and patternProperties {"a":{"type":"null"}} leave no value)"},
      {R"({"const":{"a":1},"propertyNames":{"maxLength":0}})",
       R"(const {"a":1} and propertyNames {"maxLength":0} leave no value)"},
      {R"({"const":{"a":1},"unevaluatedProperties":false})", R"(const {"a":1} and unevaluatedProperties false leave)"},
      {R"({"const":{"a":1},"minProperties":2})", R"(const {"a":1} and minProperties 2 leave no value)"},
      {R"({"const":{"a":1},"maxProperties":0})", R"(const {"a":1} and maxProperties 0 leave no value)"},
      {R"({"const":{"a":1},"dependentRequired":{"a":["b"]}})",
       R"(const {"a":1} and dependentRequired {"a":["b"]} leave no value)"},
      {R"({"const":[1],"prefixItems":[{"type":"null"}]})", R"(const [1] and prefixItems [{"type":"null"}] leave)"},
      {R"({"not":{}})", "not {} leaves no value"},
      {R"({"type":"null","const":")" + std::string(200, 'x') + R"("})",
       R"(type "null" and const ")" + std::string(79, 'x') + "... leave no value"}};
  for (const auto& [schema, what] : conditions) {
    expect_refusal(schema, ErrorCode::invalid_argument, "#: " + what);
    expect_refusal(within(schema), ErrorCode::invalid_argument, "#/properties/a: " + what);
    expect_refusal(within(within(schema)), ErrorCode::invalid_argument, "#/properties/a/properties/a: " + what);
    expect_refusal(within(R"({"type":"array","minItems":1,"items":)" + schema + "}"), ErrorCode::invalid_argument,
                   "#/properties/a/items: " + what);
    check({R"({"type":"object","properties":{"a":)" + schema + R"(},"additionalProperties":false})",
           {"{}"},
           {R"({"a":"a"})", R"({"a":"b"})", R"({"a":null})"}});
  }
  expect_refusal(R"({"const":5,"allOf":[{"type":"string"}]})", ErrorCode::invalid_argument,
                 R"(#: const 5 and type "string" (#/allOf/0) leave no value)");
}

TEST(JsonSchema, BoundsThatExcludeEachOtherAreNamed) {
  const auto within = [](const std::string& schema) {
    return R"({"type":"object","properties":{"a":)" + schema + R"(},"required":["a"]})";
  };
  const std::vector<std::pair<std::string, std::string>> bounds = {
      {R"({"type":"integer","minimum":5,"maximum":3})", "minimum 5 and maximum 3 leave no value"},
      {R"({"type":"number","minimum":0.5,"allOf":[{"exclusiveMaximum":0.25}]})",
       "minimum 0.5 and exclusiveMaximum 0.25 leave no value"},
      {R"({"type":"integer","exclusiveMinimum":5,"exclusiveMaximum":6})",
       "exclusiveMinimum 5 and exclusiveMaximum 6 leave no value"},
      {R"({"type":"integer","multipleOf":7,"minimum":1,"maximum":3})",
       "minimum 1 and maximum 3 (multipleOf 7) leave no value"},
      {R"({"type":"integer","format":"uint8","minimum":256})", "minimum 256 and the format's maximum leave no value"},
      {R"({"type":"integer","format":"uint8","minimum":-5,"maximum":-1})",
       "the format's minimum and maximum -1 leave no value"},
      {R"({"type":"integer","format":"int8","maximum":1000,"minimum":200})",
       "minimum 200 and the format's maximum leave no value"},
      {R"({"type":"string","minLength":4,"maxLength":2})", "minLength 4 and maxLength 2 leave no value"},
      {R"({"type":"string","pattern":"^ab?$","minLength":4})", "pattern \"^ab?$\" and minLength 4 leave no value"},
      {R"({"type":"string","format":"uuid","maxLength":4})", "format \"uuid\" and maxLength 4 leave no value"},
      {R"x({"type":"string","pattern":"^(?=b)a?b?$","minLength":4})x",
       "pattern \"^(?=b)a?b?$\" and minLength 4 leave no value"},
      {R"x({"type":"string","pattern":"^(?=.{1,253}$)([a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?\\.)+[a-zA-Z]{2,63}$",
            "maxLength":3})x",
       R"x(pattern "^(?=.{1,253}$)([a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?\\.)+[a-zA-Z]{2,63}$" and maxLength 3)x"
       " leave no value"},
      {R"({"type":"array","minItems":3,"maxItems":2})", "minItems 3 and maxItems 2 leave no value"},
      {R"({"type":"object","minProperties":3,"maxProperties":1})",
       "minProperties 3 and maxProperties 1 leave no value"}};
  for (const auto& [schema, what] : bounds) {
    expect_refusal(schema, ErrorCode::invalid_argument, "#: " + what);
    expect_refusal(within(schema), ErrorCode::invalid_argument, "#/properties/a: " + what);
    // Within what is a rule of its own.
    expect_refusal(within(within(schema)), ErrorCode::invalid_argument, "#/properties/a/properties/a: " + what);
    expect_refusal(within(R"({"type":"array","minItems":1,"items":)" + schema + "}"), ErrorCode::invalid_argument,
                   "#/properties/a/items: " + what);
    // What may be left out is.
    check({R"({"type":"object","properties":{"a":)" + schema + R"(},"additionalProperties":false})",
           {"{}"},
           {R"({"a":5})", R"({"a":""})"}});
  }
  // Not what lies beside.
  test::expect_refusal_saying(
      R"({"properties":{"a":{"type":"integer","minimum":5,"maximum":3},"b":{"enum":["x"],"type":"null"}},"required":["b"],
          "type":"object"})",
      ErrorCode::invalid_argument, {R"(#/properties/b: enum ["x"] and type "null" leave no value)"});
}

TEST(JsonSchema, APatternThatIsNoneIsToldBesideBoundsThatExcludeEachOther) {
  for (const char* bounds : {R"("pattern":"^a$","minLength":3)", R"("minLength":3,"maxLength":2)"}) {
    expect_refusal(
        fmt::format(R"({{"type":"object","properties":{{"a":{{"type":"string",{},"allOf":[{{"pattern":"("}}]}}}}}})",
                    bounds),
        ErrorCode::invalid_argument, "#/properties/a/allOf/0/pattern: ");
  }
}

}  // namespace
}  // namespace tidemill::grammar
