// The endpoints beside generation.
#include <bit>
#include <cmath>
#include <cstring>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "live_server.hpp"

namespace tidemill {
namespace {

using test::parse_object;
using test::json::object;

class Endpoints : public test::OnSharedServer<Endpoints> {};

std::vector<double> numbers(const test::json::value& array) {
  std::vector<double> values;
  for (const auto& value : array.as_array())
    values.push_back(value.to_number<double>());
  return values;
}

// RFC 4648, one character at a time.
std::string decode_base64(std::string_view text) {
  const std::string_view alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    if (c == '=') break;
    bits = bits << 6U | static_cast<uint32_t>(alphabet.find(c));
    count += 6;
    if (count >= 8) {
      count -= 8;
      bytes += static_cast<char>(bits >> static_cast<unsigned>(count) & 0xFFU);
    }
  }
  return bytes;
}

TEST_F(Endpoints, ModelsAreListedAndFoundById) {
  const object list = parse_object(client_.get("/v1/models"));
  EXPECT_EQ(list.at("object"), "list");
  ASSERT_EQ(list.at("data").as_array().size(), 1U);
  EXPECT_EQ(list.at("data").at(0).at("id"), "nano-coder");
  EXPECT_EQ(list.at("data").at(0).at("max_model_len"), 4096);
  EXPECT_EQ(parse_object(client_.get("/v1/models/nano-coder")).at("object"), "model");
  const auto missing = client_.get("/v1/models/some/other");
  EXPECT_EQ(missing.status, 404);
  EXPECT_EQ(test::error_of(missing).code, "model_not_found");
}

TEST(ServedName, MayHoldSlashesAndTheFileStemStillWorks) {
  auto options = test::small_options();
  options.model_name = "tide/nano";
  test::LiveServer live(options);
  test::Client client = live.client();
  EXPECT_EQ(parse_object(client.get("/v1/models/tide/nano")).at("id"), "tide/nano");
  EXPECT_EQ(parse_object(client.get("/v1/models/tide%2Fnano")).at("id"), "tide/nano");
  for (const std::string name : {"tide/nano", "nano-coder"}) {
    const auto response = client.post("/v1/completions", R"({"prompt":"x","max_tokens":1,"model":")" + name + R"("})");
    EXPECT_EQ(response.status, 200) << response.body;
    EXPECT_EQ(parse_object(response).at("model"), "tide/nano");
  }
}

TEST_F(Endpoints, TokenizeAndDetokenizeAreInverse) {
  const object answer = parse_object(client_.post(
      "/tokenize", R"({"prompt":"def f(x):\n    return x","return_token_strs":true,"add_special_tokens":false})"));
  EXPECT_EQ(answer.at("count"), answer.at("tokens").as_array().size());
  EXPECT_EQ(answer.at("token_strs").as_array().size(), answer.at("tokens").as_array().size());
  EXPECT_EQ(answer.at("max_model_len"), 4096);
  const object back =
      parse_object(client_.post("/detokenize", R"({"tokens":)" + test::json::serialize(answer.at("tokens")) + "}"));
  EXPECT_EQ(back.at("prompt"), "def f(x):\n    return x");
  EXPECT_EQ(parse_object(client_.post("/tokenize", R"({"prompt":"","add_special_tokens":false})")).at("count"), 0);
}

TEST_F(Endpoints, TokenizeRendersMessages) {
  const object answer =
      parse_object(client_.post("/tokenize", R"({"messages":[{"role":"user","content":"import os"}]})"));
  const object chat = parse_object(
      client_.post("/v1/chat/completions", R"({"messages":[{"role":"user","content":"import os"}],"max_tokens":1})"));
  EXPECT_EQ(answer.at("count"), chat.at("usage").at("prompt_tokens"));
}

// A prompt is counted as a chat with the same fields counts it.
TEST_F(Endpoints, TokenizeRendersAsAChatDoes) {
  const std::string user = R"({"role":"user","content":"import os"})";
  const std::string tools = R"(,"tools":[{"type":"function","function":{"name":"find","parameters":{"type":"object",
      "properties":{"query":{"type":"string"}}}}}])";
  std::set<int64_t> counts;
  for (const std::string& fields : std::vector<std::string>{
           R"("messages":[)" + user + "]", R"("messages":[)" + user + "]" + tools,
           R"("messages":[)" + user + R"(],"add_generation_prompt":false)",
           R"("messages":[)" + user +
               R"(,{"role":"assistant","content":"def main():\n    pass"}],"continue_final_message":true)",
           R"("messages":[)" + user +
               R"(,{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":
                 {"name":"find","arguments":"{\"query\": \"a\", \"other\": \"b"}}]},
                 {"role":"tool","tool_call_id":"a","content":"none"}])" +
               tools}) {
    const auto tokenized = client_.post("/tokenize", "{" + fields + "}");
    ASSERT_EQ(tokenized.status, 200) << tokenized.body;
    const object chat = parse_object(client_.post("/v1/chat/completions", "{" + fields + R"(,"max_tokens":1})"));
    const auto count = parse_object(tokenized).at("count");
    EXPECT_EQ(count, chat.at("usage").at("prompt_tokens")) << fields;
    counts.insert(count.as_int64());
  }
  EXPECT_EQ(counts.size(), 4U) << "this model's template writes no generation prompt, the other fields count";
}

TEST_F(Endpoints, EmbeddingsHaveUnitLengthInBothEncodings) {
  const object answer =
      parse_object(client_.post("/v1/embeddings", R"({"model":"nano-coder","input":["import os","class A: pass"]})"));
  ASSERT_EQ(answer.at("data").as_array().size(), 2U);
  const object encoded = parse_object(
      client_.post("/v1/embeddings", R"({"input":["import os","class A: pass"],"encoding_format":"base64"})"));
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(answer.at("data").at(i).at("index"), i);
    const std::vector<double> values = numbers(answer.at("data").at(i).at("embedding"));
    ASSERT_EQ(values.size(), 256U);
    double square = 0;
    for (const double value : values)
      square += value * value;
    EXPECT_NEAR(square, 1, 1e-5);
    const std::string bytes = decode_base64(encoded.at("data").at(i).at("embedding").as_string());
    ASSERT_EQ(bytes.size(), 256 * sizeof(float));
    std::vector<float> floats(256);
    std::memcpy(floats.data(), bytes.data(), bytes.size());
    for (size_t j = 0; j < 256; ++j)
      EXPECT_FLOAT_EQ(floats[j], static_cast<float>(values[j]));
  }
  EXPECT_NE(numbers(answer.at("data").at(0).at("embedding")), numbers(answer.at("data").at(1).at("embedding")));
}

TEST(EmbeddingBatch, MayBeLargerThanTheQueue) {
  auto options = test::small_options();
  options.max_waiting = 2;
  options.max_running = 2;
  test::LiveServer live(options);
  std::string inputs;
  for (int i = 0; i < 40; ++i)
    inputs += (i == 0 ? "\"x = " : ",\"x = ") + std::to_string(i) + "\"";
  const auto response = live.client().post("/v1/embeddings", R"({"input":[)" + inputs + "]}");
  ASSERT_EQ(response.status, 200) << response.body;
  EXPECT_EQ(parse_object(response).at("data").as_array().size(), 40U);
}

TEST_F(Endpoints, StatusPagesAnswer) {
  EXPECT_EQ(client_.get("/health").status, 200);
  EXPECT_EQ(parse_object(client_.get("/ready")).at("status"), "ready");
  EXPECT_TRUE(parse_object(client_.get("/version")).at("version").is_string());
  const object overview = parse_object(client_.get("/"));
  const std::string endpoints = base::json::serialize(overview.at("endpoints"));
  for (const char* path : {"/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1/messages/count_tokens"})
    EXPECT_NE(endpoints.find("\"POST " + std::string(path) + "\""), std::string::npos) << endpoints;
  EXPECT_EQ(endpoints.find("/mcp"), std::string::npos) << "only with --mcp";
  EXPECT_EQ(overview.at("name"), "tidemill");
  EXPECT_EQ(overview.at("model"), "nano-coder");
  EXPECT_EQ(client_.get("/nothing").status, 404);
  EXPECT_EQ(client_.get("/v1/completions").status, 405);
}

TEST(ApiKeys, AreAskedForByTheApiAndNotByProbes) {
  auto options = test::small_options();
  options.api_keys = {"first-key", "second-key", ""};
  test::LiveServer live(options);
  test::Client client = live.client();
  const std::string body = R"({"prompt":"x","max_tokens":1})";
  EXPECT_EQ(client.get("/health").status, 200);
  EXPECT_EQ(client.get("/ready").status, 200);
  EXPECT_EQ(client.get("/metrics").status, 200);
  const auto refused = client.post("/v1/completions", body);
  EXPECT_EQ(refused.status, 401);
  EXPECT_EQ(test::error_of(refused).code, "invalid_api_key");
  EXPECT_EQ(client.post("/v1/completions", body, {{"Authorization", "Bearer first-kez"}}).status, 401);
  EXPECT_EQ(client.get("/debug/traces").status, 401);
  EXPECT_EQ(client.post("/v1/completions", body, {{"Authorization", "Bearer second-key"}}).status, 200);
}

}  // namespace
}  // namespace tidemill
