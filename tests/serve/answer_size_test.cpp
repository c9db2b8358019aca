// What an answer may hold that is collected whole, and what becomes of one that would be larger.
#include <string>
#include <string_view>
#include <vector>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "live_server.hpp"

namespace tidemill {
namespace {

constexpr uint64_t most_bytes = uint64_t{64} << 10;

class AnswerSize : public test::OnSharedServer<AnswerSize> {
 public:
  static serve::ServeOptions server_options() {
    auto options = test::small_options();
    options.max_answer = base::ByteSize{most_bytes};
    return options;
  }

 protected:
  test::ErrorShown refused(std::string_view path, const std::string& body) {
    const auto response = client_.post(path, body);
    EXPECT_EQ(response.status, 400) << body << ": " << response.body.substr(0, 300);
    const test::ErrorShown error = test::error_of(response);
    EXPECT_EQ(error.type, "invalid_request_error");
    EXPECT_NE(error.message.find("server.max_answer"), std::string::npos) << error.message;
    EXPECT_NE(error.message.find("stream"), std::string::npos) << error.message;
    return error;
  }
};

constexpr std::string_view chat = R"("messages":[{"role":"user","content":"import "}],"ignore_eos":true)";
constexpr std::string_view likeliest = R"("logprobs":true,"top_logprobs":20)";

TEST_F(AnswerSize, IsKnownAheadAndSaid) {
  const auto error =
      refused("/v1/chat/completions", fmt::format(R"({{{},{},"n":8,"max_tokens":60}})", chat, likeliest));
  EXPECT_EQ(error.param, "n");
  for (const std::string_view said : {"480 tokens", "'max_tokens'", "'n' 8", "20 likeliest", "65536 bytes"})
    EXPECT_NE(error.message.find(said), std::string::npos) << said << ": " << error.message;
  EXPECT_EQ(refused("/v1/chat/completions", fmt::format(R"({{{},{},"max_tokens":60}})", chat, likeliest)).param,
            "max_tokens");
  const std::string prompts = R"("prompt":["a","b","c","d","e","f","g","h"])";
  EXPECT_EQ(refused("/v1/completions", fmt::format(R"({{{},"logprobs":20,"max_tokens":40}})", prompts)).param,
            "prompt");
  EXPECT_EQ(refused("/v1/responses", R"({"input":"x","top_logprobs":20,"max_output_tokens":60})").param,
            "max_output_tokens");
}

TEST_F(AnswerSize, CountsAnEchoedPrompt) {
  std::string words;
  for (int i = 0; i < 150; ++i)
    words += "x1 ";
  const std::string asked = fmt::format(R"("prompt":"{}","max_tokens":1,"logprobs":20)", words);
  EXPECT_EQ(client_.post("/v1/completions", fmt::format("{{{}}}", asked)).status, 200);
  const auto error = refused("/v1/completions", fmt::format(R"({{{},"echo":true}})", asked));
  EXPECT_NE(error.message.find("'echo'"), std::string::npos) << error.message;
}

TEST_F(AnswerSize, DoesNotCountForWhatFitsOrIsStreamed) {
  const auto fits = client_.post("/v1/chat/completions",
                                 fmt::format(R"({{{},{},"n":2,"max_tokens":8,"temperature":1}})", chat, likeliest));
  EXPECT_EQ(fits.status, 200) << fits.body;
  EXPECT_LE(fits.body.size(), most_bytes);
  EXPECT_EQ(client_.post("/v1/chat/completions", fmt::format(R"({{{},"n":4,"max_tokens":200}})", chat)).status, 200)
      << "text alone is small";
  const auto events = client_.stream("/v1/chat/completions",
                                     fmt::format(R"({{{},{},"max_tokens":60,"stream":true}})", chat, likeliest));
  ASSERT_FALSE(events.empty());
  EXPECT_EQ(events.back(), "[DONE]");
}

// Where nobody has said how long it is to be, what is too large shows when it is.
TEST_F(AnswerSize, EndsOneThatHasNoLimitAndBecomesTooLarge) {
  const auto error = refused("/v1/chat/completions", fmt::format("{{{},{}}}", chat, likeliest));
  EXPECT_NE(error.message.find("has come to more than 65536 bytes"), std::string::npos) << error.message;
  const auto next = client_.post("/v1/chat/completions", fmt::format(R"({{{},"max_tokens":3}})", chat));
  EXPECT_EQ(next.status, 200) << next.body;
}

}  // namespace
}  // namespace tidemill
