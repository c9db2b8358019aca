#include "wire/anthropic_answer.hpp"

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "wire/sse.hpp"

namespace tidemill::wire {
namespace {

namespace json = base::json;

const AnswerInfo info{.id = "msg_1", .model = "m", .created = 5, .choices = 1, .prompt_tokens = 12};
const Usage usage{.prompt_tokens = 12, .completion_tokens = 7, .cached_tokens = 8, .reasoning_tokens = 3};

// The events of a stream, their names checked against their types.
std::vector<json::object> events_of(std::string_view stream) {
  SseParser parser;
  auto events = parser.feed(stream);
  EXPECT_TRUE(events);
  std::vector<json::object> objects;
  for (const SseEvent& event : *events) {
    objects.push_back(base::parse_json(event.data)->as_object());
    EXPECT_EQ(objects.back().at("type"), json::value(event.event));
  }
  return objects;
}

std::vector<Event> thinking_text_and_two_calls() {
  std::vector<Event> events(7);
  for (Event& event : events)
    event.cached_tokens = usage.cached_tokens;
  events[0].reasoning = "Let me ";
  events[1].reasoning = "see.";
  events[1].text = "I ";
  events[2].text = "look.";
  events[3].tool_calls = {{.index = 0, .id = "t1", .name = "look", .arguments = ""}};
  events[4].tool_calls = {{.index = 0, .id = {}, .name = {}, .arguments = "{\"at\":"},
                          {.index = 0, .id = {}, .name = {}, .arguments = "1}"}};
  events[5].tool_calls = {{.index = 1, .id = "t2", .name = "hear", .arguments = "{}"}};
  events[6].finish = FinishReason::tool_calls;
  return events;
}

// "0 thinking_delta Let me ", one line for each event.
std::string summary(const std::vector<json::object>& events) {
  std::string text;
  for (const json::object& event : events) {
    const std::string_view type(event.at("type").get_string());
    text += type;
    if (const json::value* index = event.if_contains("index")) text += " " + json::serialize(*index);
    if (const json::value* block = event.if_contains("content_block")) {
      text += " " + std::string(block->at("type").get_string());
    }
    const json::value* delta = event.if_contains("delta");
    if (delta != nullptr && type == "content_block_delta") {
      for (const char* name : {"text", "partial_json", "thinking"}) {
        const json::value* piece = delta->as_object().if_contains(name);
        if (piece != nullptr) text += " " + std::string(delta->at("type").get_string()) + " " + json::serialize(*piece);
      }
    }
    text += "\n";
  }
  return text;
}

TEST(MessagesStream, SendsBlockAfterBlock) {
  MessagesAnswer answer({.max_tokens = 100, .thinking = true}, info);
  std::string out;
  answer.open_stream(out);
  EXPECT_EQ(out, "") << "what the cache held is known with the first token";
  for (const Event& event : thinking_text_and_two_calls())
    answer.stream(event, out);
  answer.finish_stream(usage, out);
  const auto events = events_of(out);
  EXPECT_EQ(summary(events), R"(message_start
content_block_start 0 thinking
content_block_delta 0 thinking_delta "Let me "
content_block_delta 0 thinking_delta "see."
content_block_delta 0
content_block_stop 0
content_block_start 1 text
content_block_delta 1 text_delta "I "
content_block_delta 1 text_delta "look."
content_block_stop 1
content_block_start 2 tool_use
content_block_delta 2 input_json_delta "{\"at\":"
content_block_delta 2 input_json_delta "1}"
content_block_stop 2
content_block_start 3 tool_use
content_block_delta 3 input_json_delta "{}"
content_block_stop 3
message_delta
message_stop
)");
  const json::object& message = events.front().at("message").as_object();
  EXPECT_EQ(message.at("id"), "msg_1");
  EXPECT_EQ(message.at("role"), "assistant");
  EXPECT_EQ(message.at("content"), json::array());
  EXPECT_EQ(message.at("usage").at("input_tokens"), 4);
  EXPECT_EQ(message.at("usage").at("cache_read_input_tokens"), 8);
  EXPECT_EQ(events[4].at("delta").at("type"), "signature_delta");
  EXPECT_FALSE(events[4].at("delta").at("signature").as_string().empty());
  EXPECT_EQ(events[10].at("content_block").at("id"), "t1");
  EXPECT_EQ(events[10].at("content_block").at("name"), "look");
  EXPECT_EQ(events[10].at("content_block").at("input"), json::object());
  const json::object& end = events[events.size() - 2];
  EXPECT_EQ(end.at("delta").at("stop_reason"), "tool_use");
  EXPECT_EQ(end.at("usage").at("input_tokens"), 4);
  EXPECT_EQ(end.at("usage").at("cache_read_input_tokens"), 8);
  EXPECT_EQ(end.at("usage").at("cache_creation_input_tokens"), 0);
  EXPECT_EQ(end.at("usage").at("output_tokens"), 7);
}

TEST(MessagesStream, MayHideThinking) {
  MessagesAnswer answer({.max_tokens = 100, .thinking = false}, info);
  std::string out;
  for (const Event& event : thinking_text_and_two_calls())
    answer.stream(event, out);
  EXPECT_EQ(out.find("Let me"), std::string::npos);
  EXPECT_NE(out.find("signature_delta"), std::string::npos);
}

TEST(MessagesStream, EndsAfterAnError) {
  MessagesAnswer answer({.max_tokens = 100, .thinking = true}, info);
  std::string out;
  answer.stream(Event(), out);
  answer.keep_alive(out);
  answer.fail_stream(base::Error(base::ErrorCode::unavailable, "stopping"), out);
  const auto events = events_of(out);
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events[1].at("type"), "ping");
  EXPECT_EQ(events[2].at("error"), (json::value{{"type", "overloaded_error"}, {"message", "stopping"}}));
}

// Clients expect no event before message_start, and comments are none.
TEST(MessagesStream, KeepsAliveByCommentsUntilItStarts) {
  MessagesAnswer answer({.max_tokens = 100, .thinking = true}, info);
  std::string out;
  answer.keep_alive(out);
  EXPECT_EQ(out, ": waiting\n\n");
  answer.finish_stream(usage, out);
  EXPECT_EQ(summary(events_of(out)), "message_start\nmessage_delta\nmessage_stop\n");
}

TEST(Message, HoldsTheSameBlocks) {
  MessagesAnswer answer({.max_tokens = 100, .thinking = true}, info);
  for (const Event& event : thinking_text_and_two_calls())
    answer.collect(event);
  const json::object message = base::parse_json(answer.whole(usage))->as_object();
  const json::array& content = message.at("content").as_array();
  ASSERT_EQ(content.size(), 4u);
  EXPECT_EQ(content[0].at("type"), "thinking");
  EXPECT_EQ(content[0].at("thinking"), "Let me see.");
  EXPECT_EQ(content[1].at("text"), "I look.");
  EXPECT_EQ(content[2].at("input"), (json::value{{"at", 1}}));
  EXPECT_EQ(content[3].at("id"), "t2");
  EXPECT_EQ(message.at("stop_reason"), "tool_use");
  EXPECT_EQ(message.at("usage").at("output_tokens_details").at("thinking_tokens"), 3);
}

TEST(Message, SaysWhyItEnded) {
  const auto ended = [](FinishReason finish, std::string stop, int64_t limit) {
    MessagesAnswer answer({.max_tokens = limit, .thinking = true}, info);
    Event event;
    event.text = "x";
    event.finish = finish;
    event.matched_stop = std::move(stop);
    answer.collect(event);
    const json::object message = base::parse_json(answer.whole(usage))->as_object();
    return json::serialize(message.at("stop_reason")) + " " + json::serialize(message.at("stop_sequence"));
  };
  EXPECT_EQ(ended(FinishReason::stop, "", 100), R"("end_turn" null)");
  EXPECT_EQ(ended(FinishReason::stop, "END", 100), R"("stop_sequence" "END")");
  EXPECT_EQ(ended(FinishReason::length, "", 7), R"("max_tokens" null)");
  EXPECT_EQ(ended(FinishReason::length, "", 100), R"("model_context_window_exceeded" null)");
}

TEST(Message, ACallThatWasCutOffHasTheMembersThatAreComplete) {
  MessagesAnswer answer({.max_tokens = 7, .thinking = true}, info);
  Event event;
  event.tool_calls = {{.index = 0, .id = "t", .name = "n", .arguments = "{\"a\": [1, 2, 3"},
                      {.index = 1, .id = "u", .name = "n", .arguments = "{\"a\": \"b"}};
  event.finish = FinishReason::length;
  answer.collect(event);
  const json::object message = base::parse_json(answer.whole(usage))->as_object();
  EXPECT_EQ(message.at("content").at(0).at("input"), (json::value{{"a", {1, 2}}}));
  EXPECT_EQ(message.at("content").at(1).at("input"), json::object());
  EXPECT_EQ(message.at("stop_reason"), "max_tokens");
}

}  // namespace
}  // namespace tidemill::wire
