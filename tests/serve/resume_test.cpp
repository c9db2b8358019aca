// Streams that are cut after any of their marks and go on elsewhere: what the client gets is what it would have got.
#include <algorithm>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "live_server.hpp"
#include "marked_stream.hpp"
#include "temporary_folder.hpp"

namespace tidemill {
namespace {

using test::MarkedPrefix;
using test::parse_object;
using test::json::array;
using test::json::object;
using test::json::serialize;
using test::json::value;

const wire::Headers resumable{{"x-tidemill-resumable", "1"}};

struct Case {
  std::string name;
  std::string path;
  std::string body;
  size_t choices = 1;
};

class Resume : public test::OnSharedServer<Resume> {
 protected:
  static void SetUpTestSuite() {
    OnSharedServer::SetUpTestSuite();
    other_ = std::make_unique<test::LiveServer>(test::small_options());
  }
  static void TearDownTestSuite() {
    other_.reset();
    OnSharedServer::TearDownTestSuite();
  }

  std::string marked(const std::string& path, const std::string& body) {
    const auto response = client_.post(path, body, resumable);
    EXPECT_EQ(response.status, 200) << response.body;
    return response.body;
  }

  // Cuts the stream after each of its marks, and has another server go on.
  void expect_seamless(const Case& one) {
    SCOPED_TRACE(one.name + ": " + one.body);
    const std::string stream = marked(one.path, one.body);
    const std::vector<MarkedPrefix> prefixes = test::prefixes_of(stream, one.choices);
    ASSERT_GE(prefixes.size(), 3u) << stream;
    EXPECT_TRUE(prefixes.back().complete);
    const auto undisturbed = test::merged_events(test::without_marks(stream));
    for (size_t i = 0; i + 1 < prefixes.size(); ++i) {
      const MarkedPrefix& prefix = prefixes[i];
      SCOPED_TRACE(fmt::format("cut after mark {}", i));
      const auto response =
          there_.post(one.path, test::with_member(one.body, "tidemill_resume", prefix.resume()), resumable);
      ASSERT_EQ(response.status, 200) << response.body;
      const std::vector<MarkedPrefix> rest = test::prefixes_of(response.body, one.choices);
      ASSERT_FALSE(rest.empty());
      EXPECT_TRUE(rest.back().complete);
      EXPECT_EQ(rest.front().open, prefix.open);
      auto joined = test::merged_events(prefix.bytes + test::without_marks(response.body));
      auto whole = undisturbed;
      // What was found in the cache is known, and kept, once a prompt has begun.
      const auto waits = [](const auto& tokens) { return tokens.empty(); };
      if (std::any_of(prefix.tokens.begin(), prefix.tokens.end(), waits)) {
        test::remove_cached(joined);
        test::remove_cached(whole);
      }
      EXPECT_EQ(joined, whole) << prefix.bytes << "\n--- and then ---\n"
                               << response.body << "\n--- whole ---\n"
                               << stream;
      for (size_t c = 0; c < one.choices; ++c) {
        auto tokens = prefix.tokens[c];
        tokens.insert(tokens.end(), rest.back().tokens[c].begin(), rest.back().tokens[c].end());
        EXPECT_EQ(tokens, prefixes.back().tokens[c]);
      }
      if (HasFailure()) return;
    }
  }

  inline static std::unique_ptr<test::LiveServer> other_;
  test::Client there_ = other_->client();
};

const std::string code = R"("prompt":"import os\n\ndef main():\n    for x in range(3):\n","stream":true)";

TEST_F(Resume, Completions) {
  const auto asked = [&](std::string_view more) { return fmt::format(R"({{{},"ignore_eos":true,{}}})", code, more); };
  for (const Case& one : std::vector<Case>{
           {"greedy", "", asked(R"("max_tokens":24,"temperature":0,"stream_options":{"include_usage":true})")},
           {"drawn without a seed", "", asked(R"("max_tokens":20,"temperature":1.1)")},
           {"drawn with a seed", "", asked(R"("max_tokens":20,"seed":-3,"top_p":0.9,"top_k":40)")},
           {"penalties", "",
            asked(R"("max_tokens":24,"temperature":0.5,"frequency_penalty":1,"repetition_penalty":1.2)")},
           {"choices", "", asked(R"("max_tokens":10,"n":3,"stream_options":{"include_usage":true})"), 3},
           {"probabilities and echo", "", asked(R"("max_tokens":12,"logprobs":2,"echo":true,"n":2)"), 2},
           {"scores", "", asked(R"("max_tokens":0,"logprobs":1,"echo":true,"n":2)"), 2},
           {"nothing", "", asked(R"("max_tokens":0,"stream_options":{"include_usage":true})")},
           {"stops", "", asked(R"("max_tokens":40,"temperature":0,"stop":["n","    r"," = "])")},
           {"special tokens shown", "", asked(R"("max_tokens":16,"skip_special_tokens":false)")}}) {
    expect_seamless({one.name, "/v1/completions", one.body, one.choices});
  }
}

TEST_F(Resume, SeveralPrompts) {
  const std::string prompts = R"("prompt":["import os","class Point:","import os"],"stream":true)";
  const std::string usage = R"("stream_options":{"include_usage":true})";
  expect_seamless({"two each", "/v1/completions",
                   fmt::format(R"({{{},"n":2,"max_tokens":6,"logprobs":1,{}}})", prompts, usage), 6});
  expect_seamless({"to their ends", "/v1/completions",
                   fmt::format(R"({{{},"max_tokens":9,"stop":["\n"],{}}})", prompts, usage), 3});
  // Without a seed equal prompts have draws of their own.
  const std::string stream =
      marked("/v1/completions", fmt::format(R"({{{},"max_tokens":20,"temperature":1.5}})", prompts));
  const auto prefixes = test::prefixes_of(stream, 3);
  EXPECT_NE(prefixes.back().tokens[0], prefixes.back().tokens[2]);
}

TEST_F(Resume, Forms) {
  const auto asked = [&](std::string_view more) { return fmt::format(R"({{{},"max_tokens":60,{}}})", code, more); };
  const std::string schema =
      R"({"type":"object","properties":{"name":{"type":"string","maxLength":6},"kind":{"enum":["alpha","beta"]},
          "size":{"type":"integer","minimum":0,"maximum":99}},"required":["name","kind","size"],
          "additionalProperties":false})";
  for (const Case& one : std::vector<Case>{
           {"characters of several tokens", "", asked(R"("guided_regex":"[\\u00e9-\\u00fc]{4,9}","seed":1)")},
           {"emoji", "", asked(R"("guided_regex":"(😀|🚀|日){3,5}!","seed":2)")},
           {"forced runs", "", asked(R"("guided_choice":["the first of all choices","the second one"],"seed":3)")},
           {"schema", "", asked(R"("seed":4,"guided_json":)" + schema)},
           {"schema with probabilities", "", asked(R"("seed":5,"logprobs":1,"guided_json":)" + schema)},
           {"cut by the limit", "", asked(R"("seed":6,"guided_regex":"[a-z ]{500}","max_tokens":12)")}}) {
    expect_seamless({one.name, "/v1/completions", one.body, one.choices});
  }
}

const std::string find_tool = R"("tools":[{"type":"function","function":{"name":"find","parameters":{"type":"object",
    "properties":{"query":{"type":"string","maxLength":8},"deep":{"type":"boolean"}},"required":["query","deep"],
    "additionalProperties":false}}}])";

TEST_F(Resume, Chat) {
  const std::string said = R"("messages":[{"role":"user","content":"import os\n\ndef main():\n"}],"stream":true)";
  const auto asked = [&](std::string_view more) { return fmt::format(R"({{{},{}}})", said, more); };
  for (const Case& one : std::vector<Case>{
           {"plain", "", asked(R"("max_tokens":24,"temperature":0,"stream_options":{"include_usage":true})")},
           {"choices", "", asked(R"("max_tokens":8,"n":3)"), 3},
           {"probabilities", "", asked(R"("max_tokens":12,"logprobs":true,"top_logprobs":2,"n":2)"), 2},
           {"stop", "", asked(R"("max_tokens":40,"temperature":0,"stop":["n"])")},
           {"calls", "",
            asked(R"("max_tokens":120,"tool_choice":"required","stream_options":{"include_usage":true},)" + find_tool)},
           {"calls cut off", "", asked(R"("max_tokens":24,"tool_choice":"required",)" + find_tool)},
           {"one call", "",
            asked(R"("max_tokens":90,"n":2,"tool_choice":{"type":"function","function":{"name":"find"}},)" + find_tool),
            2},
           {"calls or text", "", asked(R"("max_tokens":16,)" + find_tool)},
           {"form", "",
            asked(R"("max_tokens":60,"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":
                     {"type":"object","properties":{"a":{"type":"string","maxLength":9}},"required":["a"],
                      "additionalProperties":false}}})")}}) {
    expect_seamless({one.name, "/v1/chat/completions", one.body, one.choices});
  }
}

TEST_F(Resume, Responses) {
  const std::string flat = R"("tools":[{"type":"function","name":"find","strict":true,"parameters":{"type":"object",
    "properties":{"query":{"type":"string","maxLength":8}},"required":["query"],"additionalProperties":false}}])";
  const auto asked = [&](std::string_view more) {
    return fmt::format(R"({{"input":"import os\n\ndef main():\n","stream":true,{}}})", more);
  };
  for (const Case& one : std::vector<Case>{
           {"plain", "", asked(R"("max_output_tokens":24,"temperature":0)")},
           {"not kept", "", asked(R"("max_output_tokens":9,"store":false)")},
           {"probabilities", "",
            asked(R"("max_output_tokens":12,"include":["message.output_text.logprobs"],"top_logprobs":2)")},
           {"calls", "", asked(R"("max_output_tokens":120,"tool_choice":"required",)" + flat)},
           {"calls or text", "", asked(R"("max_output_tokens":16,)" + flat)},
           {"form", "", asked(R"("max_output_tokens":60,"text":{"format":{"type":"json_object"}})")}}) {
    expect_seamless({one.name, "/v1/responses", one.body, one.choices});
  }
}

TEST_F(Resume, ResponsesAreKeptUnderTheirIdWhereTheyEnd) {
  const std::string body = R"({"input":"import os\n","stream":true,"max_output_tokens":12})";
  const auto prefixes = test::prefixes_of(marked("/v1/responses", body), 1);
  const std::string path = "/v1/responses/" + std::string(prefixes[0].open.at("id").as_string());
  EXPECT_EQ(there_.get(path).status, 404);
  const auto rest =
      there_.post("/v1/responses", test::with_member(body, "tidemill_resume", prefixes[3].resume()), resumable);
  ASSERT_EQ(rest.status, 200);
  object here = parse_object(client_.get(path));
  object there = parse_object(there_.get(path));
  EXPECT_EQ(here.at("output"), there.at("output"));
  EXPECT_EQ(here.at("usage"), there.at("usage"));
}

TEST_F(Resume, Messages) {
  const std::string said = R"("messages":[{"role":"user","content":"import os\n\ndef main():\n"}],"stream":true)";
  const auto asked = [&](std::string_view more) { return fmt::format(R"({{{},{}}})", said, more); };
  const std::string find = R"("tools":[{"name":"find","input_schema":{"type":"object",
    "properties":{"query":{"type":"string","maxLength":8}},"required":["query"],"additionalProperties":false}}])";
  for (const Case& one :
       std::vector<Case>{{"plain", "", asked(R"("max_tokens":24,"temperature":0)")},
                         {"drawn", "", asked(R"("max_tokens":16,"temperature":1)")},
                         {"stop", "", asked(R"("max_tokens":40,"temperature":0,"stop_sequences":["n"])")},
                         {"calls", "", asked(R"("max_tokens":120,"tool_choice":{"type":"any"},)" + find)},
                         {"calls or text", "", asked(R"("max_tokens":16,)" + find)}}) {
    expect_seamless({one.name, "/v1/messages", one.body, one.choices});
  }
}

TEST_F(Resume, MarksAreThereOnlyWhenAskedFor) {
  const std::string body = "{" + code + R"(,"max_tokens":4})";
  EXPECT_EQ(client_.post("/v1/completions", body).body.find(": tidemill"), std::string::npos);
  EXPECT_EQ(client_.post("/v1/completions", body, {{"x-tidemill-resumable", "0"}}).body.find(": tidemill"),
            std::string::npos);
  const auto whole = client_.post("/v1/completions", R"({"prompt":"x","max_tokens":4})", resumable);
  EXPECT_EQ(whole.body.find("tidemill"), std::string::npos);
  // A stream that goes on may do so without.
  const auto prefixes = test::prefixes_of(marked("/v1/completions", body), 1);
  const auto rest = client_.post("/v1/completions", test::with_member(body, "tidemill_resume", prefixes[2].resume()));
  EXPECT_EQ(rest.status, 200);
  EXPECT_EQ(rest.body.find(": tidemill"), std::string::npos);
}

TEST_F(Resume, TakesFewSteps) {
  const std::string body = "{" + code + R"(,"max_tokens":200,"temperature":0,"ignore_eos":true})";
  const auto prefixes = test::prefixes_of(marked("/v1/completions", body), 1);
  const MarkedPrefix& late = prefixes[prefixes.size() - 3];
  const auto left = 200 - static_cast<int64_t>(late.tokens[0].size());
  const engine::EngineStats before = other_->engine().stats();
  there_.post("/v1/completions", test::with_member(body, "tidemill_resume", late.resume()), resumable);
  test::wait_until([] { return other_->engine().idle(); }, "the end");
  const engine::EngineStats after = other_->engine().stats();
  EXPECT_EQ(static_cast<int64_t>(after.generated_tokens - before.generated_tokens), left);
  EXPECT_LE(static_cast<int64_t>(after.steps - before.steps), left + 1);
}

// The template's clock stands where it stood when the stream began.
TEST(ResumeClock, IsTheStreamsOwn) {
  const test::TemporaryFolder folder;
  const auto path = folder.path() / "dated.jinja";
  std::ofstream(path) << "{{ strftime_now('%Y-%m-%d %H:%M:%S') }}{% for m in messages %}{{ m.content }}{% endfor %}";
  auto options = test::small_options();
  options.chat_template = path.string();
  test::LiveServer live(options);
  test::Client client = live.client();
  const std::string body = R"({"messages":[{"role":"user","content":"x = "}],"max_tokens":6,"stream":true})";
  const auto response = client.post("/v1/chat/completions", body, resumable);
  MarkedPrefix prefix = test::prefixes_of(response.body, 1)[2];
  EXPECT_EQ(client.post("/v1/chat/completions", test::with_member(body, "tidemill_resume", prefix.resume())).status,
            200);
  prefix.open.as_object()["created"] = 1000;
  const auto refused = client.post("/v1/chat/completions", test::with_member(body, "tidemill_resume", prefix.resume()));
  EXPECT_EQ(refused.status, 400);
  EXPECT_EQ(test::error_of(refused).param, "tidemill_resume.open.prompt");
}

TEST(ResumeModel, MustBeTheSame) {
  auto options = test::small_options();
  test::LiveServer one(options);
  options.kv_type = "f32";
  test::LiveServer other(options);
  const std::string body = "{" + code + R"(,"max_tokens":6})";
  const auto response = one.client().post("/v1/completions", body, resumable);
  const MarkedPrefix prefix = test::prefixes_of(response.body, 1)[2];
  const auto refused =
      other.client().post("/v1/completions", test::with_member(body, "tidemill_resume", prefix.resume()));
  EXPECT_EQ(refused.status, 400);
  EXPECT_EQ(test::error_of(refused).param, "tidemill_resume.open.model");
}

class ResumeRefusals : public test::OnSharedServer<ResumeRefusals> {
 protected:
  void SetUp() override {
    const auto response = client_.post("/v1/completions", body_, resumable);
    const auto prefixes = test::prefixes_of(response.body, 2);
    // One in which both choices have begun.
    const auto begun = std::find_if(prefixes.begin(), prefixes.end(),
                                    [](const MarkedPrefix& p) { return !p.tokens[0].empty() && !p.tokens[1].empty(); });
    ASSERT_NE(begun, prefixes.end());
    good_ = begun->resume();
    ASSERT_EQ(send(good_).status, 200);
  }
  wire::HttpResponse send(const object& resume, std::string body = body_) {
    return client_.post("/v1/completions", test::with_member(body, "tidemill_resume", resume), resumable);
  }
  void expect_refused(const object& resume, const std::string& param, std::string_view words) {
    const auto response = send(resume);
    EXPECT_EQ(response.status, 400) << response.body;
    const test::ErrorShown error = test::error_of(response);
    EXPECT_EQ(error.param, param) << error.message;
    EXPECT_NE(error.message.find(words), std::string::npos) << error.message;
  }

  inline static const std::string body_ = "{" + code + R"(,"max_tokens":8,"n":2,"guided_regex":"[a-z]{3,9}"})";
  object good_;
};

TEST_F(ResumeRefusals, OfTokens) {
  const auto with_tokens = [&](value tokens) {
    object resume = good_;
    resume["tokens"] = std::move(tokens);
    return resume;
  };
  const array first = good_.at("tokens").at(0).as_array();
  const std::string param = "tidemill_resume.tokens";
  array only;
  only.push_back(first);
  EXPECT_EQ(send(with_tokens(only)).status, 200) << "the other has none";
  expect_refused(with_tokens({first, first, first}), param, "of 3 choices");
  expect_refused(with_tokens(nullptr), param, "required");
  expect_refused(with_tokens("x"), param, "must be an array");
  expect_refused(with_tokens({first, "x"}), param + "[1]", "array of token ids");
  expect_refused(with_tokens({first, array{"x"}}), param + "[1]", "number");
  expect_refused(with_tokens({first, array{-1}}), param + "[1]", "-1");
  expect_refused(with_tokens({first, array{1'000'000}}), param, "1000000");
  array long_one;
  for (int i = 0; i < 9; ++i)
    long_one.push_back(first.at(0));
  expect_refused(with_tokens({first, long_one}), param, "may have 8 at most");
  const object newline = parse_object(client_.post("/tokenize", R"({"prompt":"\n","add_special_tokens":false})"));
  expect_refused(with_tokens({first, newline.at("tokens")}), param, "does not allow");
}

TEST_F(ResumeRefusals, OfEverythingElse) {
  const auto changed = [&](std::string_view part, std::string_view name, value to) {
    object resume = good_;
    resume.at(part).as_object()[name] = std::move(to);
    return resume;
  };
  const auto without = [&](std::string_view name) {
    object resume = good_;
    resume.erase(name);
    return resume;
  };
  expect_refused(without("open"), "tidemill_resume.open", "required");
  expect_refused(without("state"), "tidemill_resume.state", "missing");
  expect_refused(changed("open", "v", 2), "tidemill_resume.open.v", "version 1");
  expect_refused(changed("open", "id", "chatcmpl-abc"), "tidemill_resume.open.id", "cmpl-");
  expect_refused(changed("open", "id", "cmpl-\n"), "tidemill_resume.open.id", "no id");
  expect_refused(changed("open", "id", 7), "tidemill_resume.open.id", "string");
  expect_refused(changed("open", "created", "now"), "tidemill_resume.open.created", "integer");
  expect_refused(changed("open", "seed", nullptr), "tidemill_resume.open.seed", "missing");
  expect_refused(changed("open", "seed", "x"), "tidemill_resume.open.seed", "integer");
  expect_refused(changed("open", "model", "other"), "tidemill_resume.open.model", "other");
  expect_refused(changed("open", "prompt", "0"), "tidemill_resume.open.prompt", "another prompt");
  expect_refused(changed("state", "cached", -1), "tidemill_resume.state.cached", "integer");
  expect_refused(changed("state", "cached", 1000), "tidemill_resume.state.cached", "1000");
  expect_refused(changed("open", "created", 10'000'000'000), "tidemill_resume.open.created", "integer");
  expect_refused(changed("state", "ended", array{2}), "tidemill_resume.state.ended", "no choice 2");
  expect_refused(changed("state", "ended", array{0}), "tidemill_resume.state.ended", "without a token");
  expect_refused(changed("state", "ended", "x"), "tidemill_resume.state.ended", "array");
  const auto not_streamed = send(good_, R"({"prompt":"x","max_tokens":8,"n":2})");
  EXPECT_EQ(not_streamed.status, 400);
  EXPECT_EQ(test::error_of(not_streamed).param, "tidemill_resume");
  const auto no_object = client_.post("/v1/completions", test::with_member(body_, "tidemill_resume", 7));
  EXPECT_EQ(no_object.status, 400);
  EXPECT_EQ(test::error_of(no_object).param, "tidemill_resume");
  EXPECT_EQ(client_.post("/v1/completions", test::with_member(body_, "tidemill_resume", nullptr)).status, 200);
}

}  // namespace
}  // namespace tidemill
