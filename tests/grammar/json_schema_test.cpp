#include "grammar/json_schema.hpp"

#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/json.hpp"
#include "grammar/acceptor.hpp"
#include "grammar/schema_cases.hpp"

namespace tidemill::grammar {
namespace {

using base::ErrorCode;
using test::check;

TEST(JsonSchema, Types) {
  check({R"({"type":"null"})", {"null"}, {"", "true", "nul", "null "}});
  check({R"({"type":"boolean"})", {"true", "false"}, {"null", "0", "\"true\""}});
  check({R"({"type":["integer","null"]})", {"0", "-7", "null"}, {"0.5", "\"\"", "[]"}});
  check({R"({"type":"array"})", {"[]", "[1, null]", "[[],{}]"}, {"{}", "[1,]", "[,1]"}});
  check({R"({"type":"object"})", {"{}", R"({"a": 1})", R"({"a":{"b":[]}, "c":null})"}, {"[]", R"({"a"})", "{1:2}"}});
  check({"true", {"null", "1", "\"x\"", "[]", R"({"a":[1e5,-0.5]})"}, {"", "x", "[1", "01", "1.", "+1"}});
  check({"{}", {"null", R"([{"a":"b"}])"}, {"nil"}});
}

TEST(JsonSchema, Strings) {
  check({R"({"type":"string"})",
         {R"("")", R"("abc")", R"("\"\\\/\b\f\n\r\t")", R"("\u00e9\uD83D\uDE00")", "\"é😀\x7f\""},
         {R"(")", R"("a)", R"("\x")", R"("\uD83D")", R"("\uDE00")", R"("\uD83Dx")", "\"\n\"", "\"\x80\"", R"(""")"}});
  check({R"({"type":"string","minLength":1,"maxLength":2})",
         {R"("a")", R"("ab")", "\"😀é\"", R"("\uD83D\uDE00\n")"},
         {R"("")", R"("abc")", R"("\u0061\u0062\u0063")"}});
  check({R"({"type":"string","maxLength":0})", {R"("")"}, {R"("a")"}});
}

TEST(JsonSchema, Integers) {
  check({R"({"type":"integer"})",
         {"0", "-1", "999999999999999999"},
         {"01", "-0", "1.0", "1e2", "1000000000000000000", "-"}});
  check({R"({"type":"integer","minimum":-9007199254740991,"maximum":9007199254740991})",
         {"0", "9007199254740991", "-9007199254740991"},
         {"9007199254740992", "-9007199254740992"}});
  check({R"({"type":"integer","minimum":1.5,"maximum":3.5})", {"2", "3"}, {"1", "4"}});
  check({R"({"type":"integer","exclusiveMinimum":-2,"exclusiveMaximum":1})", {"-1", "0"}, {"-2", "1"}});
  check({R"({"type":"integer","maximum":-5})", {"-5", "-123"}, {"-4", "0", "5"}});
  check({R"({"type":"number","multipleOf":5})", {"0", "-5", "15", "100"}, {"1", "2.5", "12", "5.0"}});
  check(
      {R"({"type":"integer","multipleOf":7,"minimum":-20,"maximum":1000})", {"-14", "0", "994"}, {"-21", "1001", "8"}});
}

// Every text of up to four characters, against the bounds themselves.
TEST(JsonSchema, BoundsAreExact) {
  const char alphabet[] = "-.0159";
  for (const auto& [low, high] : std::vector<std::pair<double, double>>{
           {-1, 1}, {0, 0.5}, {-5.1, -0.05}, {0.15, 15}, {5, 5}, {-0.5, 0}, {9.9, 100}, {0.001, 0.9}, {-95, 51}}) {
    for (const bool exclusive : {false, true}) {
      for (const bool integer : {false, true}) {
        const std::string schema = fmt::format(R"({{"type":"{}","{}":{},"{}":{}}})", integer ? "integer" : "number",
                                               exclusive ? "exclusiveMinimum" : "minimum", low,
                                               exclusive ? "exclusiveMaximum" : "maximum", high);
        SCOPED_TRACE(schema);
        GrammarBuilder builder;
        const auto root = json_schema(builder, *base::parse_json(schema));
        const bool empty = !root;
        if (empty) {
          EXPECT_TRUE(integer || (low == high && exclusive)) << root.error().message();
        }
        GrammarBuilder spare;
        test::Acceptor accepts(empty ? std::move(spare) : std::move(builder), empty ? Expression{1} : *root);
        std::vector<std::string> texts{""};
        for (size_t i = 0; i < texts.size() && texts[i].size() < 4; ++i) {
          for (const char* c = alphabet; *c != '\0'; ++c)
            texts.push_back(texts[i] + *c);
        }
        for (const std::string& text : texts) {
          const auto value = base::parse_json(text);
          bool expected = value && value->is_number() && (!integer || !value->is_double());
          if (expected) {
            const double number = value->to_number<double>();
            expected = exclusive ? number > low && number < high : number >= low && number <= high;
            expected = expected && !(number == 0 && text[0] == '-');  // -0 is never written
          }
          ASSERT_EQ(accepts(text) && !(empty && text.empty()), expected) << text;
        }
      }
    }
  }
}

TEST(JsonSchema, Numbers) {
  check({R"({"type":"number"})",
         {"0", "-0.5", "12.25", "1e5", "1.5E-10", "0.30000000000000004"},
         {".5", "1.", "1e", "1e100", "01", "0.123456789012345678"}});
  check({R"({"type":"number","minimum":0.1,"maximum":1e3})",
         {"0.1", "1000", "1000.0", "0.10000"},
         {"0.09", "1000.01", "1e2"}});
  check({R"({"type":"number","exclusiveMinimum":0,"maximum":1})", {"0.00001", "1", "1.0"}, {"0", "0.0", "1.00001"}});
  // Out of reach of the digits that are written: the number at the bound.
  check({R"({"type":"number","minimum":1e308})", {"1e+308"}, {"1", "0"}});
  check({R"({"type":"number","maximum":-1e308})", {"-1e+308"}, {"-1", "0"}});
  check({R"({"type":"number","exclusiveMinimum":1e300})", {"1.0000000000000002e+300"}, {"1e+300"}});
  check({R"({"type":"number","minimum":1e-30,"maximum":1e-29})", {"1e-30"}, {"0"}});
}

TEST(JsonSchema, EnumAndConst) {
  check({R"({"enum":["a",1,null,[1,"b"],{"k":true}]})",
         {R"("a")", "1", "null", R"([1,"b"])", R"({"k":true})"},
         {R"("b")", "1.0", R"([1, "b"])"}});
  check({R"({"enum":["a",1,2.5,"bcd"],"type":"string","maxLength":2})", {R"("a")"}, {"1", R"("bcd")"}});
  check({R"({"const":"é\n\"😀"})", {"\"é\\n\\\"😀\""}, {R"("\u00e9\n\"😀")"}});
  check({R"({"enum":["ab","cd"],"pattern":"^a"})", {R"("ab")"}, {R"("cd")"}});
  check({R"({"enum":[1,5,10],"minimum":2,"allOf":[{"enum":[5.0,1]}]})", {"5"}, {"1", "10"}});
  check({R"({"enum":[{"a":1},{"a":"x"}],"properties":{"a":{"type":"string"}}})", {R"({"a":"x"})"}, {R"({"a":1})"}});
}

TEST(JsonSchema, Arrays) {
  check({R"({"type":"array","items":{"type":"integer"},"minItems":2,"maxItems":3})",
         {"[1,2]", "[1, 2, 3]"},
         {"[]", "[1]", "[1,2,3,4]", "[1,null]", "[1 ,2]"}});
  check({R"({"type":"array","items":{"type":"integer"},"maxItems":0})", {"[]"}, {"[1]"}});
  check({R"({"type":"array","items":{"type":"integer"},"maxItems":1})", {"[]", "[1]"}, {"[1,2]"}});
  check({R"({"type":"array","prefixItems":[{"type":"integer"},{"type":"string"}],"items":false})",
         {"[]", "[1]", R"([1,"a"])"},
         {R"(["a"])", R"([1,"a",2])"}});
  check(
      {R"({"type":"array","prefixItems":[{"type":"integer"},{"type":"string"}],"items":{"type":"null"},"minItems":2})",
       {R"([1,"a"])", R"([1,"a",null,null])"},
       {"[]", "[1]", R"([1,"a",2])"}});
  check({R"({"type":"array","items":[{"type":"integer"}],"additionalItems":false})", {"[]", "[1]"}, {"[1,2]"}});
  check({R"({"type":"array","items":{"type":"integer"},"uniqueItems":true,"maxItems":1})", {"[3]"}, {"[3,3]"}});
}

TEST(JsonSchema, Objects) {
  const char* schema = R"({"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"string"},
                           "c":{"type":"null"}},"required":["b"],"additionalProperties":false})";
  check(
      {schema,
       {R"({"b":""})", R"({"a":1,"b":""})", R"({"b":"","c":null})", R"({"a": 1, "b": "x", "c": null})"},
       {"{}", R"({"a":1})", R"({"b":"","a":1})", R"({"b":"","d":1})", R"({"b":"",})", R"({,"b":""})", R"({ "b":""})"}});
  check({R"({"type":"object","properties":{"a":{},"b":{}},"additionalProperties":false})",
         {"{}", R"({"a":1})", R"({"b":1})", R"({"a":1,"b":2})"},
         {R"({"b":1,"a":2})", R"({"a":1,"a":2})"}});
  check({R"({"type":"object","required":["x"]})",
         {R"({"x":1})", R"({"x":1,"y":2})"},
         {"{}", R"({"y":2})", R"({"x":1,"x":2})"}});
}

TEST(JsonSchema, AdditionalProperties) {
  check({R"({"type":"object","properties":{"ab":{"type":"integer"}},"additionalProperties":{"type":"string"}})",
         {"{}", R"({"ab":1})", R"({"ab":1,"c":"x","d":"y"})", R"({"a":"x"})", R"({"abc":"x"})", R"({"":"x"})",
          R"({"\n":"x"})"},
         {R"({"ab":"x"})", R"({"c":1})", R"({"c":"x","ab":1})", R"({"\u0061b":"x"})"}});
  check({R"({"type":"object","propertyNames":{"type":"string"},"additionalProperties":{"type":"integer"}})",
         {"{}", R"({"a":1})"},
         {R"({"a":"x"})"}});
  check({R"({"type":"object","propertyNames":{"enum":["a","b"]},"properties":{"a":{"type":"null"},"z":{}}})",
         {"{}", R"({"a":null,"b":1})"},
         {R"({"a":1})", R"({"c":1})", R"({"z":1})"}});
  check({R"({"type":"object","propertyNames":{"pattern":"^x"},"properties":{"x1":{"type":"null"}}})",
         {R"({"x1":null})", R"({"x2":1})"},
         {R"({"x1":1})", R"({"y":1})"}});
  check({R"({"type":"object","patternProperties":{"^x-":{"type":"string"}},"properties":{"x-a":{"maxLength":1}},
             "additionalProperties":false})",
         {"{}", R"({"x-a":"1","x-b":"long"})"},
         {R"({"x-a":1})", R"({"x-a":"12"})", R"({"y":"z"})", R"({"x-b":1})"}});
}

TEST(JsonSchema, CountedProperties) {
  check({R"({"type":"object","minProperties":1,"additionalProperties":{"type":"integer"}})",
         {R"({"a":1})", R"({"a":1,"b":2})"},
         {"{}"}});
  check({R"({"type":"object","properties":{"a":{},"b":{},"c":{}},"minProperties":2,"additionalProperties":false})",
         {R"({"a":1,"c":1})", R"({"b":1,"c":1})", R"({"a":1,"b":1,"c":1})"},
         {"{}", R"({"b":1})"}});
  check({R"({"type":"object","properties":{"a":{},"b":{}},"required":["b"],"maxProperties":2})",
         {R"({"b":1})", R"({"a":1,"b":1})", R"({"b":1,"z":1})"},
         {"{}", R"({"a":1,"b":1,"z":1})", R"({"b":1,"y":1,"z":1})"}});
  check({R"({"type":"object","maxProperties":0})", {"{}"}, {R"({"a":1})"}});
}

TEST(JsonSchema, Combinations) {
  check({R"({"anyOf":[{"type":"integer"},{"type":"null"}]})", {"1", "null"}, {"\"\""}});
  check({R"({"anyOf":[{"type":"integer"},{"type":"string"}],"type":["integer","null"]})", {"1"}, {"null", "\"\""}});
  check({R"({"oneOf":[{"type":"integer","maximum":3},{"type":"integer","minimum":4},{"type":"string"}]})",
         {"3", "4", "\"\""},
         {"null"}});
  check({R"({"oneOf":[{"type":"object","properties":{"k":{"const":"a"},"v":{"type":"integer"}},"required":["k","v"]},
                      {"type":"object","properties":{"k":{"const":"b"}},"required":["k"]}]})",
         {R"({"k":"a","v":1})", R"({"k":"b"})"},
         {R"({"k":"a"})", R"({"k":"c"})"}});
  check({R"({"type":"object","required":["k"],"properties":{"k":{}},
             "oneOf":[{"properties":{"k":{"const":1}}},{"properties":{"k":{"const":2}}}]})",
         {R"({"k":1})", R"({"k":2,"x":0})"},
         {R"({"k":3})", "{}"}});
  check({R"({"oneOf":[{"required":["a"],"properties":{"a":{}},"additionalProperties":false,"type":"object"},
                      {"required":["b"],"properties":{"b":{}},"additionalProperties":false,"type":"object"}]})",
         {R"({"a":1})", R"({"b":1})"},
         {"{}", R"({"a":1,"b":1})"}});
  check({R"({"allOf":[{"properties":{"a":{"type":"integer"}},"required":["a"]},
                      {"properties":{"a":{"minimum":5},"b":{"type":"null"}}}],"type":"object"})",
         {R"({"a":5})", R"({"a":7,"b":null})"},
         {R"({"a":4})", R"({"a":"x"})", "{}", R"({"a":5,"b":1})"}});
  check({R"({"type":"object","properties":{"a":{}},"allOf":[{"properties":{"b":{}}}],"unevaluatedProperties":false})",
         {R"({"a":1,"b":2})", "{}"},
         {R"({"c":1})"}});
  check({R"({"not":{"type":["null","string"]}})", {"1", "[]"}, {"null", "\"\""}});
  check(
      {R"({"type":"object","properties":{"a":{},"b":{}},"dependentRequired":{"a":["b"]},"additionalProperties":false})",
       {"{}", R"({"b":1})", R"({"a":1,"b":1})"},
       {R"({"a":1})"}});
}

TEST(JsonSchema, References) {
  check({R"({"$ref":"#/$defs/n","$defs":{"n":{"type":"object","properties":{"v":{"type":"integer"},
             "next":{"anyOf":[{"$ref":"#/$defs/n"},{"type":"null"}]}},"required":["v","next"],"additionalProperties":false}}})",
         {R"({"v":1,"next":null})", R"({"v":1,"next":{"v":2,"next":null}})"},
         {R"({"v":1,"next":{}})", R"({"v":1})"}});
  check({R"({"type":"array","items":{"$ref":"#"}})", {"[]", "[[],[[]]]"}, {"[1]", "["}});
  check({R"({"$defs":{"a~/b%":{"type":"null"},"t":{"$anchor":"x","type":"integer"}},
             "anyOf":[{"$ref":"#/$defs/a~0~1b%25"},{"$ref":"#x"}]})",
         {"null", "3"},
         {"\"\""}});
  check({R"({"$id":"https://t.example/s","$defs":{"i":{"$id":"https://t.example/i","$defs":{"k":{"type":"null"}},
             "$ref":"#/$defs/k"},"k":{"type":"string"}},"anyOf":[{"$ref":"https://t.example/i"},
             {"$ref":"https://t.example/s#/$defs/k"}]})",
         {"null", "\"a\""},
         {"1"}});
  check({R"({"definitions":{"p":{"type":"integer","minimum":0}},"allOf":[{"$ref":"#/definitions/p"},
             {"$ref":"#/definitions/p"}]})",
         {"0"},
         {"-1"}});
}

TEST(JsonSchema, WhiteSpace) {
  const char* schema =
      R"({"type":"object","properties":{"a":{"type":"array","items":{"type":"null"}}},"required":["a"]})";
  check({schema, {R"({"a":[null,null]})"}, {R"({"a": [null]})", R"({"a":[null, null]})"}},
        {JsonSchemaOptions::Space::none});
  check({schema, {R"({"a": [null,null], "b":1})"}, {R"({"a":  []})", "{\n}", R"({"a" :[]})"}});
  check({schema,
         {R"({"a":[]})", R"({"a": []})", "{\n  \"a\": [\n    null,\n    null\n  ]\n}"},
         {"{\n\n\"a\":[]}", R"({"a":  []})"}},
        {JsonSchemaOptions::Space::lines});
}

TEST(JsonSchema, AnyObject) {
  GrammarBuilder builder;
  const Expression root = any_json_object(builder);
  test::Acceptor accepts(std::move(builder), root);
  for (const char* text : {"{}", R"({"a": [1, {"b": null}], "a": true})", R"({"\u0061":"\ud83d\ude00"})"})
    EXPECT_TRUE(accepts(text)) << text;
  for (const char* text : {"[]", "1", "{} ", R"({"a":})"})
    EXPECT_FALSE(accepts(text)) << text;
}

TEST(JsonSchema, ItemsOfAFewValuesMayDiffer) {
  test::check({R"({"type":"array","items":{"enum":["a","b",3,null]},"uniqueItems":true,"minItems":1,"maxItems":3})",
               {R"(["a"])", R"(["b","a"])", R"([3, null,"b"])"},
               {"[]", R"(["a","a"])", R"(["a","b","a"])", R"(["a","b",3,null])", R"(["c"])"}});
  test::check({R"({"type":"array","items":{"anyOf":[{"const":1},{"enum":[1.0,{"x":[1]}]}]},"uniqueItems":true})",
               {"[]", "[1]", R"([{"x":[1]},1])"},
               {"[1,1]", R"([{"x":[1]},{"x":[1]}])"}});
  // Values that are given must differ as well; other types have nothing to keep.
  test::check({R"({"enum":[[1,2],[2,2],"a"],"uniqueItems":true})", {"[1,2]", R"("a")"}, {"[2,2]"}});
  test::check({R"({"type":"string","maxLength":1,"uniqueItems":true})", {R"("a")"}, {"[]"}});
  test::expect_refusal(R"({"type":"array","items":{"enum":["a","b"]},"uniqueItems":true,"minItems":3})",
                       ErrorCode::invalid_argument, "no value satisfies");
}

TEST(JsonSchema, DependenciesOfOlderDrafts) {
  test::check({R"({"type":"object","properties":{"a":{"type":"null"},"b":{"type":"null"}},"additionalProperties":false,
                   "dependencies":{"a":["b"]}})",
               {"{}", R"({"b":null})", R"({"a":null,"b":null})"},
               {R"({"a":null})"}});
  test::check({R"({"type":"object","properties":{"a":{"type":"null"},"b":{}},"additionalProperties":false,
                   "dependencies":{"a":{"properties":{"b":{"type":"integer"}},"required":["b"]}}})",
               {R"({"b":null})", R"({"a":null,"b":1})"},
               {R"({"a":null})", R"({"a":null,"b":null})"}});
}

}  // namespace
}  // namespace tidemill::grammar
