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
using test::expect_refusal;
using test::refusal;

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

TEST(JsonSchema, Patterns) {
  check({R"({"type":"string","pattern":"^[a-c]+$"})", {R"("abc")"}, {R"("")", R"("abcd")", R"("\u0061")"}});
  check({R"({"type":"string","pattern":"b"})", {R"("b")", R"("abc")", R"("\"b\n")"}, {R"("")", R"("ac")"}});
  check({R"({"type":"string","pattern":"^\\d{3}"})", {R"("123")", R"("123x")"}, {R"("12")", R"("x123")"}});
  check({R"({"type":"string","pattern":"^a|b$"})", {R"("ax")", R"("xb")"}, {R"("xa")", R"("bx")"}});
  check({R"({"type":"string","pattern":"^\"\\\\$"})", {R"("\"\\")"}, {R"("""")"}});
  check({R"({"type":"string","pattern":"^[a-z]*$","minLength":2,"maxLength":3})",
         {R"("ab")", R"("abc")"},
         {R"("a")", R"("abcd")"}});
  check({R"({"type":"string","pattern":"^(ab|c)*$","minLength":2,"maxLength":3})",
         {R"("ab")", R"("abc")", R"("ccc")", R"("cab")"},
         {R"("c")", R"("abab")", R"("b")"}});
  check({R"({"type":"string","allOf":[{"pattern":"a"},{"pattern":"b"}]})",
         {R"("ab")", R"("xbya")"},
         {R"("a")", R"("b")"}});
}

TEST(JsonSchema, PatternsThatLookAheadAtTheirBeginning) {
  check({R"({"type":"string","pattern":"^(?=.*[A-Z])(?=.*\\d)[A-Za-z0-9]{3,}$"})",
         {R"("A1b")", R"("b1A")", R"("1AAAA")"},
         {R"("A1")", R"("abc1")", R"("ABC")", R"("A1-")"}});
  check({R"({"type":"string","pattern":"^(?!admin$|root)[a-z]+$","maxLength":6})",
         {R"("admins")", R"("adm")", R"("roo")"},
         {R"("admin")", R"("root")", R"("roots")", R"("adminss")", R"("")"}});
  // What must not follow may be anywhere; brackets and escapes close nothing.
  check(
      {R"x({"type":"string","pattern":"^(?!.*(?:[)]|\\)|--))"})x", {R"("")", R"("a-b(")"}, {R"x(")")x", R"("a--b")"}});
  check({R"x({"type":"string","pattern":"^(?!a)[a-c]$","enum":["a","b"]})x", {R"("b")"}, {R"("a")", R"("c")"}});
  expect_refusal(R"x({"type":"string","pattern":"^(?=a)(?!a)"})x", ErrorCode::invalid_argument, "no value");
  for (const char* elsewhere : {"(?=a)", "^b(?!a)", "^(?=a)b|c", "^(?=a(?=b))", "^(?:(?!a).)*$", "^(?!a)*b"}) {
    test::expect_refusal_saying(fmt::format(R"({{"type":"string","pattern":"{}"}})", elsewhere), ErrorCode::unsupported,
                                {"#/pattern", "lookahead is not supported here"});
  }
  test::expect_refusal_saying(R"x({"type":"string","pattern":"^(?=.*[0-9])(.)\\1$"})x", ErrorCode::unsupported,
                              {"#/pattern", "position 16: back-references"});
}

// What only leaves texts out is computed once: of four such strings, each within its own count, there is room.
TEST(JsonSchema, PatternsOfLongTextsThatOnlyLeaveTextsOut) {
  const auto property = [](char first) {
    return fmt::format(
        R"x("{0}":{{"type":"string","pattern":"^(?!.*--){0}(?:[a-z0-9-]*[a-z0-9])?$","maxLength":1500}})x", first);
  };
  const std::string longest = "a-" + std::string(1'498, 'z');
  const auto object = [](const std::string& a) { return fmt::format(R"({{"a":"{}","b":"b","c":"c","d":"d"}})", a); };
  check({fmt::format(R"({{"type":"object","properties":{{{},{},{},{}}},"required":["a","b","c","d"]}})", property('a'),
                     property('b'), property('c'), property('d')),
         {object("a-b-c"), object(longest)},
         {object("a--b"), object("a-"), object(longest + "z")}});
}

// As docs/grammar.md says: the length is counted last, so what has many states without it is too much.
TEST(JsonSchema, PatternsOfManyStatesAreTooMuchTogether) {
  expect_refusal(
      R"({"type":"string","allOf":[{"pattern":"a.{4}b"},{"pattern":"c.{4}d"},{"pattern":"^[a-d]+$"}],"maxLength":7})",
      ErrorCode::too_large, "takes together with the others more than 20000 states");
  check({R"({"type":"string","allOf":[{"pattern":"a.{4}b"},{"pattern":"^[a-d]+$"}],"maxLength":7})",
         {R"("accccb")", R"("daccccb")"},
         {R"("acb")", R"("accccbdd")", R"("cccccb")"}});
}

// What passwords are asked for: several conditions, and a length that is counted.
TEST(JsonSchema, PatternsOfPasswords) {
  const std::string conditions = R"(^(?=.*[A-Z])(?=.*[a-z])(?=.*\\d)(?=.*[^A-Za-z0-9]))";
  const auto schema = [](const std::string& pattern, const std::string& more = "") {
    return fmt::format(R"({{"type":"string","pattern":"{}"{}}})", pattern, more);
  };
  const std::string longest = "Aa1-" + std::string(60, 'x');
  const std::vector<std::string> good = {R"("Passw0rd!")", R"("aaaaA1é字")", R"("\"aB34567")", '"' + longest + '"'};
  const std::vector<std::string> bad = {R"("passw0rd!")", R"("PASSW0RD!")", R"("Password!")",
                                        R"("Passw0rds")", R"("Pa0!567")",   R"("Pass\nw0rd!")"};
  std::vector<std::string> bad_and_long = bad;
  bad_and_long.push_back('"' + longest + "x\"");
  check({schema(conditions + ".{8,}$"), good, bad});
  check({schema(conditions + ".{8,64}$"), good, bad_and_long});
  check({schema(conditions + ".{8,128}$"), good, bad});
  check({schema(conditions + ".+$", R"(,"minLength":8,"maxLength":64)"), good, bad_and_long});
  check({schema(conditions + R"((?!.*\\s)(?!.*--).{8,}$)", R"(,"maxLength":72)"), good, bad});
  // The length may be the first condition as well.
  check({schema("^(?=.{8,64}$)" + conditions.substr(1) + ".*$"), good, bad_and_long});
  check({schema(R"(^(?=.{8,32}$)(?=.*[A-Z])(?=.*[a-z])(?=.*\\d).*$)"),
         {R"("Passw0rd")", R"("aA345678901234567890123456789012")"},
         {R"("Passw0r")", R"("aA3456789012345678901234567890123")", R"("passw0rd")"}});
  // As docs/grammar.md says.
  GrammarBuilder builder;
  const base::json::value longest_taken = base::parse_json(schema(conditions + ".{8,128}$")).value();
  const auto root = json_schema(builder, longest_taken);
  ASSERT_TRUE(root);
  const auto grammar = std::move(builder).build(*root);
  ASSERT_TRUE(grammar);
  size_t states = 0;
  for (const auto& automaton : (*grammar)->expressions().automata())
    states += automaton->size();
  EXPECT_EQ(states, 16'876U);
  JsonSchemaOptions raw;
  raw.notation = {.end_of_text = "</parameter>", .quote = {}};
  check({schema(conditions + ".{8,64}$"),
         {"Passw0rd!", "</Parameter1", longest},
         {"passw0rd!", "Aa1</parameter>", "Aa1345678</parameter>", longest + "x"}},
        raw);
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
