#include "wire/error_body.hpp"

#include <gtest/gtest.h>

namespace tidemill::wire {
namespace {

using base::Error;
using base::ErrorCode;

TEST(ErrorBody, HasTheFourFieldsOfOpenAi) {
  const auto body = error_body(Error(ErrorCode::invalid_argument, "temperature is -1").with_param("temperature"));
  EXPECT_EQ(
      base::json::serialize(body),
      R"({"error":{"message":"temperature is -1","type":"invalid_request_error","param":"temperature","code":null}})");
}

TEST(ErrorBody, IsJsonWhateverTheMessageQuotes) {
  const auto response = error_response(Error(ErrorCode::io, "cannot read 'caf\xE9.gguf'"));
  const auto body = base::parse_json(response.body);
  ASSERT_TRUE(body) << body.error().to_string();
  EXPECT_EQ(body->at("error").at("message"), "cannot read 'caf\uFFFD.gguf'");
}

TEST(ErrorBody, EachCodeHasItsStatus) {
  const auto status = [](ErrorCode code) { return error_response(Error(code, "x")).status; };
  EXPECT_EQ(status(ErrorCode::invalid_argument), 400);
  EXPECT_EQ(status(ErrorCode::unsupported), 400);
  EXPECT_EQ(status(ErrorCode::too_large), 400);
  EXPECT_EQ(status(ErrorCode::not_found), 404);
  EXPECT_EQ(status(ErrorCode::exhausted), 429);
  EXPECT_EQ(status(ErrorCode::cancelled), 499);
  EXPECT_EQ(status(ErrorCode::corrupt), 500);
  EXPECT_EQ(status(ErrorCode::io), 500);
  EXPECT_EQ(status(ErrorCode::internal), 500);
  EXPECT_EQ(status(ErrorCode::unavailable), 503);
  EXPECT_EQ(status(ErrorCode::timeout), 504);
}

TEST(ErrorBody, CodesThatClientsBranchOn) {
  EXPECT_EQ(error_face(Error(ErrorCode::too_large, "x")).code, "context_length_exceeded");
  const ErrorFace template_face = error_face(Error(ErrorCode::too_large, "x").with_param(std::string(template_param)));
  EXPECT_EQ(template_face.code, "chat_template_limit_exceeded");
  EXPECT_EQ(template_face.status, 400);
  EXPECT_EQ(error_face(Error(ErrorCode::not_found, "x").with_param("model")).code, "model_not_found");
  EXPECT_EQ(error_face(Error(ErrorCode::not_found, "x")).code, "not_found");
  const auto locked = error_response(Error(ErrorCode::exhausted, "x").with_param("conversation"));
  EXPECT_EQ(locked.status, 400);
  EXPECT_EQ(locked.body, R"({"error":{"message":"x","type":"invalid_request_error","param":"conversation",)"
                         R"("code":"conversation_locked"}})");
}

TEST(ErrorBody, BusyAnswersSayWhenToComeBack) {
  EXPECT_EQ(error_response(Error(ErrorCode::exhausted, "queue full"), 3).headers.find("retry-after"), "3");
  EXPECT_EQ(error_response(Error(ErrorCode::unavailable, "draining")).headers.find("retry-after"), "1");
  EXPECT_FALSE(error_response(Error(ErrorCode::invalid_argument, "x")).headers.has("retry-after"));
}

TEST(ErrorBody, AThreadThatIsNotFoundSaysSoToAnthropicsClients) {
  const auto body = [](ErrorCode code, std::string param) {
    return error_response(Error(code, "x").with_param(std::move(param)), 1, ErrorStyle::anthropic).body;
  };
  EXPECT_EQ(body(ErrorCode::not_found, "thread.previous_message_id"),
            R"({"type":"error","error":{"type":"not_found_error","message":"thread.previous_message_id: x",)"
            R"("details":{"error_code":"thread_not_found"}}})");
  EXPECT_EQ(body(ErrorCode::not_found, "model"),
            R"({"type":"error","error":{"type":"not_found_error","message":"model: x"}})");
  EXPECT_EQ(body(ErrorCode::invalid_argument, "thread.previous_message_id").find("details"), std::string::npos);
}

TEST(ErrorBody, AnthropicsPathsHaveAnthropicsWords) {
  EXPECT_EQ(error_style("/v1/messages"), ErrorStyle::anthropic);
  EXPECT_EQ(error_style("/v1/messages/count_tokens"), ErrorStyle::anthropic);
  EXPECT_EQ(error_style("/v1/messagess"), ErrorStyle::openai);
  EXPECT_EQ(error_style("/v1/chat/completions"), ErrorStyle::openai);
  EXPECT_EQ(error_style(""), ErrorStyle::openai);
  const auto body = [](ErrorCode code) {
    return error_response(Error(code, "x").with_param("tools"), 1, ErrorStyle::anthropic, "req-1").body;
  };
  EXPECT_EQ(body(ErrorCode::unsupported),
            R"({"type":"error","error":{"type":"invalid_request_error","message":"tools: x"},"request_id":"req-1"})");
  const auto type = [&](ErrorCode code) { return base::parse_json(body(code))->at("error").at("type"); };
  EXPECT_EQ(type(ErrorCode::not_found), "not_found_error");
  EXPECT_EQ(type(ErrorCode::exhausted), "rate_limit_error");
  EXPECT_EQ(type(ErrorCode::unavailable), "overloaded_error");
  EXPECT_EQ(type(ErrorCode::timeout), "timeout_error");
  EXPECT_EQ(type(ErrorCode::cancelled), "api_error");
  EXPECT_EQ(type(ErrorCode::internal), "api_error");
  EXPECT_EQ(anthropic_error_body(408, "x", "").at("error").at("type"), "timeout_error");
}

}  // namespace
}  // namespace tidemill::wire
