#include "chat/constraint.hpp"

#include <algorithm>

#include <gtest/gtest.h>

#include "base/utf8.hpp"
#include "chat/reading.hpp"
#include "chat/sentences.hpp"
#include "chat/tool_grammars.hpp"
#include "grammar/acceptor.hpp"
#include "grammar/json_schema.hpp"
#include "grammar/token_grammar.hpp"
#include "grammar/vocabularies.hpp"

namespace tidemill::chat::test {
namespace {

namespace json = base::json;
using Kind = ToolChoice::Kind;

constexpr std::string_view all_formats[] = {"hermes",      "llama3_json",   "mistral",       "mistral_args",
                                            "mistral_ids", "deepseek_v3",   "deepseek_v3_1", "deepseek_v3_2",
                                            "qwen3_coder", "glm",           "kimi_k2",       "harmony",
                                            "gemma",       "functiongemma", "functionary",   "functionary_v3_2",
                                            "apertus",     "apriel",        "gigachat",      "gigachat_role",
                                            "functools",   "granite",       "lfm2",          "mcp"};

// Of the keywords that some_tools() uses.
bool satisfies(const json::value& value, const json::value& schema) {
  const auto& keywords = schema.as_object();
  if (const auto* values = keywords.if_contains("enum")) {
    const auto& list = values->as_array();
    if (std::find(list.begin(), list.end(), value) == list.end()) return false;
  }
  const std::string_view type = keywords.at("type").as_string();
  if (type == "string") return value.is_string();
  if (type == "integer") return value.is_int64() || value.is_uint64();
  if (type == "number") return value.is_number();
  if (type == "boolean") return value.is_bool();
  if (type == "array") {
    if (!value.is_array()) return false;
    const auto& items = value.get_array();
    return std::all_of(items.begin(), items.end(),
                       [&](const json::value& item) { return satisfies(item, keywords.at("items")); });
  }
  if (!value.is_object()) return false;
  const auto& properties = keywords.at("properties").as_object();
  for (const auto& [key, member] : value.get_object()) {
    if (!properties.contains(key) || !satisfies(member, properties.at(key))) return false;
  }
  const auto& required = keywords.at("required").as_array();
  return std::all_of(required.begin(), required.end(),
                     [&](const json::value& key) { return value.get_object().contains(key.as_string()); });
}

void expect_calls_of(const Reading& reading, std::span<const Tool> tools, const std::string& sentence) {
  EXPECT_TRUE(reading.sound) << sentence;
  for (const Call& call : reading.calls) {
    const auto tool =
        std::find_if(tools.begin(), tools.end(), [&](const Tool& each) { return each.name == call.name; });
    ASSERT_NE(tool, tools.end()) << call.name << " in " << sentence;
    const auto arguments = base::parse_json(call.arguments, 200);
    ASSERT_TRUE(arguments && arguments->is_object()) << call.arguments << " in " << sentence;
    if (tool->strict) {
      EXPECT_TRUE(satisfies(*arguments, tool->parameters)) << call.arguments << " in " << sentence;
    }
  }
}

TEST(ToolGrammar, WhatMustCallIsReadAsCalls) {
  for (const std::string_view name : all_formats) {
    for (const bool strict : {true, false}) {
      for (const bool parallel : {true, false}) {
        for (const bool reasons : {true, false}) {
          const Format format = format_of(name, reasons);
          const std::vector<Tool> tools = some_tools(strict);
          ToolRules rules;
          rules.choice.kind = Kind::required;
          rules.parallel = parallel;
          rules.start = reasons && name != "harmony" ? Start::reasoning : Start::answer;
          const auto grammar = grammar_of(format, tools, rules);
          ASSERT_TRUE(grammar) << name;
          Sentences sentences(grammar, 11);
          size_t most_calls = 0;
          for (int i = 0; i < 40; ++i) {
            const std::string sentence = sentences.next();
            ASSERT_TRUE(base::utf8::is_valid(sentence)) << name;
            const Reading reading = read(format, tools, rules.start, sentence);
            expect_calls_of(reading, tools, sentence);
            ASSERT_TRUE(reading.complete) << name << ": " << sentence;
            ASSERT_FALSE(reading.calls.empty()) << name << ": " << sentence;
            ASSERT_EQ(reading.content, "") << name << ": " << sentence;
            if (!parallel) {
              ASSERT_EQ(reading.calls.size(), 1U) << name << ": " << sentence;
            }
            most_calls = std::max(most_calls, reading.calls.size());
          }
          if (parallel && name != "harmony") {
            EXPECT_GT(most_calls, 1U) << name;
          }
        }
      }
    }
  }
}

// The tags of a format as they stand in a vocabulary that has them as control tokens.
std::vector<std::string> control_tokens(const Format& format) {
  const CallSyntax& syntax = format.syntax;
  std::vector<std::string> names;
  if (format.tools == ToolFormat::harmony)
    names = {"<|channel|>", "<|message|>", "<|start|>", "<|call|>", "<|constrain|>"};
  for (const std::string* text :
       {&syntax.section_open, &syntax.section_close, &syntax.open, &syntax.close, &syntax.name_end, &syntax.id_open,
        &syntax.quote, &format.reasoning_open, &format.reasoning_close}) {
    for (size_t at = 0; (at = text->find_first_of("<[", at)) != std::string::npos; ++at) {
      const size_t end = text->find((*text)[at] == '<' ? '>' : ']', at);
      if (end == std::string::npos) break;
      const std::string name = text->substr(at, end + 1 - at);
      const bool whole = name.find_first_of(" =") == std::string::npos && name.find("DSML") == std::string::npos;
      if (whole && std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
    }
  }
  return names;
}

// A walk through the tokens that may come, which likes to close what is open. Empty if it finds no end.
std::string random_output(const ::tidemill::test::Vocabulary& vocabulary, const grammar::TokenGrammar& grammar,
                          std::mt19937& random) {
  const text::Vocabulary& tokens = vocabulary.tokenizer->vocabulary();
  grammar::Matcher matcher = grammar.start();
  std::string output;
  for (int step = 0; step < 1500; ++step) {
    if (matcher.must_end() || (matcher.can_end() && random() % 4 == 0)) return output;
    const auto allowed = matcher.allowed();
    EXPECT_TRUE(allowed);
    std::vector<text::Token> choices;
    std::vector<text::Token> preferred;
    for (text::Token token = 0; token < static_cast<text::Token>(tokens.size()); ++token) {
      if (!(*allowed)->test(token) || vocabulary.tokenizer->ends_generation(token)) continue;
      choices.push_back(token);
      const bool byte = tokens.kinds[static_cast<size_t>(token)] == text::TokenKind::byte;
      if (!byte ||
          std::string_view("\"}]<>/{,:").find(vocabulary.tokenizer->piece_bytes(token)) != std::string_view::npos) {
        preferred.push_back(token);
      }
    }
    const auto& from = !preferred.empty() && random() % 8 != 0 ? preferred : choices;
    EXPECT_FALSE(from.empty()) << output;
    if (from.empty()) return {};
    const text::Token token = from[random() % from.size()];
    EXPECT_TRUE(matcher.accept(token));
    output += vocabulary.tokenizer->piece_bytes(token);
  }
  return {};
}

TEST(ToolGrammar, HoldsTokensToCallsWhereTagsAreControlTokens) {
  for (const std::string_view name : all_formats) {
    const Format format = format_of(name, false);
    const std::vector<Tool> tools = some_tools(true);
    const ::tidemill::test::Vocabulary vocabulary(::tidemill::test::small_vocabulary(
        {"get", "_weather", "{\"", "\":", "\"}", "\", \"", "</parameter>", "</｜DSML｜parameter>", "</arg_value>",
         "</function>", "city", "days", "name"},
        control_tokens(format)));
    ToolRules rules;
    rules.choice.kind = Kind::required;
    const auto built = grammar_of(format, tools, rules);
    ASSERT_TRUE(built);
    const auto grammar = grammar::TokenGrammar::create(built, vocabulary.index);
    ASSERT_TRUE(grammar) << grammar.error().message();
    std::mt19937 random(17);
    int ended = 0;
    for (int i = 0; i < 12; ++i) {
      const std::string output = random_output(vocabulary, **grammar, random);
      if (output.empty()) continue;
      ++ended;
      const Reading reading = read(format, tools, Start::answer, base::utf8::sanitize(output));
      expect_calls_of(reading, tools, output);
      EXPECT_TRUE(reading.complete) << name << ": " << output;
      EXPECT_EQ(reading.content, "") << name << ": " << output;
    }
    EXPECT_GT(ended, 2) << name;
  }
}

TEST(ToolGrammar, NamesOneTool) {
  for (const std::string_view name : all_formats) {
    const Format format = format_of(name, false);
    const std::vector<Tool> tools = some_tools(true);
    ToolRules rules;
    rules.choice = {Kind::named, "get"};
    const auto grammar = grammar_of(format, tools, rules);
    ASSERT_TRUE(grammar) << name;
    Sentences sentences(grammar, 5);
    for (int i = 0; i < 10; ++i) {
      const std::string sentence = sentences.next();
      const Reading reading = read(format, tools, Start::answer, sentence);
      ASSERT_FALSE(reading.calls.empty()) << name << ": " << sentence;
      for (const Call& call : reading.calls)
        EXPECT_EQ(call.name, "get") << sentence;
    }
  }
}

TEST(ToolGrammar, LetsTextStandButNoBrokenCall) {
  for (const std::string_view name : all_formats) {
    const Format format = format_of(name, true);
    const std::vector<Tool> tools = some_tools(true);
    const auto grammar = grammar_of(format, tools, {});
    ASSERT_TRUE(grammar) << name;
    Sentences sentences(grammar, 3);
    bool text = false;
    bool calls = false;
    for (int i = 0; i < 100; ++i) {
      const std::string sentence = sentences.next();
      const Reading reading = read(format, tools, Start::answer, sentence);
      expect_calls_of(reading, tools, sentence);
      EXPECT_TRUE(reading.calls.empty() || reading.complete) << name << ": " << sentence;
      text = text || !reading.content.empty();
      calls = calls || !reading.calls.empty();
    }
    EXPECT_TRUE(text && calls) << name;

    ::tidemill::test::Acceptor accepts(spelled_out(grammar));
    const std::string open = name == "harmony"            ? "<|channel|>final<|message|>"
                             : name == "functionary_v3_2" ? "all\n"
                                                          : "";
    EXPECT_TRUE(accepts(open + "Hello, 北京 <b>x</b> [1] {}"));
    for (const std::string& trigger : call_triggers(format.syntax)) {
      EXPECT_FALSE(accepts(open + "Hello " + trigger)) << name;
      EXPECT_FALSE(accepts.may_continue(open + "Hello " + trigger + " is how calls begin")) << name;
    }
  }
}

TEST(ToolGrammar, GoesOnWithContentThatHasBegun) {
  for (const std::string_view name : all_formats) {
    for (const Kind kind : {Kind::automatic, Kind::none}) {
      const Format format = format_of(name, true);
      const std::vector<Tool> tools = some_tools(true);
      ToolRules rules;
      rules.choice.kind = kind;
      rules.start = Start::content;
      const auto grammar = grammar_of(format, tools, rules);
      ASSERT_TRUE(grammar) << name;
      Sentences sentences(grammar, 6);
      bool text = false;
      bool calls = false;
      for (int i = 0; i < 100; ++i) {
        const std::string sentence = sentences.next();
        const Reading reading = read(format, tools, Start::content, sentence);
        expect_calls_of(reading, tools, sentence);
        EXPECT_TRUE(reading.calls.empty() || reading.complete) << name << ": " << sentence;
        EXPECT_EQ(reading.reasoning, "") << name << ": " << sentence;
        text = text || !reading.content.empty();
        calls = calls || !reading.calls.empty();
      }
      EXPECT_TRUE(text) << name;
      EXPECT_EQ(calls, kind == Kind::automatic && name != "harmony") << name;
      ::tidemill::test::Acceptor accepts(spelled_out(grammar));
      for (const std::string_view rest : {"", " and so on", "{\"a\": 1}", "all\nof it"})
        EXPECT_TRUE(accepts(rest)) << name << ": " << rest;
    }
  }
}

TEST(ToolGrammar, KeepsCallsOutWhereNoneMayBe) {
  for (const std::string_view name : all_formats) {
    const Format format = format_of(name, true);
    const std::vector<Tool> tools = some_tools(true);
    ToolRules rules;
    rules.choice.kind = Kind::none;
    const auto grammar = grammar_of(format, tools, rules);
    ASSERT_TRUE(grammar) << name;
    Sentences sentences(grammar, 4);
    for (int i = 0; i < 100; ++i) {
      const std::string sentence = sentences.next();
      EXPECT_TRUE(read(format, tools, Start::answer, sentence).calls.empty()) << sentence;
    }
    ::tidemill::test::Acceptor accepts(spelled_out(grammar));
    for (const std::string& trigger : call_triggers(format.syntax))
      EXPECT_FALSE(accepts("Hello " + trigger)) << name;
  }
}

TEST(ToolGrammar, AcceptsWhatTemplatesWrite) {
  const std::vector<std::pair<std::string_view, std::string_view>> transcripts = {
      {"hermes",
       "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Bonn\", \"days\": 3}}\n</tool_call>\n"
       "<tool_call>\n{\"name\": \"get\", \"arguments\": {}}\n</tool_call>"},
      {"llama3_json", "{\"name\": \"get_weather\", \"parameters\": {\"city\": \"Bonn\", \"days\": 3}}"},
      {"mistral", "[TOOL_CALLS] [{\"name\": \"get\", \"arguments\": {}}]"},
      {"mistral_args", "[TOOL_CALLS]get[ARGS]{}[TOOL_CALLS]get[ARGS]{}"},
      {"mistral_ids", "[TOOL_CALLS]get[CALL_ID]abcDEF123[ARGS]{}"},
      {"deepseek_v3",
       "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get\n```json\n{}\n```<｜tool▁call▁end｜>"
       "<｜tool▁calls▁end｜>"},
      {"deepseek_v3_1",
       "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>"},
      {"deepseek_v3_2",
       "<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"get_weather\">\n<｜DSML｜parameter name=\"city\" "
       "string=\"true\">"
       "Bonn</｜DSML｜parameter>\n<｜DSML｜parameter name=\"days\" "
       "string=\"false\">3</｜DSML｜parameter>\n</｜DSML｜invoke>\n"
       "</｜DSML｜function_calls>"},
      {"qwen3_coder",
       "<tool_call>\n<function=get_weather>\n<parameter=city>\nBonn\n</parameter>\n<parameter=days>\n3\n"
       "</parameter>\n<parameter=unit>\ncelsius\n</parameter>\n</function>\n</tool_call>"},
      {"glm",
       "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Bonn</arg_value>\n<arg_key>days</arg_key>\n"
       "<arg_value>3</arg_value>\n</tool_call>"},
      {"kimi_k2",
       "<|tool_calls_section_begin|><|tool_call_begin|>functions.get:0<|tool_call_argument_begin|>{}"
       "<|tool_call_end|><|tool_calls_section_end|>"},
      {"harmony",
       "<|channel|>analysis<|message|>Hm<|end|><|start|>assistant<|channel|>commentary to=functions.get "
       "<|constrain|>json<|message|>{}<|call|>"},
      {"gemma", "<|tool_call>call:get_weather{city:<|\"|>Bonn<|\"|>,days:3,where:{exact:true,lat:5.5}}<tool_call|>"},
      {"lfm2",
       "<|tool_call_start|>[get_weather(city=\"Bonn\", days=3, where={\"lat\": 5.5, \"exact\": True}), get()]"
       "<|tool_call_end|>"},
      {"mcp",
       "<use_mcp_tool>\n<server_name>generic-extras</server_name>\n<tool_name>get_weather</tool_name>\n<arguments>\n"
       "{\"city\": \"Bonn\", \"days\": 3}\n</arguments>\n</use_mcp_tool>"},
      {"functionary", "<function=get>{}</function><function=get>{}</function>"},
      {"functionary_v3_2", "get\n{}>>>get\n{}"},
      {"apertus", "<|tools_prefix|>[{\"get\": {}}, {\"get\": {}}]<|tools_suffix|>"},
  };
  for (const auto& [name, text] : transcripts) {
    for (const bool strict : {true, false}) {
      ToolRules rules;
      rules.choice.kind = Kind::required;
      const std::vector<Tool> tools = some_tools(strict);
      ::tidemill::test::Acceptor accepts(spelled_out(grammar_of(format_of(name, false), tools, rules)));
      EXPECT_TRUE(accepts(text)) << name << ": " << text;
      EXPECT_FALSE(accepts("No.")) << name;
      EXPECT_FALSE(accepts("")) << name;
    }
  }
}

TEST(ToolGrammar, RefusesWhatItCannotHoldTo) {
  const auto refusal = [](std::string_view name, std::string_view properties) {
    grammar::GrammarBuilder builder;
    const std::vector<Tool> tools = {
        {"f", parsed(R"({"type": "object", "properties": )" + std::string(properties) + R"(, "required": []})"), true}};
    ToolRules rules;
    rules.choice.kind = Kind::required;
    const auto output = tool_grammar(builder, *format_by_name(name), tools, rules);
    return output ? std::string() : output.error().to_string();
  };
  for (const std::string_view name : {"qwen3_coder", "glm", "gemma"}) {
    EXPECT_EQ(refusal(name, R"({"a": {"type": "string", "description": "x"}})"), "");
    EXPECT_EQ(refusal(name, R"({"a": {"type": "string", "pattern": "x+"}})"), "");
    const std::string unique = refusal(name, R"({"a": {"type": "array", "uniqueItems": true}})");
    EXPECT_NE(unique.find("#/properties/a/uniqueItems"), std::string::npos) << unique;
    EXPECT_NE(unique.find("'f'"), std::string::npos) << unique;
  }
  for (const std::string_view name : {"qwen3_coder", "glm", "lfm2"}) {
    const std::string none = refusal(name, R"({"a": {"type": "integer", "minimum": 5, "maximum": 3}})");
    EXPECT_NE(none.find("the parameter 'a'"), std::string::npos) << none;
    EXPECT_NE(none.find("minimum 5 and maximum 3"), std::string::npos) << none;
  }
  EXPECT_EQ(refusal("qwen3_coder", R"({"a": {"type": ["string", "object"]}})"), "");
  EXPECT_EQ(refusal("qwen3_coder", R"({"a": {"type": ["string", "null"]}})"), "");
  EXPECT_EQ(refusal("qwen3_coder", R"({"a": {"type": "string", "minLength": 2, "maxLength": 9}})"), "");

  grammar::GrammarBuilder builder;
  ToolRules rules;
  rules.choice.kind = Kind::required;
  EXPECT_EQ(tool_grammar(builder, *format_by_name("none"), some_tools(true), rules).error().code(),
            base::ErrorCode::unsupported);
  EXPECT_EQ(tool_grammar(builder, *format_by_name("hermes"), {}, rules).error().code(),
            base::ErrorCode::invalid_argument);
  rules.choice = {Kind::named, "nothing"};
  EXPECT_EQ(tool_grammar(builder, *format_by_name("hermes"), some_tools(true), rules).error().code(),
            base::ErrorCode::invalid_argument);
  EXPECT_FALSE(*tool_grammar(builder, *format_by_name("hermes"), some_tools(false), {}));
}

TEST(ToolGrammar, TakesParametersThatMayBeAnObjectForOne) {
  const auto takes_objects = [](std::string_view type) {
    const std::vector<Tool> tools = {
        {"f", parsed(R"({"type": )" + std::string(type) + R"(, "properties": {}, "additionalProperties": false})"),
         true}};
    ToolRules rules;
    rules.choice.kind = Kind::required;
    const Format format = format_of("hermes", false);
    ::tidemill::test::Acceptor accepts(spelled_out(grammar_of(format, tools, rules)));
    const std::string call = "<tool_call>\n{\"name\": \"f\", \"arguments\": ";
    return accepts(call + "{}}\n</tool_call>") && !accepts(call + "null}\n</tool_call>");
  };
  EXPECT_TRUE(takes_objects(R"("object")"));
  EXPECT_TRUE(takes_objects(R"(["object", "null"])"));

  for (const std::string_view name : {"hermes", "qwen3_coder", "glm", "deepseek_v3_2", "lfm2", "gemma", "harmony"}) {
    for (const char* type : {R"("OBJECT")", R"("dict")", R"(["string", "null"])"}) {
      grammar::GrammarBuilder builder;
      ToolRules rules;
      rules.choice.kind = Kind::required;
      const std::vector<Tool> tools = {{"f", parsed(R"({"type": )" + std::string(type) + "}"), true}};
      const auto refused = tool_grammar(builder, *format_by_name(name), tools, rules);
      ASSERT_FALSE(refused) << name << type;
      EXPECT_NE(refused.error().message().find("'f' must be of type object"), std::string::npos)
          << name << type << refused.error().message();
    }
  }
}

// Where a tag closes a call the model may go on; one call stays one where no more are wanted.
TEST(ToolGrammar, LetsTextFollowAClosedCall) {
  const std::string call = "<tool_call>\n{\"name\": \"get\", \"arguments\": {}}\n</tool_call>";
  ToolRules rules;
  const std::vector<Tool> tools = some_tools(true);
  ::tidemill::test::Acceptor several(spelled_out(grammar_of(format_of("hermes", false), tools, rules)));
  EXPECT_TRUE(several("I look. " + call + "\nAnd again:" + call + " Wait."));
  EXPECT_FALSE(several("I look. " + call + "\n<tool_call>{}"));
  rules.parallel = false;
  ::tidemill::test::Acceptor one(spelled_out(grammar_of(format_of("hermes", false), tools, rules)));
  EXPECT_TRUE(one("I look. " + call + "\nWait."));
  EXPECT_FALSE(one(call + "\n" + call));
  ::tidemill::test::Acceptor unclosed(spelled_out(grammar_of(format_of("mistral_args", false), tools, {})));
  EXPECT_TRUE(unclosed("I look.[TOOL_CALLS]get[ARGS]{}"));
  EXPECT_FALSE(unclosed("I look.[TOOL_CALLS]get[ARGS]{} Wait."));
}

TEST(ToolGrammar, PutsContentWhereTheRequestGivesItAForm) {
  grammar::GrammarBuilder builder;
  const Format format = format_of("hermes", true);
  ToolRules rules;
  rules.content = builder.literal("{\"answer\":1}");
  const auto output = tool_grammar(builder, format, some_tools(false), rules);
  ASSERT_TRUE(output && *output);
  const auto built = std::move(builder).build(**output);
  ASSERT_TRUE(built);
  ::tidemill::test::Acceptor accepts(spelled_out(*built));
  EXPECT_TRUE(accepts("{\"answer\":1}"));
  EXPECT_TRUE(accepts("<think>Hm</think>\n\n{\"answer\":1}"));
  EXPECT_TRUE(accepts("<tool_call>{\"name\": \"get\", \"arguments\": {}}</tool_call>"));
  EXPECT_FALSE(accepts("Hello"));
}

}  // namespace
}  // namespace tidemill::chat::test
