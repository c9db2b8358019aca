// Forms of the output beside tools, and stop strings in what may look like a call: whole and streamed alike. The form
// says what the model writes, so that what is made of it can be told.
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "live_server.hpp"
#include "temporary_folder.hpp"

namespace tidemill {
namespace {

using test::parse_object;
using test::json::object;

std::string as_json(std::string_view text) {
  return test::json::serialize(test::json::value(test::json::string(text)));
}

// What a chat answers, as one line: content, calls, the reason of its end.
std::string told(std::string_view content, const std::vector<std::string>& calls, std::string_view finish) {
  std::string line(content);
  for (const std::string& call : calls)
    line += " +" + call;
  return line + " (" + std::string(finish) + ")";
}

std::string text_or_none(const test::json::value* value) {
  return value != nullptr && value->is_string() ? std::string(value->get_string()) : std::string();
}

std::string whole(test::Client& client, const std::string& body) {
  const auto response = client.post("/v1/chat/completions", "{" + body + "}");
  if (response.status != 200) return test::error_of(response).message;
  const object answer = parse_object(response);
  const object& choice = answer.at("choices").at(0).as_object();
  const object& message = choice.at("message").as_object();
  std::vector<std::string> calls;
  if (const auto* list = message.if_contains("tool_calls")) {
    for (const auto& call : list->as_array()) {
      calls.push_back(text_or_none(&call.at("function").at("name")) +
                      text_or_none(&call.at("function").at("arguments")));
    }
  }
  return told(text_or_none(message.if_contains("content")), calls, choice.at("finish_reason").as_string());
}

std::string streamed(test::Client& client, const std::string& body) {
  std::string content;
  std::vector<std::string> calls;
  std::string finish;
  for (const std::string& event : client.stream("/v1/chat/completions", "{" + body + R"(,"stream":true})")) {
    if (event == "[DONE]") continue;
    const object chunk = parse_object(event);
    if (const auto* error = chunk.if_contains("error")) return text_or_none(&error->at("message"));
    const object& choice = chunk.at("choices").at(0).as_object();
    const object& delta = choice.at("delta").as_object();
    content += text_or_none(delta.if_contains("content"));
    if (const auto* pieces = delta.if_contains("tool_calls")) {
      const object& function = pieces->at(0).at("function").as_object();
      if (pieces->at(0).as_object().contains("id")) calls.emplace_back();
      calls.back() += text_or_none(function.if_contains("name")) + text_or_none(function.if_contains("arguments"));
    }
    if (choice.at("finish_reason").is_string()) finish = text_or_none(&choice.at("finish_reason"));
  }
  return told(content, calls, finish);
}

class FormatServer {
 public:
  explicit FormatServer(std::string_view format, std::string_view reasoning = "") : live_(options(format, reasoning)) {}

  std::string answer(std::string_view more) {
    const std::string body =
        R"("messages":[{"role":"user","content":"x"}],"temperature":0,"max_tokens":300,)" + std::string(more);
    const std::string once = whole(client_, body);
    EXPECT_EQ(streamed(client_, body), once) << more;
    return once;
  }
  test::Client& client() { return client_; }

 private:
  static serve::ServeOptions options(std::string_view format, std::string_view reasoning) {
    serve::ServeOptions options = test::small_options();
    options.tool_format = format;
    options.reasoning_format = reasoning;
    return options;
  }

  test::LiveServer live_;
  test::Client client_ = live_.client();
};

std::string tools(bool strict) {
  return fmt::format(R"("tools":[{{"type":"function","function":{{"name":"f","strict":{},"parameters":
      {{"type":"object","properties":{{"x":{{"type":"integer","minimum":0,"maximum":9}}}},"required":["x"],
        "additionalProperties":false}}}}}}])",
                     strict);
}

std::string only(std::string_view text) {
  return R"(,"guided_choice":[)" + as_json(text) + "]";
}

// Has the model write `text` where it might write a call: what is no part of it is very unlikely, and what begins calls
// unless it begins with that.
std::string rather(std::string_view text) {
  const auto model = test::load_nano_coder(test::small_options());
  object bias;
  for (size_t i = 0; i < model->tokenizer().vocabulary().pieces.size(); ++i) {
    const std::string_view piece = model->tokenizer().piece_bytes(static_cast<text::Token>(i));
    const bool begins_call = piece.starts_with('<') && !text.starts_with('<');
    if (begins_call || text.find(piece) == std::string_view::npos) bias[std::to_string(i)] = -100;
  }
  return R"(,"logit_bias":)" + test::json::serialize(bias);
}

const std::string in_llama = R"({"name": "f", "parameters": {"x": 1}})";
const std::string in_hermes = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 1}}\n</tool_call>";

// With "none" nothing is a call, whatever the form has the model write.
TEST(FormsAndTools, NothingIsACallWithNone) {
  const std::string none = R"(,"tool_choice":"none")";
  for (const auto& [format, text] : std::vector<std::pair<std::string, std::string>>{
           {"llama3_json", in_llama},
           {"llama3_json", "[" + in_llama + "]"},
           {"llama3_json", "<|python_tag|>" + in_llama},
           {"hermes", "see " + in_hermes + " ok"},
           {"functionary", "<function=f>{\"x\": 1}</function>"},
           {"mistral", "[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {\"x\": 1}}]"}}) {
    FormatServer server(format);
    for (const bool strict : {false, true})
      EXPECT_EQ(server.answer(tools(strict) + none + only(text)), text + " (stop)") << format;
  }
  FormatServer llama("llama3_json");
  const std::string schema = R"({"type":"object","properties":{"name":{"const":"f"},"parameters":{"const":{"x":1}}},)"
                             R"("required":["name","parameters"],"additionalProperties":false})";
  const std::string said = llama.answer(tools(false) + none + R"(,"guided_json":)" + schema);
  EXPECT_TRUE(said.starts_with(R"({"name":)")) << said;
  const std::string flat = R"("tools":[{"type":"function","name":"f"}],"tool_choice":"none")";
  const object response = parse_object(llama.client().post(
      "/v1/responses",
      "{" + flat + R"(,"input":"x","text":{"format":{"type":"json_schema","name":"s","schema":)" + schema + "}}}"));
  EXPECT_EQ(response.at("output").as_array().size(), 1U);
  EXPECT_EQ(response.at("output").at(0).at("type"), "message");
  const object message = parse_object(llama.client().post(
      "/v1/messages",
      R"({"messages":[{"role":"user","content":"x"}],"max_tokens":99,"tools":[{"name":"f","input_schema":{"type":"object"}}],
          "tool_choice":{"type":"none"},"output_config":{"format":{"type":"json_schema","schema":)" +
          schema + "}}}"));
  EXPECT_EQ(message.at("content").as_array().size(), 1U);
  EXPECT_EQ(message.at("content").at(0).at("type"), "text");
}

// With "auto" the answer is in the form, or is calls: what the form's content holds is none.
TEST(FormsAndTools, ContentInAFormHoldsNoCallWithAuto) {
  FormatServer hermes("hermes");
  const std::string said = "see " + in_hermes + " ok";
  for (const bool strict : {false, true}) {
    EXPECT_EQ(hermes.answer(tools(strict) + rather(said) + only(said)), said + " (stop)");
    const std::string schema =
        R"({"type":"object","properties":{"a":{"const":)" + as_json(said) + R"(}},"required":["a"]})";
    EXPECT_EQ(hermes.answer(tools(strict) + rather("{" + said) + R"(,"guided_json":)" + schema).substr(0, 5),
              "{\"a\":");
  }
}

// Arguments of strict tools keep their schema, whatever the form would let the model write.
TEST(FormsAndTools, StrictToolsStayStrictUnderAForm) {
  FormatServer hermes("hermes");
  const std::string as_text = R"(<tool_call>{"name": "f", "arguments": "{\"y\": 2}"}</tool_call>)";
  const std::string wrong = R"(<tool_call>{"name": "f", "arguments": {"y": 2}}</tool_call>)";
  for (const std::string& text : {as_text, wrong}) {
    EXPECT_TRUE(hermes.answer(tools(false) + rather(text) + only(text)).starts_with(" +f{")) << "any object is fine";
    for (const std::string& choices : {as_json(text), as_json("fine") + "," + as_json(text)}) {
      const std::string called = hermes.answer(tools(true) + rather(text) + R"(,"guided_choice":[)" + choices + "]");
      EXPECT_TRUE(called.starts_with(R"( +f{"x":)") || called == "fine (stop)") << called;
    }
  }
  FormatServer llama("llama3_json");
  const std::string bare = R"({"name": "f", "parameters": {"y": 2}})";
  const std::string loose = llama.answer(tools(false) + rather(bare) + only(bare));
  EXPECT_NE(loose.find(" +f{"), std::string::npos) << loose;
  EXPECT_EQ(llama.answer(tools(true) + rather(bare) + only(bare)), bare + " (stop)")
      << "calls begin with their tag then";
}

// Of a tool that is not strict, whose schema no grammar can follow to the letter.
TEST(FormsAndTools, CallsThatMustComeKeepWhatTheyCanOfASchema) {
  const std::string tool = R"("tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object",
      "properties":{"a":{"type":"integer","minimum":5,"maximum":9},
                    "b":{"type":"array","items":{"type":"null"},"maxItems":2,"contains":{"type":"null"}}},
      "required":["a"],"additionalProperties":false}}}],"parallel_tool_calls":false,"tool_choice":)";
  for (const char* format : {"hermes", "qwen3_coder", "glm"}) {
    FormatServer server(format);
    for (const char* choice : {R"("required")", R"({"type":"function","function":{"name":"f"}})"}) {
      const std::string called = server.answer(tool + choice);
      const std::string begin = R"( +f{"a":)";
      ASSERT_TRUE(called.starts_with(begin)) << format << ": " << called;
      const size_t digit = called.find_first_not_of(' ', begin.size());
      EXPECT_TRUE(called[digit] >= '5' && called[digit] <= '9') << called;
      EXPECT_TRUE(called[digit + 1] == '}' || called[digit + 1] == ',') << called;
    }
  }
}

// Types in other words than JSON Schema's, and words that say nothing of types, beside which the rest holds.
TEST(FormsAndTools, CallsThatMustComeKeepWhatStandsBesideWordsForTypes) {
  const std::pair<const char*, const char*> properties[] = {
      {R"({"type":"STRING","enum":["pq"]})", R"("pq")"},
      {R"({"type":"any","enum":["pq"]})", R"("pq")"},
      {R"({"type":"INTEGER","minimum":5,"maximum":5})", "5"},
      {R"({"type":"float","minimum":5,"maximum":5})", "5"},
      {R"({"type":"list","items":{"type":"any","enum":[true]},"minItems":1,"maxItems":1})", "[true]"}};
  for (const char* format : {"hermes", "qwen3_coder", "glm"}) {
    FormatServer server(format);
    for (const auto& [property, value] : properties) {
      std::string called = server.answer(
          R"("tools":[{"type":"function","function":{"name":"f","parameters":{"type":"OBJECT","properties":{"a":)" +
          std::string(property) + R"(},"required":["a"],"additionalProperties":false}}}],
          "parallel_tool_calls":false,"tool_choice":"required")");
      std::erase(called, ' ');
      EXPECT_TRUE(called.starts_with(R"(+f{"a":)" + std::string(value))) << format << property << ": " << called;
    }
  }
}

// What would be read as a strict tool's call and need not follow its schema is no text of a grammar.
TEST(FormsAndTools, AGrammarThatMayBeginACallIsRefusedBesideStrictTools) {
  FormatServer hermes("hermes");
  const auto answer = [&](const std::string& more) {
    return hermes.client().post("/v1/chat/completions",
                                R"({"messages":[{"role":"user","content":"x"}],"max_tokens":20,)" + more + "}");
  };
  const std::string any = R"(,"grammar":"root ::= [^\\n]{1,20}")";
  const auto refused = answer(tools(true) + any);
  EXPECT_EQ(refused.status, 400) << refused.body;
  const test::ErrorShown error = test::error_of(refused);
  EXPECT_EQ(error.code, "unsupported");
  EXPECT_EQ(error.param, "grammar");
  EXPECT_NE(error.message.find("\"<tool_call>\""), std::string::npos) << error.message;
  EXPECT_EQ(answer(tools(false) + any).status, 200);
  EXPECT_EQ(answer(tools(true) + any + R"(,"tool_choice":"none")").status, 200);
  EXPECT_EQ(answer(tools(true) + any + R"(,"tool_choice":"required")").status, 200);
  EXPECT_EQ(answer(tools(true) + R"(,"grammar":"root ::= [a-z]{1,9}")").status, 200);
}

TEST(FormsAndTools, APatternThatContradictsItselfIsNamed) {
  FormatServer hermes("hermes");
  const auto refused = hermes.client().post(
      "/v1/chat/completions", R"({"messages":[{"role":"user","content":"x"}],"guided_regex":"(?=.*[A-Z])[a-z]+"})");
  EXPECT_EQ(refused.status, 400) << refused.body;
  const test::ErrorShown error = test::error_of(refused);
  EXPECT_EQ(error.param, "guided_regex");
  EXPECT_NE(error.message.find(R"(the pattern "(?=.*[A-Z])[a-z]+" looks ahead for contradicts the rest of it)"),
            std::string::npos)
      << error.message;
}

// What turns out to be no call ends at a stop string.
TEST(FormsAndTools, StopStringsCountInAllContent) {
  const std::string none = R"(,"tool_choice":"none")";
  const std::string stop = R"(,"stop":["END"])";
  for (const std::string format : {"llama3_json", "hermes", "functionary", "mistral"}) {
    FormatServer server(format);
    for (const std::string text : {R"({"k": "key", "body": "alpha END beta"})", "[alpha END beta]",
                                   "alpha <tool_call END beta", "alpha <tool_call>hm END beta"}) {
      const std::string before = text.substr(0, text.find("END")) + " (stop)";
      for (const std::string& choice : {rather(text), none})
        EXPECT_EQ(server.answer(tools(false) + choice + stop + only(text)), before) << format;
    }
  }
  FormatServer hermes("hermes");
  const std::string behind = "alpha <tool_call>hm</tool_call> END beta";
  EXPECT_EQ(hermes.answer(tools(false) + none + stop + only(behind)), "alpha <tool_call>hm</tool_call>  (stop)");
  EXPECT_TRUE(
      hermes.answer(tools(false) + R"(,"stop":["f","{"])" + rather(in_hermes) + only(in_hermes)).starts_with(" +f{"))
      << "not in what a call is spelled with";
  const object message = parse_object(
      hermes.client().post("/v1/messages",
                           R"({"messages":[{"role":"user","content":"x"}],"max_tokens":99,"stop_sequences":["STOP"],
          "tools":[{"name":"f","input_schema":{"type":"object"}}],"tool_choice":{"type":"none"},
          "output_config":{"format":{"type":"json_schema","schema":{"type":"object","properties":
            {"a":{"const":"xx STOP yy"}},"required":["a"],"additionalProperties":false}}}})"));
  EXPECT_EQ(message.at("stop_sequence"), "STOP");
}

// Probabilities come for every token, also for those that calls are spelled with.
TEST(FormsAndTools, ProbabilitiesAreThoseOfAllTokens) {
  FormatServer hermes("hermes");
  const object answer = parse_object(hermes.client().post(
      "/v1/chat/completions", R"({"messages":[{"role":"user","content":"x"}],"max_tokens":300,"logprobs":true,)" +
                                  tools(false) + rather(in_hermes) + only(in_hermes) + "}"));
  std::string written;
  const auto& tokens = answer.at("choices").at(0).at("logprobs").at("content").as_array();
  for (const auto& token : tokens)
    written += text_or_none(&token.at("token"));
  EXPECT_EQ(tokens.size(), answer.at("usage").at("completion_tokens").to_number<size_t>());
  EXPECT_TRUE(written.starts_with("<tool_call>")) << written;
  EXPECT_FALSE(answer.at("choices").at(0).at("message").at("tool_calls").as_array().empty());
}

// In this vocabulary "<|end|>" ends an output, and the other tags are text.
TEST(ReasoningBudgets, EndTheAnalysisOfChannelsForGood) {
  FormatServer harmony("harmony");
  const std::string schema = R"({"type":"object","properties":{"a":{"type":"boolean"}},"required":["a"],)"
                             R"("additionalProperties":false})";
  const std::string function =
      R"("tools":[{"type":"function","function":{"name":"f","strict":true,"parameters":)" + schema + "}}]";
  for (const std::string& form :
       {std::string(R"("n":1)"),
        R"("response_format":{"type":"json_schema","json_schema":{"name":"x","schema":)" + schema + "}}",
        function + R"(,"tool_choice":"required")"}) {
    for (const int budget : {0, 5}) {
      for (int seed = 1; seed <= 4; ++seed) {
        const auto response = harmony.client().post(
            "/v1/chat/completions",
            fmt::format(R"({{"messages":[{{"role":"user","content":"def f"}}],"temperature":1,"seed":{},"logprobs":true,
                "max_tokens":120,"thinking_token_budget":{},{}}})",
                        seed, budget, form));
        ASSERT_EQ(response.status, 200) << response.body;
        const object answer = parse_object(response);
        const object& choice = answer.at("choices").at(0).as_object();
        std::string written;
        for (const auto& token : choice.at("logprobs").at("content").as_array())
          written += text_or_none(&token.at("token"));
        const auto reasoned =
            answer.at("usage").at("completion_tokens_details").at("reasoning_tokens").to_number<int>();
        EXPECT_LE(reasoned, budget + 3) << written;  // a character that has begun is ended first
        const std::string opening = "<|channel|>analysis";
        EXPECT_EQ(written.find(opening), written.rfind(opening)) << written;
      }
    }
  }
}

// A budget forces the closing tag, which no limit lets show.
TEST(ReasoningBudgets, LeakNoTagWhereALimitCutsIt) {
  const test::TemporaryFolder folder;
  serve::ServeOptions options = test::small_options();
  options.chat_template =
      folder
          .put("thinks.jinja",
               "{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}<think>\n{% endif %}")
          .string();
  test::LiveServer live(options);
  test::Client client = live.client();
  const auto answer = [&](int max_tokens) {
    return parse_object(
        client.post("/v1/chat/completions",
                    fmt::format(R"({{"messages":[{{"role":"user","content":"def f"}}],"temperature":0,"ignore_eos":true,
                        "thinking_token_budget":8,"max_tokens":{}}})",
                                max_tokens)));
  };
  const auto reasoning_of = [](const object& whole) {
    return std::string(whole.at("choices").at(0).at("message").at("reasoning_content").as_string());
  };
  const auto counted = [](const object& whole) {
    return whole.at("usage").at("completion_tokens_details").at("reasoning_tokens").as_int64();
  };
  const std::string all = reasoning_of(answer(60));
  for (int max_tokens = 8; max_tokens <= 20; ++max_tokens) {
    const object cut = answer(max_tokens);
    EXPECT_EQ(reasoning_of(cut), all) << max_tokens;
    EXPECT_LE(counted(cut), 8) << max_tokens;
    EXPECT_EQ(counted(cut), counted(answer(60))) << max_tokens;
  }
}

}  // namespace
}  // namespace tidemill
