// What the reader makes of outputs that a limit has cut.
#include "serve/output_reader.hpp"

#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "base/utf8.hpp"
#include "chat/reading.hpp"

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

}  // namespace
}  // namespace tidemill
