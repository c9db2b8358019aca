// Types of a tool's properties, within one bound of work for all of them.
#include "chat/value_types.hpp"

#include <string>

#include <gtest/gtest.h>

namespace tidemill::chat {
namespace {

namespace json = base::json;

json::value any_of(const json::value& schema, size_t count) {
  return json::object{{"anyOf", json::array(count, schema)}};
}

const json::value& integer() {
  static const json::value schema = json::object{{"type", "integer"}};
  return schema;
}

TEST(ValueTypes, OfAllPropertiesAreSoughtWithinOneBound) {
  const json::value object = json::object();
  TypeSearch search(object);
  EXPECT_EQ(search.admitted(any_of(integer(), 50'000)), ValueTypes::number);
  EXPECT_EQ(search.admitted(any_of(integer(), 40'000)), ValueTypes::number);
  EXPECT_EQ(search.admitted(any_of(integer(), 20'000)), ValueTypes::any);
  EXPECT_EQ(search.admitted(integer()), ValueTypes::any);
  EXPECT_EQ(search.held_whole(json::object{{"type", "string"}}), ValueTypes::none);
  EXPECT_EQ(TypeSearch(object).admitted(integer()), ValueTypes::number);
}

TEST(ValueTypes, GoByOtherWordsForTypesToo) {
  const json::value object = json::object();
  TypeSearch search(object);
  EXPECT_EQ(search.admitted(json::object{{"type", "STRING"}}), ValueTypes::text);
  EXPECT_EQ(search.admitted(json::object{{"type", json::array{"int", "NULL"}}}), ValueTypes::number | ValueTypes::null);
  EXPECT_EQ(search.admitted(json::object{{"type", "any"}}), ValueTypes::any);
  EXPECT_EQ(search.held_whole(json::object{{"type", "INTEGER"}}), ValueTypes::none);
  EXPECT_EQ(search.held_whole(json::object{{"type", "str"}}), ValueTypes::text);
}

TEST(ValueTypes, WhatIsTooDeepCountsAsWell) {
  const json::value object = json::object();
  json::value deep = any_of(integer(), 200'000);
  for (int i = 0; i < 15; ++i)
    deep = any_of(deep, 1);
  TypeSearch search(object);
  EXPECT_EQ(search.admitted(deep), ValueTypes::any);
  EXPECT_EQ(search.admitted(integer()), ValueTypes::any);
}

// References are followed as grammars follow them: from the next $id around them, percent-decoded, by names and
// anchors.
TEST(ValueTypes, ReferencesMeanWhatTheyMeanToGrammars) {
  const json::value object = json::parse(R"({
    "properties": {
      "embedded": {"$id": "http://x/y", "$ref": "#/$defs/R",
                   "$defs": {"R": {"type": "integer"}, "S": {"$anchor": "s", "type": "null"}}},
      "within": {"$id": "http://x/z", "anyOf": [{"$ref": "#/$defs/R"}], "$defs": {"R": {"type": "array"}}},
      "outside": {"$ref": "#/$defs/R"},
      "decoded": {"$ref": "#/$defs/a%20b"},
      "escaped": {"$ref": "#/$defs/a~1b"},
      "named": {"$ref": "http://x/y#s"},
      "anchored": {"$ref": "#t"},
      "elsewhere": {"$ref": "http://x/w"},
      "nowhere": {"$ref": "#/$defs/none"}
    },
    "$defs": {"R": {"type": "string"}, "a b": {"type": "integer"}, "a%20b": {"type": "string"},
              "a/b": {"type": "boolean"}, "T": {"$anchor": "t", "type": "object"}}})");
  const auto types = [&](const char* name) { return property_types(object, name); };
  EXPECT_EQ(types("embedded"), ValueTypes::number);
  EXPECT_EQ(types("within"), ValueTypes::array);
  EXPECT_EQ(types("outside"), ValueTypes::text);
  EXPECT_EQ(types("decoded"), ValueTypes::number);
  EXPECT_EQ(types("escaped"), ValueTypes::boolean);
  EXPECT_EQ(types("named"), ValueTypes::null);
  EXPECT_EQ(types("anchored"), ValueTypes::object);
  EXPECT_EQ(types("elsewhere"), ValueTypes::any);
  EXPECT_EQ(types("nowhere"), ValueTypes::any);
}

// However many properties refer to it, and however often it does to itself.
TEST(ValueTypes, WhatIsReferredToIsLookedAtOnce) {
  const json::value object =
      json::object{{"$defs", json::object{{"text", json::object{{"type", json::array{"string", "null"}}}},
                                          {"texts", any_of(json::object{{"$ref", "#/$defs/text"}}, 1'000)},
                                          {"loop", any_of(json::object{{"$ref", "#/$defs/loop"}}, 100)}}}};
  TypeSearch search(object);
  const json::value texts = json::object{{"$ref", "#/$defs/texts"}};
  const json::value loop = json::object{{"$ref", "#/$defs/loop"}};
  for (int i = 0; i < 30'000; ++i) {
    ASSERT_EQ(search.admitted(texts), ValueTypes::text | ValueTypes::null) << i;
    ASSERT_EQ(search.held_whole(texts), ValueTypes::text | ValueTypes::null) << i;
    ASSERT_EQ(search.admitted(loop), ValueTypes::any) << i;
  }
}

}  // namespace
}  // namespace tidemill::chat
