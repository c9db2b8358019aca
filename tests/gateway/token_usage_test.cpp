#include "gateway/token_usage.hpp"

#include <cstdint>
#include <string>

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

TEST(TokenUsage, IsFoundWhereverItStands) {
  const std::string key = "\"usage\":";
  EXPECT_EQ(find_usage(""), std::string_view::npos);
  EXPECT_EQ(find_usage("g"), std::string_view::npos);
  EXPECT_EQ(find_usage("sag\":"), std::string_view::npos);
  // As a plain search finds it, in texts of nothing but its letters.
  uint32_t state = 1;
  for (int i = 0; i < 200; ++i) {
    std::string text;
    for (int k = 0; k < 40; ++k) {
      state = state * 1664525 + 1013904223;
      const uint32_t draw = state >> 24;
      text += draw < 40 ? key : key.substr(draw % key.size(), 1 + draw / 64);
    }
    for (size_t from = 0; from <= text.size(); ++from)
      ASSERT_EQ(find_usage(text, from), text.find(key, from)) << text << " from " << from;
  }
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
