#include "gateway/token_usage.hpp"

#include <gtest/gtest.h>

namespace tidemill::gateway {
namespace {

TEST(TokenUsage, OpenAi) {
  TokenUsage usage;
  usage.take(R"({"choices":[],"usage":{"prompt_tokens":12,"completion_tokens":3,"total_tokens":15,)"
             R"("prompt_tokens_details":{"cached_tokens":8}}})");
  EXPECT_EQ(usage.prompt_tokens, 12);
  EXPECT_EQ(usage.output_tokens, 3);
  EXPECT_EQ(usage.cached_tokens, 8);
}

TEST(TokenUsage, Responses) {
  TokenUsage usage;
  usage.take(
      "event: response.completed\ndata: {\"response\":{\"usage\": {\"input_tokens\":5,\"input_tokens_details\":"
      "{\"cached_tokens\":0},\"output_tokens\":7}}}\n\n");
  EXPECT_EQ(usage.prompt_tokens, 5);
  EXPECT_EQ(usage.cached_tokens, 0);
  EXPECT_EQ(usage.output_tokens, 7);
}

TEST(TokenUsage, AnthropicsComeInTwoParts) {
  TokenUsage usage;
  usage.take(R"(data: {"message":{"usage":{"input_tokens":9,"cache_read_input_tokens":4,"output_tokens":1}}})");
  usage.take(R"(data: {"type":"message_delta","usage":{"output_tokens":20}})");
  EXPECT_EQ(usage.prompt_tokens, 9);
  EXPECT_EQ(usage.cached_tokens, 4);
  EXPECT_EQ(usage.output_tokens, 20);
}

// Whatever a backend says, nobody is given back more than was taken.
TEST(TokenUsage, WhatIsNoCountIsNotTaken) {
  TokenUsage usage;
  usage.take(R"({"usage":{"prompt_tokens":-1,"completion_tokens":-9223372036854775808,
                "prompt_tokens_details":{"cached_tokens":-5}}})");
  usage.take(R"({"usage":{"prompt_tokens":9223372036854775807,"completion_tokens":1000000001}})");
  EXPECT_FALSE(usage.prompt_tokens);
  EXPECT_FALSE(usage.cached_tokens);
  EXPECT_FALSE(usage.output_tokens);
  usage.take(R"({"usage":{"prompt_tokens":0,"completion_tokens":1000000000}})");
  EXPECT_EQ(usage.prompt_tokens, 0);
  EXPECT_EQ(usage.output_tokens, 1'000'000'000);
}

// A model may write what looks like it: inside a string its quotes are escaped.
TEST(TokenUsage, TextIsNotTaken) {
  TokenUsage usage;
  usage.take(R"(data: {"choices":[{"text":"{\"usage\":{\"prompt_tokens\":1}}"}],"usage":null})");
  EXPECT_FALSE(usage.prompt_tokens);
}

}  // namespace
}  // namespace tidemill::gateway
