// Names of functions and parameters that not every format can spell: refused, or read back as they are.
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "chat/constraint.hpp"
#include "chat/reading.hpp"
#include "chat/sentences.hpp"
#include "chat/tool_grammars.hpp"
#include "grammar/builder.hpp"

namespace tidemill::chat::test {
namespace {

namespace json = base::json;
using Kind = ToolChoice::Kind;

constexpr std::string_view formats[] = {"hermes",
                                        "llama3_json",
                                        "mistral",
                                        "mistral_args",
                                        "mistral_ids",
                                        "deepseek_v3",
                                        "deepseek_v3_1",
                                        "deepseek_v3_2",
                                        "qwen3_coder",
                                        "glm",
                                        "kimi_k2",
                                        "harmony",
                                        "gemma",
                                        "functiongemma",
                                        "functionary",
                                        "functionary_v3_2",
                                        "apertus",
                                        "apriel",
                                        "gigachat",
                                        "granite",
                                        "functools",
                                        "lfm2",
                                        "mcp"};
constexpr std::string_view in_tags[] = {"deepseek_v3_2", "qwen3_coder", "glm"};

std::vector<std::string> odd_names() {
  return {"a<b",
          "a>b",
          "a b",
          " a",
          "a ",
          "a\"b",
          "a'b",
          "a\nb",
          "a\tb",
          "",
          " ",
          "é",
          "a</parameter>",
          "a</arg_key>",
          "a</｜DSML｜parameter>",
          "x\" string=\"true",
          "&lt;",
          "a=b",
          "a:b",
          "a,b",
          "a.b",
          "1",
          "true",
          "None",
          "\\",
          "{",
          "<arg_value>",
          "</tool_call>",
          "<escape>",
          "<|\"|>",
          "$x",
          std::string(70, 'x'),
          std::string(256, 'x'),
          std::string(257, 'x')};
}

// A tool that asks for the parameter of the name, and for another.
Tool tool_asking_for(const std::string& parameter, bool strict) {
  json::object properties;
  properties[parameter] = parsed(R"({"enum": ["v", null]})");
  properties["z"] = parsed(R"({"type": "boolean"})");
  json::object schema{{"type", "object"}, {"additionalProperties", false}};
  schema["required"] = json::array{json::string(parameter), "z"};
  schema["properties"] = std::move(properties);
  return {"f", std::move(schema), strict};
}

// The error of a call that must come, empty where there is none.
std::string refusal(const Format& format, const Tool& tool) {
  grammar::GrammarBuilder builder;
  ToolRules rules;
  rules.choice.kind = Kind::required;
  const auto output = tool_grammar(builder, format, std::span(&tool, 1), rules);
  if (!output) return output.error().to_string();
  const auto built = std::move(builder).build(**output);
  return built ? std::string() : built.error().to_string();
}

void expect_read_back(const Format& format, const Tool& tool, const std::vector<std::string>& names) {
  const std::vector<Tool> tools = {tool};
  ToolRules rules;
  rules.choice.kind = Kind::required;
  rules.parallel = false;
  Sentences sentences(grammar_of(format, tools, rules), 3);
  for (int i = 0; i < 20; ++i) {
    const std::string sentence = sentences.next();
    const Reading reading = read(format, tools, Start::answer, sentence);
    ASSERT_EQ(reading.calls.size(), 1U) << sentence;
    EXPECT_EQ(reading.calls[0].name, tool.name) << sentence;
    const auto arguments = base::parse_json(reading.calls[0].arguments, 200);
    ASSERT_TRUE(arguments && arguments->is_object()) << sentence << ": " << reading.calls[0].arguments;
    EXPECT_EQ(arguments->get_object().size(), names.size()) << sentence;
    for (const std::string& name : names)
      EXPECT_TRUE(arguments->get_object().contains(name)) << sentence << ": " << reading.calls[0].arguments;
  }
}

TEST(OddNames, OfParametersAreRefusedOrReadBack) {
  for (const std::string_view name : formats) {
    const Format format = format_of(name, false);
    for (const std::string& parameter : odd_names()) {
      SCOPED_TRACE(std::string(name) + ": " + parameter);
      const Tool tool = tool_asking_for(parameter, true);
      if (refusal(format, tool).empty()) expect_read_back(format, tool, {parameter, "z"});
    }
  }
}

TEST(OddNames, OfParametersAreRefusedInTagsOnlyWhereTheTagWouldEnd) {
  for (const std::string_view name : in_tags) {
    const Format format = format_of(name, false);
    for (const char* parameter : {"a b", "a'b", "é", "&lt;", "a=b", "a.b", "1", "$x", "\\", "{"})
      EXPECT_EQ(refusal(format, tool_asking_for(parameter, true)), "") << name << parameter;
    for (const char* parameter : {"a<b", "a>b", "a\"b", "a\nb", "", " a", "a</arg_key>"}) {
      const std::string why = refusal(format, tool_asking_for(parameter, true));
      EXPECT_NE(why.find("the parameters of the tool 'f': " + json::serialize(json::string(parameter)) +
                         " is no name that this model's tool format can write"),
                std::string::npos)
          << name << ": " << why;
    }
  }
}

// A tool that is not strict goes without what cannot be named.
TEST(OddNames, OfParametersAreLeftOutWhereTheToolIsNotStrict) {
  for (const std::string_view name : in_tags) {
    const Format format = format_of(name, false);
    const std::vector<Tool> tools = {tool_asking_for("a<b", false)};
    ToolRules rules;
    rules.choice.kind = Kind::required;
    rules.parallel = false;
    Sentences sentences(grammar_of(format, tools, rules), 5);
    bool has_other = false;
    for (int i = 0; i < 40; ++i) {
      const std::string sentence = sentences.next();
      const Reading reading = read(format, tools, Start::answer, sentence);
      ASSERT_EQ(reading.calls.size(), 1U) << sentence;
      const auto arguments = base::parse_json(reading.calls[0].arguments, 200);
      ASSERT_TRUE(arguments && arguments->is_object()) << sentence;
      has_other = has_other || arguments->get_object().contains("z");
      EXPECT_LE(arguments->get_object().size(), 1U) << sentence;
    }
    EXPECT_TRUE(has_other) << name;
  }
}

TEST(OddNames, OfFunctionsAreRefusedOrReadBack) {
  std::vector<std::string> names = odd_names();
  names.insert(names.end(), {"all", "functions.f", "a:1", "a;b", "a|b", "(", "f-1_2.x", std::string(128, 'f')});
  for (const std::string_view format_name : formats) {
    const Format format = format_of(format_name, false);
    for (const std::string& function : names) {
      SCOPED_TRACE(std::string(format_name) + ": " + function);
      Tool tool = tool_asking_for("a", true);
      tool.name = function;
      const std::string why = refusal(format, tool);
      if (why.empty()) {
        expect_read_back(format, tool, {"a", "z"});
      } else {
        EXPECT_NE(why.find(json::serialize(json::string(function)) + " is no name"), std::string::npos) << why;
      }
    }
    Tool plain = tool_asking_for("a", true);
    plain.name = "get_weather-2.b";
    EXPECT_EQ(refusal(format, plain), "") << format_name;
  }
}

}  // namespace
}  // namespace tidemill::chat::test
