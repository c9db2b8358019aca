#include "wire/openai_response.hpp"

#include <cmath>

#include <gtest/gtest.h>

namespace tidemill::wire {
namespace {

namespace json = base::json;

json::value parse(std::string_view text) {
  return *base::parse_json(text);
}

GenerateRequest request(Dialect dialect, bool logprobs = false) {
  GenerateRequest made;
  made.dialect = dialect;
  made.logprobs = logprobs;
  made.top_logprobs = logprobs ? 1 : 0;
  return made;
}

TokenInfo token(std::string bytes, double logprob, size_t text_offset = 0) {
  return {{bytes, logprob}, {{bytes, logprob}}, text_offset};
}

TEST(OpenAiResponse, WritesAWholeChatCompletion) {
  OpenAiResponse response(request(Dialect::chat), "chatcmpl-1", "m", 1700000000, 2);
  response.collect({0, "Hel", {}, FinishReason::none});
  response.collect({1, "Ho", {}, FinishReason::length});
  response.collect({0, "lo", {}, FinishReason::stop});
  EXPECT_EQ(parse(response.whole({3, 4, 2})), parse(R"({
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1700000000, "model": "m",
    "choices": [
      {"index": 0, "message": {"role": "assistant", "content": "Hello", "refusal": null}, "logprobs": null,
       "finish_reason": "stop"},
      {"index": 1, "message": {"role": "assistant", "content": "Ho", "refusal": null}, "logprobs": null,
       "finish_reason": "length"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7,
              "prompt_tokens_details": {"cached_tokens": 2}}})"));
}

TEST(OpenAiResponse, StreamsAChatCompletion) {
  GenerateRequest asked = request(Dialect::chat);
  asked.include_usage = true;
  OpenAiResponse response(asked, "chatcmpl-1", "m", 1, 1);
  std::vector<json::value> chunks;
  for (const Event& event : {Event{0, "Hi", {}, FinishReason::none}, Event{0, "!", {}, FinishReason::stop}}) {
    for (const std::string& text : response.stream(event))
      chunks.push_back(parse(text));
  }
  ASSERT_EQ(chunks.size(), 4u);
  EXPECT_EQ(chunks[0].at("choices").at(0).at("delta").at("role"), json::value("assistant"));
  EXPECT_EQ(chunks[1].at("choices").at(0).at("delta"), (json::value{{"content", "Hi"}}));
  EXPECT_EQ(chunks[2].at("choices").at(0).at("delta"), (json::value{{"content", "!"}}));
  EXPECT_EQ(chunks[3].at("choices").at(0).at("finish_reason"), json::value("stop"));
  for (const json::value& chunk : chunks) {
    EXPECT_EQ(chunk.at("object"), json::value("chat.completion.chunk"));
    EXPECT_TRUE(chunk.at("usage").is_null());
  }
  const auto last = response.finish_stream({1, 2, 0});
  ASSERT_EQ(last.size(), 1u);
  EXPECT_TRUE(parse(last[0]).at("choices").as_array().empty());
  EXPECT_EQ(parse(last[0]).at("usage").at("total_tokens"), json::value(3));
}

TEST(OpenAiResponse, SendsNoUsageUnasked) {
  OpenAiResponse response(request(Dialect::chat), "x", "m", 1, 1);
  EXPECT_TRUE(response.finish_stream({1, 2, 0}).empty());
  EXPECT_FALSE(parse(response.stream({0, "a", {}, FinishReason::none})[1]).as_object().contains("usage"));
}

TEST(OpenAiResponse, GivesLogprobsWithBytes) {
  OpenAiResponse response(request(Dialect::chat, true), "x", "m", 1, 1);
  response.collect({0, "é", {token("\xc3", -0.5), token("\xa9", -INFINITY)}, FinishReason::stop});
  const json::value body = parse(response.whole({}));
  const json::value& content = body.at("choices").at(0).at("logprobs").at("content");
  EXPECT_EQ(content.at(0), parse(R"({"token": "�", "logprob": -0.5, "bytes": [195],
                                     "top_logprobs": [{"token": "�", "logprob": -0.5, "bytes": [195]}]})"));
  EXPECT_EQ(content.at(1).at("logprob"), json::value(-9999.0));
}

TEST(OpenAiResponse, GivesOffsetsOfCompletionTokens) {
  OpenAiResponse response(request(Dialect::completions, true), "x", "m", 1, 1);
  TokenInfo first = token("é", -1);
  first.chosen.logprob.reset();
  response.collect({0, "éa", {first, token("a", -2, 1)}, FinishReason::none});
  response.collect({0, "b", {token("b", -3, 2)}, FinishReason::length});
  const json::value body = parse(response.whole({}));
  EXPECT_EQ(body.at("object"), json::value("text_completion"));
  EXPECT_EQ(body.at("choices").at(0).at("text"), json::value("éab"));
  EXPECT_EQ(body.at("choices").at(0).at("logprobs"),
            parse(R"({"tokens": ["é", "a", "b"], "token_logprobs": [null, -2.0, -3.0],
                      "top_logprobs": [null, {"a": -2.0}, {"b": -3.0}], "text_offset": [0, 1, 2]})"));
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
