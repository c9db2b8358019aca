#include "chat/output_parser.hpp"

#include <array>
#include <random>

#include <gtest/gtest.h>

#include "base/json.hpp"
#include "chat/reading.hpp"

namespace tidemill::chat::test {

void PrintTo(const Reading& reading, std::ostream* out) {
  *out << "content \"" << reading.content << "\", reasoning \"" << reading.reasoning << "\"";
  for (const Call& call : reading.calls)
    *out << ", call " << call.name << " " << call.arguments << " (" << call.id << ")";
  *out << (reading.complete ? ", complete" : "") << (reading.sound ? "" : ", NOT SOUND");
}

namespace {

std::vector<Tool> tools() {
  const auto schema = [](std::string_view text) { return *base::parse_json(text); };
  return {
      {"get_weather",
       schema(R"({"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"},
                                "exact": {"type": "boolean"}, "where": {"type": "object"},
                                "list": {"type": "array"}, "unit": {"type": ["string", "null"]},
                                "ref": {"$ref": "#/$defs/text"}}, "$defs": {"text": {"enum": ["1", "2"]}}})"),
       false},
      {"now", schema(R"({"type": "object", "properties": {}})"), false},
  };
}

Format format_with(std::string_view name, std::string_view reasoning = "none") {
  Format format = *format_by_name(name);
  EXPECT_TRUE(set_reasoning(format, reasoning));
  return format;
}

// The reading of `text`, which must be the same however it is cut; and that of everything it begins with, too.
Reading read_every_way(const Format& format, std::string_view text, Start start = Start::answer) {
  const std::vector<Tool> offered = tools();
  const Reading whole = read(format, offered, start, text);
  EXPECT_TRUE(whole.sound) << text;
  const std::vector<size_t> places = cuts(text);
  for (const size_t place : places) {
    EXPECT_EQ(read(format, offered, start, cut_at(text, std::span(&place, 1))), whole)
        << text.substr(0, place) << " | " << text.substr(place);
  }
  EXPECT_EQ(read(format, offered, start, cut_at(text, places)), whole) << text;
  std::mt19937 random(7);
  for (int round = 0; round < 20; ++round) {
    std::vector<size_t> some;
    for (const size_t place : places) {
      if (random() % 5 == 0) some.push_back(place);
    }
    EXPECT_EQ(read(format, offered, start, cut_at(text, some)), whole) << text;
  }
  for (const size_t place : places) {
    const std::string_view beginning = text.substr(0, place);
    const Reading cut_off = read(format, offered, start, beginning);
    EXPECT_TRUE(cut_off.sound) << beginning;
    EXPECT_EQ(read(format, offered, start, cut_at(beginning, cuts(beginning))), cut_off) << beginning;
    // What comes later takes nothing back: a call's beginning is the beginning of its whole.
    for (size_t i = 0; i < cut_off.calls.size() && i < whole.calls.size(); ++i) {
      EXPECT_EQ(cut_off.calls[i].name, whole.calls[i].name);
      EXPECT_TRUE(whole.calls[i].arguments.starts_with(cut_off.calls[i].arguments)) << beginning;
    }
  }
  return whole;
}

struct Expected {
  std::string content;
  std::string reasoning;
  std::vector<std::pair<std::string, std::string>> calls;
};

void expect(std::string_view format, std::string_view text, const Expected& expected,
            std::string_view reasoning = "none", Start start = Start::answer) {
  const Reading reading = read_every_way(format_with(format, reasoning), text, start);
  EXPECT_EQ(reading.content, expected.content) << text;
  EXPECT_EQ(reading.reasoning, expected.reasoning) << text;
  ASSERT_EQ(reading.calls.size(), expected.calls.size()) << text;
  for (size_t i = 0; i < expected.calls.size(); ++i) {
    EXPECT_EQ(reading.calls[i].name, expected.calls[i].first);
    EXPECT_EQ(reading.calls[i].arguments, expected.calls[i].second);
    EXPECT_TRUE(base::parse_json(reading.calls[i].arguments)) << reading.calls[i].arguments;
  }
  EXPECT_EQ(reading.complete, !expected.calls.empty()) << text;
}

TEST(PlainOutput, IsContentAsItIs) {
  for (const std::string_view format :
       {"none", "hermes", "llama3_json", "mistral_args", "qwen3_coder", "glm", "gemma"}) {
    expect(format, "", {});
    expect(format, "Hello", {"Hello", "", {}});
    expect(format, " Hello\n\n", {" Hello\n\n", "", {}});
    expect(format, "a < b, <tool_, <func, <|tool_ca, 北京 ［［ é\n",
           {"a < b, <tool_, <func, <|tool_ca, 北京 ［［ é\n", "", {}});
  }
}

TEST(Reasoning, StandsApartFromContent) {
  expect("hermes", "<think>\nLet me see.\n</think>\n\nYes.\n", {"Yes.\n", "Let me see.", {}}, "think");
  expect("hermes", "Let me see.\n\nSo.\n</think>\n\nYes.", {"Yes.", "Let me see.\n\nSo.", {}}, "think",
         Start::reasoning);
  expect("hermes", "<think>\nagain</think>Yes.", {"Yes.", "again", {}}, "think", Start::reasoning);
  expect("hermes", "<think></think>\n\n", {}, "think");
  expect("hermes", "unfinished </thin", {"", "unfinished </thin", {}}, "think", Start::reasoning);
  expect("hermes", "Say <think> and </think>.", {"Say <think> and </think>.", "", {}}, "think");
  expect("mistral_args", "[THINK]Hm[/THINK]Yes", {"Yes", "Hm", {}}, "bracket_think");
  expect("gemma", "<|channel>thought\nHm\n<channel|>Yes", {"Yes", "Hm", {}}, "gemma");
  expect("apriel", "Hm\n[BEGIN FINAL RESPONSE]\nYes", {"Yes", "Hm", {}}, "apriel", Start::reasoning);
}

TEST(Reasoning, EndsWhereAControlTokenBeginsACall) {
  expect("kimi_k2",
         "Hm <|tool_calls_section_begin|><|tool_call_begin|>functions.now:0<|tool_call_argument_begin|>{}"
         "<|tool_call_end|><|tool_calls_section_end|>",
         {"", "Hm", {{"now", "{}"}}}, "think", Start::reasoning);
  expect("hermes", "I could <tool_call>{\"name\": \"now\", \"arguments\": {}}</tool_call></think>No.",
         {"No.", "I could <tool_call>{\"name\": \"now\", \"arguments\": {}}</tool_call>", {}}, "think",
         Start::reasoning);
}

TEST(Hermes, ReadsCalls) {
  expect("hermes", "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}\n</tool_call>",
         {"", "", {{"get_weather", "{\"city\": \"Paris\"}"}}});
  expect(
      "hermes",
      "Let me look.\n<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"北京 \\u00e9 \\ud83d\\ude00 "
      "\\\"x\\\" </tool_call>\", \"where\": {\"a\": [1, -2.5e3, {}, [], null, true, false]}}}\n</tool_call>\n"
      "<tool_call>\n{\"arguments\": {\"x\": {\"name\": \"y\"}}, \"name\": \"now\"}\n</tool_call>\n",
      {"Let me look.",
       "",
       {{"get_weather",
         "{\"city\": \"北京 \\u00e9 \\ud83d\\ude00 \\\"x\\\" </tool_call>\", \"where\": {\"a\": [1, -2.5e3, "
         "{}, [], null, true, false]}}"},
        {"now", "{\"x\": {\"name\": \"y\"}}"}}});
  expect("hermes", "<think>Hm</think>\n\n<tool_call>{\"name\":\"now\",\"arguments\":{}}</tool_call>",
         {"", "Hm", {{"now", "{}"}}}, "think");
  expect("hermes", "A<tool_call>{\"name\":\"now\",\"arguments\":{}}</tool_call>\nB", {"A\nB", "", {{"now", "{}"}}});
}

TEST(Hermes, TakesWhatModelsMakeOfIt) {
  expect("hermes", "<tool_call>{\"name\": \"now\"}</tool_call>", {"", "", {{"now", "{}"}}});
  expect("hermes", "<tool_call>{\"name\": \"now\", \"arguments\": null}", {"", "", {{"now", "{}"}}});
  expect("hermes", "<tool_call>{\"name\": \"now\", \"arguments\": \"\"}", {"", "", {{"now", "{}"}}});
  expect("hermes",
         "<tool_call>{\"name\": \"now\", \"arguments\": \"{\\\"a\\\": \\\"b\\\\n\\\\u00e9\\\"}\"}</tool_call>",
         {"", "", {{"now", "{\"a\": \"b\\n\\u00e9\"}"}}});
  expect("hermes", "<tool_call>{\"type\": \"function\", \"id\": 7, \"name\": \"now\", \"parameters\": {}, \"n\": [1]}",
         {"", "", {{"now", "{}"}}});
  expect("hermes", "<tool_call>\n{\"name\": \"now\"}\n{\"name\": \"now\"}\n</tool_call>",
         {"", "", {{"now", "{}"}, {"now", "{}"}}});
  expect("hermes", "<tool_call>[{\"name\": \"now\"}, {\"name\": \"now\"}]</tool_call>",
         {"", "", {{"now", "{}"}, {"now", "{}"}}});
  expect("hermes", "<tool_call>{\"name\": \"now\"}<tool_call>{\"name\": \"now\"}",
         {"", "", {{"now", "{}"}, {"now", "{}"}}});
  // An unknown function is the client's to refuse.
  expect("hermes", "<tool_call>{\"name\": \"other\", \"arguments\": {}}</tool_call>", {"", "", {{"other", "{}"}}});
  // Two slips inside of strings are mended.
  expect("hermes", "<tool_call>{\"name\": \"now\", \"arguments\": {\"p\": \"C:\\dir\\u12 a\nb\tc\"}}</tool_call>",
         {"", "", {{"now", "{\"p\": \"C:\\\\dir\\\\u12 a\\nb\\tc\"}"}}});
  expect("hermes", "<tool_call>{\"name\": \"now\", \"arguments\": {\"p\": \"\\ud83d \\ude00\"}}</tool_call>",
         {"", "", {{"now", "{\"p\": \"\\ufffd \\ufffd\"}"}}});
}

TEST(Hermes, GivesBackAsContentWhatIsNoCall) {
  for (const std::string_view text :
       {"<tool_call>", "<tool_call>\n", "<tool_call> nothing", "<tool_call>{}</tool_call>", "<tool_call>{\"name\"",
        "<tool_call>{\"name\": 3}", "<tool_call>{\"name\": \"\"}", "<tool_call>{\"arguments\": {}}</tool_call>",
        "<tool_call>{\"name\": \"now\", \"arguments\": [1]}</tool_call>",
        "<tool_call>{\"name\": \"now\", \"arguments\": \"no\"}", "<tool_call>{'name': 'now'}</tool_call>",
        "Text <tool_call>{\"name\": \"now\" \"arguments\": {}}</tool_call> more", "<tool_call>[]</tool_call>"}) {
    expect("hermes", text, {std::string(text), "", {}});
  }
  expect("hermes", "<tool_call><tool_call>{\"name\": \"now\"}</tool_call>", {"<tool_call>", "", {{"now", "{}"}}});
  expect("hermes", "<tool_call>{<tool_call>{\"name\": \"now\"}", {"<tool_call>{", "", {{"now", "{}"}}});
}

TEST(Hermes, KeepsWhatCameOfABrokenCall) {
  const Format format = format_with("hermes");
  Reading reading = read_every_way(format, "<tool_call>{\"name\": \"now\", \"arguments\": {\"a\": True}}</tool_call>");
  ASSERT_EQ(reading.calls.size(), 1U);
  EXPECT_EQ(reading.calls[0].arguments, "{\"a\": ");
  EXPECT_EQ(reading.content, "True}}</tool_call>");
  EXPECT_FALSE(reading.complete);
  reading = read_every_way(format, "<tool_call>{\"name\": \"now\", \"arguments\": {\"a\": \"b");
  ASSERT_EQ(reading.calls.size(), 1U);
  EXPECT_EQ(reading.calls[0].arguments, "{\"a\": \"b");
  EXPECT_EQ(reading.content, "");
  EXPECT_FALSE(reading.complete);
}

TEST(NoTools, MeansNoCalls) {
  const std::string text = "<tool_call>{\"name\": \"now\", \"arguments\": {}}</tool_call>";
  EXPECT_EQ(read(format_with("hermes"), {}, Start::answer, text).content, text);
  EXPECT_EQ(read(format_with("llama3_json"), {}, Start::answer, "{\"name\": \"now\"}").content, "{\"name\": \"now\"}");
  EXPECT_EQ(read(format_with("harmony"), {}, Start::answer, "<|channel|>final<|message|>Hi").content, "Hi");
}

TEST(Llama3, ReadsBareJson) {
  expect("llama3_json", "{\"name\": \"get_weather\", \"parameters\": {\"city\": \"Paris\"}}",
         {"", "", {{"get_weather", "{\"city\": \"Paris\"}"}}});
  expect("llama3_json", "<|python_tag|>{\"name\": \"now\", \"parameters\": {}}", {"", "", {{"now", "{}"}}});
  expect("llama3_json", "\n{\"name\": \"now\", \"parameters\": {}}; {\"name\": \"now\", \"arguments\": {\"a\": 1}}\n",
         {"", "", {{"now", "{}"}, {"now", "{\"a\": 1}"}}});
  expect("llama3_json", "[{\"name\": \"now\"}, {\"name\": \"now\"}]", {"", "", {{"now", "{}"}, {"now", "{}"}}});
  expect("llama3_json", "{\"type\": \"function\", \"name\": \"now\", \"parameters\": {}}", {"", "", {{"now", "{}"}}});
}

TEST(Llama3, LeavesOtherJsonAlone) {
  for (const std::string_view text :
       {"{\"name\": \"John\", \"parameters\": {}}", "{\"a\": {\"name\": \"now\"}}", "[1, 2, {\"name\": \"now\"}]", "{}",
        "Say {\"name\": \"now\", \"parameters\": {}}", "[link](x)", "<|python_tag|>print(1)",
        "<|python_tag|>search.call(query=\"x\")"}) {
    expect("llama3_json", text, {std::string(text), "", {}});
  }
}

TEST(Mistral, ReadsAListOfCalls) {
  expect("mistral", "[TOOL_CALLS][{\"name\": \"now\", \"arguments\": {}}]", {"", "", {{"now", "{}"}}});
  expect("mistral",
         "Sure.[TOOL_CALLS] [{\"name\": \"now\", \"arguments\": {\"a\": \"]\"}}, {\"name\": \"get_weather\", "
         "\"arguments\": "
         "{\"city\": \"Rome\"}, \"id\": \"abc123DEF\"}]",
         {"Sure.", "", {{"now", "{\"a\": \"]\"}"}, {"get_weather", "{\"city\": \"Rome\"}"}}});
}

TEST(Mistral, ReadsNamesBeforeArguments) {
  expect("mistral_args", "[TOOL_CALLS]now[ARGS]{}[TOOL_CALLS]get_weather[ARGS]{\"city\": \"[TOOL_CALLS]\"}",
         {"", "", {{"now", "{}"}, {"get_weather", "{\"city\": \"[TOOL_CALLS]\"}"}}});
  expect("mistral_args", "[THINK]Hm[/THINK]Ok.[TOOL_CALLS]now[ARGS]{\"a\": {}}",
         {"Ok.", "Hm", {{"now", "{\"a\": {}}"}}}, "bracket_think");
  expect("mistral_args", "[TOOL_CALLS]now is the time", {"[TOOL_CALLS]now is the time", "", {}});
  const Reading reading =
      read_every_way(format_with("mistral_ids"), "[TOOL_CALLS]now[CALL_ID]abc123DEF[ARGS]{}[TOOL_CALLS]now[ARGS]{}");
  ASSERT_EQ(reading.calls.size(), 2U);
  EXPECT_EQ(reading.calls[0].id, "abc123DEF");
  EXPECT_EQ(reading.calls[1].id.size(), 9U);
}

TEST(DeepSeek, ReadsCalls) {
  expect("deepseek_v3",
         "Ok.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{\"city\": "
         "\"```\"}\n```"
         "<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n```json\n{}\n```<｜tool▁call▁end｜>"
         "<｜tool▁calls▁end｜>",
         {"Ok.", "", {{"get_weather", "{\"city\": \"```\"}"}, {"now", "{}"}}});
  expect("deepseek_v3_1",
         "Hm</think>Ok.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{\"city\": \"北京\"}"
         "<｜tool▁call▁end｜><｜tool▁call▁begin｜>now<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
         {"Ok.", "Hm", {{"get_weather", "{\"city\": \"北京\"}"}, {"now", "{}"}}}, "think", Start::reasoning);
  expect("deepseek_v3_1", "<｜tool▁call▁begin｜>now<｜tool▁sep｜><｜tool▁call▁end｜>", {"", "", {{"now", "{}"}}});
  expect("deepseek_v3_2",
         "Ok.\n\n<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"get_weather\">\n<｜DSML｜parameter name=\"city\" "
         "string=\"true\"> 12 \n</｜DSML｜parameter>\n<｜DSML｜parameter name=\"days\" "
         "string=\"false\">3</｜DSML｜parameter>\n"
         "</｜DSML｜invoke>\n<｜DSML｜invoke name=\"now\">\n</｜DSML｜invoke>\n</｜DSML｜function_calls>",
         {"Ok.", "", {{"get_weather", "{\"city\": \" 12 \\n\", \"days\": 3}"}, {"now", "{}"}}});
}

TEST(Kimi, ReadsCallsAndTheirIds) {
  const Reading reading = read_every_way(
      format_with("kimi_k2"),
      "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>{\"city\": "
      "\"Oslo\"}<|tool_call_end|><|tool_call_begin|>functions.now:1<|tool_call_argument_begin|>{}<|tool_call_end|>"
      "<|tool_calls_section_end|>");
  ASSERT_EQ(reading.calls.size(), 2U);
  EXPECT_EQ(reading.calls[0], (Call{"get_weather", "{\"city\": \"Oslo\"}", "functions.get_weather:0"}));
  EXPECT_EQ(reading.calls[1], (Call{"now", "{}", "functions.now:1"}));
  EXPECT_EQ(reading.content, "");
}

// As a model may write that counts badly.
TEST(Kimi, HasNoIdTwice) {
  const Reading reading = read_every_way(
      format_with("kimi_k2"),
      "<|tool_calls_section_begin|><|tool_call_begin|>functions.now:0<|tool_call_argument_begin|>{}<|tool_call_end|>"
      "<|tool_call_begin|>functions.now:0<|tool_call_argument_begin|>{}<|tool_call_end|><|tool_calls_section_end|>");
  ASSERT_EQ(reading.calls.size(), 2U);
  EXPECT_EQ(reading.calls[0].id, "functions.now:0");
  EXPECT_NE(reading.calls[1].id, "functions.now:0");
  EXPECT_FALSE(reading.calls[1].id.empty());
}

TEST(Qwen3Coder, ReadsParametersBySchema) {
  expect(
      "qwen3_coder",
      "I "
      "look.\n<tool_call>\n<function=get_weather>\n<parameter=city>\n12\n</parameter>\n<parameter=days>\n3\n</"
      "parameter>"
      "\n<parameter=exact>\nTrue\n</parameter>\n<parameter=where>\n{\"a\": [\"</parameter\"]}\n</parameter>\n"
      "<parameter=unit>\nnull\n</parameter>\n<parameter=ref>\n1\n</parameter>\n</function>\n</tool_call>\n<tool_call>\n"
      "<function=now>\n</function>\n</tool_call>",
      {"I look.",
       "",
       {{"get_weather",
         "{\"city\": \"12\", \"days\": 3, \"exact\": true, \"where\": {\"a\": [\"</parameter\"]}, "
         "\"unit\": null, \"ref\": \"1\"}"},
        {"now", "{}"}}});
  expect("qwen3_coder",
         "<function=get_weather><parameter=city>\n\n  def f():\n\treturn \"\\x\" # </param\n\n</parameter></function>",
         {"", "", {{"get_weather", "{\"city\": \"\\n  def f():\\n\\treturn \\\"\\\\x\\\" # </param\\n\"}"}}});
  // No text closes a value inside of an object.
  expect("qwen3_coder",
         "<function=get_weather><parameter=where>{\"a\": \"</parameter>\", \"b\": []}</parameter></function>",
         {"", "", {{"get_weather", "{\"where\": {\"a\": \"</parameter>\", \"b\": []}}"}}});
  // What the schema does not know is JSON if it can be; what is not of the type is text.
  expect("qwen3_coder",
         "<function=get_weather>\n<parameter=other>\n[1]\n</parameter>\n<parameter=more>\nx y\n</parameter>\n"
         "<parameter=days>\nmany\n</parameter>\n<parameter=unit>\n7\n</parameter>\n</function>",
         {"", "", {{"get_weather", "{\"other\": [1], \"more\": \"x y\", \"days\": \"many\", \"unit\": \"7\"}"}}});
}

TEST(Qwen3Coder, GivesBackAsContentWhatIsNoCall) {
  for (const std::string_view text : {"<tool_call>\n{\"x\": 1}", "<function=", "<function=>", "<tool_call></tool_call>",
                                      "<function=now> text", "<function=now>\n<parameter=>"}) {
    expect("qwen3_coder", text, {std::string(text), "", {}});
  }
  expect("qwen3_coder", "<function=now>\n<tool_call>\n<function=now>\n</function>",
         {"<function=now>", "", {{"now", "{}"}}});
}

TEST(Glm, ReadsParameters) {
  expect("glm",
         "\n<think>Hm</think>\nOk.\n<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Bonn\n</arg_value>\n"
         "<arg_key>days</arg_key>\n<arg_value> 3 </arg_value>\n</tool_call>\n<tool_call>now\n</tool_call>",
         {"Ok.", "Hm", {{"get_weather", "{\"city\": \"Bonn\\n\", \"days\": 3}"}, {"now", "{}"}}}, "think");
  expect("glm",
         "<tool_call>get_weather<arg_key>city</arg_key><arg_value>x</arg_value></tool_call><tool_call>now</tool_call>",
         {"", "", {{"get_weather", "{\"city\": \"x\"}"}, {"now", "{}"}}});
  expect("glm", "<tool_call>\nnothing of the kind", {"<tool_call>\nnothing of the kind", "", {}});
}

TEST(Gemma, ReadsItsOwnSpelling) {
  expect("gemma",
         "Ok.<|tool_call>call:get_weather{city:<|\"|>a \"b\" "
         "<|x\n<|\"|>,days:-3,exact:true,where:{<|\"|>k<|\"|>:[1,<|\"|>v<|\"|>,"
         "[],{}]},unit:null,ref:bare}<tool_call|><|tool_call>call:now{}<tool_call|>",
         {"Ok.",
          "",
          {{"get_weather",
            "{\"city\":\"a \\\"b\\\" <|x\\n\",\"days\":-3,\"exact\":true,\"where\":{\"k\":[1,\"v\",[],{}]},"
            "\"unit\":null,\"ref\":\"bare\"}"},
           {"now", "{}"}}});
  expect("functiongemma", "<start_function_call>call:get_weather{city:<escape>Rome<escape>}<end_function_call>",
         {"", "", {{"get_weather", "{\"city\":\"Rome\"}"}}});
  // What stands where a key should and is too long for one is not lost, nor is a character cut.
  std::string long_key;
  for (int i = 0; i < 200; ++i)
    long_key += "€";
  const Reading reading = read_every_way(format_with("gemma"), "<|tool_call>call:now{" + long_key);
  EXPECT_EQ(reading.content, long_key);
  EXPECT_FALSE(reading.complete);
  expect("gemma", "<|tool_call>call:now", {"<|tool_call>call:now", "", {}});
  expect("gemma", "<|tool_call>call:now(x)", {"<|tool_call>call:now(x)", "", {}});
}

TEST(Harmony, ReadsChannels) {
  expect("harmony",
         "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Yes < no.<|return|>",
         {"Yes < no.", "Hm.", {}});
  expect("harmony",
         "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary<|message|>I "
         "look.<|end|><|start|>"
         "assistant<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{\"city\": "
         "\"<|end|\"}<|call|>",
         {"I look.", "Hm.", {{"get_weather", "{\"city\": \"<|end|\"}"}}});
  expect("harmony", " to=functions.now<|channel|>commentary json<|message|>{}<|call|>", {"", "", {{"now", "{}"}}});
  expect("harmony", "<|channel|>commentary to=functions.now<|message|><|call|>", {"", "", {{"now", "{}"}}});
  expect("harmony", "Just text.", {"Just text.", "", {}});
  expect("harmony", "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>analysis<|message|>b<|end|>",
         {"", "a\nb", {}});
  expect("harmony", "<|channel|>commentary to=python<|message|>print(1)<|call|>",
         {"<|channel|>commentary to=python<|message|>print(1)", "", {}});
}

TEST(Lfm2, ReadsPythonsCalls) {
  expect("lfm2",
         "Ok.<|tool_call_start|>[get_weather(city=\"a \\\"b\\\" ]\", days=-3, exact=True, unit=None, "
         "where={'k': [1, 'v\\n', (), {}], \"l\": (2,)}), now()]<|tool_call_end|> Done.",
         {"Ok. Done.",
          "",
          {{"get_weather",
            "{\"city\":\"a \\\"b\\\" ]\",\"days\":-3,\"exact\":true,\"unit\":null,\"where\":{\"k\":[1,\"v\\n\",[],{}],"
            "\"l\":[2]}}"},
           {"now", "{}"}}});
  expect("lfm2", "<|tool_call_start|>[now(note='\\u00e9\\ud83d\\ude00\\x41\\q\\/', n=1., m=+5, o=word,)]",
         {"", "", {{"now", "{\"note\":\"é😀A\\\\q/\",\"n\":1E0,\"m\":5E0,\"o\":\"word\"}"}}});
  expect("lfm2", "<|tool_call_start|>now()<|tool_call_end|>", {"", "", {{"now", "{}"}}});
  expect("lfm2", "<|tool_call_start|>[hello]", {"<|tool_call_start|>[hello]", "", {}});
  expect("lfm2", "<|tool_call_start|>[]<|tool_call_end|>", {"<|tool_call_start|>[]<|tool_call_end|>", "", {}});
  // Half of a pair of surrogates, and what breaks off.
  const Reading half = read_every_way(format_with("lfm2"), "<|tool_call_start|>[now(a='\\ud83d!')]");
  EXPECT_EQ(half.calls.at(0).arguments, "{\"a\":\"\xEF\xBF\xBD!\"}");
  const Reading broken = read_every_way(format_with("lfm2"), "<|tool_call_start|>[now(a=f(1))]");
  EXPECT_FALSE(broken.complete);
}

TEST(Mcp, ReadsAServersTool) {
  expect("mcp",
         "I look.\n<use_mcp_tool>\n<server_name>tool-python</server_name>\n<tool_name>get_weather</tool_name>\n"
         "<arguments>\n{\"city\": \"Bonn\"}\n</arguments>\n</use_mcp_tool>",
         {"I look.", "", {{"get_weather", "{\"city\": \"Bonn\"}"}}});
  expect("mcp", "<use_mcp_tool> is how.", {"<use_mcp_tool> is how.", "", {}});
}

TEST(OtherFormats, AreRead) {
  const std::vector<std::pair<std::string, std::string>> two = {{"get_weather", "{\"city\": \"Paris\"}"},
                                                                {"now", "{}"}};
  expect("apertus", "<|tools_prefix|>[{\"get_weather\": {\"city\": \"Paris\"}}, {\"now\": {}}]<|tools_suffix|>",
         {"", "", two});
  expect("apriel",
         "<tool_calls>[{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}, \"id\": \"1\"}, {\"name\": "
         "\"now\", "
         "\"arguments\": {}, \"id\": \"2\"}]</tool_calls>",
         {"", "", two});
  expect("functionary", "<function=get_weather>{\"city\": \"Paris\"}</function><function=now>{}</function>",
         {"", "", two});
  expect("functionary", "<function=x>{}</function>", {"<function=x>{}</function>", "", {}});
  expect("functionary_v3_2", "all\nOk.>>>get_weather\n{\"city\": \"Paris\"}>>>now\n{}", {"Ok.", "", two});
  expect("functionary_v3_2", "get_weather\n{\"city\": \"Paris\"}>>>now\n{}", {"", "", two});
  expect("functools",
         " functools[{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}, {\"name\": \"now\"}]",
         {"", "", two});
  expect("functools", "functools is a module, functools[0] is not",
         {"functools is a module, functools[0] is not", "", {}});
  expect("granite",
         "<|tool_call|>[{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}, {\"name\": \"now\"}]",
         {"", "", two});
  expect("gigachat", "Ok.<|function_call|>{\"name\": \"now\", \"arguments\": {}}", {"Ok.", "", {{"now", "{}"}}});
  expect("gigachat_role",
         "<|message_sep|>\n\nfunction call<|role_sep|>\n{\"name\": \"now\", \"arguments\": {}}<|message_sep|>\n\nuser",
         {"<|message_sep|>\n\nuser", "", {{"now", "{}"}}});
}

// Fragments of a format and of JSON in any order.
std::string soup(const Format& format, std::mt19937& random) {
  const CallSyntax& syntax = format.syntax;
  const std::vector<std::string> fragments = {
      syntax.section_open,
      syntax.section_close,
      syntax.open,
      syntax.close,
      syntax.between,
      syntax.name_end,
      syntax.id_open,
      syntax.parameter_open,
      syntax.key_end,
      syntax.text_key_end,
      syntax.value_open,
      syntax.value_close,
      syntax.quote,
      format.reasoning_open,
      format.reasoning_close,
      "now",
      "get_weather",
      "functions.now:1",
      "city",
      "days",
      "{\"name\": \"now\", \"arguments\": {\"a\": [1, \"",
      "\"]}}",
      "\"name\": \"get_weather\"",
      "\"arguments\": ",
      "{",
      "}",
      "[",
      "]",
      "\"",
      "\\",
      ",",
      ":",
      "1",
      "-0.5e1",
      "true",
      "null",
      " ",
      "\n",
      "x",
      "北",
      "{}",
      "<",
      "<|channel|>analysis",
      "<|message|>",
      "<|end|>",
      "<|start|>assistant",
      " to=functions.now",
      "<|call|>",
      "all\n",
      "\\ud83d",
      "\\u00",
      syntax.open + syntax.name_prefix + "now" + syntax.name_end + "{\"a\": \"" + syntax.close + "\"}" + syntax.close,
      syntax.open + "now{}" + syntax.close,
      syntax.open + "now" + syntax.name_end + syntax.parameter_open + "city" + syntax.key_end + syntax.value_open +
          "7\n" + syntax.value_close + syntax.close,
      syntax.open + "[{\"name\": \"now\", \"arguments\": \"{}\"}, {\"arguments\": {}, \"name\": \"now\"}]" +
          syntax.close};
  std::string text;
  for (size_t count = random() % 14; count > 0; --count) {
    const std::string& fragment = fragments[random() % fragments.size()];
    // A part of it at times.
    const size_t end = random() % 6 == 0 ? random() % (fragment.size() + 1) : fragment.size();
    text += base::utf8::is_valid(fragment.substr(0, end)) ? fragment.substr(0, end) : fragment;
  }
  return text;
}

TEST(OutputParser, ReadsAnyTextTheSameHoweverItIsCut) {
  std::mt19937 random(99);
  const std::vector<Tool> offered = tools();
  int calls = 0;
  for (int i = 1; i < static_cast<int>(ToolFormat::json_in_tags); ++i) {
    Format format = format_with(to_string(static_cast<ToolFormat>(i)), "think");
    for (int round = 0; round < 200; ++round) {
      const std::string text = soup(format, random);
      const Start start = std::array{Start::answer, Start::answer, Start::reasoning, Start::content}[random() % 4];
      const Reading whole = read(format, offered, start, text);
      EXPECT_TRUE(whole.sound) << text;
      EXPECT_EQ(read(format, offered, start, cut_at(text, cuts(text))), whole)
          << to_string(format.tools) << ": " << text;
      calls += whole.calls.empty() ? 0 : 1;
      const Format unreasoned = format_with(to_string(format.tools));
      const Reading going_on = read(unreasoned, offered, Start::content, text);
      if (going_on.calls.empty() && format.tools != ToolFormat::harmony && format.syntax.recipient.empty()) {
        EXPECT_EQ(going_on.content, text) << to_string(format.tools);
      }
      const Reading plain = read(unreasoned, offered, Start::answer, text);
      if (plain.calls.empty() && format.tools != ToolFormat::harmony && format.syntax.recipient.empty()) {
        EXPECT_EQ(plain.content, text) << to_string(format.tools);
      }
      if (whole.complete) {
        const auto arguments = base::parse_json(whole.calls.back().arguments, 200);
        EXPECT_TRUE(arguments && arguments->is_object()) << whole.calls.back().arguments << " of " << text;
      }
    }
  }
  EXPECT_GT(calls, 400);
}

TEST(OutputParser, KeepsAPythonWordWholeThatIsNoPartOfACall) {
  const Reading reading =
      read_every_way(format_with("lfm2"), "<|tool_call_start|>[get_weather(city=\"a\", list=[1, éx}) and on");
  EXPECT_EQ(reading.content, "éx}) and on");
  ASSERT_EQ(reading.calls.size(), 1U);
  EXPECT_EQ(reading.calls[0].arguments, "{\"city\":\"a\",\"list\":[1");
  EXPECT_FALSE(reading.complete);
}

// What stands at the front of an answer's content that has begun is text, whatever it would be at an answer's
// beginning.
TEST(OutputParser, GoesOnWithContent) {
  const auto goes_on = [](std::string_view format, std::string_view text) {
    return read_every_way(format_with(format, format == "harmony" ? "none" : "think"), text, Start::content);
  };
  for (const std::string_view format : {"hermes", "llama3_json", "functionary_v3_2", "harmony", "mistral", "lfm2"}) {
    for (const std::string_view text : {" and so on", "\n\n  x ", "<think>no</think>", "to=now <b>", "all\nof it", ""})
      EXPECT_EQ(goes_on(format, text).content, text) << format;
  }
  EXPECT_EQ(goes_on("llama3_json", "{\"name\": \"now\"}").content, "{\"name\": \"now\"}");
  EXPECT_EQ(goes_on("llama3_json", "{\"name\": \"now\"}").calls.size(), 0U);
  const Reading recipient = goes_on("functionary_v3_2", " so.\n>>>now\n{}");
  EXPECT_EQ(recipient.content, " so.");
  ASSERT_EQ(recipient.calls.size(), 1U);
  EXPECT_EQ(recipient.calls[0].name, "now");
  const Reading tagged = goes_on("hermes", " so.\n<tool_call>{\"name\": \"now\", \"arguments\": {}}</tool_call>");
  EXPECT_EQ(tagged.content, " so.");
  ASSERT_EQ(tagged.calls.size(), 1U);
  EXPECT_TRUE(tagged.complete);
  const Reading channels = goes_on(
      "harmony", " so.<|end|><|start|>assistant to=functions.now<|channel|>commentary json<|message|>{}<|call|>");
  EXPECT_EQ(channels.content, " so.");
  ASSERT_EQ(channels.calls.size(), 1U);
}

TEST(OutputParser, IsLinearInItsInputAndHoldsABoundedPartOfIt) {
  // Every text is such that it begins a call again and again, or never ends one.
  for (const std::string& piece : {std::string("<tool_call>"), std::string("<tool_call>{\"name\": \""),
                                   std::string("<tool_call>{\"arguments\": {\"a\": \""), std::string("\n"),
                                   std::string("<"), std::string("<tool_call>{\"x\": ["), std::string("{\"a\":")}) {
    for (const std::string_view format : {"hermes", "qwen3_coder", "llama3_json", "glm", "mistral"}) {
      std::string text;
      while (text.size() < OutputParser::max_held + OutputParser::max_held / 4)
        text += piece;
      const Reading reading = read(format_with(format, "think"), tools(), Start::answer, text);
      EXPECT_TRUE(reading.sound);
      EXPECT_EQ(reading.content.size(), text.size()) << format << " " << piece;
    }
  }
}

}  // namespace
}  // namespace tidemill::chat::test
