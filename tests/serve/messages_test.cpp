// Anthropic's endpoints on a live server.
#include <string>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "live_server.hpp"

namespace tidemill {
namespace {

using test::parse_object;
using test::json::object;

const std::string short_message =
    R"({"model":"nano-coder","max_tokens":8,"temperature":0,"messages":[{"role":"user","content":"import os\n"}]})";

class Messages : public test::OnSharedServer<Messages> {};

TEST_F(Messages, AnswerAsChatDoes) {
  const auto response = client_.post("/v1/messages", short_message, {{"anthropic-version", "2023-06-01"}});
  ASSERT_EQ(response.status, 200) << response.body;
  EXPECT_TRUE(response.headers.has("request-id"));
  EXPECT_EQ(response.headers.find("request-id"), response.headers.find("x-request-id"));
  const object message = parse_object(response);
  const object chat = parse_object(client_.post("/v1/chat/completions", short_message));
  EXPECT_EQ(message.at("content").at(0).at("text"), chat.at("choices").at(0).at("message").at("content"));
  EXPECT_EQ(message.at("stop_reason"), "max_tokens");
  EXPECT_EQ(message.at("usage").at("output_tokens"), 8);
  EXPECT_EQ(
      message.at("usage").at("input_tokens").as_int64() + message.at("usage").at("cache_read_input_tokens").as_int64(),
      chat.at("usage").at("prompt_tokens").as_int64());
}

// Clients read at the start what the cache held, and at the end.
TEST_F(Messages, AStreamTellsAtItsStartWhatTheCacheHeld) {
  std::string text;
  for (int i = 0; i < 60; ++i)
    text += "x1 = 2\\n";
  const std::string body =
      R"({"max_tokens":4,"temperature":0,"stream":true,"messages":[{"role":"user","content":")" + text + R"("}]})";
  const int64_t prompt = parse_object(client_.post("/v1/messages/count_tokens", body)).at("input_tokens").as_int64();
  for (const bool warm : {false, true}) {
    const auto events = client_.stream("/v1/messages", body);
    const object start = parse_object(events.front());
    ASSERT_EQ(start.at("type"), "message_start");
    const object& told = start.at("message").at("usage").as_object();
    const int64_t cached = told.at("cache_read_input_tokens").as_int64();
    EXPECT_EQ(cached > 0, warm);
    EXPECT_EQ(told.at("input_tokens").as_int64() + cached, prompt);
    const object end = parse_object(events.at(events.size() - 2));
    ASSERT_EQ(end.at("type"), "message_delta");
    EXPECT_EQ(end.at("usage").at("cache_read_input_tokens"), cached);
    EXPECT_EQ(end.at("usage").at("input_tokens"), told.at("input_tokens"));
  }
}

TEST_F(Messages, CountTokensCountsWhatAMessageUses) {
  const object counted = parse_object(client_.post("/v1/messages/count_tokens", short_message));
  const object usage = parse_object(client_.post("/v1/messages", short_message)).at("usage").as_object();
  EXPECT_EQ(counted.at("input_tokens").as_int64(),
            usage.at("input_tokens").as_int64() + usage.at("cache_read_input_tokens").as_int64());
}

TEST_F(Messages, CountTokensCountsWhatTheContextCannotHold) {
  std::string text;
  for (int i = 0; i < 100'000; ++i)
    text += "x1 ";
  const std::string body = R"({"max_tokens":1,"messages":[{"role":"user","content":")" + text + R"("}]})";
  const auto counted = client_.post("/v1/messages/count_tokens", body);
  ASSERT_EQ(counted.status, 200) << counted.body;
  const int64_t tokens = parse_object(counted).at("input_tokens").as_int64();
  EXPECT_GE(tokens, 100'000);
  const auto refused = client_.post("/v1/messages", body);
  EXPECT_EQ(refused.status, 400);
  EXPECT_NE(refused.body.find(fmt::format("the prompt has {} tokens", tokens)), std::string::npos) << refused.body;
}

// No thread is kept, and what is told of it makes clients send all of it again.
TEST_F(Messages, ThreadsBeginAndAreNotFoundAgain) {
  const std::string begun = short_message.substr(0, short_message.size() - 1) + R"(,"thread":{"type":"create"}})";
  const auto first = client_.post("/v1/messages", begun);
  ASSERT_EQ(first.status, 200) << first.body;
  EXPECT_EQ(parse_object(first).at("content"), parse_object(client_.post("/v1/messages", short_message)).at("content"));
  for (const std::string path : {"/v1/messages", "/v1/messages/count_tokens"}) {
    const auto next = client_.post(
        path, R"({"max_tokens":8,"messages":[],"thread":{"type":"continue","previous_message_id":"msg_1"}})");
    EXPECT_EQ(next.status, 404) << next.body;
    const object error = parse_object(next).at("error").as_object();
    EXPECT_EQ(error.at("type"), "not_found_error");
    EXPECT_EQ(error.at("details"), (object{{"error_code", "thread_not_found"}}));
    EXPECT_NE(error.at("message").as_string().find("msg_1"), std::string::npos) << next.body;
  }
}

TEST_F(Messages, ErrorsAreAnthropics) {
  struct Case {
    std::string path;
    std::string body;
    int status;
    std::string type;
  };
  const std::string unknown = R"({"model":"gpt-5","max_tokens":1,"messages":[{"role":"user","content":"x"}]})";
  for (const Case& c :
       {Case{"/v1/messages", "{", 400, "invalid_request_error"},
        Case{"/v1/messages", "{}", 400, "invalid_request_error"}, Case{"/v1/messages", unknown, 404, "not_found_error"},
        Case{"/v1/messages/count_tokens", "{}", 400, "invalid_request_error"},
        Case{"/v1/messages/batches", "{}", 404, "not_found_error"}}) {
    const auto response = client_.post(c.path, c.body, {{"x-request-id", "mine"}});
    EXPECT_EQ(response.status, c.status) << response.body;
    const object body = parse_object(response);
    EXPECT_EQ(body.at("type"), "error");
    EXPECT_EQ(body.at("error").at("type"), test::json::value(c.type)) << response.body;
    EXPECT_FALSE(body.at("error").at("message").as_string().empty());
    EXPECT_EQ(body.at("request_id"), "mine");
    EXPECT_EQ(response.headers.find("request-id"), "mine");
  }
  const auto wrong_method = client_.get("/v1/messages");
  EXPECT_EQ(wrong_method.status, 405);
  EXPECT_EQ(parse_object(wrong_method).at("type"), "error");
  EXPECT_EQ(parse_object(wrong_method).at("request_id"), test::json::value(*wrong_method.headers.find("request-id")));
}

TEST(MessagesKeys, MayComeAsXApiKey) {
  auto options = test::small_options();
  options.api_keys = {"secret"};
  options.max_body = base::ByteSize{4096};
  test::LiveServer live(options);
  test::Client client = live.client();
  EXPECT_EQ(client.post("/v1/messages", short_message, {{"x-api-key", "secret"}}).status, 200);
  EXPECT_EQ(client.post("/v1/messages", short_message, {{"Authorization", "Bearer secret"}}).status, 200);
  const auto refused = client.post("/v1/messages", short_message, {{"x-api-key", "guess"}});
  EXPECT_EQ(refused.status, 401);
  EXPECT_EQ(parse_object(refused).at("error").at("type"), "authentication_error");
  EXPECT_EQ(client.post("/v1/chat/completions", short_message, {{"x-api-key", "secret"}}).status, 401);
  const auto large = client.post("/v1/messages", std::string(5000, 'x'), {{"x-api-key", "secret"}});
  EXPECT_EQ(large.status, 413);
  EXPECT_EQ(parse_object(large).at("error").at("type"), "request_too_large");
  EXPECT_EQ(parse_object(large).at("request_id"), test::json::value(*large.headers.find("request-id")));
}

}  // namespace
}  // namespace tidemill
