// Fields that change nothing here are refused where they are of a type that the originals refuse.
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "wire/anthropic_request.hpp"
#include "wire/openai_request.hpp"
#include "wire/responses_request.hpp"

namespace tidemill::wire {
namespace {

// The body with the value in place of "@": the parameter that the error names, "(none)" where there is none.
template <typename Parse>
std::string fault_of(const Parse& parse, std::string text, std::string_view value) {
  text.replace(text.find('@'), 1, value);
  const auto request = parse(text);
  return request ? "(none)" : request.error().param();
}

struct FieldCase {
  std::string body;  // with "@" where the value stands
  std::string param;
  std::vector<std::string> taken;
  std::vector<std::string> refused;
};

template <typename Parse>
void expect_types(const Parse& parse, const std::vector<FieldCase>& cases) {
  for (const FieldCase& one : cases) {
    for (const std::string& value : one.taken)
      EXPECT_EQ(fault_of(parse, one.body, value), "(none)") << one.body << " of " << value;
    for (const std::string& value : one.refused)
      EXPECT_TRUE(fault_of(parse, one.body, value).starts_with(one.param))
          << one.body << " of " << value << ": " << fault_of(parse, one.body, value);
  }
}

const std::vector<std::string> no_text = {"5", "true", "[]", "{}"};
const std::vector<std::string> no_array = {"5", "true", R"("x")", "{}"};
const std::vector<std::string> no_object = {"5", "true", R"("x")", "[]"};

TEST(FieldTypes, OfMessages) {
  const std::string begins = R"({"max_tokens":9,)";
  const std::string hi = R"("messages":[{"role":"user","content":"Hi"}])";
  const std::vector<std::string> markers = {"null", R"({"type":"ephemeral"})", R"({"type":"ephemeral","ttl":"1h"})"};
  const std::vector<std::string> no_markers = {"5",  R"("x")",        "[]",
                                               "{}", R"({"type":7})", R"({"type":"ephemeral","ttl":5})"};
  const auto block = [&](std::string_view more) {
    return begins + R"("messages":[{"role":"user","content":[{"type":"text","text":"x",)" + std::string(more) + "}]}]}";
  };
  const auto answer = [&](std::string_view said) {
    return begins + R"("messages":[{"role":"user","content":"x"},{"role":"assistant","content":[)" + std::string(said) +
           R"(]},{"role":"user","content":"x"}]})";
  };
  expect_types(
      parse_messages_request,
      {{begins + hi + R"(,"cache_control":@})", "cache_control", markers, no_markers},
       {begins + hi + R"(,"tools":[{"name":"f","input_schema":{},"cache_control":@}]})", "tools[0].cache_control",
        markers, no_markers},
       {begins + hi + R"(,"system":[{"type":"text","text":"x","cache_control":@}]})", "system[0].cache_control",
        markers, no_markers},
       {block(R"("cache_control":@)"), "messages[0].content[0].cache_control", markers, no_markers},
       {block(R"("citations":@)"), "messages[0].content[0].citations", {"null", "[]"}, no_array},
       {answer(R"({"type":"text","text":"x","citations":@})"),
        "messages[1].content[0].citations",
        {"null", "[]"},
        no_array},
       {answer(R"({"type":"thinking","thinking":"x","signature":@})"),
        "messages[1].content[0].signature",
        {R"("s")"},
        no_text},
       {answer(R"({"type":"redacted_thinking","data":@})"), "messages[1].content[0].data", {R"("s")"}, no_text},
       {begins + hi + R"(,"service_tier":@})", "service_tier", {"null", R"("auto")"}, no_text},
       {begins + hi + R"(,"inference_geo":@})", "inference_geo", {"null", R"("eu")"}, no_text},
       {begins + hi + R"(,"speed":@})", "speed", {"null", R"("fast")"}, no_text},
       {begins + hi + R"(,"context_management":@})", "context_management", {"null", R"({"edits":[]})"}, no_object}});
}

TEST(FieldTypes, OfChats) {
  const std::string begins = R"({"messages":[{"role":"user","content":"Hi"}],)";
  const std::string tools = begins + R"("tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":)";
  const std::vector<std::string> no_function = {"5", "[]", R"("x")", R"("allowed_tools")"};
  expect_types(
      parse_chat_request,
      {{R"({"messages":[{"role":"user","content":"x"},{"role":"assistant","content":"x","refusal":@}]})",
        "messages[1].refusal",
        {"null", R"("no")"},
        no_text},
       {begins + R"("stream":true,"stream_options":{"include_obfuscation":@}})",
        "stream_options.include_obfuscation",
        {"null", "true", "false"},
        {"5", R"("x")", "{}"}},
       {begins + R"("response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{},"description":@}}})",
        "response_format.json_schema.description",
        {"null", R"("d")"},
        no_text},
       {begins + R"("prediction":{"type":@,"content":"x"}})",
        "prediction.type",
        {R"("content")"},
        {"5", "[]", R"("x")"}},
       {begins + R"("prediction":{"type":"content","content":@}})",
        "prediction.content",
        {R"("x")", R"([{"type":"text","text":"x"}])"},
        {"5", "true", "{}"}},
       {tools + R"({"type":@,"function":{"name":"f"}}})", "tool_choice.type", {R"("function")"}, no_function},
       {tools +
            R"({"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[{"type":@,"function":{"name":"f"}}]}}})",
        "tool_choice.allowed_tools.tools[0].type",
        {R"("function")"},
        no_function},
       {tools + R"({"type":@,"allowed_tools":{"mode":"auto","tools":[{"function":{"name":"f"}}]}}})",
        "tool_choice.type",
        {R"("allowed_tools")"},
        {"5", R"("function")"}}});
}

TEST(FieldTypes, OfResponses) {
  const auto parse = [](std::string_view body) -> base::Result<ResponsesRequest> {
    TM_TRY(ResponsesRequest asked, parse_responses_request(body));
    TM_CHECK(join_conversation(asked, {}, {}));
    return asked;
  };
  const std::string begins = R"({"input":"x",)";
  const auto said = [](std::string_view more) {
    return R"({"input":[{"role":"assistant","content":[{"type":"output_text","text":"x",)" + std::string(more) +
           R"(}]},{"role":"user","content":"x"}]})";
  };
  expect_types(
      parse,
      {{said(R"("annotations":@)"), "input[0].content[0].annotations", {"null", "[]"}, no_array},
       {said(R"("logprobs":@)"), "input[0].content[0].logprobs", {"null", "[]"}, no_array},
       {begins + R"("text":{"format":{"type":"json_schema","name":"n","schema":{},"description":@}}})",
        "text.format.description",
        {"null", R"("d")"},
        no_text},
       {begins + R"("reasoning":{"generate_summary":@}})",
        "reasoning.generate_summary",
        {"null", R"("auto")"},
        no_text},
       {begins +
            R"("tools":[{"type":"function","name":"f"}],"tool_choice":{"type":"allowed_tools","mode":"auto","tools":[{"type":@,"name":"f"}]}})",
        "tool_choice.tools[0].type",
        {R"("function")"},
        {"5", R"("mcp")"}},
       {R"({"input":[{"type":@,"content":"x"}]})", "input[0].type", {}, {"null", "5", R"("x")"}},
       {R"({"input":[{"type":@,"role":"user","content":"x"}]})", "input[0].type", {"null", R"("message")"}, {"5"}}});
}

// What came before may say it all.
TEST(FieldTypes, OfResponsesThatGoOnWithoutInput) {
  EXPECT_EQ(parse_responses_request("{}").error().param(), "input");
  EXPECT_EQ(parse_responses_request(R"({"input":null})").error().param(), "input");
  for (const char* body : {R"({"conversation":"conv_1"})", R"({"previous_response_id":"resp_1","input":null})"}) {
    auto asked = parse_responses_request(body);
    ASSERT_TRUE(asked) << asked.error().to_string();
    EXPECT_EQ(join_conversation(*asked, {}, {}).error().param(), "input") << "nothing came before";
    const base::json::array earlier = {base::json::object{{"id", "a"}, {"role", "user"}, {"content", "x"}}};
    EXPECT_TRUE(join_conversation(*asked, earlier, {})) << body;
    EXPECT_EQ(asked->request.messages.size(), 1U);
  }
}

}  // namespace
}  // namespace tidemill::wire
