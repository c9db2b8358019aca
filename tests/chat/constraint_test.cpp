#include "chat/constraint.hpp"

#include <algorithm>

#include <gtest/gtest.h>

#include "base/utf8.hpp"
#include "chat/reading.hpp"
#include "grammar/acceptor.hpp"
#include "grammar/json_schema.hpp"
#include "grammar/token_grammar.hpp"
#include "grammar/vocabularies.hpp"
#include "sentences.hpp"

namespace tidemill::chat::test {
namespace {

namespace json = base::json;
using Kind = ToolChoice::Kind;

json::value parsed(std::string_view text) {
  const auto value = base::parse_json(text);
  EXPECT_TRUE(value) << text;
  return value ? *value : json::value();
}

std::vector<Tool> some_tools(bool strict) {
  return {{"get_weather", parsed(R"({"type": "object", "additionalProperties": false, "required": ["city", "days"],
             "properties": {"city": {"type": "string"}, "days": {"type": "integer"},
               "unit": {"type": "string", "enum": ["celsius", "</parameter", "k\"elvin"]},
               "where": {"type": "object", "additionalProperties": false, "required": ["lat"],
                         "properties": {"lat": {"type": "number"}, "exact": {"type": "boolean"}}},
               "tags": {"type": "array", "items": {"type": "string"}}}})"),
           strict},
          {"get", parsed(R"({"type": "object", "additionalProperties": false, "properties": {}, "required": []})"),
           strict}};
}

constexpr std::string_view all_formats[] = {"hermes",      "llama3_json",   "mistral",       "mistral_args",
                                            "mistral_ids", "deepseek_v3",   "deepseek_v3_1", "deepseek_v3_2",
                                            "qwen3_coder", "glm",           "kimi_k2",       "harmony",
                                            "gemma",       "functiongemma", "functionary",   "functionary_v3_2",
                                            "apertus",     "apriel",        "gigachat",      "gigachat_role",
                                            "functools",   "granite",       "lfm2",          "mcp"};

Format format_of(std::string_view name, bool reasons) {
  Format format = *format_by_name(name);
  if (reasons && name != "harmony") {
    EXPECT_TRUE(set_reasoning(format, "think"));
  }
  return format;
}

std::shared_ptr<const grammar::Grammar> grammar_of(const Format& format, std::span<const Tool> tools,
                                                   const ToolRules& rules) {
  grammar::GrammarBuilder builder;
  const auto output = tool_grammar(builder, format, tools, rules);
  EXPECT_TRUE(output) << output.error().to_string();
  if (!output || !*output) return nullptr;
  auto built = std::move(builder).build(**output);
  EXPECT_TRUE(built) << built.error().to_string();
  return built ? *built : nullptr;
}

// With the names of control tokens as text.
std::shared_ptr<const grammar::Grammar> spelled_out(const std::shared_ptr<const grammar::Grammar>& grammar) {
  grammar::ByteSet all;
  all.set();
  const auto spelled = grammar->restricted_to(
      {all, [](grammar::Expressions& nodes, const std::string& name) { return nodes.literal(name); }});
  EXPECT_TRUE(spelled);
  return *spelled;
}

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
  EXPECT_NE(refusal("qwen3_coder", R"({"a": {"type": ["string", "object"]}})"), "");
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

// What Pydantic writes for Optional[str], zod for nullable(), and others: text beside null, by whatever keyword.
TEST(ToolGrammar, TakesTextBesideNullInTagsHoweverTheSchemaSaysIt) {
  const auto refusal = [](std::string_view format, const std::string& property) {
    grammar::GrammarBuilder builder;
    const std::vector<Tool> tools = {
        {"f", parsed(R"({"type": "object", "properties": {"a": )" + property + R"(}, "required": ["a"],
           "$defs": {"text": {"type": "string", "title": "T"}, "short": {"type": "string", "maxLength": 3},
                     "maybe": {"anyOf": [{"$ref": "#/$defs/text"}, {"type": "null"}]},
                     "loop": {"anyOf": [{"$ref": "#/$defs/loop"}, {"$ref": "#/$defs/loop"}, {"$ref": "#/$defs/loop"},
                                        {"$ref": "#/$defs/loop"}, {"$ref": "#/$defs/loop"}]}}})"),
         true}};
    ToolRules rules;
    rules.choice.kind = Kind::required;
    const auto output = tool_grammar(builder, *format_by_name(format), tools, rules);
    return output ? std::string() : output.error().to_string();
  };
  const std::vector<std::string> taken = {
      R"({"type": ["string", "null"], "default": null})",
      R"({"anyOf": [{"type": "string"}, {"type": "null"}]})",
      R"({"anyOf": [{"type": "string", "description": "x"}, {"type": "null"}], "default": null, "title": "A"})",
      R"({"anyOf": [{"type": "string"}, {"type": "boolean"}, {"type": "null"}]})",
      R"({"anyOf": [{"anyOf": [{"type": "null"}, {"type": "boolean"}]}, {"type": "string"}]})",
      R"({"oneOf": [{"type": "string"}, {"type": "null"}]})",
      R"({"allOf": [{"type": ["string", "null"]}], "description": "x"})",
      R"({"$ref": "#/$defs/maybe", "description": "x"})",
  };
  const std::vector<std::string> refused = {
      R"({"anyOf": [{"type": "string", "minLength": 2}, {"type": "null"}]})",
      R"({"anyOf": [{"type": "string"}, {"type": "null"}], "maxLength": 3})",
      R"({"anyOf": [{"$ref": "#/$defs/short"}, {"type": "null"}]})",
      R"({"anyOf": [{"type": "string"}, {"type": "integer"}]})",
      R"({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})",
      R"({"anyOf": [{"type": "string"}, {"const": false}]})",
      R"({"oneOf": [{"type": ["string", "null"]}, {"type": "null"}]})",
      R"({"$ref": "#/$defs/loop"})",
  };
  for (const std::string_view format : {"qwen3_coder", "glm", "deepseek_v3_2"}) {
    for (const std::string& property : taken)
      EXPECT_EQ(refusal(format, property), "") << format << ": " << property;
    if (format == "deepseek_v3_2") continue;  // whose tags tell text apart
    for (const std::string& property : refused)
      EXPECT_NE(refusal(format, property).find("'a' may be text or something else"), std::string::npos)
          << format << ": " << property;
  }
}

TEST(ToolGrammar, ReadsTextBesideNullInTagsBack) {
  const std::vector<Tool> tools = {{"f", parsed(R"({"type": "object", "required": ["a"], "properties":
         {"a": {"anyOf": [{"type": "string"}, {"type": "boolean"}, {"type": "null"}]}}})"),
                                    true}};
  ToolRules rules;
  rules.choice.kind = Kind::required;
  for (const std::string_view name : {"qwen3_coder", "glm", "deepseek_v3_2"}) {
    const Format format = format_of(name, false);
    Sentences sentences(grammar_of(format, tools, rules), 7);
    for (int i = 0; i < 100; ++i) {
      const std::string sentence = sentences.next();
      const Reading reading = read(format, tools, Start::answer, sentence);
      ASSERT_TRUE(reading.sound && reading.complete && !reading.calls.empty()) << sentence;
      const auto arguments = base::parse_json(reading.calls[0].arguments, 200);
      ASSERT_TRUE(arguments && arguments->is_object()) << sentence;
      const json::value* a = arguments->get_object().if_contains("a");
      ASSERT_NE(a, nullptr) << sentence;
      EXPECT_TRUE(a->is_string() || a->is_bool() || a->is_null()) << sentence;
    }
  }
  // "null" is null where nothing else says what it is.
  const auto arguments_of = [&](std::string_view name, std::string_view text) {
    const Reading reading = read(format_of(name, false), tools, Start::answer, text);
    return reading.calls.size() == 1 ? parsed(reading.calls[0].arguments) : json::value();
  };
  const json::value null = parsed(R"({"a": null})");
  EXPECT_EQ(arguments_of("qwen3_coder",
                         "<tool_call>\n<function=f>\n<parameter=a>\nnull\n</parameter>\n</function>\n</tool_call>"),
            null);
  EXPECT_EQ(arguments_of("glm", "<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>null</arg_value>\n</tool_call>"), null);
  // Where the tag says what is text, null and booleans are written as what they are.
  const Format format = format_of("deepseek_v3_2", false);
  ::tidemill::test::Acceptor accepts(spelled_out(grammar_of(format, tools, rules)));
  const auto call = [](std::string_view is_text, std::string_view value) {
    return "<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"f\">\n<｜DSML｜parameter name=\"a\" string=\"" +
           std::string(is_text) + "\">" + std::string(value) +
           "</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜function_calls>";
  };
  for (const std::string_view word : {"null", "true", "false"}) {
    const std::string text = call("false", word);
    EXPECT_TRUE(accepts(text)) << text;
    const Reading reading = read(format, tools, Start::answer, text);
    ASSERT_EQ(reading.calls.size(), 1U) << text;
    EXPECT_EQ(parsed(reading.calls[0].arguments), parsed("{\"a\": " + std::string(word) + "}")) << text;
  }
  EXPECT_TRUE(accepts(call("true", "null")));
  EXPECT_EQ(arguments_of("deepseek_v3_2", call("true", "null")), parsed(R"({"a": "null"})"));
  EXPECT_FALSE(accepts(call("false", "7")));
  EXPECT_FALSE(accepts(call("false", "x")));
}

// The parameter "a" as DeepSeek V3.2 writes it.
std::string deepseek_call(std::string_view is_text, std::string_view value) {
  return "<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"f\">\n<｜DSML｜parameter name=\"a\" string=\"" +
         std::string(is_text) + "\">" + std::string(value) +
         "</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜function_calls>";
}

// Whether a call of a tool whose one parameter, "a", is as the schema says is among what may be written; as such it is
// read back as `meaning`.
void expect_deepseek_calls(const std::string& property, bool strict, std::string_view is_text,
                           const std::vector<std::pair<std::string, std::string>>& taken,
                           const std::vector<std::string>& refused) {
  SCOPED_TRACE(property);
  const std::vector<Tool> tools = {
      {"f", parsed(R"({"type": "object", "required": ["a"], "properties": {"a": )" + property + "}}"), strict}};
  ToolRules rules;
  rules.choice.kind = Kind::required;
  const Format format = format_of("deepseek_v3_2", false);
  ::tidemill::test::Acceptor accepts(spelled_out(grammar_of(format, tools, rules)));
  for (const auto& [value, meaning] : taken) {
    const std::string text = deepseek_call(is_text, value);
    EXPECT_TRUE(accepts(text)) << text;
    const Reading reading = read(format, tools, Start::answer, text);
    ASSERT_EQ(reading.calls.size(), 1U) << text;
    EXPECT_EQ(parsed(reading.calls[0].arguments), parsed("{\"a\": " + meaning + "}")) << text;
  }
  for (const std::string& value : refused)
    EXPECT_FALSE(accepts(deepseek_call(is_text, value))) << is_text << ": " << value;
}

TEST(ToolGrammar, HoldsTextAndOtherValuesEachToTheSchemaWhereTheTagTellsThemApart) {
  const std::string number = R"({"type": ["string", "integer"]})";
  expect_deepseek_calls(number, true, "true", {{"7", R"("7")"}, {"", R"("")"}, {"null", R"("null")"}}, {});
  expect_deepseek_calls(number, true, "false", {{"7", "7"}}, {"7.5", "null", "\"x\"", "x"});
  const std::string short_text = R"({"anyOf": [{"type": "string", "maxLength": 3}, {"type": "null"}], "title": "A"})";
  expect_deepseek_calls(short_text, true, "true", {{"abc", R"("abc")"}}, {"abcd"});
  expect_deepseek_calls(short_text, true, "false", {{"null", "null"}}, {"abc", "true"});
  // A list, in whose texts the closing tag may stand.
  const std::string list = R"({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})";
  expect_deepseek_calls(list, true, "true", {{"[", R"("[")"}, {R"(["a"])", R"("[\"a\"]")"}}, {});
  expect_deepseek_calls(list, true, "false",
                        {{R"(["a"])", R"(["a"])"}, {R"(["</｜DSML｜parameter>"])", R"(["</｜DSML｜parameter>"])"}},
                        {"[1]", "[", "\"a\""});
  const std::string listed = R"({"enum": ["x", 1, null]})";
  expect_deepseek_calls(listed, true, "true", {{"x", R"("x")"}}, {"1", "y"});
  expect_deepseek_calls(listed, true, "false", {{"1", "1"}, {"null", "null"}}, {"\"x\"", "2"});
  expect_deepseek_calls("{}", true, "true", {{"x", R"("x")"}}, {});
  expect_deepseek_calls("{}", true, "false", {{R"({"b": [1]})", R"({"b": [1]})"}}, {"x"});
  // One of the two, though the schema only says so in ways that are not looked through.
  const std::string hidden = R"({"type": "string", "nullable": true})";
  expect_deepseek_calls(hidden, true, "true", {{"x", R"("x")"}}, {});
  expect_deepseek_calls(hidden, true, "false", {}, {"null", "x", "1"});

  grammar::GrammarBuilder builder;
  ToolRules rules;
  rules.choice.kind = Kind::required;
  const std::vector<Tool> tools = {
      {"f", parsed(R"({"properties": {"a": {"type": ["string", "array"], "minLength": 3, "maxLength": 2, "minItems": 1,
                      "maxItems": 0}}})"),
       true}};
  const auto refused = tool_grammar(builder, *format_by_name("deepseek_v3_2"), tools, rules);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().to_string().find("minLength 3 and maxLength 2"), std::string::npos)
      << refused.error().to_string();
}

TEST(ToolGrammar, ReadsBackWhichOfTextAndOtherValuesTheTagSays) {
  const std::vector<Tool> tools = {{"f", parsed(R"({"required": ["a"], "properties": {"a": {"type":
         ["string", "number", "boolean", "null", "array", "object"]}}})"),
                                    true}};
  ToolRules rules;
  rules.choice.kind = Kind::required;
  rules.parallel = false;
  const Format format = format_of("deepseek_v3_2", false);
  Sentences sentences(grammar_of(format, tools, rules), 11);
  size_t texts = 0;
  constexpr size_t count = 300;
  for (size_t i = 0; i < count; ++i) {
    const std::string sentence = sentences.next();
    const Reading reading = read(format, tools, Start::answer, sentence);
    ASSERT_TRUE(reading.sound && reading.complete && reading.calls.size() == 1) << sentence;
    const auto arguments = base::parse_json(reading.calls[0].arguments, 200);
    ASSERT_TRUE(arguments && arguments->is_object()) << sentence;
    const bool is_text = sentence.find("name=\"a\" string=\"true\"") != std::string::npos;
    EXPECT_EQ(arguments->at("a").is_string(), is_text) << sentence;
    texts += is_text ? 1 : 0;
  }
  EXPECT_GT(texts, 0U);
  EXPECT_LT(texts, count);
}

TEST(ToolGrammar, WritesOtherValuesThanTextOfToolsThatAreNotStrictWhereTheTagTellsThemApart) {
  for (const char* property :
       {R"({"type": ["string", "null"]})", R"({"anyOf": [{"type": "string"}, {"type": "null"}]})", "{}"}) {
    expect_deepseek_calls(property, false, "true", {{"null", R"("null")"}, {"x", R"("x")"}}, {});
    expect_deepseek_calls(property, false, "false", {{"null", "null"}}, {"x"});
  }
  expect_deepseek_calls(R"({"type": "string"})", false, "false", {}, {"null", "x"});
  expect_deepseek_calls(R"({"type": "integer"})", false, "true", {}, {"x"});
}

// However many parameters refer to however many of them; or to each other.
TEST(ToolGrammar, ReadsDefinitionsOnceForAllParameters) {
  const auto refusal = [](std::string_view format, const char* property) {
    json::object definitions;
    for (int i = 0; i < 5'000; ++i)
      definitions["d" + std::to_string(i)] = json::object{{"type", "integer"}};
    json::object properties;
    for (int i = 0; i < 500; ++i)
      properties["p" + std::to_string(i)] = parsed(property);
    const json::object schema = {{"type", "object"}, {"properties", properties}, {"$defs", definitions}};
    const std::vector<Tool> tools = {{"f", schema, true}};
    grammar::GrammarBuilder builder;
    ToolRules rules;
    rules.choice.kind = Kind::required;
    const auto built = tool_grammar(builder, *format_by_name(format), tools, rules);
    return built ? std::string() : built.error().to_string();
  };
  for (const std::string_view format : {"qwen3_coder", "lfm2"}) {
    EXPECT_EQ(refusal(format, R"({"$ref": "#/$defs/d7"})"), "");
    const char* to_another =
        R"({"type": "array", "items": {"$ref": "#/properties/p0/$defs/d"}, "$defs": {"d": {"type": "integer"}}})";
    EXPECT_EQ(refusal(format, to_another), "");
    const std::string missing = refusal(format, R"({"$ref": "#/$defs/none"})");
    EXPECT_NE(missing.find("JSON Schema, #/properties/p"), std::string::npos) << missing;
    EXPECT_NE(missing.find("/$ref: \"#/$defs/none\" points to nothing"), std::string::npos) << missing;
  }
}

// Schemas with every kind of keyword, in the spellings that are not JSON: what is written is read back, and satisfies.
TEST(ToolGrammar, HoldsOtherSpellingsToTheirSchemas) {
  const json::value schema = parsed(R"({"type": "object", "additionalProperties": false,
      "required": ["code", "zip", "kind", "size", "when"], "properties": {
        "zip": {"type": "string", "pattern": "^[0-9]{5}$"}, "code": {"type": "string", "minLength": 2, "maxLength": 4},
        "kind": {"anyOf": [{"enum": ["a", "b c", 7, null]}, {"type": "boolean"}]},
        "size": {"type": "integer", "minimum": -3, "maximum": 40},
        "when": {"type": "string", "format": "date"},
        "tree": {"$ref": "#/$defs/tree"}, "pair": {"type": "array", "minItems": 2, "maxItems": 2,
          "items": {"type": ["number", "null"]}}, "free": {"type": "object", "additionalProperties": {"type": "string"}}},
      "$defs": {"tree": {"type": "object", "required": ["name"], "additionalProperties": false,
        "properties": {"name": {"type": "string"}, "children": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}}}})");
  const auto holds = [](const json::object& value) {
    const std::string zip(value.at("zip").as_string());
    const std::string when(value.at("when").as_string());
    const size_t length = base::utf8::length(value.at("code").as_string());
    const json::value& kind = value.at("kind");
    const bool known = kind.is_bool() || kind == "a" || kind == "b c" || kind == 7 || kind.is_null();
    bool good = zip.size() == 5 && zip.find_first_not_of("0123456789") == std::string::npos && length >= 2 &&
                length <= 4 && known && value.at("size").is_int64() && value.at("size").as_int64() >= -3 &&
                value.at("size").as_int64() <= 40 && when.size() == 10;
    if (const json::value* tree = value.if_contains("tree")) good = good && tree->at("name").is_string();
    if (const json::value* pair = value.if_contains("pair")) good = good && pair->as_array().size() == 2;
    if (const json::value* free = value.if_contains("free")) {
      for (const auto& [key, member] : free->as_object())
        good = good && member.is_string();
    }
    return good;
  };
  for (const std::string_view name : {"gemma", "functiongemma", "lfm2"}) {
    const Format format = format_of(name, false);
    const std::vector<Tool> tools = {{"f", schema, true}};
    ToolRules rules;
    rules.choice.kind = Kind::required;
    const auto grammar = grammar_of(format, tools, rules);
    ASSERT_TRUE(grammar) << name;
    Sentences sentences(grammar, 23);
    for (int i = 0; i < 150; ++i) {
      const std::string sentence = sentences.next();
      const Reading reading = read(format, tools, Start::answer, sentence);
      ASSERT_TRUE(reading.sound && reading.complete) << sentence;
      for (const Call& call : reading.calls) {
        const auto arguments = base::parse_json(call.arguments, 200);
        ASSERT_TRUE(arguments && arguments->is_object()) << call.arguments << " in " << sentence;
        EXPECT_TRUE(holds(arguments->get_object())) << call.arguments << " in " << sentence;
      }
    }
  }
  // Text in tags, by pattern.
  for (const std::string_view name : {"qwen3_coder", "glm", "deepseek_v3_2"}) {
    const Format format = format_of(name, false);
    const std::vector<Tool> tools = {{"f", parsed(R"({"type": "object", "required": ["zip"], "properties":
        {"zip": {"type": "string", "pattern": "^[0-9]{5}$"}}})"),
                                      true}};
    ToolRules rules;
    rules.choice.kind = Kind::required;
    Sentences sentences(grammar_of(format, tools, rules), 2);
    for (int i = 0; i < 20; ++i) {
      const Reading reading = read(format, tools, Start::answer, sentences.next());
      ASSERT_FALSE(reading.calls.empty());
      EXPECT_EQ(parsed(reading.calls[0].arguments).at("zip").as_string().size(), 5U);
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

TEST(ToolGrammar, LetsHarmonySpeakBeforeACall) {
  const auto message = [](std::string_view channel, std::string_view text) {
    return "<|channel|>" + std::string(channel) + "<|message|>" + std::string(text) + "<|end|><|start|>assistant";
  };
  const std::string call = "<|channel|>commentary to=functions.get <|constrain|>json<|message|>{}<|call|>";
  const std::vector<Tool> tools = some_tools(true);
  ToolRules rules;
  ::tidemill::test::Acceptor may(spelled_out(grammar_of(format_of("harmony", false), tools, rules)));
  EXPECT_TRUE(may(message("analysis", "Hm.") + message("commentary", "I look.") + call));
  EXPECT_TRUE(may(message("analysis", "Hm.") + message("analysis", "So.") + "<|channel|>final<|message|>Hi."));
  EXPECT_FALSE(may(call + call));
  rules.choice.kind = Kind::required;
  ::tidemill::test::Acceptor must(spelled_out(grammar_of(format_of("harmony", false), tools, rules)));
  EXPECT_TRUE(must(message("analysis", "Hm.") + call));
  EXPECT_FALSE(must(message("commentary", "I look.") + call)) << "content, where only calls may come";
}

TEST(ToolGrammar, LetsHarmonyReasonOnceWhereThatHasABudget) {
  const auto message = [](std::string_view channel) {
    return "<|channel|>" + std::string(channel) + "<|message|>x<|end|><|start|>assistant";
  };
  const std::string call = "<|channel|>commentary to=functions.get <|constrain|>json<|message|>{}<|call|>";
  const std::string answer = "<|channel|>final<|message|>Hi.";
  ToolRules rules;
  rules.reasons_once = true;
  for (const Kind kind : {Kind::none, Kind::automatic, Kind::required}) {
    rules.choice.kind = kind;
    rules.always = true;
    ::tidemill::test::Acceptor accepts(spelled_out(grammar_of(format_of("harmony", false), some_tools(false), rules)));
    const std::string& end = kind == Kind::required ? call : answer;
    EXPECT_TRUE(accepts(end));
    EXPECT_TRUE(accepts(message("analysis") + end));
    EXPECT_FALSE(accepts(message("analysis") + message("analysis") + end));
    const bool speaks = kind != Kind::required;
    EXPECT_EQ(accepts(message("commentary") + message("analysis") + message("commentary") + end), speaks);
    EXPECT_FALSE(accepts(message("analysis") + message("commentary") + message("analysis") + end));
  }
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

TEST(ToolGrammar, KeepsHarmonysWordsOutOfContentThatHasAForm) {
  for (const bool reasons_once : {false, true}) {
    grammar::GrammarBuilder builder;
    ToolRules rules;
    rules.reasons_once = reasons_once;
    rules.content = builder.literal("{}");
    const auto output = tool_grammar(builder, format_of("harmony", false), some_tools(false), rules);
    ASSERT_TRUE(output && *output);
    const auto built = std::move(builder).build(**output);
    ASSERT_TRUE(built);
    ::tidemill::test::Acceptor accepts(spelled_out(*built));
    const std::string answer = "<|channel|>final<|message|>{}";
    EXPECT_TRUE(accepts(answer));
    EXPECT_TRUE(accepts("<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant" + answer));
    EXPECT_FALSE(accepts("<|channel|>commentary<|message|>I look.<|end|><|start|>assistant" + answer));
  }
}

}  // namespace
}  // namespace tidemill::chat::test
