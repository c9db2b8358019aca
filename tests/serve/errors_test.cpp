// What is refused, with which status, and what the answer says.
#include <array>
#include <string>
#include <vector>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "live_server.hpp"
#include "temporary_folder.hpp"

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

TEST_F(Errors, NameTheParameter) {
  struct Case {
    std::string path;
    std::string body;
    int status;
    std::string param;
    std::string code;
  };
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
      {"/v1/embeddings", R"({"input":""})", 400, "input", ""},
      {"/v1/embeddings", R"({"input":["x",""]})", 400, "input[1]", ""},
      {chat, R"({"messages":[{"role":"user","content":"x"}],"user":3})", 400, "user", ""},
      {chat, R"({"messages":[{"role":"user","content":"x"}],"metadata":{"k":3}})", 400, "metadata.k", ""},
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

// What a template refuses is told with the message that it refuses.
TEST(TemplateErrors, NameTheMessage) {
  const test::TemporaryFolder folder;
  const std::filesystem::path file =
      folder.put("picky.jinja",
                 "{% for m in messages %}{% if m.content == 'no' %}{{ raise_exception('not this') }}{% endif %}"
                 "{{ m.content }}{% endfor %}");
  serve::ServeOptions options = test::small_options();
  options.chat_template = file.string();
  test::LiveServer live(options);
  test::Client client = live.client();
  const auto post = [&](const std::vector<std::string>& contents, std::string_view path) {
    test::json::array messages;
    for (const std::string& content : contents)
      messages.push_back(test::json::object{{"role", "user"}, {"content", content}});
    const test::json::object body{{"messages", messages}, {"max_tokens", 1}};
    return test::error_of(client.post(path, test::json::serialize(body)));
  };
  for (const std::string_view path : {"/v1/chat/completions", "/tokenize"}) {
    for (size_t at = 1; at < 6; ++at) {
      std::vector<std::string> contents(6, "yes");
      contents[at] = "no";
      const auto shown = post(contents, path);
      EXPECT_EQ(shown.param, "messages[" + std::to_string(at) + "]");
      EXPECT_TRUE(shown.message.starts_with(shown.param + ": ")) << shown.message;
      EXPECT_NE(shown.message.find("not this"), std::string::npos) << shown.message;
    }
    EXPECT_EQ(post({"no", "yes"}, path).param, "messages") << "nothing is taken";
    EXPECT_EQ(post({"no"}, path).param, "messages");
  }
}

// In the words of the request, whose items and blocks are not the template's messages one by one.
TEST(TemplateErrors, NameTheItemOrTheBlock) {
  const test::TemporaryFolder folder;
  const std::filesystem::path file = folder.put(
      "picky.jinja",
      "{% for m in messages %}{% if 'refuse' in (m.content or '') %}{{ raise_exception('not this') }}{% endif %}"
      "{{ m.content }}{% for c in m.tool_calls or [] %}{{ c.function.name }}{% endfor %}{% endfor %}");
  serve::ServeOptions options = test::small_options();
  options.chat_template = file.string();
  test::LiveServer live(options);
  test::Client client = live.client();
  const auto refused = [&](std::string_view path, std::string_view body, std::string_view place) {
    const auto shown = test::error_of(client.post(path, body));
    EXPECT_TRUE(shown.message.starts_with(std::string(place) + ": the model's chat template refuses the messages"))
        << shown.message;
    EXPECT_NE(shown.message.find("not this"), std::string::npos) << shown.message;
    return shown.param;
  };
  constexpr std::string_view responses = "/v1/responses";
  EXPECT_EQ(refused(responses, R"({"max_output_tokens":1,"instructions":"yes","input":[
      {"role":"user","content":"yes"},
      {"type":"reasoning","content":[{"type":"reasoning_text","text":"hm"}],"summary":[]},
      {"type":"function_call","call_id":"a","name":"f","arguments":"{}"},
      {"type":"function_call_output","call_id":"a","output":"refuse"},{"role":"user","content":"yes"}]})",
                    "input[3]"),
            "input[3]");
  EXPECT_EQ(refused(responses, R"({"max_output_tokens":1,"input":[{"role":"user","content":"yes"},
      {"role":"assistant","content":"yes"},{"role":"user","content":"refuse"}]})",
                    "input[2]"),
            "input[2]");
  constexpr std::string_view messages = "/v1/messages";
  refused(messages, R"({"max_tokens":1,"system":"yes","messages":[{"role":"user","content":"yes"},
      {"role":"assistant","content":[{"type":"text","text":"yes"},{"type":"tool_use","id":"a","name":"f","input":{}}]},
      {"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":"yes"},{"type":"text","text":"refuse"}]}]})",
          "messages[2].content[1]");
  refused(messages, R"({"max_tokens":1,"messages":[{"role":"user","content":"yes"},
      {"role":"assistant","content":"refuse"},{"role":"user","content":"yes"}]})",
          "messages[1]");
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
  EXPECT_EQ(test::error_of(deep).code, "unsupported");
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

constexpr int64_t short_context = 96;

class ShortContext : public test::OnSharedServer<ShortContext> {
 public:
  static serve::ServeOptions server_options() {
    auto options = test::small_options();
    options.max_context = short_context;
    return options;
  }

 protected:
  // The error of a prompt that is too long, which names the limit that holds.
  test::ErrorShown overflow(std::string_view path, const std::string& body) {
    const auto response = client_.post(path, body);
    EXPECT_EQ(response.status, 400) << response.body;
    test::ErrorShown error = test::error_of(response);
    EXPECT_NE(error.message.find(fmt::format("the context takes {}", short_context)), std::string::npos)
        << error.message;
    return error;
  }
};

std::string words(int count) {
  std::string text;
  for (int i = 0; i < count; ++i)
    text += "x1 ";
  return text;
}

// Whether the context could hold a prompt of its length or not.
TEST_F(ShortContext, IsTheLimitThatErrorsName) {
  std::string tools;
  for (int i = 0; i < 200; ++i) {
    tools += fmt::format(R"({}{{"type":"function","function":{{"name":"f{}","description":"{}"}}}})", i == 0 ? "" : ",",
                         i, words(20));
  }
  const std::string ask = R"("messages":[{"role":"user","content":"x"}])";
  const auto expect_count = [&](const test::ErrorShown& error, const std::string& body) {
    const int64_t tokens = test::parse_object(client_.post("/tokenize", body)).at("count").as_int64();
    EXPECT_NE(error.message.find(fmt::format("the prompt has {} tokens", tokens)), std::string::npos) << error.message;
  };
  const std::string with_tools = "{" + ask + R"(,"tools":[)" + tools + "]}";
  expect_count(overflow("/v1/chat/completions", with_tools), with_tools);
  for (const int count : {100, 20'000}) {
    const std::string text = words(count);
    const std::string prompt = R"({"prompt":")" + text + R"("})";
    const test::ErrorShown counted = overflow("/v1/completions", prompt);
    EXPECT_EQ(counted.param, "prompt");
    expect_count(counted, prompt);
    EXPECT_EQ(overflow("/v1/embeddings", R"({"input":")" + text + R"("})").param, "input");
    EXPECT_EQ(overflow("/v1/responses", R"({"input":")" + text + R"("})").param, "input");
    EXPECT_EQ(
        overflow("/v1/messages", R"({"max_tokens":1,"messages":[{"role":"user","content":")" + text + R"("}]})").type,
        "invalid_request_error");
  }
}

TEST_F(ShortContext, WhatStandsBeforeTheConversationIsNamed) {
  for (const int count : {100, 20'000}) {
    const std::string text = words(count);
    for (const std::string truncation : {"auto", "disabled"}) {
      const std::string body = fmt::format(R"("truncation":"{}")", truncation);
      const auto error =
          overflow("/v1/responses", fmt::format(R"({{{},"instructions":"{}","input":"x"}})", body, text));
      EXPECT_EQ(error.param, "instructions") << error.message;
      EXPECT_NE(error.message.find("'instructions' alone has "), std::string::npos) << error.message;
      EXPECT_EQ(error.code, "context_length_exceeded");
      EXPECT_EQ(overflow("/v1/responses", fmt::format(R"({{{},"instructions":"Hi","input":"{}"}})", body, text)).param,
                "input");
    }
    const auto error =
        overflow("/v1/messages",
                 fmt::format(R"({{"max_tokens":1,"system":"{}","messages":[{{"role":"user","content":"x"}}]}})", text));
    EXPECT_NE(error.message.find("'system' alone has "), std::string::npos) << error.message;
  }
}

// Clients of agents ask for more than there is; they get what there is.
TEST_F(ShortContext, EndsAnswersThatMayBeLonger) {
  const std::string said = R"("temperature":0,"messages":[{"role":"user","content":"import os\n\ndef main():\n"}])";
  const auto chat = test::parse_object(
      client_.post("/v1/chat/completions", "{" + said + R"(,"max_tokens":1000000,"ignore_eos":true})"));
  EXPECT_EQ(chat.at("choices").at(0).at("finish_reason"), "length");
  EXPECT_EQ(chat.at("usage").at("total_tokens"), short_context);
  const auto completion = test::parse_object(client_.post(
      "/v1/completions", R"({"prompt":"import os\n","max_tokens":1000000,"temperature":0,"ignore_eos":true})"));
  EXPECT_EQ(completion.at("choices").at(0).at("finish_reason"), "length");
  EXPECT_EQ(completion.at("usage").at("total_tokens"), short_context);
  const auto message = test::parse_object(client_.post("/v1/messages", "{" + said + R"(,"max_tokens":1000000})"));
  EXPECT_EQ(message.at("stop_reason"), "model_context_window_exceeded");
  const auto response = test::parse_object(client_.post(
      "/v1/responses", R"({"temperature":0,"max_output_tokens":1000000,"input":"import os\n\ndef main():\n"})"));
  EXPECT_EQ(response.at("status"), "incomplete");
  EXPECT_EQ(response.at("incomplete_details").at("reason"), "max_output_tokens");
  EXPECT_EQ(response.at("usage").at("total_tokens"), short_context);
}

TEST_F(Errors, CallsAndResultsThatDoNotBelongTogether) {
  const std::string user = R"({"role":"user","content":"x"})";
  for (const auto& [path, body, words_of_it] : std::vector<std::array<std::string, 3>>{
           {"/v1/chat/completions",
            R"({"messages":[)" + user + R"(,{"role":"tool","tool_call_id":"a","content":"A"}]})", "tool_calls"},
           {"/v1/chat/completions",
            R"({"messages":[)" + user + R"(,{"role":"assistant","tool_calls":[{"id":"a","type":"function",
               "function":{"name":"f","arguments":"{}"}}]}]})",
            "\"a\""},
           {"/v1/responses", R"({"input":[{"type":"function_call","call_id":"a","name":"f","arguments":"{}"}]})",
            "\"a\""},
           {"/v1/messages",
            R"({"max_tokens":1,"messages":[)" + user +
                R"(,{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"f","input":{}}]},)" + user +
                "]}",
            "\"a\""}}) {
    const auto response = client_.post(path, body);
    EXPECT_EQ(response.status, 400) << path << " " << body;
    EXPECT_NE(test::error_of(response).message.find(words_of_it), std::string::npos) << response.body;
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
