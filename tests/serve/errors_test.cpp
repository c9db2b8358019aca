// What is refused, with which status, and what the answer says.
#include <array>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "live_server.hpp"

namespace tidemill {
namespace {

class Errors : public test::OnSharedServer<Errors> {
 public:
  static serve::ServeOptions server_options() {
    auto options = test::small_options();
    options.max_body = base::ByteSize{uint64_t{256} << 10};
    return options;
  }
};

struct Case {
  std::string path;
  std::string body;
  int status;
  std::string param;
  std::string code;
};

TEST_F(Errors, NameTheParameter) {
  const std::string chat = "/v1/chat/completions";
  const std::string completions = "/v1/completions";
  const std::vector<Case> cases = {
      {chat, "", 400, "", ""},
      {chat, "{\"messages\": [", 400, "", ""},
      {chat, "[]", 400, "", ""},
      {chat, "{}", 400, "messages", ""},
      {chat, R"({"messages":"hello"})", 400, "messages", ""},
      {chat, R"({"messages":[]})", 400, "messages", ""},
      {chat, R"({"messages":[{"role":"pirate","content":"x"}]})", 400, "messages[0].role", ""},
      {chat, R"({"messages":[{"role":"user","content":"x"}],"temperature":"hot"})", 400, "temperature", ""},
      {chat, R"({"messages":[{"role":"user","content":"x"}],"temperature":3})", 400, "temperature", ""},
      {chat, R"({"messages":[{"role":"user","content":"x"}],"n":0})", 400, "n", ""},
      {chat, R"({"messages":[{"role":"user","content":"x"}],"model":"gpt-5"})", 404, "model", "model_not_found"},
      {chat, R"({"messages":[{"role":"user","content":"x"}],"tools":[{"type":"web_search"}]})", 400, "tools[0].type",
       "unsupported"},
      {completions, R"({"prompt":[4096]})", 400, "prompt", ""},
      {completions, R"({"prompt":[-1]})", 400, "prompt", ""},
      {completions, R"({"prompt":"x","logit_bias":{"4096":1}})", 400, "logit_bias", ""},
      {completions, R"({"prompt":"x","model":"nano"})", 404, "model", "model_not_found"},
      {"/v1/embeddings", "{}", 400, "input", ""},
      {"/v1/embeddings", R"({"input":"x","dimensions":3})", 400, "dimensions", "unsupported"},
      {"/v1/embeddings", R"({"input":"x","model":"other"})", 404, "model", "model_not_found"},
      {"/tokenize", R"({"prompt":5})", 400, "prompt", ""},
      {"/detokenize", R"({"tokens":[99999]})", 400, "tokens", ""},
  };
  for (const Case& c : cases) {
    const auto response = client_.post(c.path, c.body);
    EXPECT_EQ(response.status, c.status) << c.path << " " << c.body << "\n" << response.body;
    const test::ErrorShown error = test::error_of(response);
    EXPECT_EQ(error.param, c.param) << c.path << " " << c.body;
    EXPECT_EQ(error.code, c.code) << c.path << " " << c.body;
    EXPECT_FALSE(error.message.empty());
    EXPECT_EQ(error.type, "invalid_request_error");
  }
}

// Limits of grammars say which, their number and the place; their code is not that of a prompt that is too long.
TEST_F(Errors, OfSchemasNameThePlaceAndTheLimit) {
  struct Refused {
    std::string schema;
    std::vector<std::string> parts;
  };
  for (const Refused& one : std::vector<Refused>{
           {R"({"type":"array","items":{"type":"array","minItems":1000000}})", {"#/items", "100000", "smaller bound"}},
           {R"({"properties":{"c":{"type":"string","format":"color"}}})",
            {"#/properties/c/format", "\"color\"", "uuid"}},
           {R"({"properties":{"n":{"type":"integer","minimum":1e30}}})", {"#/properties/n/minimum", "64 bits"}}}) {
    const auto response = client_.post("/v1/completions", R"({"prompt":"x","guided_json":)" + one.schema + "}");
    EXPECT_EQ(response.status, 400) << response.body;
    const test::ErrorShown error = test::error_of(response);
    EXPECT_EQ(error.code, "unsupported");
    EXPECT_EQ(error.param, "guided_json");
    for (const std::string& part : one.parts)
      EXPECT_NE(error.message.find(part), std::string::npos) << error.message << " lacks " << part;
  }
  const auto deep =
      client_.post("/v1/completions", R"({"prompt":)" + std::string(100, '[') + std::string(100, ']') + "}");
  EXPECT_EQ(deep.status, 400);
  EXPECT_NE(test::error_of(deep).message.find("nested deeper than 64 levels"), std::string::npos) << deep.body;
}

TEST_F(Errors, UnknownModelNamesTheServedOne) {
  const auto response = client_.post("/v1/completions", R"({"prompt":"x","model":"gpt-5"})");
  const test::ErrorShown error = test::error_of(response);
  EXPECT_NE(error.message.find("gpt-5"), std::string::npos) << error.message;
  EXPECT_NE(error.message.find("nano-coder"), std::string::npos) << error.message;
}

TEST_F(Errors, PromptsAreNeverTruncated) {
  std::string words;
  for (int i = 0; i < 5000; ++i)
    words += "x1 ";
  const auto count = test::parse_object(client_.post("/tokenize", R"({"prompt":")" + words + R"("})")).at("count");
  ASSERT_GT(count.as_int64(), 4096);
  for (const auto& [path, body, param] : std::vector<std::array<std::string, 3>>{
           {"/v1/completions", R"({"prompt":")" + words + R"("})", "prompt"},
           {"/v1/chat/completions", R"({"messages":[{"role":"user","content":")" + words + R"("}]})", "messages"},
           {"/v1/embeddings", R"({"input":")" + words + R"("})", "input"}}) {
    const auto response = client_.post(path, body);
    EXPECT_EQ(response.status, 400) << path;
    const test::ErrorShown error = test::error_of(response);
    EXPECT_EQ(error.code, "context_length_exceeded");
    EXPECT_EQ(error.param, param);
    EXPECT_NE(error.message.find("4096"), std::string::npos) << error.message;
    EXPECT_NE(error.message.find(std::to_string(count.as_int64())), std::string::npos) << error.message;
  }
}

TEST_F(Errors, BodiesOverTheLimitAre413) {
  const auto response = client_.post("/v1/completions", std::string(size_t{300} << 10, 'x'));
  EXPECT_EQ(response.status, 413);
}

TEST_F(Errors, OneRefusedPromptOfSeveralRefusesAll) {
  std::string words;
  for (int i = 0; i < 5000; ++i)
    words += "x1 ";
  const auto response = client_.post("/v1/completions", R"({"prompt":["fine",")" + words + R"("],"max_tokens":3000})");
  EXPECT_EQ(response.status, 400);
  test::wait_until([&] { return live_->engine().idle(); }, "the prompt before the refused one to be cancelled");
}

}  // namespace
}  // namespace tidemill
