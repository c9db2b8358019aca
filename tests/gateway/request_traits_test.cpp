// What is seen of a request, in every dialect.
#include "gateway/request_traits.hpp"

#include <gtest/gtest.h>

namespace tidemill::gateway {
namespace {

rollout::RequestTraits traits_in(const std::string& body) {
  const auto outline = RequestOutline::read(body);
  EXPECT_TRUE(outline) << body;
  return traits_of(*outline, 7);
}

TEST(RequestTraits, CountsMessagesAndTools) {
  const auto traits =
      traits_in(R"({"tools":[{"function":{"name":"a, [b]"}},{}],"messages":[{"role":"system","content":"x"},
      {"role":"user","content":"[1, 2, {\"a\": \"\\\"\"}]"},{"role":"user","content":"hi"}]})");
  EXPECT_EQ(traits.tools, 2);
  EXPECT_EQ(traits.turns, 2);
  EXPECT_EQ(traits.prompt_tokens, 7);
  EXPECT_FALSE(traits.images);
  EXPECT_EQ(traits.text.code, 0);
}

TEST(RequestTraits, ReadsTheLastMessageAlone) {
  const auto code = traits_in(R"({"messages":[{"role":"user","content":"hello there"},
      {"role":"user","content":"def f(x):\n  return x\nimport os\n"}]})");
  EXPECT_GT(code.text.code, 0.9);
  const auto talk = traits_in(R"({"messages":[{"role":"user","content":"def f(x):\n  return x\n"},
      {"role":"user","content":"thank you\nvery much"}]})");
  EXPECT_EQ(talk.text.code, 0);
}

TEST(RequestTraits, KnowsAllDialects) {
  EXPECT_GT(traits_in(R"({"prompt":"import os\nimport sys"})").text.code, 0.9);
  EXPECT_GT(traits_in(R"({"input":"\u6f6e\u6c50"})").text.without_spaces, 0.9);
  const auto response =
      traits_in(R"({"input":[{"type":"message","role":"user","content":[{"type":"input_text","text":"x"},
      {"type":"input_image","image_url":"data:..."}]}]})");
  EXPECT_TRUE(response.images);
  EXPECT_EQ(response.turns, 0);
  EXPECT_GT(traits_in(R"({"input":[{"type":"function_call_output","output":"import os\nimport re"}]})").text.code, 0.9);
  EXPECT_TRUE(traits_in(R"({"messages":[{"role":"user","content":[{"type":"image","source":{}}]}]})").images);
}

TEST(RequestTraits, NothingIsTooStrange) {
  for (const char* body : {"{}", R"({"messages":[]})", R"({"messages":7})", R"({"messages":["a",1,null,[[]]]})",
                           R"({"messages":[{"content":{"a":1}}]})", R"({"messages":[{"content":"\ud800"}]})"})
    EXPECT_GE(traits_in(body).turns, 0) << body;
}

}  // namespace
}  // namespace tidemill::gateway
