// Arguments in tags that do not say what is text: held to their schemas, and read back as values that fit them.
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "chat/constraint.hpp"
#include "chat/reading.hpp"
#include "chat/sentences.hpp"
#include "chat/tool_grammars.hpp"
#include "grammar/acceptor.hpp"
#include "grammar/schema_document.hpp"
#include "grammar/schema_reader.hpp"

namespace tidemill::chat::test {
namespace {

namespace json = base::json;
using Kind = ToolChoice::Kind;

// The parameter "a" where no tag says what is text.
std::string unmarked_call(std::string_view format, const std::string& value) {
  if (format == "glm") {
    return "<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>" + value + "</arg_value>\n</tool_call>";
  }
  return "<tool_call>\n<function=f>\n<parameter=a>\n" + value + "\n</parameter>\n</function>\n</tool_call>";
}

struct UnmarkedCase {
  std::string property;
  std::vector<std::pair<std::string, std::string>> taken;  // as it is written, and what it means
  std::vector<std::string> refused;
};

Tool tool_with(const std::string& property) {
  return {"f",
          parsed(R"({"type": "object", "required": ["a"], "additionalProperties": false, "properties": {"a": )" +
                 property + R"(}, "$defs": {"unit": {"enum": ["celsius", "kelvin"]}}})"),
          true};
}

const std::vector<UnmarkedCase>& unmarked_cases() {
  static const std::vector<UnmarkedCase> cases = {
      {R"({"anyOf": [{"enum": ["celsius", "kelvin"]}, {"type": "null"}]})",
       {{"celsius", R"("celsius")"}, {"null", "null"}},
       {"None", "Celsius", "", R"("celsius")", " null"}},
      {R"({"anyOf": [{"$ref": "#/$defs/unit"}, {"type": "null"}], "default": null})",
       {{"kelvin", R"("kelvin")"}, {"null", "null"}},
       {"None", "kelvins"}},
      {R"({"enum": ["c", "f", null]})", {{"c", R"("c")"}, {"null", "null"}}, {"None", "cf", R"("c")"}},
      {R"({"enum": ["null", "None", "x", null]})", {{"x", R"("x")"}, {"null", "null"}}, {"None"}},
      {R"({"anyOf": [{"const": "all"}, {"type": "null"}]})", {{"all", R"("all")"}, {"null", "null"}}, {"a"}},
      {R"({"enum": [true, "true", "yes"]})", {{"true", "true"}, {"yes", R"("yes")"}}, {"True", "false"}},
      {R"({"enum": ["\"a\"", "b", 1]})", {{"b", R"("b")"}, {"1", "1"}}, {R"("a")", "a", "2"}},
      {R"({"type": ["string", "null"], "maxLength": 5})",
       {{"abc", R"("abc")"}, {"", R"("")"}, {"nul", R"("nul")"}, {"nulls", R"("nulls")"}, {"null", "null"}},
       {"abcdef", "None", "null ", R"("x")"}},
      {R"({"type": ["string", "null"], "minLength": 2})",
       {{"ab", R"("ab")"}, {"null", "null"}, {"null and void", R"("null and void")"}},
       {"a", "", "None"}},
      {R"({"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]})",
       {{"2024-02-29", R"("2024-02-29")"}, {"null", "null"}},
       {"2024-02-30", "x", "None"}},
      {R"({"anyOf": [{"type": "string", "pattern": "^(?=.*[a-z])(?=.*[0-9]).{2,8}$"}, {"type": "null"}]})",
       {{"a1", R"("a1")"}, {"null", "null"}},
       {"aa", "123456789a"}},
      {R"({"type": ["string", "null"], "minLength": 2, "maxLength": 400})",
       {{"null", "null"},
        {"ab", R"("ab")"},
        {"no", R"("no")"},
        {"nu", R"("nu")"},
        {"nut", R"("nut")"},
        {"nulls", R"("nulls")"},
        {" nut", R"(" nut")"},
        {"nullable", R"("nullable")"},
        {"None of it", R"("None of it")"},
        {std::string(400, 'x'), '"' + std::string(400, 'x') + '"'}},
       {"a", "None", " null", R"("x")", std::string(401, 'x')}},
      {R"({"type": ["string", "integer"]})",
       {{"7", "7"},
        {"seven", R"("seven")"},
        {"", R"("")"},
        {"7a", R"("7a")"},
        {"007", R"("007")"},
        {"-", R"("-")"},
        {"null", R"("null")"}},
       {"7.5", "1e3", " 7", "7 ", "-0"}},
      // Also those that a number could begin, as long as the lower bound wants them and no longer.
      {R"({"type": ["string", "integer"], "minLength": 10, "maxLength": 400})",
       {{"2024-01-01", R"("2024-01-01")"},
        {"2024-01-01T00:00", R"("2024-01-01T00:00")"},
        {std::string(30, '1') + "-" + std::string(9, '1'),
         '"' + std::string(30, '1') + "-" + std::string(9, '1') + '"'},
        {"0123456789", R"("0123456789")"},
        {"twelve or more", R"("twelve or more")"},
        {"12", "12"}},
       {"2024-01-0", "twelve mo", "1234567890.5", " 1234567890", "1234567890e1"}},
      {R"({"type": ["string", "integer"], "minLength": 70, "maxLength": 400})",
       {{"1-" + std::string(68, 'x'), "\"1-" + std::string(68, 'x') + '"'}, {"7", "7"}},
       {"1-" + std::string(67, 'x')}},
      // Beside a pattern, and past what an automaton could count.
      {R"({"type": ["string", "null"], "pattern": "\\S", "maxLength": 400})",
       {{"x<", R"("x<")"},
        {" n", R"(" n")"},
        {"null", "null"},
        {std::string(400, 'x'), '"' + std::string(400, 'x') + '"'}},
       {"", " ", "null ", "None", std::string(401, 'x')}},
      {R"({"type": ["string", "null"], "pattern": "\\S", "minLength": 3, "maxLength": 9000})",
       {{"nul", R"("nul")"}, {"null", "null"}, {std::string(9000, 'n'), '"' + std::string(9000, 'n') + '"'}},
       {"nu", "   ", "None", std::string(9001, 'x')}},
      {R"({"type": ["string", "integer"], "pattern": "^\\S.*\\S$", "maxLength": 600})",
       {{"7a", R"("7a")"}, {"7", "7"}, {"7 <b", R"("7 <b")"}},
       {"a", "77 ", " a", "7.5", std::string(601, 'x')}},
      {R"({"type": ["string", "boolean"], "pattern": ".+", "maxLength": 5000})",
       {{"truth", R"("truth")"}, {"true", "true"}, {std::string(5000, 't'), '"' + std::string(5000, 't') + '"'}},
       {"", "True", "false ", std::string(5001, 't')}},
      {R"({"type": ["string", "number"], "maxLength": 300})",
       {{"3 apples", R"("3 apples")"}, {"3", "3"}, {"3.25", "3.25"}, {"-", R"("-")"}, {"1e", R"("1e")"}},
       {" 3", "1e999", "3 "}},
      {R"({"anyOf": [{"type": "string", "pattern": "^[0-9a]{1,3}$"}, {"type": "integer", "minimum": 10, "maximum": 30}]})",
       {{"15", "15"}, {"a1", R"("a1")"}, {"01", R"("01")"}},
       {"5", "31", "b"}},
      {R"({"anyOf": [{"type": "string"}, {"const": false}]})",
       {{"false", "false"}, {"x", R"("x")"}, {"truly", R"("truly")"}},
       {"true", "True"}},
      {R"({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})",
       {{"[", R"("[")"},
        {"[x", R"("[x")"},
        {"{}", R"("{}")"},
        {"[]", "[]"},
        {R"(["a", "b"])", R"(["a","b"])"},
        {R"(["\u003c/arg_value>"])", R"(["</arg_value>"])"}},
       {"[x]", "[1]", " []", R"(["<"])"}},
      {R"({"anyOf": [{"type": "string", "maxLength": 4}, {"type": "object", "additionalProperties": false,
           "required": ["<"], "properties": {"<": {"enum": ["</parameter>", "<"]}}}]})",
       {{R"({"\u003c":"\u003c/parameter>"})", R"({"<":"</parameter>"})"}, {"ab", R"("ab")"}},
       {R"({"<":"<"})", "{}"}},
      {R"({"type": "string", "nullable": true})", {{"x", R"("x")"}}, {"null", "None"}},
      {"{}",
       {{"x", R"("x")"},
        {"None", "null"},
        {"True", "true"},
        {"3", "3"},
        {"[1]", "[1]"},
        {R"({"b": [1]})", R"({"b": [1]})"}},
       {"[x]"}},
  };
  return cases;
}

// What would be read as something else is no text; what is none is written as JSON.
TEST(ToolGrammar, HoldsTextAndOtherValuesToTheSchemaWhereNoTagTellsThemApart) {
  ToolRules rules;
  rules.choice.kind = Kind::required;
  for (const UnmarkedCase& one : unmarked_cases()) {
    SCOPED_TRACE(one.property);
    for (const std::string_view name : {"qwen3_coder", "glm"}) {
      const Format format = format_of(name, false);
      const std::vector<Tool> tools = {tool_with(one.property)};
      const auto grammar = grammar_of(format, tools, rules);
      ASSERT_TRUE(grammar) << name;
      ::tidemill::test::Acceptor accepts(spelled_out(grammar));
      for (const auto& [value, meaning] : one.taken) {
        const std::string text = unmarked_call(name, value);
        EXPECT_TRUE(accepts(text)) << text;
        const Reading reading = read(format, tools, Start::answer, text);
        ASSERT_EQ(reading.calls.size(), 1U) << text;
        EXPECT_EQ(parsed(reading.calls[0].arguments), parsed("{\"a\": " + meaning + "}")) << text;
      }
      for (const std::string& value : one.refused)
        EXPECT_FALSE(accepts(unmarked_call(name, value))) << name << ": " << value;
    }
  }
}

// By the reader of schemas, which writes nothing.
bool fits(const json::value& schema, const json::value& value) {
  auto document = grammar::SchemaDocument::open(schema, {});
  EXPECT_TRUE(document);
  grammar::SchemaReader reader(*document, {});
  const auto fit = reader.accepts({document->root()}, value);
  EXPECT_TRUE(fit);
  return fit && *fit;
}

TEST(ToolGrammar, ReadsBackValuesThatFitTheSchemaWhereNoTagTellsTextApart) {
  ToolRules rules;
  rules.choice.kind = Kind::required;
  for (const UnmarkedCase& one : unmarked_cases()) {
    SCOPED_TRACE(one.property);
    for (const std::string_view name : {"qwen3_coder", "glm"}) {
      const Format format = format_of(name, false);
      const std::vector<Tool> tools = {tool_with(one.property)};
      const auto grammar = grammar_of(format, tools, rules);
      ASSERT_TRUE(grammar) << name;
      Sentences sentences(grammar, 29);
      for (int i = 0; i < 60; ++i) {
        const std::string sentence = sentences.next();
        const Reading reading = read(format, tools, Start::answer, sentence);
        ASSERT_TRUE(reading.sound && reading.complete && !reading.calls.empty()) << sentence;
        for (const Call& call : reading.calls) {
          const auto arguments = base::parse_json(call.arguments, 200);
          ASSERT_TRUE(arguments) << call.arguments << " in " << sentence;
          EXPECT_TRUE(fits(tools[0].parameters, *arguments)) << call.arguments << " in " << sentence;
        }
      }
    }
  }
}

// Bounds that are small each, and too large together: those for which there is no room are counted as long ones are.
TEST(ToolGrammar, HasRoomForManyBoundsOfLengthWhereNoTagTellsTextApart) {
  ToolRules rules;
  rules.choice.kind = Kind::required;
  const auto tool_of = [](const std::vector<int>& bounds, const std::string& more) {
    std::string properties;
    std::string required;
    for (size_t i = 0; i < bounds.size(); ++i) {
      const std::string name = "p" + std::to_string(i);
      const std::string text = R"({"type": "string", "maxLength": )" + std::to_string(bounds[i]) + "}";
      properties += (i == 0 ? "\"" : ", \"") + name +
                    "\": " + (more.empty() ? text : R"({"anyOf": [)" + text + R"(, {"type": ")" + more + "\"}]}");
      required += (i == 0 ? "\"" : ", \"") + name + "\"";
    }
    return Tool{"f",
                parsed(R"({"type": "object", "additionalProperties": false, "properties": {)" + properties +
                       R"(}, "required": [)" + required + "]}"),
                true};
  };
  const auto call = [](std::string_view format, const std::vector<std::string>& values) {
    std::string text = format == "glm" ? "<tool_call>f\n" : "<tool_call>\n<function=f>\n";
    for (size_t i = 0; i < values.size(); ++i) {
      const std::string name = "p" + std::to_string(i);
      text += format == "glm" ? "<arg_key>" + name + "</arg_key>\n<arg_value>" + values[i] + "</arg_value>\n"
                              : "<parameter=" + name + ">\n" + values[i] + "\n</parameter>\n";
    }
    return text + (format == "glm" ? "</tool_call>" : "</function>\n</tool_call>");
  };
  for (const std::vector<int>& bounds :
       {std::vector<int>{250, 200, 150}, {100, 80, 200, 64, 40, 120}, {500, 400, 300, 200, 100, 50, 1}}) {
    for (const std::string more : {"", "null", "integer"}) {
      const std::vector<Tool> tools = {tool_of(bounds, more)};
      for (const std::string_view name : {"qwen3_coder", "glm"}) {
        SCOPED_TRACE(std::string(name) + " " + more);
        const Format format = format_of(name, false);
        const auto grammar = grammar_of(format, tools, rules);
        ASSERT_TRUE(grammar);
        ::tidemill::test::Acceptor accepts(spelled_out(grammar));
        std::vector<std::string> longest;
        for (const int bound : bounds)
          longest.push_back(std::string(static_cast<size_t>(bound), 'x'));
        EXPECT_TRUE(accepts(call(name, longest)));
        for (std::string& one : longest) {
          one += 'x';
          EXPECT_FALSE(accepts(call(name, longest))) << one;
          one = "y";
        }
        EXPECT_TRUE(accepts(call(name, longest)));
        Sentences sentences(grammar, 11);
        for (int i = 0; i < 20; ++i) {
          const std::string sentence = sentences.next();
          const Reading reading = read(format, tools, Start::answer, sentence);
          ASSERT_FALSE(reading.calls.empty()) << sentence;
          const auto arguments = base::parse_json(reading.calls[0].arguments, 200);
          ASSERT_TRUE(arguments) << sentence;
          EXPECT_TRUE(fits(tools[0].parameters, *arguments)) << sentence;
        }
      }
    }
  }
}

TEST(ToolGrammar, SaysThatTheOnlyTextsHoldTheClosingTag) {
  for (const auto& [name, tag] : {std::pair("qwen3_coder", "</parameter>"), std::pair("glm", "</arg_value>")}) {
    grammar::GrammarBuilder builder;
    ToolRules rules;
    rules.choice.kind = Kind::required;
    const std::vector<Tool> tools = {tool_with(R"({"type": "string", "const": "x)" + std::string(tag) + "\"}")};
    const auto output = tool_grammar(builder, *format_by_name(name), tools, rules);
    ASSERT_FALSE(output) << name;
    EXPECT_NE(output.error().to_string().find("#/properties/a: texts with \"" + std::string(tag) +
                                              "\" in them cannot be written, since it ends them"),
              std::string::npos)
        << output.error().to_string();
  }
}

// What goes over a limit only when the grammar is built is told with the tool and the parameter.
TEST(ToolGrammar, NamesTheParameterThatGoesOverALimit) {
  for (const std::string_view name : {"qwen3_coder", "glm", "deepseek_v3_2"}) {
    grammar::GrammarBuilder builder;
    ToolRules rules;
    rules.choice.kind = Kind::required;
    const std::vector<Tool> tools = {
        tool_with(R"({"type": "string", "allOf": [{"pattern": "a.{9}b"}, {"pattern": "c.{9}d"}], "maxLength": 100})")};
    const auto output = tool_grammar(builder, *format_by_name(name), tools, rules);
    ASSERT_TRUE(output && *output) << name;
    const auto built = std::move(builder).build(**output);
    ASSERT_FALSE(built) << name;
    EXPECT_EQ(built.error().code(), base::ErrorCode::too_large);
    EXPECT_NE(built.error().message().find("the parameters of the tool 'f': #/properties/a"), std::string::npos)
        << built.error().message();
  }
}

// Of a schema that refers to itself: also where the value is deeper than what requests may have.
TEST(ToolGrammar, ReadsBackWhatIsNestedDeeply) {
  ToolRules rules;
  rules.choice.kind = Kind::required;
  constexpr size_t depth = 200;
  const std::string value = std::string(depth, '[') + std::string(depth, ']');
  for (const char* property :
       {R"({"$ref": "#/$defs/list"})", R"({"anyOf": [{"const": "x"}, {"$ref": "#/$defs/list"}]})",
        R"({"anyOf": [{"type": "string"}, {"$ref": "#/$defs/list"}]})"}) {
    SCOPED_TRACE(property);
    const std::vector<Tool> tools = {
        {"f",
         parsed(R"({"type": "object", "required": ["a"], "additionalProperties": false, "properties": {"a": )" +
                std::string(property) +
                R"(}, "$defs": {"list": {"type": "array", "items": {"$ref": "#/$defs/list"}}}})"),
         true}};
    for (const std::string_view name : {"qwen3_coder", "glm", "hermes"}) {
      const Format format = format_of(name, false);
      const std::string text =
          name == "hermes" ? "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": " + value + "}}\n</tool_call>"
                           : unmarked_call(name, value);
      const auto grammar = grammar_of(format, tools, rules);
      ASSERT_TRUE(grammar) << name;
      EXPECT_TRUE(::tidemill::test::Acceptor(spelled_out(grammar)).may_continue(text)) << text;
      const Reading reading = read(format, tools, Start::answer, text);
      ASSERT_EQ(reading.calls.size(), 1U) << text;
      EXPECT_TRUE(reading.complete) << text;
      EXPECT_EQ(reading.calls[0].arguments, R"({"a": )" + value + "}") << text;
    }
  }
}

// Where a call must come of a tool that is not strict, and its schema says nothing of names.
TEST(ToolGrammar, NamesAnyParameterWhereALooseSchemaNamesNone) {
  ToolRules rules;
  rules.choice.kind = Kind::required;
  for (const std::string_view name : {"qwen3_coder", "glm", "lfm2"}) {
    const auto takes_other = [&](std::string_view parameters, bool loosely) {
      const std::vector<Tool> tools = {{"f", parsed(parameters), true, loosely}};
      ::tidemill::test::Acceptor accepts(spelled_out(grammar_of(format_of(name, false), tools, rules)));
      return accepts(name == "lfm2" ? "<|tool_call_start|>[f(a=1)]<|tool_call_end|>" : unmarked_call(name, "1"));
    };
    EXPECT_TRUE(takes_other(R"({"type": "object"})", true)) << name;
    EXPECT_TRUE(takes_other(R"({"type": "object", "additionalProperties": {"type": "string"}})", true)) << name;
    EXPECT_FALSE(takes_other(R"({"type": "object"})", false)) << name;
    EXPECT_FALSE(takes_other(R"({"type": "object", "properties": {}})", true)) << name;
    EXPECT_FALSE(takes_other(R"({"type": "object", "additionalProperties": false})", true)) << name;
  }
}

}  // namespace
}  // namespace tidemill::chat::test
