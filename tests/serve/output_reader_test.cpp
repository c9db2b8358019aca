// What the reader makes of outputs that a limit has cut.
#include "serve/output_reader.hpp"

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "base/utf8.hpp"
#include "chat/reading.hpp"
#include "chat/spelling.hpp"

namespace tidemill {
namespace {

struct Output {
  std::string_view format;
  std::string_view text;
};

// A call in each format, with reasoning where a control token does not begin it.
std::vector<Output> calls() {
  return {
      {"hermes",
       "<think>\nHm\n</think>\n\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"x\"}}\n</tool_call>"},
      {"llama3_json", "{\"name\": \"f\", \"parameters\": {\"a\": \"x\"}}"},
      {"llama3_json", "<|python_tag|>{\"name\": \"f\", \"parameters\": {\"a\": \"x\"}}"},
      {"mistral", "[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {\"a\": \"x\"}}]"},
      {"mistral_args", "[TOOL_CALLS]f[ARGS]{\"a\": \"x\"}"},
      {"mistral_ids", "[TOOL_CALLS]f[CALL_ID]abcdefghi[ARGS]{\"a\": \"x\"}"},
      {"deepseek_v3",
       "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{\"a\": \"x\"}\n```"
       "<｜tool▁call▁end｜><｜tool▁calls▁end｜>"},
      {"deepseek_v3_2",
       "<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"f\">\n<｜DSML｜parameter name=\"a\" "
       "string=\"true\">x</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜function_calls>"},
      {"qwen3_coder", "<tool_call>\n<function=f>\n<parameter=a>\nx\n</parameter>\n</function>\n</tool_call>"},
      {"glm", "<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>x</arg_value>\n</tool_call>"},
      {"kimi_k2",
       "<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{\"a\": "
       "\"x\"}<|tool_call_end|><|tool_calls_section_end|>"},
      {"harmony",
       "<|channel|>analysis<|message|>Hm<|end|><|start|>assistant<|channel|>commentary to=functions.f "
       "<|constrain|>json<|message|>{\"a\": \"x\"}<|call|>"},
      {"gemma", "<|tool_call>call:f{a:<|\"|>x<|\"|>}<tool_call|>"},
      {"functionary", "<function=f>{\"a\": \"x\"}</function>"},
      {"functionary_v3_2", "f\n{\"a\": \"x\"}"},
      {"apertus", "<|tools_prefix|>[{\"f\": {\"a\": \"x\"}}]<|tools_suffix|>"},
      {"gigachat_role",
       "<|message_sep|>\n\nfunction call<|role_sep|>\n{\"name\": \"f\", \"arguments\": {\"a\": \"x\"}}"},
      {"functools", "functools[{\"name\": \"f\", \"arguments\": {\"a\": \"x\"}}]"},
      {"lfm2", "<|tool_call_start|>[f(a=\"x\")]<|tool_call_end|>"},
      {"mcp",
       "<use_mcp_tool>\n<server_name>s</server_name>\n<tool_name>f</tool_name>\n<arguments>\n{\"a\": \"x\"}\n"
       "</arguments>\n</use_mcp_tool>"},
  };
}

serve::ReadingRules rules_of(std::string_view format, bool must_call) {
  serve::ReadingRules rules;
  rules.format = *chat::format_by_name(format);
  if (format == "hermes") {
    EXPECT_TRUE(chat::set_reasoning(rules.format, "think"));
  }
  rules.tools = {{"f", *base::parse_json(R"({"type": "object", "properties": {"a": {"type": "string"}}})"), false}};
  rules.must_call = must_call;
  return rules;
}

struct Read {
  std::string content;
  std::string arguments;
  std::string name;
  wire::FinishReason finish = wire::FinishReason::none;
};

Read read(const serve::ReadingRules& rules, std::string_view text, engine::FinishReason finish) {
  serve::OutputReader reader(&rules, "id", 0);
  Read read;
  const auto take = [&](engine::Event event) {
    for (const wire::Event& piece : reader.read(std::move(event))) {
      read.content += piece.text;
      for (const wire::ToolCallDelta& call : piece.tool_calls) {
        read.name += call.name;
        read.arguments += call.arguments;
      }
      if (piece.finish != wire::FinishReason::none) read.finish = piece.finish;
    }
  };
  engine::Event event;
  event.text = text;
  take(std::move(event));
  engine::Event end;
  end.finish = finish;
  take(std::move(end));
  return read;
}

TEST(OutputReader, ShowsNothingOfACallThatMustComeButTheCall) {
  for (const Output& output : calls()) {
    const serve::ReadingRules rules = rules_of(output.format, true);
    const Read whole = read(rules, output.text, engine::FinishReason::stop);
    EXPECT_EQ(whole.name, "f") << output.format;
    EXPECT_EQ(base::parse_json(whole.arguments)->at("a"), "x") << output.format;
    EXPECT_EQ(whole.finish, wire::FinishReason::tool_calls) << output.format;
    for (const size_t cut : chat::test::cuts(output.text)) {
      const std::string_view beginning = output.text.substr(0, cut);
      const Read part = read(rules, beginning, engine::FinishReason::length);
      EXPECT_EQ(part.content, "") << output.format << ": " << beginning;
      EXPECT_EQ(part.finish, wire::FinishReason::length);
      EXPECT_TRUE(whole.arguments.starts_with(part.arguments)) << output.format << ": " << beginning;
    }
  }
}

// Where text may come too, what may be text is shown, and a call's whole opening is not.
TEST(OutputReader, ShowsTextThatMayBeginACall) {
  for (const std::string_view text : {"So <tool_c", "a < b <", "<tool_call"})
    EXPECT_EQ(read(rules_of("hermes", false), text, engine::FinishReason::length).content, text);
  for (const std::string_view text : {"<tool_call>", "<tool_call>\n{\"na", "<tool_call>\n{\"name\": \"f"})
    EXPECT_EQ(read(rules_of("hermes", false), text, engine::FinishReason::length).content, "") << text;
  EXPECT_EQ(read(rules_of("hermes", false), "<tool_call>", engine::FinishReason::stop).content, "<tool_call>");
  const std::string header = "<|channel|>commentary to=functions.f <|constrain|>json<|message|>";
  for (size_t cut = header.find("commentary"); cut < header.size(); ++cut)
    EXPECT_EQ(read(rules_of("harmony", false), header.substr(0, cut), engine::FinishReason::length).content, "");
  EXPECT_EQ(read(rules_of("harmony", false), header, engine::FinishReason::length).content, "");
}

// An answer of functionary's begins with its recipient, whether there are tools or not.
TEST(OutputReader, TakesTheRecipientOutOfAnAnswer) {
  serve::ReadingRules rules = rules_of("functionary_v3_2", false);
  EXPECT_EQ(read(rules, "all\nHi >>>f", engine::FinishReason::stop).content, "Hi >>>f");
  rules.tools.clear();
  EXPECT_EQ(read(rules, "all\nHi >>>f", engine::FinishReason::stop).content, "Hi >>>f");
}

// Under a form of the content calls come first, if any do.
TEST(OutputReader, TakesCallsOnlyAtTheBeginningUnderAForm) {
  serve::ReadingRules rules = rules_of("hermes", false);
  rules.format.syntax.first_only = true;
  const std::string call = "<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>";
  const std::string thought = "<think>\nHm\n</think>\n\n";
  EXPECT_EQ(read(rules, thought + call + "\n" + call, engine::FinishReason::stop).name, "ff");
  EXPECT_EQ(read(rules, thought + "[" + call + "]", engine::FinishReason::stop).content, "[" + call + "]");
  rules = rules_of("llama3_json", false);
  rules.format.syntax.first_only = true;
  rules.format.syntax.bare = false;
  const std::string bare = "{\"name\": \"f\", \"parameters\": {}}";
  const Read both = read(rules, "<|python_tag|>" + bare + "; <|python_tag|>" + bare, engine::FinishReason::stop);
  EXPECT_EQ(both.name, "ff");
  EXPECT_EQ(both.content, "");
  EXPECT_EQ(read(rules, bare, engine::FinishReason::stop).content, bare);
  rules = rules_of("functionary_v3_2", false);
  rules.format.syntax.first_only = true;
  EXPECT_EQ(read(rules, "all\n>>>f\n{}", engine::FinishReason::stop).content, ">>>f\n{}");
  EXPECT_EQ(read(rules, "f\n{}>>>f\n{}", engine::FinishReason::stop).name, "ff");
}

// Outputs whose tokens are characters, cut off everywhere: the tags that open and close reasoning never show in it, and
// no token of theirs is counted.
TEST(OutputReader, KeepsTagsOutOfReasoning) {
  for (const auto& [format, opens, says, closes] :
       std::vector<std::array<std::string, 4>>{{"hermes", "<think>", "So it is", "</think>"},
                                               {"hermes", "", "So it is", "</think>"},
                                               {"harmony", "<|channel|>analysis<|message|>", "So it is", "<|end|>"}}) {
    serve::ReadingRules rules = rules_of(format, false);
    if (opens.empty()) rules.start = chat::Start::reasoning;
    const std::string text = opens + says + closes;
    for (size_t cut = opens.size(); cut <= text.size(); ++cut) {
      serve::OutputReader reader(&rules, "id", 0);
      std::string reasoning;
      engine::Event event;
      for (size_t i = 0; i < cut; ++i) {
        event.text += text[i];
        event.text_ends.push_back(event.text.size());
      }
      event.finish = engine::FinishReason::length;
      for (const wire::Event& piece : reader.read(event)) {
        reasoning += piece.reasoning;
        EXPECT_EQ(piece.text, "");
      }
      const std::string_view shown = chat::trimmed(std::string_view(says).substr(0, cut - opens.size()));
      EXPECT_EQ(reasoning, shown) << text.substr(0, cut);
      EXPECT_EQ(reader.reasoning_tokens(), shown.size()) << text.substr(0, cut);
    }
  }
}

// Tags are no reasoning, though the vocabulary's ordinary tokens spell them; nor is white space before a closing one.
TEST(OutputReader, CountsTheTokensThatReasoningShows) {
  struct Case {
    chat::Start start;
    std::vector<std::string> tokens;  // an empty one is the first part of the character behind it
    int64_t shown;
  };
  for (const Case& one : std::vector<Case>{
           {chat::Start::reasoning, {"Okay", " then", "\n", "</think>", "\n\n", "Hi"}, 2},
           {chat::Start::reasoning, {"\n", "Okay", "</think>", "Hi"}, 2},
           {chat::Start::answer, {"<think>", "So", "</", "think", ">", "Hi"}, 1},
           {chat::Start::answer, {"<", "think", ">", "So", "\n</", "think>", "Hi"}, 1},
           // A tag that the prompt has written already, and what looks like one before the one that ends it.
           {chat::Start::reasoning, {"<", "think", ">", "So", "</think>", "Hi"}, 1},
           {chat::Start::reasoning, {"So", "<", "th", "</", "think", ">", "Hi"}, 3},
           {chat::Start::reasoning, {"So", "<", "\n", "</", "think", ">", "Hi"}, 2},
           {chat::Start::reasoning, {"a", "<", "b", "\n", "\n", "c", "</think>"}, 6},
           {chat::Start::reasoning, {"So.</", "think", ">", "Hi"}, 1},
           {chat::Start::reasoning, {"", "é", ".", "</think>"}, 3},
           {chat::Start::reasoning, {"Okay", "\n"}, 1},
           {chat::Start::reasoning, {"Okay", "<", "/"}, 1},
           {chat::Start::reasoning, {"\n", "\n"}, 0}}) {
    serve::ReadingRules rules = rules_of("hermes", false);
    rules.start = one.start;
    engine::Event whole;
    serve::OutputReader by_token(&rules, "id", 0);
    for (size_t i = 0; i < one.tokens.size(); ++i) {
      engine::Event event;
      event.text = one.tokens[i];
      event.text_ends = {event.text.size()};
      whole.text += one.tokens[i];
      whole.text_ends.push_back(whole.text.size());
      if (i + 1 == one.tokens.size()) event.finish = engine::FinishReason::length;
      by_token.read(event);
    }
    whole.finish = engine::FinishReason::length;
    serve::OutputReader at_once(&rules, "id", 0);
    at_once.read(whole);
    EXPECT_EQ(by_token.reasoning_tokens(), one.shown) << whole.text;
    EXPECT_EQ(at_once.reasoning_tokens(), one.shown) << whole.text;
  }
}

// An output in pieces of so many bytes at least, as the engine gives it to a watch and to the reader.
std::string stopped(serve::ReadingRules rules, std::string_view text, size_t size, engine::FinishReason end) {
  const auto watch = serve::stop_watch(rules)();
  serve::OutputReader reader(&rules, "id", 0);
  std::string out;
  const auto take = [&](engine::Event event) {
    for (const wire::Event& piece : reader.read(std::move(event))) {
      if (!piece.reasoning.empty()) out += "(" + piece.reasoning + ")";
      out += piece.text;
      for (const wire::ToolCallDelta& call : piece.tool_calls)
        out += call.name + call.arguments;
      const bool ended = piece.finish != wire::FinishReason::none && piece.finish != wire::FinishReason::length;
      if (ended) out += piece.matched_stop.empty() ? "." : "|";
    }
  };
  bool over = false;
  for (size_t at = 0; at < text.size() && !over;) {
    size_t length = std::min(size, text.size() - at);
    while (at + length < text.size() && (static_cast<unsigned char>(text[at + length]) & 0xC0U) == 0x80)
      ++length;
    engine::Event event;
    event.text = text.substr(at, length);
    at += length;
    over = watch->push(event.text) >= 0;
    if (over) event.finish = engine::FinishReason::stop;
    take(std::move(event));
  }
  if (over) return out;
  engine::Event last;
  last.finish = end;
  take(std::move(last));
  return out;
}

// The same, however the text is cut.
std::string stopped(std::string_view format, const std::vector<std::string>& stop, std::string_view text,
                    engine::FinishReason end = engine::FinishReason::stop) {
  serve::ReadingRules rules = rules_of(format, false);
  rules.stop = stop;
  const std::string whole = stopped(rules, text, text.size(), end);
  for (size_t size = 1; size < text.size(); ++size) {
    std::string cut = stopped(rules, text, size, end);
    // Reasoning comes in more pieces.
    for (size_t at = cut.find(")("); at != std::string::npos; at = cut.find(")("))
      cut.erase(at, 2);
    EXPECT_EQ(cut, whole) << format << " in pieces of " << size << ": " << text;
  }
  return whole;
}

TEST(OutputReader, EndsContentAtAStopString) {
  const std::string call = "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": \"}\"}}</tool_call>";
  EXPECT_EQ(stopped("hermes", {"}"}, "a" + call + "b}c"), "af{\"a\": \"}\"}b|");
  EXPECT_EQ(stopped("hermes", {"}"}, "a}" + call), "a|");
  EXPECT_EQ(stopped("hermes", {"}"}, "a<tool_call>b}"), "a<tool_call>b|") << "it was no call";
  EXPECT_EQ(stopped("hermes", {"."}, "<think>a. b.</think>c. d"), "(a. b.)c|");
  EXPECT_EQ(stopped("hermes", {"\n"}, "<think>\na\n</think>\n\nc\nd"), "(a)c|");
  EXPECT_EQ(stopped("hermes", {"\n"}, "c\n" + call), "c|") << "white space counts before it is known what follows";
  EXPECT_EQ(stopped("hermes", {"stop"}, "a st" + call), "a stf{\"a\": \"}\"}.") << "held back, and let go in order";
  EXPECT_EQ(stopped("hermes", {"stop"}, "a sto"), "a sto.");
  EXPECT_EQ(stopped("llama3_json", {","}, " \n{\"name\": \"f\", \"parameters\": {}}"), "f{}.");
  EXPECT_EQ(stopped("llama3_json", {","}, "{\"name\": \"g\", \"parameters\": {}}"), "{\"name\": \"g\"|");
  EXPECT_EQ(stopped("llama3_json", {","}, "[1,2]"), "[1|");
  EXPECT_EQ(stopped("llama3_json", {","}, "{\"a\": 1, 2", engine::FinishReason::length), "{\"a\": 1|");
  EXPECT_EQ(stopped("llama3_json", {","}, "{\"a\": 1, \"b", engine::FinishReason::length), "{\"a\": 1|");
  EXPECT_EQ(stopped("functionary_v3_2", {"l"}, "all\nHil"), "Hi|") << "not in the recipient's name";
  EXPECT_EQ(stopped("functionary_v3_2", {"l"}, "a tale"), "a ta|");
  EXPECT_EQ(stopped("harmony", {"n"},
                    "<|channel|>analysis<|message|>Hmn<|end|><|start|>assistant<|channel|>final<|message|>Sun"),
            "(Hmn)Su|");
}

}  // namespace
}  // namespace tidemill
