// Chat completions and completions: whole and streamed answers agree with each other and with what the engine says.
#include <algorithm>
#include <cmath>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "live_server.hpp"

namespace tidemill {
namespace {

using test::parse_object;
using test::json::object;

class Generate : public test::OnSharedServer<Generate> {};

std::string text_of(const object& answer, size_t index = 0) {
  const object& choice = answer.at("choices").as_array().at(index).as_object();
  if (const auto* message = choice.if_contains("message")) return std::string(message->at("content").as_string());
  return std::string(choice.at("text").as_string());
}

std::string finish_of(const object& answer, size_t index = 0) {
  return std::string(answer.at("choices").as_array().at(index).at("finish_reason").as_string());
}

TEST_F(Generate, ChatAnswersInOpenAisShape) {
  const auto response = client_.post(
      "/v1/chat/completions",
      R"({"model":"nano-coder","messages":[{"role":"user","content":"def add(a, b):\n"}],"max_tokens":12,"temperature":0})");
  ASSERT_EQ(response.status, 200) << response.body;
  const object answer = parse_object(response);
  EXPECT_EQ(answer.at("object"), "chat.completion");
  EXPECT_EQ(answer.at("model"), "nano-coder");
  EXPECT_TRUE(answer.at("id").as_string().starts_with("chatcmpl-"));
  EXPECT_EQ(answer.at("choices").as_array().size(), 1U);
  EXPECT_EQ(answer.at("choices").at(0).at("message").at("role"), "assistant");
  EXPECT_FALSE(text_of(answer).empty());
  const object& usage = answer.at("usage").as_object();
  EXPECT_GT(usage.at("prompt_tokens").as_int64(), 0);
  EXPECT_LE(usage.at("completion_tokens").as_int64(), 12);
  EXPECT_EQ(usage.at("total_tokens").as_int64(),
            usage.at("prompt_tokens").as_int64() + usage.at("completion_tokens").as_int64());
}

TEST_F(Generate, StreamEqualsWholeAtTemperatureZero) {
  for (const std::string_view path : {"/v1/completions", "/v1/chat/completions"}) {
    const std::string input = path == "/v1/completions"
                                  ? R"("prompt":"import os\n\ndef main():\n")"
                                  : R"("messages":[{"role":"user","content":"import os\n\ndef main():\n"}])";
    const std::string fields = input + R"(,"max_tokens":40,"temperature":0,"ignore_eos":true)";
    const object whole = parse_object(client_.post(path, "{" + fields + "}"));
    const auto events =
        client_.stream(path, "{" + fields + R"(,"stream":true,"stream_options":{"include_usage":true}})");
    ASSERT_GE(events.size(), 3U);
    EXPECT_EQ(events.back(), "[DONE]");
    EXPECT_EQ(test::streamed_text(events), text_of(whole)) << path;
    const object last = parse_object(events[events.size() - 2]);
    EXPECT_TRUE(last.at("choices").as_array().empty());
    EXPECT_EQ(last.at("usage").at("completion_tokens"), whole.at("usage").at("completion_tokens"));
    EXPECT_EQ(whole.at("usage").at("completion_tokens"), 40);
    EXPECT_EQ(finish_of(whole), "length");
  }
}

TEST_F(Generate, UsageIsLeftOutOfAStreamUnlessAskedFor) {
  const auto events =
      client_.stream("/v1/completions", R"({"prompt":"x = ","max_tokens":3,"temperature":0,"stream":true})");
  for (const std::string& event : events) {
    if (event == "[DONE]") continue;
    EXPECT_EQ(parse_object(event).if_contains("usage"), nullptr) << event;
  }
}

TEST_F(Generate, SeveralPromptsAndChoicesAreNumberedThrough) {
  const object answer = parse_object(client_.post(
      "/v1/completions",
      R"({"prompt":["import os","class Point:"],"n":2,"max_tokens":8,"temperature":0,"ignore_eos":true})"));
  ASSERT_EQ(answer.at("choices").as_array().size(), 4U);
  for (int64_t i = 0; i < 4; ++i)
    EXPECT_EQ(answer.at("choices").at(static_cast<size_t>(i)).at("index"), i);
  EXPECT_EQ(text_of(answer, 0), text_of(answer, 1));
  EXPECT_EQ(text_of(answer, 2), text_of(answer, 3));
  EXPECT_EQ(answer.at("usage").at("completion_tokens"), 32);
  // Each is what its prompt alone gives.
  const object second = parse_object(
      client_.post("/v1/completions", R"({"prompt":"class Point:","max_tokens":8,"temperature":0,"ignore_eos":true})"));
  EXPECT_EQ(text_of(answer, 2), text_of(second));
  // And so in a stream.
  const auto events = client_.stream(
      "/v1/completions",
      R"({"prompt":["import os","class Point:"],"n":2,"max_tokens":8,"temperature":0,"ignore_eos":true,"stream":true})");
  for (int i = 0; i < 4; ++i)
    EXPECT_EQ(test::streamed_text(events, i), text_of(answer, static_cast<size_t>(i)));
}

TEST_F(Generate, ChoicesWithATemperatureDifferAndASeedRepeatsThem) {
  const std::string body = R"({"prompt":"def ","n":4,"max_tokens":24,"temperature":1.2,"seed":7,"ignore_eos":true})";
  const object once = parse_object(client_.post("/v1/completions", body));
  const object again = parse_object(client_.post("/v1/completions", body));
  std::set<std::string> texts;
  for (size_t i = 0; i < 4; ++i) {
    texts.insert(text_of(once, i));
    EXPECT_EQ(text_of(once, i), text_of(again, i));
  }
  EXPECT_GT(texts.size(), 1U);
}

TEST_F(Generate, StopStringsEndTheTextAndAreNotInIt) {
  const std::string prompt = R"("prompt":"import os\nimport sys\n\ndef main():\n","temperature":0,"max_tokens":60)";
  const std::string free_text =
      text_of(parse_object(client_.post("/v1/completions", "{" + prompt + R"(,"ignore_eos":true})")));
  ASSERT_GT(free_text.size(), 12U);
  const std::string stop = free_text.substr(8, 3);
  const object answer =
      parse_object(client_.post("/v1/completions", "{" + prompt + R"(,"ignore_eos":true,"stop":)" +
                                                       test::json::serialize(test::json::value(stop)) + "}"));
  EXPECT_EQ(text_of(answer), free_text.substr(0, free_text.find(stop)));
  EXPECT_EQ(finish_of(answer), "stop");
}

TEST_F(Generate, LogprobsAreThoseOfTheChosenTokens) {
  const object answer = parse_object(client_.post(
      "/v1/chat/completions",
      R"({"messages":[{"role":"user","content":"import "}],"max_tokens":5,"temperature":0,"ignore_eos":true,
          "logprobs":true,"top_logprobs":3})"));
  const auto& content = answer.at("choices").at(0).at("logprobs").at("content").as_array();
  ASSERT_EQ(content.size(), 5U);
  std::string text;
  for (const auto& token : content) {
    text += std::string_view(token.at("token").as_string());
    const auto& top = token.at("top_logprobs").as_array();
    ASSERT_EQ(top.size(), 3U);
    // At temperature 0 the chosen token is the most likely one.
    EXPECT_EQ(top[0].at("token"), token.at("token"));
    EXPECT_DOUBLE_EQ(top[0].at("logprob").to_number<double>(), token.at("logprob").to_number<double>());
    EXPECT_LE(token.at("logprob").to_number<double>(), 0);
    EXPECT_GE(top[0].at("logprob").to_number<double>(), top[1].at("logprob").to_number<double>());
  }
  EXPECT_EQ(text, text_of(answer));
}

TEST_F(Generate, EchoGivesThePromptBackWithLogprobs) {
  const object answer = parse_object(
      client_.post("/v1/completions", R"({"prompt":"import os","max_tokens":0,"echo":true,"logprobs":1})"));
  EXPECT_EQ(text_of(answer), "import os");
  const auto& logprobs = answer.at("choices").at(0).at("logprobs").as_object();
  const auto& values = logprobs.at("token_logprobs").as_array();
  ASSERT_EQ(static_cast<int64_t>(values.size()), answer.at("usage").at("prompt_tokens").as_int64());
  EXPECT_TRUE(values[0].is_null());
  for (size_t i = 1; i < values.size(); ++i)
    EXPECT_LE(values[i].to_number<double>(), 0);
}

TEST_F(Generate, TextOffsetsPointIntoTheReturnedText) {
  const std::string fields =
      R"("prompt":"import os\n\ndef main():\n","max_tokens":8,"temperature":0,"ignore_eos":true,"echo":true,"logprobs":0)";
  const object whole = parse_object(client_.post("/v1/completions", "{" + fields + "}"));
  const std::string text = text_of(whole);
  const auto& logprobs = whole.at("choices").at(0).at("logprobs").as_object();
  const auto& tokens = logprobs.at("tokens").as_array();
  const auto& offsets = logprobs.at("text_offset").as_array();
  ASSERT_EQ(offsets.size(), tokens.size());
  // The beginning of the sequence is not in the text, and neither is the space that the tokenizer put before it: so
  // they are in no token either.
  std::string joined;
  for (size_t i = 0; i < tokens.size(); ++i) {
    EXPECT_EQ(offsets[i].to_number<size_t>(), joined.size()) << i;
    joined += std::string_view(tokens[i].as_string());
  }
  EXPECT_EQ(joined, text);
  EXPECT_EQ(tokens.at(0).as_string(), "");
  EXPECT_FALSE(tokens.at(1).as_string().starts_with(' '));
  test::json::array streamed;
  for (const std::string& event : client_.stream("/v1/completions", "{" + fields + R"(,"stream":true})")) {
    if (event == "[DONE]") continue;
    const object chunk = parse_object(event);
    const auto& part = chunk.at("choices").at(0).at("logprobs");
    if (part.is_null()) continue;
    for (const auto& offset : part.at("text_offset").as_array())
      streamed.push_back(offset);
  }
  EXPECT_EQ(streamed, offsets);
}

TEST_F(Generate, TokenIdsAreAPromptToo) {
  const object tokens = parse_object(client_.post("/tokenize", R"({"prompt":"import os"})"));
  const std::string ids = test::json::serialize(tokens.at("tokens"));
  const std::string rest = R"(,"max_tokens":8,"temperature":0})";
  EXPECT_EQ(text_of(parse_object(client_.post("/v1/completions", R"({"prompt":)" + ids + rest))),
            text_of(parse_object(client_.post("/v1/completions", R"({"prompt":"import os")" + rest))));
}

TEST_F(Generate, LongPromptsAreTokenizedOffTheSocketsThreadWithTheSameResult) {
  std::string text;
  while (text.size() < 70'000)
    text += "a";  // over the bound for inline work; far over the context
  const auto response = client_.post("/v1/completions", R"({"prompt":")" + text + R"("})");
  EXPECT_EQ(response.status, 400);
  EXPECT_EQ(test::error_of(response).code, "context_length_exceeded");
}

TEST_F(Generate, TheLongestPromptsThatTheContextCannotHoldAreNotEncoded) {
  const std::string text((4 << 20) + 1, ' ');
  for (const auto& [path, body] : std::vector<std::pair<std::string, std::string>>{
           {"/v1/completions", R"({"prompt":")" + text + R"("})"},
           {"/v1/chat/completions", R"({"messages":[{"role":"user","content":")" + text + R"("}]})"},
           {"/v1/embeddings", R"({"input":")" + text + R"("})"}}) {
    const auto response = client_.post(path, body);
    EXPECT_EQ(response.status, 400) << path;
    EXPECT_EQ(test::error_of(response).code, "context_length_exceeded") << path;
    EXPECT_NE(test::error_of(response).message.find("at least"), std::string::npos) << test::error_of(response).message;
  }
}

std::string many_prompts(size_t count, const std::string& last = "x") {
  std::string prompts;
  for (size_t i = 1; i < count; ++i)
    prompts += fmt::format(R"("def f{}(",)", i);
  return fmt::format(R"({{"max_tokens":2,"temperature":0,"ignore_eos":true,"prompt":[{}"{}"])", prompts, last);
}

TEST(ManyPrompts, AreAnsweredHoweverShortTheQueue) {
  auto options = test::small_options();
  options.max_running = 2;
  options.max_waiting = 3;
  test::LiveServer live(options);
  const object answer = parse_object(live.client().post("/v1/completions", many_prompts(100) + "}"));
  ASSERT_EQ(answer.at("choices").as_array().size(), 100U);
  EXPECT_EQ(answer.at("usage").at("completion_tokens"), 200);
  const auto events = live.client().stream("/v1/completions", many_prompts(100) + R"(,"stream":true})");
  ASSERT_FALSE(events.empty());
  EXPECT_EQ(events.back(), "[DONE]");
  for (int i = 0; i < 100; ++i)
    EXPECT_EQ(test::streamed_text(events, i), text_of(answer, static_cast<size_t>(i))) << i;
}

TEST(ManyPrompts, AreCheckedBeforeTheFirstIsRun) {
  test::LiveServer live;
  std::string words;
  for (int i = 0; i < 5000; ++i)
    words += "x1 ";
  const auto response = live.client().post("/v1/completions", many_prompts(100, words) + R"(,"stream":true})");
  EXPECT_EQ(response.status, 400);
  EXPECT_EQ(test::error_of(response).param, "prompt");
  EXPECT_EQ(live.engine().stats().prompt_tokens, 0U);
}

TEST(ManyPrompts, AreFinishedByADrain) {
  auto options = test::small_options();
  options.max_running = 2;
  test::LiveServer live(options);
  const auto events = live.client().stream("/v1/completions", many_prompts(100) + R"(,"stream":true})",
                                           [&, first = true](const std::string&) mutable {
                                             if (std::exchange(first, false)) live.server().drain();
                                             return true;
                                           });
  ASSERT_FALSE(events.empty());
  EXPECT_EQ(events.back(), "[DONE]");
  EXPECT_TRUE(live.server().stop(std::chrono::seconds(30)));
}

// Everything in the answer but its id and time, usage included, with and without; and it did speculate.
TEST(Speculation, DoesNotShowInAnswers) {
  serve::ServeOptions options = test::small_options();
  options.speculation = "off";
  test::LiveServer off(options);
  options.speculation = "prompt-lookup";
  test::LiveServer on(options);
  std::string code;
  for (int i = 0; i < 6; ++i)
    code += fmt::format("    def get_value_{}(self):\\n        return self.value_{}\\n\\n", i, i);
  for (const std::string_view settings :
       {R"("temperature":0)", R"("temperature":0.7,"seed":5,"logprobs":2)",
        R"("temperature":0,"stop":["_7","_9"],"n":2)", R"("temperature":0,"frequency_penalty":0.4,"echo":true)"}) {
    const std::string body = fmt::format(R"({{"prompt":"{}","max_tokens":60,{}}})", code, settings);
    const auto answer = [&](test::LiveServer& live) {
      object parsed = parse_object(live.client().post("/v1/completions", body));
      parsed.erase("id");
      parsed.erase("created");
      return test::json::serialize(parsed);
    };
    EXPECT_EQ(answer(on), answer(off)) << settings;
    const std::string streamed = fmt::format(R"({{"prompt":"{}","max_tokens":60,"stream":true,{}}})", code, settings);
    EXPECT_EQ(test::streamed_text(on.client().stream("/v1/completions", streamed)),
              test::streamed_text(off.client().stream("/v1/completions", streamed)));
  }
  EXPECT_GT(on.engine().stats().accepted_tokens, 0U);
  EXPECT_EQ(off.engine().stats().proposed_tokens, 0U);
}

}  // namespace
}  // namespace tidemill
