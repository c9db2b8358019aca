// What gpt-oss may write, in its channels.
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "chat/constraint.hpp"
#include "chat/reading.hpp"
#include "chat/tool_grammars.hpp"
#include "grammar/acceptor.hpp"

namespace tidemill::chat::test {
namespace {

using Kind = ToolChoice::Kind;

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
