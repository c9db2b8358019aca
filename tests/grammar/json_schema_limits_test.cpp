// Schemas that take much, or would by a careless translation.
#include <string>

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

// Schemas that would take exponential time or memory by a careless translation.
TEST(JsonSchema, HostileSchemasAreBounded) {
  std::string properties;
  for (int i = 0; i < 300; ++i)
    properties += fmt::format(R"({}"p{}":{{"type":"integer"}})", i == 0 ? "" : ",", i);
  check({fmt::format(R"({{"type":"object","properties":{{{}}}}})", properties),
         {"{}", R"({"p0":1,"p299":2})", R"({"p7":1,"x":2})"},
         {R"({"p299":1,"p0":2})"}});
  std::string chain;
  for (int i = 0; i < 60; ++i) {
    chain += fmt::format(
        R"("a{}":{{"type":"object","properties":{{"x":{{"$ref":"#/$defs/a{}"}},"y":{{"$ref":"#/$defs/a{}"}}}}}},)", i,
        i + 1, i + 1);
  }
  check({fmt::format(R"({{"$ref":"#/$defs/a0","$defs":{{{}"a60":{{"type":"null"}}}}}})", chain),
         {"{}", R"({"x":{"y":{}}})"},
         {"null"}});
  // 2^40 combinations.
  std::string all;
  for (int i = 0; i < 40; ++i) {
    all += fmt::format(R"({}{{"anyOf":[{{"properties":{{"a{}":{{}}}}}},{{"properties":{{"b{}":{{}}}}}}]}})",
                       i == 0 ? "" : ",", i, i);
  }
  expect_refusal(fmt::format(R"({{"allOf":[{}]}})", all), ErrorCode::too_large, "more than");
  std::string references;
  for (int i = 0; i < 1000; ++i)
    references += fmt::format(R"("r{}":{{"$ref":"#/$defs/r{}"}},)", i, i + 1);
  expect_refusal(fmt::format(R"({{"$ref":"#/$defs/r0","$defs":{{{}"r1000":{{}}}}}})", references), ErrorCode::too_large,
                 "more than");
  std::string deep;
  for (int i = 0; i < 300; ++i)
    deep += R"({"items":)";
  expect_refusal(R"x({"properties":{"a":{"allOf":[{"pattern":"a.{9}b"},{"pattern":"c.{9}d"}],"maxLength":100}}})x",
                 ErrorCode::too_large, "JSON Schema, #/properties/a: what must hold together");
  expect_refusal(R"x({"properties":{"a":{"pattern":"a.{40}b","maxLength":200}}})x", ErrorCode::too_large,
                 "JSON Schema, #/properties/a: a pattern beside a bound of length");
  expect_refusal(R"x({"properties":{"a":{"pattern":"a.{40}b","maxLength":100}}})x", ErrorCode::too_large,
                 "JSON Schema, #/properties/a: what must hold together");
  expect_refusal(deep + "{}" + std::string(300, '}'), ErrorCode::too_large, "nested");
  expect_refusal(R"({"type":"array","minItems":1000000000000})", ErrorCode::too_large, "over the limit");
  expect_refusal(R"({"enum":[")" + std::string(20'000, 'a') + R"("],"pattern":"^((a*)*)*b$"})", ErrorCode::too_large,
                 "too long");
}

TEST(JsonSchema, ListsTooLongToBeComparedAreRefused) {
  std::string values;
  for (int i = 0; i < 10'000; ++i)
    values += fmt::format("{}{}", i == 0 ? "" : ",", i);
  expect_refusal(fmt::format(R"({{"allOf":[{{"enum":[{0}]}},{{"enum":[{0}]}}]}})", values), ErrorCode::too_large,
                 "too long to be compared");
  // Few values that are long, and alternatives that come behind much that holds already.
  std::string rows;
  std::string others;
  for (int i = 0; i < 1'000; ++i) {
    const std::string zeros(400, '0');
    std::string row;
    for (const char zero : zeros)
      row += std::string(1, zero) + ",";
    rows += fmt::format("{}[{}{}]", i == 0 ? "" : ",", row, i);
    others += fmt::format("{}[{}-{}]", i == 0 ? "" : ",", row, i + 1);
  }
  expect_refusal(fmt::format(R"({{"allOf":[{{"enum":[{}]}},{{"enum":[{}]}}]}})", rows, others), ErrorCode::too_large,
                 "too long to be compared");
  std::string held;
  for (int i = 0; i < 1'000; ++i)
    held += fmt::format(R"({{"description":"{}"}},)", i);
  for (int i = 0; i < 16; ++i)
    held += fmt::format(R"({{"anyOf":[{{"title":"a{0}"}},{{"title":"b{0}"}}]}},)", i);
  expect_refusal(
      fmt::format(R"({{"type":"object","allOf":[{}{{"anyOf":[{{"type":"string"}},{{"type":"null"}}]}}]}})", held),
      ErrorCode::too_large, "combine fewer");
}

// Each optional property may be followed by any of those behind it, so that what is kept grows with their square.
TEST(JsonSchema, ObjectsTakeAThousandOptionalProperties) {
  const auto object = [](int count, std::string_view more, int required_each = 0) {
    std::string properties;
    std::string required;
    for (int i = 0; i < count; ++i) {
      properties += fmt::format(R"({}"p{}":{{"type":"null"}})", i == 0 ? "" : ",", i);
      if (required_each > 0 && i % required_each == 0)
        required += fmt::format(R"({}"p{}")", required.empty() ? "" : ",", i);
    }
    return fmt::format(R"({{"type":"object","properties":{{{}}},"required":[{}],"additionalProperties":false{}}})",
                       properties, required, more);
  };
  expect_refusal(object(16'000, ""), ErrorCode::too_large, "16000 properties, 16000 of them optional, are too many");
  expect_refusal(object(1'100, ""), ErrorCode::too_large, "too many");
  expect_refusal(object(900, R"(,"maxProperties":20)"), ErrorCode::too_large, "too many");
  // Nothing is named that the schema does not have.
  const std::string crowded = refusal(object(20'000, "", 1), ErrorCode::too_large);
  EXPECT_NE(crowded.find("20000 properties are too many in one object, which takes 19999 at most"), std::string::npos)
      << crowded;
  EXPECT_EQ(crowded.find("minProperties"), std::string::npos) << crowded;
  const std::string last = R"({"p899":null})";
  check({object(900, ""), {"{}", last}, {R"({"p899":null,"p1":null})"}});
  std::string all;
  for (int i = 0; i < 3'000; i += 3)
    all += fmt::format(R"({}"p{}":null)", i == 0 ? "" : ",", i);
  const std::string some = "{" + all + "}";
  check({object(3'000, "", 3), {some}, {"{}"}});
  // What several objects have counts together; those that are the same are one.
  std::string objects;
  for (int i = 0; i < 30; ++i) {
    std::string properties;
    for (int j = 0; j < 300; ++j)
      properties += fmt::format(R"({}"p{}_{}":{{"type":"null"}})", j == 0 ? "" : ",", i, j);
    objects += fmt::format(R"({}"o{}":{{"type":"object","properties":{{{}}},"additionalProperties":false}})",
                           i == 0 ? "" : ",", i, properties);
  }
  expect_refusal(fmt::format(R"({{"type":"object","properties":{{{}}}}})", objects), ErrorCode::too_large,
                 "more than 1000000 alternatives");
  // Nor is the same object written hundreds of times where each of its properties leads back to it.
  std::string leading_back;
  for (int i = 0; i < 500; ++i)
    leading_back += fmt::format(R"({}"p{}":{{"anyOf":[{{"type":"null"}},{{"$ref":"#"}}]}})", i == 0 ? "" : ",", i);
  expect_refusal(fmt::format(R"({{"type":"object","properties":{{{}}},"additionalProperties":false}})", leading_back),
                 ErrorCode::too_large, "all together");
}

TEST(JsonSchema, LargeEnums) {
  std::string schema = R"({"enum":[)";
  for (int i = 0; i < 20'000; ++i)
    schema += fmt::format(R"({}"value-{}")", i == 0 ? "" : ",", i);
  check({(schema + "]}"), {R"("value-0")", R"("value-19999")"}, {R"("value-20000")", R"("value-")"}});
}

}  // namespace
}  // namespace tidemill::grammar
