#include "wire/openai_answer.hpp"

#include <cmath>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "wire/sse.hpp"

namespace tidemill::wire {
namespace {

namespace json = base::json;

json::value parse(std::string_view text) {
  return *base::parse_json(text);
}

AnswerForm with_logprobs() {
  return {.logprobs = true, .top_logprobs = 1};
}

// The data of the events in `stream`.
std::vector<std::string> data_of(std::string_view stream) {
  SseParser parser;
  std::vector<std::string> all;
  const auto events = parser.feed(stream);
  for (const SseEvent& event : *events)
    all.push_back(event.data);
  return all;
}

std::vector<json::value> chunks_of(std::string_view stream) {
  std::vector<json::value> chunks;
  for (const std::string& text : data_of(stream)) {
    if (text != "[DONE]") chunks.push_back(parse(text));
  }
  return chunks;
}

Event text(std::string words, FinishReason finish = FinishReason::none, int choice = 0) {
  Event event;
  event.choice = choice;
  event.text = std::move(words);
  event.finish = finish;
  return event;
}

TokenInfo token(std::string bytes, double logprob, size_t text_offset = 0) {
  return {{bytes, logprob}, {{bytes, logprob}}, text_offset};
}

TEST(ChatAnswer, WritesAWholeCompletion) {
  ChatAnswer answer({}, {"chatcmpl-1", "m", 1700000000, 2});
  answer.collect(text("Hel"));
  answer.collect(text("Ho", FinishReason::length, 1));
  answer.collect(text("lo", FinishReason::stop));
  EXPECT_EQ(parse(answer.whole({3, 4, 2})), parse(R"({
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1700000000, "model": "m",
    "choices": [
      {"index": 0, "message": {"role": "assistant", "content": "Hello", "refusal": null}, "logprobs": null,
       "finish_reason": "stop"},
      {"index": 1, "message": {"role": "assistant", "content": "Ho", "refusal": null}, "logprobs": null,
       "finish_reason": "length"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7,
              "prompt_tokens_details": {"cached_tokens": 2}, "completion_tokens_details": {"reasoning_tokens": 0}}})"));
}

// Reasoning, then two calls, the first in pieces.
std::vector<Event> calling() {
  std::vector<Event> events(4);
  events[0].reasoning = "Hm.";
  events[1].tool_calls = {{0, "call_a", "get", ""}};
  events[2].tool_calls = {{0, "", "", "{\"x\":"}, {0, "", "", "1}"}};
  events[3].tool_calls = {{1, "call_b", "put", "{}"}};
  events[3].finish = FinishReason::tool_calls;
  return events;
}

TEST(ChatAnswer, WritesReasoningAndCalls) {
  ChatAnswer answer({}, {"x", "m", 1, 1});
  for (const Event& event : calling())
    answer.collect(event);
  const json::value body = parse(answer.whole({1, 2, 0, 1}));
  EXPECT_EQ(body.at("choices").at(0).at("finish_reason"), json::value("tool_calls"));
  EXPECT_EQ(body.at("usage").at("completion_tokens_details").at("reasoning_tokens"), json::value(1));
  EXPECT_EQ(body.at("choices").at(0).at("message"), parse(R"({
    "role": "assistant", "content": null, "refusal": null, "reasoning_content": "Hm.", "tool_calls": [
      {"id": "call_a", "type": "function", "function": {"name": "get", "arguments": "{\"x\":1}"}},
      {"id": "call_b", "type": "function", "function": {"name": "put", "arguments": "{}"}}]})"));
}

TEST(ChatAnswer, StreamsReasoningAndCalls) {
  ChatAnswer answer({}, {"x", "m", 1, 1});
  std::string out;
  for (const Event& event : calling())
    answer.stream(event, out);
  std::vector<json::value> deltas;
  for (const json::value& chunk : chunks_of(out))
    deltas.push_back(chunk.at("choices").at(0).at("delta"));
  ASSERT_EQ(deltas.size(), 7u);
  EXPECT_EQ(deltas[1], parse(R"({"reasoning_content": "Hm."})"));
  EXPECT_EQ(deltas[2], parse(R"({"tool_calls": [{"index": 0, "id": "call_a", "type": "function",
                                                 "function": {"name": "get", "arguments": ""}}]})"));
  EXPECT_EQ(deltas[3], parse(R"({"tool_calls": [{"index": 0, "function": {"arguments": "{\"x\":"}}]})"));
  EXPECT_EQ(deltas[4], parse(R"({"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]})"));
  EXPECT_EQ(deltas[5].at("tool_calls").at(0).at("index"), json::value(1));
  EXPECT_EQ(deltas[6], json::value(json::object()));
}

TEST(ChatAnswer, TellsOfAFunctionCallWhereThatWasAskedFor) {
  const AnswerForm form{.function_call = true};
  Event begun;
  begun.tool_calls = {{0, "call_1", "f", "{\"x\""}};
  Event ended;
  ended.tool_calls = {{0, "", "", ": 1}"}};
  ended.finish = FinishReason::tool_calls;
  ChatAnswer whole(form, {"chatcmpl-1", "m", 1, 1});
  ChatAnswer streamed(form, {"chatcmpl-1", "m", 1, 1});
  std::string stream;
  for (const Event& event : {begun, ended}) {
    whole.collect(event);
    streamed.stream(event, stream);
  }
  EXPECT_EQ(parse(whole.whole({})).at("choices").at(0), parse(R"({
    "index": 0, "message": {"role": "assistant", "content": null, "refusal": null,
                            "function_call": {"name": "f", "arguments": "{\"x\": 1}"}},
    "logprobs": null, "finish_reason": "function_call"})"));
  const std::vector<json::value> chunks = chunks_of(stream);
  ASSERT_EQ(chunks.size(), 4U);
  EXPECT_EQ(chunks[1].at("choices").at(0).at("delta"),
            parse(R"({"function_call": {"name": "f", "arguments": "{\"x\""}})"));
  EXPECT_EQ(chunks[2].at("choices").at(0).at("delta"), parse(R"({"function_call": {"arguments": ": 1}"}})"));
  EXPECT_EQ(chunks[3].at("choices").at(0).at("finish_reason"), "function_call");
}

TEST(ChatAnswer, Streams) {
  ChatAnswer answer({.include_usage = true}, {"chatcmpl-1", "m", 1, 1});
  std::string out;
  answer.stream(text("Hi"), out);
  answer.stream(text("!", FinishReason::stop), out);
  const std::vector<json::value> chunks = chunks_of(out);
  ASSERT_EQ(chunks.size(), 4u);
  EXPECT_EQ(chunks[0].at("choices").at(0).at("delta").at("role"), json::value("assistant"));
  EXPECT_EQ(chunks[1].at("choices").at(0).at("delta"), (json::value{{"content", "Hi"}}));
  EXPECT_EQ(chunks[2].at("choices").at(0).at("delta"), (json::value{{"content", "!"}}));
  EXPECT_EQ(chunks[3].at("choices").at(0).at("finish_reason"), json::value("stop"));
  for (const json::value& chunk : chunks) {
    EXPECT_EQ(chunk.at("object"), json::value("chat.completion.chunk"));
    EXPECT_TRUE(chunk.at("usage").is_null());
  }
  std::string end;
  answer.finish_stream({1, 2, 0}, end);
  const auto last = data_of(end);
  ASSERT_EQ(last.size(), 2u);
  EXPECT_TRUE(parse(last[0]).at("choices").as_array().empty());
  EXPECT_EQ(parse(last[0]).at("usage").at("total_tokens"), json::value(3));
  EXPECT_EQ(last[1], "[DONE]");
}

TEST(ChatAnswer, SendsNoUsageUnasked) {
  ChatAnswer answer({}, {"x", "m", 1, 1});
  std::string end;
  answer.finish_stream({1, 2, 0}, end);
  EXPECT_EQ(data_of(end), std::vector<std::string>{"[DONE]"});
  std::string out;
  answer.stream(text("a"), out);
  EXPECT_FALSE(chunks_of(out).at(1).as_object().contains("usage"));
}

TEST(ChatAnswer, EndsAFailedStreamWithTheErrorAlone) {
  ChatAnswer answer({}, {"x", "m", 1, 1});
  std::string out;
  answer.fail_stream({base::ErrorCode::internal, "broken"}, out);
  const auto data = data_of(out);
  ASSERT_EQ(data.size(), 1u);
  EXPECT_EQ(parse(data[0]).at("error").at("message"), json::value("broken"));
}

TEST(ChatAnswer, GivesLogprobsWithBytes) {
  ChatAnswer answer(with_logprobs(), {"x", "m", 1, 1});
  Event event = text("é", FinishReason::stop);
  event.logprobs = {token("\xc3", -0.5), token("\xa9", -INFINITY)};
  answer.collect(event);
  const json::value body = parse(answer.whole({}));
  const json::value& content = body.at("choices").at(0).at("logprobs").at("content");
  EXPECT_EQ(content.at(0), parse(R"({"token": "�", "logprob": -0.5, "bytes": [195],
                                     "top_logprobs": [{"token": "�", "logprob": -0.5, "bytes": [195]}]})"));
  EXPECT_EQ(content.at(1).at("logprob"), json::value(-9999.0));
}

// Probabilities are sent once, with a piece that is not the opening one, even where their token completes no text.
TEST(ChatAnswer, StreamsEveryLogprobOnce) {
  ChatAnswer answer(with_logprobs(), {"x", "m", 1, 1});
  std::string out;
  Event event;
  event.logprobs = {token("\xc3", -0.5)};
  answer.stream(event, out);
  event = text("é");
  event.logprobs = {token("\xa9", -0.25)};
  answer.stream(event, out);
  size_t tokens = 0;
  for (const json::value& chunk : chunks_of(out)) {
    const json::value& logprobs = chunk.at("choices").at(0).at("logprobs");
    if (!logprobs.is_null()) tokens += logprobs.at("content").as_array().size();
  }
  EXPECT_EQ(tokens, 2u);
}

TEST(CompletionAnswer, GivesOffsetsOfTokens) {
  CompletionAnswer answer(with_logprobs(), {"x", "m", 1, 1});
  TokenInfo first = token("é", -1);
  first.chosen.logprob.reset();
  Event event = text("éa");
  event.logprobs = {first, token("a", -2, 1)};
  answer.collect(event);
  event = text("b", FinishReason::length);
  event.logprobs = {token("b", -3, 2)};
  answer.collect(event);
  const json::value body = parse(answer.whole({}));
  EXPECT_EQ(body.at("object"), json::value("text_completion"));
  EXPECT_EQ(body.at("choices").at(0).at("text"), json::value("éab"));
  EXPECT_EQ(body.at("choices").at(0).at("logprobs"),
            parse(R"({"tokens": ["é", "a", "b"], "token_logprobs": [null, -2.0, -3.0],
                      "top_logprobs": [null, {"a": -2.0}, {"b": -3.0}], "text_offset": [0, 1, 2]})"));
}

// The reference of Completions: "there may be up to logprobs+1 elements". Of a chat's it says the most likely tokens.
TEST(CompletionAnswer, TellsATokenThatIsNoneOfTheLikeliestToo) {
  const TokenInfo rare{{"b", -7.0}, {{"a", -0.5}}, 0};
  Event event;
  event.text = "b";
  event.logprobs = {rare};
  CompletionAnswer completion(with_logprobs(), {"x", "m", 1, 1});
  completion.collect(event);
  EXPECT_EQ(parse(completion.whole({})).at("choices").at(0).at("logprobs").at("top_logprobs"),
            parse(R"([{"a": -0.5, "b": -7.0}])"));
  ChatAnswer chat(with_logprobs(), {"x", "m", 1, 1});
  chat.collect(event);
  const json::value body = parse(chat.whole({}));
  EXPECT_EQ(body.at("choices").at(0).at("logprobs").at("content"),
            parse(R"([{"token": "b", "logprob": -7.0, "bytes": [98],
                                "top_logprobs": [{"token": "a", "logprob": -0.5, "bytes": [97]}]}])"));
}

// Twenty tokens of five or six bytes.
TokenInfo token_of_twenty() {
  TokenInfo info;
  for (int i = 0; i < 20; ++i)
    info.top.push_back({fmt::format(" wo{}", i), -1.2345678901234567 - i});
  info.chosen = info.top.front();
  return info;
}

// What is collected is what the body says, and no more: as values it would be ten times that.
template <typename Written>
void expect_small() {
  constexpr size_t tokens = 500;
  const AnswerForm form{.logprobs = true, .top_logprobs = 20};
  Written answer(form, {"x", "m", 1, 2});
  Event event;
  event.text = " wo0";
  event.logprobs = {token_of_twenty()};
  for (size_t i = 0; i < tokens; ++i) {
    event.choice = static_cast<int>(i % 2);
    answer.collect(event);
  }
  const size_t collected = answer.collected_bytes();
  const auto foreseen = static_cast<double>(answer.bytes_per_token() * tokens);
  const std::string body = answer.whole({});
  EXPECT_LE(collected, body.size());
  EXPECT_GE(collected + 1000, body.size());
  EXPECT_GT(foreseen, 0.7 * static_cast<double>(body.size()));
  EXPECT_LT(foreseen, 1.4 * static_cast<double>(body.size()));
  const auto parsed = base::parse_json(body);
  ASSERT_TRUE(parsed) << parsed.error().message();
  EXPECT_EQ(parsed->at("choices").get_array().size(), 2u);
}

TEST(OpenAiAnswer, TakesNoMoreMemoryThanItsBody) {
  expect_small<ChatAnswer>();
  expect_small<CompletionAnswer>();
}

TEST(OpenAiAnswer, OfTextAloneTakesLittle) {
  ChatAnswer answer({}, {"x", "m", 1, 1});
  Event event = text("Hello");
  event.reasoning = "Hm";
  event.tool_calls = {{0, "a", "f", "{}"}};
  event.logprobs = {token_of_twenty()};  // which nobody asked to see
  answer.collect(event);
  EXPECT_EQ(answer.collected_bytes(), 9u);
  EXPECT_EQ(answer.bytes_per_token(), usual_text_bytes);
}

TEST(EmbeddingResponse, WritesFloatsOrBase64) {
  const std::vector<std::vector<float>> embeddings = {{1.0f, -2.0f}, {0.5f}};
  const json::value floats = parse(embedding_response(embeddings, "m", 5, false));
  EXPECT_EQ(floats.at("data").at(0).at("embedding"), (json::value{1.0, -2.0}));
  EXPECT_EQ(floats.at("usage").at("total_tokens"), json::value(5));
  // 1.0f and -2.0f are 00 00 80 3f and 00 00 00 c0.
  const json::value encoded = parse(embedding_response(embeddings, "m", 5, true));
  EXPECT_EQ(encoded.at("data").at(0).at("embedding"), json::value("AACAPwAAAMA="));
  EXPECT_EQ(encoded.at("data").at(1).at("embedding"), json::value("AAAAPw=="));
}

}  // namespace
}  // namespace tidemill::wire
