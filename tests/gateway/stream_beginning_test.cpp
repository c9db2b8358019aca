#include "gateway/stream_beginning.hpp"

#include <string>

#include <gtest/gtest.h>

namespace tidemill::gateway {
namespace {

TEST(StreamBeginning, TellsErrorsFromContent) {
  EXPECT_EQ(beginning_of(Dialect::chat, ""), Beginning::nothing);
  EXPECT_EQ(beginning_of(Dialect::chat, ": ping\n\n"), Beginning::nothing);
  EXPECT_EQ(beginning_of(Dialect::chat, "data: {\"choices\":[{\"delta\":{\"content\":\"\\\"error\\\"\"}}]}\n\n"),
            Beginning::content);
  EXPECT_EQ(beginning_of(Dialect::chat, "data: {\"error\":null,\"choices\":[]}\n\n"), Beginning::nothing);
  EXPECT_EQ(beginning_of(Dialect::chat, "data: {\"error\":{\"message\":\"x\"}}\n\n"), Beginning::fault);
  EXPECT_EQ(beginning_of(Dialect::completions, "data:{\"error\":\"x\"}\n\n"), Beginning::fault);
  EXPECT_EQ(beginning_of(Dialect::chat, "data: {\"error\":{\"type\":\"server_error\",\"code\":\"unavailable\"}}\n\n"),
            Beginning::decline);
  EXPECT_EQ(beginning_of(Dialect::chat, "data: {\"error\":{\"type\":\"x\",\"code\":429}}\n\n"), Beginning::decline);
  const std::string messages = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"";
  EXPECT_EQ(beginning_of(Dialect::messages, messages + "overloaded_error\"}}\n\n"), Beginning::decline);
  EXPECT_EQ(beginning_of(Dialect::messages, messages + "api_error\"}}\n\n"), Beginning::fault);
  const std::string responses = "event: error\ndata: {\"type\":\"error\",\"code\":\"";
  EXPECT_EQ(beginning_of(Dialect::responses, responses + "server_error\"}\n\n"), Beginning::fault);
  EXPECT_EQ(beginning_of(Dialect::responses, responses + "invalid_prompt\"}\n\n"), Beginning::decline);
  EXPECT_EQ(beginning_of(Dialect::responses, "data: {\"type\":\"response.created\",\"response\":{\"error\":null}}\n\n"),
            Beginning::nothing);
  EXPECT_EQ(beginning_of(Dialect::other, "data: {\"error\":{}}\n\n"), Beginning::content);
  EXPECT_EQ(beginning_of(Dialect::other, ": ping\n\n"), Beginning::content);
}

std::string data(const std::string& text) {
  return "data: " + text + "\n\n";
}

std::string delta(const std::string& members) {
  return data(R"({"id":"c","choices":[{"index":0,"delta":{)" + members + R"(},"finish_reason":null}]})");
}

TEST(StreamBeginning, OfAChat) {
  for (const std::string& silent :
       {data(R"({"id":"c","choices":[],"usage":null})"), delta(""), delta(R"("role":"assistant")"),
        delta(R"("role":"assistant","content":"")"), delta(R"("content":null,"tool_calls":[],"refusal":null)"),
        data(R"({"choices":[{"index":0,"text":"","logprobs":null,"finish_reason":null}]})")}) {
    EXPECT_EQ(beginning_of(Dialect::chat, silent), Beginning::nothing) << silent;
    EXPECT_EQ(beginning_of(Dialect::completions, silent), Beginning::nothing) << silent;
    EXPECT_EQ(beginning_of(Dialect::chat, silent + delta(R"("content":"a")")), Beginning::content) << silent;
  }
  for (const std::string& word : {delta(R"("role":"assistant","content":"a")"), delta(R"("reasoning_content":"hm")"),
                                  delta(R"("reasoning":"hm")"), delta(R"("tool_calls":[{"index":0}])"),
                                  data(R"({"choices":[{"index":0,"text":"a"}]})"),
                                  data(R"({"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]})"),
                                  data("[DONE]"), data(R"({"text":"of a kind of its own"})"), data("no JSON")}) {
    EXPECT_EQ(beginning_of(Dialect::chat, word), Beginning::content) << word;
    EXPECT_EQ(beginning_of(Dialect::completions, word), Beginning::content) << word;
  }
}

TEST(StreamBeginning, OfAMessage) {
  for (
      const std::string& silent :
      {data(R"({"type":"message_start","message":{"id":"msg_1","content":[]}})"), data(R"({"type": "ping"})"),
       data(R"({"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}})"),
       data(
           R"({"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}})"),
       data(R"({"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":""}})"),
       data(R"({"type":"content_block_stop","index":0})")}) {
    EXPECT_EQ(beginning_of(Dialect::messages, silent), Beginning::nothing) << silent;
  }
  for (const std::string& word :
       {data(R"({"type":"content_block_start","content_block":{"type":"tool_use","id":"t","name":"f","input":{}}})"),
        data(R"({"type":"content_block_delta","delta":{"type":"text_delta","text":"a"}})"),
        data(R"({"type":"content_block_delta","delta":{"type":"thinking_delta","thinking":"hm"}})"),
        data(R"({"type":"content_block_delta","delta":{"type":"input_json_delta","partial_json":"{"}})"),
        data(R"({"type":"message_delta","delta":{"stop_reason":"end_turn"}})"), data(R"({"type":"message_stop"})")}) {
    EXPECT_EQ(beginning_of(Dialect::messages, word), Beginning::content) << word;
  }
}

TEST(StreamBeginning, OfAResponse) {
  for (
      const std::string& silent :
      {data(R"({"type":"response.created","response":{"id":"resp_1"}})"), data(R"({"type":"response.in_progress"})"),
       data(R"({"type":"response.queued"})"),
       data(
           R"({"type":"response.output_item.added","item":{"id":"m","type":"message","role":"assistant","content":[]}})"),
       data(R"({"type":"response.content_part.added","part":{"type":"output_text","text":"","annotations":[]}})"),
       data(R"({"type":"response.output_text.delta","delta":""})")}) {
    EXPECT_EQ(beginning_of(Dialect::responses, silent), Beginning::nothing) << silent;
  }
  for (const std::string& word :
       {std::string("event: response.output_text.delta\ndata: {\"delta\":\"x\"}\n\n"),
        data(R"({"type":"response.reasoning_text.delta","delta":"hm"})"),
        data(R"({"type":"response.output_item.added","item":{"type":"function_call","name":"f","arguments":""}})"),
        data(R"({"type":"response.web_search_call.searching"})"),
        data(R"({"type":"response.completed","response":{"error":null}})"),
        data(R"({"type":"response.incomplete","response":{}})")}) {
    EXPECT_EQ(beginning_of(Dialect::responses, word), Beginning::content) << word;
  }
}

TEST(StreamBeginning, KeepsAwake) {
  const auto awake = [](Dialect dialect, std::string_view text) {
    WholeEvents walk(text);
    const auto event = walk.next();
    return event && keeps_awake(dialect, *event);
  };
  EXPECT_TRUE(awake(Dialect::chat, ": waiting\n\n"));
  EXPECT_TRUE(awake(Dialect::messages, "event: ping\ndata: {\"type\": \"ping\"}\n\n"));
  EXPECT_TRUE(awake(Dialect::messages, "data: {\"type\":\"ping\"}\n\n"));
  EXPECT_FALSE(awake(Dialect::chat, "data: {\"type\":\"ping\"}\n\n"));
  EXPECT_FALSE(awake(Dialect::messages, "data: {\"type\":\"message_start\"}\n\n"));
  EXPECT_FALSE(awake(Dialect::other, ": waiting\n\n")) << "of which nothing is known";
}

// What carries no event is no progress, whatever its words and in any dialect.
TEST(StreamBeginning, OnlyKeepAwake) {
  constexpr Dialect all[] = {Dialect::chat, Dialect::completions, Dialect::responses, Dialect::messages,
                             Dialect::other};
  for (const Dialect dialect : all) {
    for (const char* silent : {"", ": waiting\n\n", ":\n\n: data: x\n\n", "event: x\nid: 5\n\n", "retry: 10\r\n\r\n",
                               "database: x\n\n", ": a\r\r: b\r\r", ": not\n: done"})
      EXPECT_TRUE(only_keep_awake(dialect, silent)) << silent;
    for (const char* event :
         {"data: {}\n\n", "data:x\n\n", "data\n\n", ": waiting\n\ndata: {}\n\n", "event: a\ndata: {}\n\n",
          "event: a\r\ndata: {}\r\n\r\n", "id: 1\rdata: {}\r\r", ": waiting\ndata: {}\n\n", "data: [DONE]\n\n"})
      EXPECT_FALSE(only_keep_awake(dialect, event)) << event;
  }
  const std::string ping = "event: ping\ndata: {\"type\": \"ping\"}\n\n";
  EXPECT_TRUE(only_keep_awake(Dialect::messages, ping));
  EXPECT_TRUE(only_keep_awake(Dialect::messages, ping + ": waiting\n\n" + ping));
  EXPECT_FALSE(only_keep_awake(Dialect::messages, ping + "event: message_stop\ndata: {}\n\n"));
  EXPECT_FALSE(only_keep_awake(Dialect::chat, ping));
}

}  // namespace
}  // namespace tidemill::gateway
