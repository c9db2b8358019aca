// What an answer says, in every dialect, streamed and whole.
#include "gateway/answer_text.hpp"

#include <gtest/gtest.h>

#include "gateway/stream_progress.hpp"

namespace tidemill::gateway {
namespace {

std::string whole(Dialect dialect, const std::string& body) {
  AnswerText text(dialect);
  text.take_whole(body);
  return text.text();
}

std::string streamed(Dialect dialect, const std::vector<std::string>& events) {
  AnswerText text(dialect);
  for (const std::string& event : events)
    text.take_events("event: x\ndata: " + event + "\n\n");
  return text.text();
}

TEST(AnswerText, Chat) {
  EXPECT_EQ(whole(Dialect::chat, R"({"choices":[{"message":{"content":"tide"}}]})"), "tide");
  EXPECT_EQ(streamed(Dialect::chat, {R"({"choices":[{"delta":{"role":"assistant","content":"ti"}}]})",
                                     R"({"choices":[{"delta":{"content":"de"}}]})", "[DONE]"}),
            "tide");
  EXPECT_EQ(
      whole(Dialect::chat, R"({"choices":[{"message":{"tool_calls":[{"function":{"name":"f","arguments":"{}"}}]}}]})"),
      "f{}");
}

TEST(AnswerText, Completions) {
  EXPECT_EQ(whole(Dialect::completions, R"({"choices":[{"text":"a"},{"text":"b"}]})"), "ab");
  EXPECT_EQ(streamed(Dialect::completions, {R"({"choices":[{"text":"a"}]})", R"({"choices":[{"text":"b"}]})"}), "ab");
}

TEST(AnswerText, Messages) {
  EXPECT_EQ(whole(Dialect::messages, R"({"content":[{"type":"text","text":"a"},
      {"type":"tool_use","name":"f","input":{"x":1}}]})"),
            R"(af{"x":1})");
  EXPECT_EQ(streamed(Dialect::messages,
                     {R"({"type":"content_block_delta","delta":{"type":"text_delta","text":"a"}})",
                      R"({"type":"content_block_start","content_block":{"type":"tool_use","name":"f","input":{}}})",
                      R"({"type":"content_block_delta","delta":{"partial_json":"{\"x\":1}"}})"}),
            R"(af{"x":1})");
}

TEST(AnswerText, Responses) {
  EXPECT_EQ(whole(Dialect::responses, R"({"output":[{"type":"message","content":[{"text":"a"}]},
      {"type":"function_call","name":"f","arguments":"{}"}]})"),
            "af{}");
  EXPECT_EQ(streamed(Dialect::responses, {R"({"type":"response.output_text.delta","delta":"a"})",
                                          R"({"type":"response.output_text.done","text":"a"})",
                                          R"({"type":"response.completed","response":{"output":[{"text":"a"}]}})"}),
            "a");
}

TEST(AnswerText, IsBounded) {
  AnswerText text(Dialect::completions);
  const std::string piece(1000, 'x');
  for (int i = 0; i < 200; ++i)
    text.take_events("data: {\"choices\":[{\"text\":\"" + piece + "\"}]}\n\n");
  EXPECT_EQ(text.text().size(), AnswerText::most_bytes);
}

TEST(AnswerText, NothingIsTooStrange) {
  for (const char* body : {"", "[]", R"({"choices":7})", R"({"choices":[7,{"delta":7},{"message":{"content":7}}]})"})
    EXPECT_EQ(whole(Dialect::chat, body), "");
}

TEST(FirstId, IsTheAnswersOwn) {
  EXPECT_EQ(first_id(R"({"id":"chatcmpl-1","choices":[]})"), "chatcmpl-1");
  EXPECT_EQ(first_id("event: message_start\ndata: {\"message\":{\"id\": \"msg_1\"}}\n\n"), "msg_1");
  EXPECT_EQ(first_id(R"({"id":7})"), "");
  EXPECT_EQ(first_id(R"({"id":"cut)"), "");
  EXPECT_EQ(first_id(""), "");
}

// What keeps a silent stream alive is neither its first event nor its first text.
TEST(StreamProgress, BeginsBehindComments) {
  for (const Dialect dialect : {Dialect::chat, Dialect::messages}) {
    const RequestOutline outline;
    StreamProgress progress(dialect, "{}", outline);
    progress.begin(SseMarks::Kind::marked, "auto");
    progress.sent(": waiting\n\n");
    EXPECT_EQ(progress.response_id(), "");
    EXPECT_FALSE(progress.text_begun());
    progress.sent("event: x\ndata: {\"id\":\"one\",\"delta\":{}}\n\n");
    EXPECT_EQ(progress.response_id(), "one");
    EXPECT_TRUE(progress.text_begun());
  }
}

}  // namespace
}  // namespace tidemill::gateway
