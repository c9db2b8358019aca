// Texts that patterns describe: anywhere in them, ahead, together and within bounds of length.
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/json.hpp"
#include "grammar/json_schema.hpp"
#include "grammar/schema_cases.hpp"

namespace tidemill::grammar {
namespace {

using base::ErrorCode;
using test::check;
using test::expect_refusal;

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

// Bounds far past what an intersection could count: the characters around what the pattern asks for are counted.
TEST(JsonSchema, PatternsUnderLongBounds) {
  const auto text = [](const std::string& begin, size_t count, const std::string& end = "") {
    return '"' + begin + std::string(count, 'z') + end + '"';
  };
  const auto spaces = [](size_t count, const std::string& end) { return '"' + std::string(count, ' ') + end + '"'; };
  check({R"x({"type":"string","pattern":"^https?://","maxLength":2048})x",
         {R"("http://")", text("http://", 2'041), text("https://", 2'040), text("https://s", 3, "é")},
         {R"("https:/")", R"("x")", text("ftp://", 9), text("http://", 2'042), text("https://", 2'041)}});
  check({R"x({"type":"string","pattern":"^https?://","minLength":150,"maxLength":2048})x",
         {text("http://", 143), text("https://", 142)},
         {text("http://", 142), text("https://", 141)}});
  check({R"({"type":"string","pattern":"^\\S.*\\S$","maxLength":1000})",
         {R"("ab")", R"("a b c")", text("a ", 998), text("", 1'000)},
         {R"("a")", R"(" ab")", R"("ab ")", R"("a\nb")", text("", 1'001)}});
  check({R"({"type":"string","pattern":"\\S","maxLength":1000})",
         {R"("x")", spaces(999, "x"), spaces(4, "x "), text("", 1'000), R"("\nx")"},
         {R"("")", spaces(1, ""), spaces(1'000, ""), spaces(1'000, "x"), text("", 1'001)}});
  check({R"({"type":"string","pattern":".+","maxLength":5000})",
         {R"("x")", R"("\n\nx\n")", text("", 5'000)},
         {R"("")", R"("\n")", text("", 5'001)}});
  check({R"({"type":"string","pattern":"[0-9]","minLength":150,"maxLength":1500})",
         {text("1", 149), text("", 149, "1"), text("", 1'499, "1"), text("1", 1'499)},
         {text("1", 148), text("", 150), text("", 1'500, "1")}});
  check({R"({"type":"string","pattern":"^a|[0-9]{1,2}$","maxLength":300})",
         {text("a", 299), text("", 299, "1"), text("", 298, "12"), R"("7")"},
         {text("b", 9), text("a", 300), text("", 300, "1"), text("1", 299)}});
}

// Characters are counted beside what a pattern needs to be found, whatever it is, in all notations.
TEST(JsonSchema, AnyPatternUnderAnyBound) {
  struct Case {
    std::string pattern;  // as JSON writes it
    std::string before;   // what stands in front of as many "z" as there is room for
    std::string none;     // in which it does not match, however many "b" follow; "" where there is no such text
  };
  const std::vector<Case> cases = {
      {".*", "", ""},
      {"", "", ""},
      {R"([\\s\\S]*)", "", ""},
      {R"(\\s*)", "", ""},
      {R"(^\\s*\\S)", "", " "},
      {R"(\\S)", "", " "},
      {".{3}", "", ""},
      {".{3,}", "", ""},
      {"zoo", "zoo", "z"},
      {"^[a-z]+(-[a-z]+)*$", "a-b", "-"},
      {"@.+z", "@", "@"},
      {R"(\\d{3})", "a123", "12"},
      {R"x(^(?!.*<))x", "", "<"},
      {R"x(^(?=.*\\d)(?!.*--).{2,}$)x", "1-", "1--"},
  };
  for (const size_t most : {64, 100, 101, 255, 500, 501, 1'500}) {
    for (const Case& one : cases) {
      const std::string full = one.before + std::string(most - one.before.size(), 'z');
      std::vector<std::string> wrong{full + "z"};
      if (!one.none.empty()) wrong.push_back(one.none + std::string(one.none == " " ? 0 : 40, 'b'));
      const std::string schema = fmt::format(R"({{"type":"string","pattern":"{}","maxLength":{}}})", one.pattern, most);
      check({schema, {full}, wrong}, {.notation = {.end_of_text = "</a>", .quote = {}}});
      check({schema, {full}, {one.before + "zz</a>", full + "z", "null", "\tnull", "None"}},
            {.notation = {.end_of_text = "</a>", .quote = {}, .other_readings = {.null = true}}});
      for (std::string& text : wrong)
        text = '"' + text + '"';
      check({schema, {'"' + full + '"'}, wrong});
    }
  }
}

TEST(JsonSchema, PatternsUnderTheLargestBound) {
  const std::string longest(100'000, 'z');
  for (const char* pattern : {".*", "z", "^z+(-[a-z]+)*$"}) {
    check({fmt::format(R"({{"type":"string","pattern":"{}","maxLength":100000}})", pattern),
           {'"' + longest + '"'},
           {'"' + longest + "z\""}});
  }
}

// Which lengths lead to an end depends on where a text stands.
TEST(JsonSchema, PatternsUnderLowerBounds) {
  const auto text = [](size_t pairs, const std::string& end) {
    std::string all = "\"";
    for (size_t i = 0; i < pairs; ++i)
      all += "ab";
    return all + end + '"';
  };
  const auto schema = [](const std::string& pattern, size_t least, const std::string& most) {
    return fmt::format(R"({{"type":"string","pattern":"{}","minLength":{}{}}})", pattern, least, most);
  };
  check({schema("^(ab)*$", 201, ""), {text(101, ""), text(150, "")}, {text(100, ""), text(150, "a")}});
  check(
      {schema("^(ab)*$", 201, R"(,"maxLength":203)"), {text(101, "")}, {text(100, ""), text(102, ""), text(101, "a")}});
  check({schema("^(ab)*c$|^(abab)*dd$", 300, R"(,"maxLength":302)"),
         {text(150, "c"), text(150, "dd")},
         {text(149, "c"), text(149, "dd"), text(151, "c"), text(151, "dd")}});
  // Escapes are one character, and what they end with may stand for itself elsewhere.
  std::string escapes;
  std::string letters;
  for (int i = 0; i < 130; ++i) {
    escapes += "\\n";
    letters += i % 2 == 0 ? 'x' : 'n';
  }
  const std::string either = schema(R"(^(\\n|xn)*$)", 130, R"(,"maxLength":130)");
  check({either, {'"' + escapes + '"', '"' + letters + '"'}, {'"' + escapes + "\\n\"", '"' + letters.substr(2) + '"'}});
  expect_refusal(schema("^(ab)*$", 201, R"(,"maxLength":201)"), ErrorCode::invalid_argument, "no value");
}

TEST(JsonSchema, PatternsUnderLongBoundsOfRawTextsAndOfSeveral) {
  check({R"x({"type":"string","pattern":"^https?://","maxLength":2048})x",
         {"http://", "http://<", "http://" + std::string(2'041, 'z')},
         {"http:/", "http://</a>", "http://" + std::string(2'042, 'z')}},
        {.notation = {.end_of_text = "</a>", .quote = {}}});
  std::string properties;
  for (size_t i = 0; i < 16; ++i)
    properties += fmt::format(R"x({}"p{}":{{"type":"string","pattern":"{}","maxLength":{}}})x", i == 0 ? "" : ",", i,
                              i % 2 == 0 ? "^https?://" : R"(\\S)", 1'000 + i);
  check({fmt::format(R"({{"type":"object","properties":{{{}}},"additionalProperties":false}})", properties),
         {R"({"p0":"https://x","p1":" x"})"},
         {R"({"p0":"x"})", R"({"p1":" "})"}});
  // A pattern that has too many states itself, whatever the bound.
  for (const char* bound : {R"(,"maxLength":20000)", R"(,"minLength":101)"}) {
    expect_refusal(fmt::format(R"x({{"type":"string","pattern":"a.{{40}}b"{}}})x", bound), ErrorCode::too_large,
                   "#: a pattern beside a bound of length takes together with the others more than 20000 states");
  }
}

// As docs/grammar.md says: a short bound comes before what has many states without one. A long one does not help.
TEST(JsonSchema, PatternsOfManyStatesAreBoundedFirst) {
  check({R"({"type":"string","allOf":[{"pattern":"a.{4}b"},{"pattern":"c.{4}d"},{"pattern":"e.{4}f"}],"maxLength":8})",
         {R"("acexxbdf")", R"("caexxdbf")", R"("ecaééfdb")"},
         {R"("acexxbd")", R"("acexxbfd")", R"("acexxbdfx")", R"("acxxxbdf")"}});
  check(
      {R"({"type":"string","allOf":[{"pattern":"a.{4}b"},{"pattern":"c.{4}d"},{"pattern":"^[a-d]+$"}],"maxLength":7})",
       {R"("acaaabd")", R"("caaaadb")"},
       {R"("acaaab")", R"("acaaabdd")", R"("acxaabd")"}});
  check({R"({"type":"string","allOf":[{"pattern":"a.{4}b"},{"pattern":"^[a-d]+$"}],"maxLength":7})",
         {R"("accccb")", R"("daccccb")"},
         {R"("acb")", R"("accccbdd")", R"("cccccb")"}});
  expect_refusal(R"({"type":"string","allOf":[{"pattern":"a.{9}b"},{"pattern":"c.{9}d"}],"maxLength":100})",
                 ErrorCode::too_large, "takes together with the others more than 20000 states");
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

}  // namespace
}  // namespace tidemill::grammar
