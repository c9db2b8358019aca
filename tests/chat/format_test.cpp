#include "chat/format.hpp"

#include <gtest/gtest.h>

namespace tidemill::chat {
namespace {

TEST(FormatByName, FindsEveryFormatByItsName) {
  for (int i = 0; i < static_cast<int>(ToolFormat::json_in_tags); ++i) {
    const auto format = static_cast<ToolFormat>(i);
    const auto found = format_by_name(to_string(format));
    ASSERT_TRUE(found) << to_string(format);
    EXPECT_EQ(found->tools, format);
    EXPECT_EQ(found->syntax.shape == CallSyntax::Shape::none, format == ToolFormat::none);
  }
}

TEST(FormatByName, ListsTheNamesWhereItKnowsNone) {
  const auto found = format_by_name("hermess");
  ASSERT_FALSE(found);
  EXPECT_NE(found.error().message().find("hermess"), std::string::npos);
  EXPECT_NE(found.error().message().find("hermes, llama3_json"), std::string::npos);
  EXPECT_EQ(found.error().message().find("json_in_tags"), std::string::npos);
}

TEST(OpensReasoning, LooksAtTheEndOfThePromptOnly) {
  Format format;
  EXPECT_FALSE(opens_reasoning(format, "<think>\n"));
  ASSERT_TRUE(set_reasoning(format, "think"));
  EXPECT_TRUE(opens_reasoning(format, "assistant\n<think>\n"));
  EXPECT_TRUE(opens_reasoning(format, "<think>"));
  EXPECT_FALSE(opens_reasoning(format, "<think>\n\n</think>\n\n"));
  EXPECT_FALSE(opens_reasoning(format, "Write between <think> and </think>.\nassistant:"));
  EXPECT_FALSE(set_reasoning(format, "thought"));
}

}  // namespace
}  // namespace tidemill::chat
