#include "wire/responses_answer.hpp"

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "wire/sse.hpp"

namespace tidemill::wire {
namespace {

namespace json = base::json;

const AnswerInfo response_info{.id = "resp_x", .model = "m", .created = 5, .choices = 1, .prompt_tokens = 12};
const Usage response_usage{.prompt_tokens = 12, .completion_tokens = 7, .cached_tokens = 8, .reasoning_tokens = 3};

ResponsesForm form(bool logprobs = false) {
  auto asked = parse_responses_request(R"({"input":"Hi","truncation":"auto","metadata":{"a":"b"}})");
  asked->form.logprobs = logprobs;
  return asked->form;
}

// The events of a stream; checks names and sequence numbers.
std::vector<json::object> numbered_events(std::string_view stream) {
  SseParser parser;
  auto events = parser.feed(stream);
  EXPECT_TRUE(events);
  std::vector<json::object> objects;
  for (const SseEvent& event : *events) {
    objects.push_back(base::parse_json(event.data)->as_object());
    EXPECT_EQ(objects.back().at("type"), json::value(event.event));
    EXPECT_EQ(objects.back().at("sequence_number"), static_cast<int64_t>(objects.size() - 1));
  }
  return objects;
}

std::vector<Event> reasoning_text_and_two_calls(FinishReason finish) {
  std::vector<Event> events(7);
  events[0].reasoning = "Let me ";
  events[1].reasoning = "see.";
  events[1].text = "I ";
  events[2].text = "look.";
  events[3].tool_calls = {{.index = 0, .id = "c1", .name = "look", .arguments = ""}};
  events[4].tool_calls = {{.index = 0, .id = {}, .name = {}, .arguments = "{\"at\":"},
                          {.index = 0, .id = {}, .name = {}, .arguments = "1}"}};
  events[5].tool_calls = {{.index = 1, .id = "c2", .name = "hear", .arguments = "{}"}};
  events[6].finish = finish;
  return events;
}

std::string streamed(ResponsesAnswer& answer, const std::vector<Event>& events) {
  std::string out;
  answer.open_stream(out);
  for (const Event& event : events)
    answer.stream(event, out);
  answer.finish_stream(response_usage, out);
  return out;
}

// "output_text.delta 1 "I "", one line for each event.
std::string item_summary(const std::vector<json::object>& events) {
  std::string text;
  for (const json::object& event : events) {
    text += std::string_view(event.at("type").get_string());
    if (const json::value* index = event.if_contains("output_index")) text += " " + json::serialize(*index);
    for (const char* name : {"delta", "text", "arguments"}) {
      if (const json::value* piece = event.if_contains(name)) text += " " + json::serialize(*piece);
    }
    if (const json::value* item = event.if_contains("item")) {
      text += " " + std::string(item->at("type").get_string()) + " " + std::string(item->at("status").get_string());
    }
    text += "\n";
  }
  return text;
}

TEST(ResponsesStream, SendsItemAfterItem) {
  ResponsesAnswer answer(form(), response_info);
  const auto events = numbered_events(streamed(answer, reasoning_text_and_two_calls(FinishReason::tool_calls)));
  EXPECT_EQ(item_summary(events), R"(response.created
response.in_progress
response.output_item.added 0 reasoning in_progress
response.content_part.added 0
response.reasoning_text.delta 0 "Let me "
response.reasoning_text.delta 0 "see."
response.reasoning_text.done 0 "Let me see."
response.content_part.done 0
response.output_item.done 0 reasoning completed
response.output_item.added 1 message in_progress
response.content_part.added 1
response.output_text.delta 1 "I "
response.output_text.delta 1 "look."
response.output_text.done 1 "I look."
response.content_part.done 1
response.output_item.done 1 message completed
response.output_item.added 2 function_call in_progress
response.function_call_arguments.delta 2 "{\"at\":"
response.function_call_arguments.delta 2 "1}"
response.function_call_arguments.done 2 "{\"at\":1}"
response.output_item.done 2 function_call completed
response.output_item.added 3 function_call in_progress
response.function_call_arguments.delta 3 "{}"
response.function_call_arguments.done 3 "{}"
response.output_item.done 3 function_call completed
response.completed
)");
  EXPECT_EQ(events[0].at("response").at("status"), "in_progress");
  EXPECT_EQ(events[0].at("response").at("output"), json::array());
  const json::value& end = events.back().at("response");
  EXPECT_EQ(end.at("id"), "resp_x");
  EXPECT_EQ(end.at("status"), "completed");
  EXPECT_EQ(end.at("metadata"), (json::value{{"a", "b"}}));
  EXPECT_EQ(end.at("dropped_turns"), 0);
  EXPECT_EQ(end.at("usage").at("input_tokens"), 12);
  EXPECT_EQ(end.at("usage").at("input_tokens_details").at("cached_tokens"), 8);
  EXPECT_EQ(end.at("usage").at("output_tokens_details").at("reasoning_tokens"), 3);
  const json::array& output = end.at("output").as_array();
  ASSERT_EQ(output.size(), 4u);
  EXPECT_EQ(output[0].at("content").at(0).at("text"), "Let me see.");
  EXPECT_EQ(output[1].at("content").at(0).at("text"), "I look.");
  EXPECT_EQ(output[2].at("call_id"), "c1");
  EXPECT_EQ(output[2].at("arguments"), "{\"at\":1}");
  for (size_t i = 0; i < output.size(); ++i) {
    for (size_t j = 0; j < i; ++j)
      EXPECT_NE(output[i].at("id"), output[j].at("id"));
  }
  EXPECT_EQ(events[4].at("item_id"), output[0].at("id"));
  EXPECT_EQ(events[11].at("item_id"), output[1].at("id"));
}

TEST(ResponsesStream, SaysThatItIsIncomplete) {
  ResponsesAnswer answer(form(), response_info);
  Event event;
  event.text = "x";
  event.finish = FinishReason::length;
  const auto events = numbered_events(streamed(answer, {event}));
  EXPECT_EQ(events.back().at("type"), "response.incomplete");
  EXPECT_EQ(events.back().at("response").at("incomplete_details").at("reason"), "max_output_tokens");
  EXPECT_EQ(events.back().at("response").at("output").at(0).at("status"), "incomplete");
  EXPECT_EQ(events[events.size() - 2].at("item").at("status"), "incomplete");
}

TEST(ResponsesStream, FailsWithTwoEvents) {
  ResponsesAnswer answer(form(), response_info);
  std::string out;
  answer.open_stream(out);
  answer.fail_stream(base::Error(base::ErrorCode::unavailable, "stopping"), out);
  const auto events = numbered_events(out);
  ASSERT_EQ(events.size(), 4u);
  EXPECT_EQ(events[2].at("type"), "response.failed");
  EXPECT_EQ(events[2].at("response").at("status"), "failed");
  EXPECT_EQ(events[2].at("response").at("error"), (json::value{{"code", "server_error"}, {"message", "stopping"}}));
  EXPECT_EQ(events[3].at("type"), "error");
  EXPECT_EQ(events[3].at("message"), "stopping");
}

TEST(Response, IsWhatTheStreamEndsWith) {
  const auto events = reasoning_text_and_two_calls(FinishReason::tool_calls);
  ResponsesAnswer whole(form(), response_info);
  for (const Event& event : events)
    whole.collect(event);
  const json::object completed = whole.complete(response_usage, 9);
  EXPECT_EQ(completed.at("completed_at"), 9);
  EXPECT_EQ(whole.whole(response_usage), json::serialize(completed));
  ResponsesAnswer stream(form(), response_info);
  json::value last = numbered_events(streamed(stream, events)).back().at("response");
  last.at("completed_at") = 9;
  EXPECT_EQ(last, json::value(completed));
}

TEST(Response, CarriesProbabilities) {
  ResponsesAnswer answer(form(true), response_info);
  Event event;
  event.text = "a";
  event.logprobs = {{.chosen = {.bytes = "a", .logprob = -0.5}, .top = {{.bytes = "b", .logprob = -1.5}}}};
  answer.collect(event);
  Event late;  // its text is held back
  late.logprobs = {{.chosen = {.bytes = "c", .logprob = -2.0}, .top = {}}};
  late.finish = FinishReason::stop;
  answer.collect(late);
  const json::value part = base::parse_json(answer.whole(response_usage))->at("output").at(0).at("content").at(0);
  const json::array& logprobs = part.at("logprobs").as_array();
  ASSERT_EQ(logprobs.size(), 2u);
  EXPECT_EQ(logprobs[0].at("token"), "a");
  EXPECT_EQ(logprobs[0].at("logprob"), -0.5);
  EXPECT_EQ(logprobs[0].at("top_logprobs").at(0).at("token"), "b");
  EXPECT_EQ(logprobs[0].at("bytes"), (json::array{97}));
}

}  // namespace
}  // namespace tidemill::wire
