#include "wire/responses_request.hpp"

#include <string>

#include <gtest/gtest.h>

namespace tidemill::wire {
namespace {

namespace json = base::json;

std::string with(std::string_view more) {
  return R"({"input":"Hi",)" + std::string(more) + "}";
}
std::string items(std::string_view list) {
  return R"({"input":[)" + std::string(list) + "]}";
}

// Parsed and joined with nothing before it.
base::Result<ResponsesRequest> ask(std::string_view body, const json::array& earlier = {},
                                   const std::map<std::string, json::value>& referenced = {}) {
  TM_TRY(ResponsesRequest asked, parse_responses_request(body));
  TM_CHECK(join_conversation(asked, earlier, referenced));
  return asked;
}
ResponsesRequest asked_of(std::string_view body) {
  auto asked = ask(body);
  EXPECT_TRUE(asked) << body << ": " << asked.error().to_string();
  return asked ? std::move(*asked) : ResponsesRequest();
}
// The parameter that the error of this body names; "(none)" when it is accepted.
std::string fault(std::string_view body) {
  const auto asked = ask(body);
  return asked ? "(none)" : asked.error().param();
}
std::string unsupported(std::string_view body) {
  const auto asked = ask(body);
  EXPECT_FALSE(asked) << body;
  if (asked) return "(none)";
  EXPECT_EQ(asked.error().code(), base::ErrorCode::unsupported) << asked.error().to_string();
  return asked.error().param();
}

TEST(ResponsesRequest, ReadsEveryField) {
  const ResponsesRequest asked = asked_of(with(
      R"("model":"m","instructions":"Be brief.","temperature":0.5,"top_p":0.9,"max_output_tokens":7,"stream":true,)"
      R"("stream_options":{"include_obfuscation":false},"store":false,"truncation":"auto","top_logprobs":2,)"
      R"("include":["reasoning.encrypted_content"],"metadata":{"a":"b"},"user":"u","service_tier":"auto",)"
      R"("reasoning":{"effort":"none","summary":"auto"},"text":{"verbosity":"low"},"prompt_cache_key":"k",)"
      R"("parallel_tool_calls":false,"unheard_of":1)"));
  const GenerateRequest& request = asked.request;
  EXPECT_EQ(request.dialect, Dialect::responses);
  EXPECT_EQ(request.model, "m");
  EXPECT_EQ(request.messages, (json::array{json::object{{"role", "system"}, {"content", "Be brief."}},
                                           json::object{{"role", "user"}, {"content", "Hi"}}}));
  EXPECT_EQ(request.sampling.temperature, 0.5);
  EXPECT_EQ(request.sampling.top_p, 0.9);
  EXPECT_EQ(request.max_tokens, 7);
  EXPECT_TRUE(request.stream);
  EXPECT_TRUE(request.drop_oldest);
  EXPECT_TRUE(request.logprobs);
  EXPECT_EQ(request.top_logprobs, 2);
  EXPECT_FALSE(request.parallel_tool_calls);
  EXPECT_EQ(request.template_variables, (json::object{{"reasoning_effort", "none"}, {"enable_thinking", false}}));
  EXPECT_FALSE(asked.store);
  EXPECT_EQ(asked.form.echo.at("metadata"), (json::value{{"a", "b"}}));
  EXPECT_EQ(asked.form.echo.at("truncation"), "auto");
  EXPECT_EQ(asked.form.echo.at("instructions"), "Be brief.");
  EXPECT_TRUE(asked_of(with(R"("model":"m")")).store);
}

TEST(ResponsesRequest, BringsItemsIntoTheTemplatesForm) {
  const ResponsesRequest asked = asked_of(items(
      R"({"role":"developer","content":"D"},{"type":"message","role":"user","content":[{"type":"input_text","text":"a"},
         {"type":"input_text","text":"b"}]},{"type":"reasoning","id":"r","summary":[],
         "content":[{"type":"reasoning_text","text":"Hm."}]},{"type":"message","id":"m","role":"assistant",
         "status":"completed","content":[{"type":"output_text","text":"I look.","annotations":[]}]},
         {"type":"function_call","call_id":"c1","name":"look","arguments":"{\"at\":1}"},
         {"type":"function_call","call_id":"c2","name":"hear","arguments":"no json"},
         {"type":"function_call_output","call_id":"c2","output":"x"},
         {"type":"function_call_output","call_id":"c1","output":[{"type":"input_text","text":"y"}]},
         {"role":"user","content":"So?"})"));
  const auto call = [](std::string_view id, std::string_view name, json::value arguments) {
    return json::object{
        {"id", id}, {"type", "function"}, {"function", {{"name", name}, {"arguments", std::move(arguments)}}}};
  };
  const json::array expected{
      json::object{{"role", "developer"}, {"content", "D"}},
      json::object{{"role", "user"}, {"content", "a\nb"}},
      json::object{{"role", "assistant"},
                   {"content", "I look."},
                   {"reasoning_content", "Hm."},
                   {"tool_calls", json::array{call("c1", "look", {{"at", 1}}), call("c2", "hear", "no json")}}},
      json::object{{"role", "tool"}, {"tool_call_id", "c2"}, {"name", "hear"}, {"content", "x"}},
      json::object{{"role", "tool"}, {"tool_call_id", "c1"}, {"name", "look"}, {"content", "y"}},
      json::object{{"role", "user"}, {"content", "So?"}}};
  EXPECT_EQ(asked.request.messages, expected) << json::serialize(asked.request.messages);
}

TEST(ResponsesRequest, JoinsWhatWasBefore) {
  const json::array earlier{
      json::object{{"role", "user"}, {"content", "One"}, {"id", "i1"}},
      json::object{{"type", "function_call"}, {"id", "fc1"}, {"call_id", "c"}, {"name", "look"}, {"arguments", "{}"}}};
  const std::map<std::string, json::value> referenced{{"fc1", earlier[1]},
                                                      {"m9", json::object{{"role", "assistant"}, {"content", "Nine"}}}};
  const auto asked = ask(items(R"({"type":"item_reference","id":"fc1"},
      {"type":"function_call_output","call_id":"c","output":"x"},{"type":"item_reference","id":"m9"})"),
                         earlier, referenced);
  ASSERT_TRUE(asked) << asked.error().to_string();
  EXPECT_EQ(asked->references, (std::vector<std::string>{"fc1", "m9"}));
  ASSERT_EQ(asked->items.size(), 4u);
  const json::array& messages = asked->request.messages;
  ASSERT_EQ(messages.size(), 4u) << json::serialize(messages);
  EXPECT_EQ(messages[1].at("tool_calls").as_array().size(), 1u);
  EXPECT_EQ(messages[2].at("role"), "tool");
  EXPECT_EQ(messages[3].at("content"), "Nine");
  EXPECT_EQ(fault(items(R"({"type":"item_reference","id":"gone"})")), "input[0].id");
}

TEST(ResponsesRequest, WantsEveryCallAnswered) {
  const std::string call = R"({"type":"function_call","call_id":"c","name":"f","arguments":"{}"})";
  const std::string other = R"({"type":"function_call","call_id":"d","name":"f","arguments":"{}"})";
  const auto output = [](const std::string& id) {
    return R"({"type":"function_call_output","call_id":")" + id + R"(","output":"x"})";
  };
  EXPECT_EQ(fault(items(call)), "input");
  EXPECT_EQ(fault(items(call + R"(,{"role":"user","content":"never mind"})")), "input");
  EXPECT_EQ(fault(items(call + "," + other + "," + output("d"))), "input");
  EXPECT_EQ(fault(items(call + "," + other + "," + output("d") + "," + output("c"))), "(none)");
  EXPECT_EQ(fault(items(call + R"(,{"role":"user","content":"wait"},)" + output("c"))), "(none)");
  EXPECT_EQ(fault(items(call + "," + output("c") + "," + output("c"))), "input[2].call_id");
  EXPECT_EQ(fault(items(call + "," + output("c") + "," + call + "," + output("c"))), "(none)") << "a later call";
  EXPECT_EQ(fault(items(call + "," + call + "," + output("c"))), "input[1].call_id") << "two calls of one id";
  EXPECT_EQ(fault(items(call + "," + call + "," + output("c") + "," + output("c"))), "input[1].call_id");
  const auto error = ask(items(other + "," + call + "," + output("d"))).error();
  EXPECT_NE(error.message().find("'input[1]'"), std::string::npos) << error.message();
  EXPECT_NE(error.message().find("\"c\""), std::string::npos) << error.message();
  // The call may be the response's that this one follows.
  const json::array earlier{
      json::object{{"type", "function_call"}, {"id", "fc1"}, {"call_id", "c"}, {"name", "look"}, {"arguments", "{}"}}};
  EXPECT_EQ(ask(items(R"({"role":"user","content":"x"})"), earlier).error().param(), "input");
  EXPECT_TRUE(ask(items(output("c")), earlier));
}

TEST(ResponsesRequest, TakesMetadataAsOpenAiDoes) {
  std::string most;
  for (int i = 0; i < 16; ++i)
    most += (i == 0 ? "\"" : ",\"") + std::to_string(i) + R"(":"x")";
  const auto metadata = [](const std::string& pairs) { return fault(with("\"metadata\":{" + pairs + "}")); };
  const auto repeated = [](std::string_view character, int count) {
    std::string text;
    for (int i = 0; i < count; ++i)
      text += character;
    return text;
  };
  EXPECT_EQ(metadata(most), "(none)");
  EXPECT_EQ(metadata(most + R"(,"17":"x")"), "metadata");
  EXPECT_EQ(metadata("\"" + repeated("\u00e9", 64) + "\":\"" + repeated("\u65e5", 512) + "\""), "(none)");
  EXPECT_EQ(metadata("\"" + repeated("k", 65) + "\":\"x\""), "metadata");
  EXPECT_EQ(metadata("\"k\":\"" + repeated("x", 513) + "\""), "metadata.k");
  for (const char* value : {"1", "true", "null", "[]", "{}"})
    EXPECT_EQ(metadata(std::string("\"k\":") + value), "metadata.k");
  EXPECT_EQ(fault(with(R"("metadata":null)")), "(none)");
}

TEST(ResponsesRequest, NamesThePlaceOfAFault) {
  EXPECT_EQ(fault("{}"), "input");
  EXPECT_EQ(fault(R"({"input":5})"), "input");
  EXPECT_EQ(fault(R"({"input":[]})"), "input");
  EXPECT_EQ(fault(items("5")), "input[0]");
  EXPECT_EQ(fault(items(R"({"role":"king","content":"x"})")), "input[0].role");
  EXPECT_EQ(fault(items(R"({"role":"user"})")), "input[0].content");
  EXPECT_EQ(fault(items(R"({"role":"user","content":[{"text":"x"}]})")), "input[0].content[0].type");
  EXPECT_EQ(fault(items(R"({"role":"user","content":[{"type":"input_text"}]})")), "input[0].content[0].text");
  EXPECT_EQ(fault(items(R"({"type":"function_call","name":"n","arguments":"{}"})")), "input[0].call_id");
  EXPECT_EQ(fault(items(R"({"type":"function_call_output","call_id":"c","output":"x"})")), "input[0].call_id");
  EXPECT_EQ(fault(with(R"("temperature":2.5)")), "temperature");
  EXPECT_EQ(fault(with(R"("top_p":0)")), "top_p");
  EXPECT_EQ(fault(with(R"("max_output_tokens":0)")), "max_output_tokens");
  EXPECT_EQ(fault(with(R"("truncation":"some")")), "truncation");
  EXPECT_EQ(fault(with(R"("top_logprobs":21)")), "top_logprobs");
  EXPECT_EQ(fault(with(R"("include":[1])")), "include");
  EXPECT_EQ(fault(with(R"("metadata":1)")), "metadata");
  EXPECT_EQ(fault(with(R"("text":{"format":{"type":"xml"}})")), "text.format.type");
  EXPECT_EQ(fault(with(R"("text":{"format":{"type":"json_schema","name":"n"}})")), "text.format.schema");
  EXPECT_EQ(fault(with(R"("text":{"format":{"type":"json_schema","schema":{}}})")), "text.format.name");
  // What has no effect is of the type that it must be all the same.
  for (const std::string name :
       {"service_tier", "prompt_cache_retention", "stream_options", "max_tool_calls", "store"}) {
    EXPECT_EQ(fault(with("\"" + name + R"(":[])")), name);
    EXPECT_EQ(fault(with("\"" + name + R"(":null)")), "(none)");
  }
  EXPECT_EQ(fault(with(R"("max_tool_calls":0)")), "max_tool_calls");
  EXPECT_EQ(fault(with(R"("max_tool_calls":3)")), "(none)");
  EXPECT_EQ(fault(with(R"("stream_options":{"include_obfuscation":1})")), "stream_options.include_obfuscation");
  for (const std::string strict : {"\"x\"", "5"}) {
    EXPECT_EQ(fault(with(R"("text":{"format":{"type":"json_schema","name":"n","schema":{},"strict":)" + strict + "}}")),
              "text.format.strict");
  }
  const auto thought = [](const std::string& member) {
    return fault(items(R"({"role":"user","content":"x"},{"type":"reasoning",)" + member +
                       R"("content":[{"type":"reasoning_text","text":"hm"}]})"));
  };
  EXPECT_EQ(thought(""), "(none)");
  EXPECT_EQ(thought(R"("id":"rs_1","status":"completed","summary":[],"encrypted_content":null,)"), "(none)");
  EXPECT_EQ(thought(R"("id":5,)"), "input[1].id");
  EXPECT_EQ(thought(R"("status":5,)"), "input[1].status");
  EXPECT_EQ(thought(R"("summary":"x",)"), "input[1].summary");
  EXPECT_EQ(thought(R"("summary":[5],)"), "input[1].summary[0]");
  EXPECT_EQ(thought(R"("encrypted_content":5,)"), "input[1].encrypted_content");
  for (const char* body : {"", "[]", "{", "\xff"})
    EXPECT_FALSE(parse_responses_request(body)) << body;
}

TEST(ResponsesRequest, RefusesWhatIsNotSupportedByName) {
  EXPECT_EQ(unsupported(with(R"("background":true)")), "background");
  EXPECT_EQ(unsupported(with(R"("prompt":{"id":"p"})")), "prompt");
  EXPECT_EQ(unsupported(with(R"("tools":[{"type":"web_search"}])")), "tools[0].type");
  EXPECT_EQ(unsupported(with(R"("tool_choice":{"type":"web_search"})")), "tool_choice.type");
  EXPECT_EQ(unsupported(items(R"({"role":"user","content":[{"type":"input_image"}]})")), "input[0].content[0].type");
  EXPECT_EQ(unsupported(items(R"({"type":"computer_call"})")), "input[0].type");
  EXPECT_EQ(fault(with(R"("background":false,"conversation":null)")), "(none)");
}

TEST(ResponsesRequest, NamesAConversation) {
  for (const char* conversation : {R"("conversation":"conv_1")", R"("conversation":{"id":"conv_1"})"}) {
    const ResponsesRequest asked = asked_of(with(conversation));
    EXPECT_EQ(asked.conversation, "conv_1");
    EXPECT_EQ(asked.form.echo.at("conversation"), (json::value{{"id", "conv_1"}}));
  }
  EXPECT_FALSE(asked_of(with(R"("conversation":null)")).form.echo.contains("conversation"));
  for (const char* wrong : {"5", "[]", "true", R"("")"})
    EXPECT_EQ(fault(with(R"("conversation":)" + std::string(wrong))), "conversation") << wrong;
  for (const char* wrong : {"{}", R"({"id":null})", R"({"id":5})", R"({"id":""})"})
    EXPECT_EQ(fault(with(R"("conversation":)" + std::string(wrong))), "conversation.id") << wrong;
  EXPECT_EQ(fault(with(R"("conversation":"c","previous_response_id":"r")")), "conversation");
  EXPECT_EQ(fault(with(R"("conversation":"c","previous_response_id":null)")), "(none)");
  // What it holds already is told apart from the input.
  const json::array earlier{json::object{{"type", "computer_call"}}};
  EXPECT_EQ(ask(with(R"("conversation":"c")"), earlier).error().param(), "conversation[0].type");
  EXPECT_EQ(ask(with(R"("previous_response_id":"r")"), earlier).error().param(), "previous_response_id[0].type");
}

TEST(ResponsesRequest, TakesToolsAndAFormat) {
  const std::string tools =
      R"("tools":[{"type":"function","name":"get","description":"Gets.","parameters":{"type":"object"},"strict":true},
         {"type":"function","name":"put","parameters":null}])";
  const ResponsesRequest asked = asked_of(with(tools + R"(,"tool_choice":{"type":"function","name":"put"},
                      "text":{"format":{"type":"json_schema","name":"n","schema":{"type":"null"},"strict":true}})"));
  ASSERT_EQ(asked.request.tools.size(), 2u);
  EXPECT_TRUE(asked.request.tools[0].strict);
  EXPECT_EQ(asked.request.tools[0].parameters, (json::value{{"type", "object"}}));
  EXPECT_FALSE(asked.request.tools[0].prefers_strict);
  EXPECT_FALSE(asked.request.tools[1].strict);
  EXPECT_TRUE(asked.request.tools[1].prefers_strict);
  EXPECT_EQ(asked.form.echo.at("tools").at(0).at("strict"), true);
  EXPECT_EQ(asked.form.echo.at("tools").at(1).at("strict"), nullptr);
  const std::string loose = R"("tools":[{"type":"function","name":"get","strict":false}])";
  EXPECT_FALSE(asked_of(with(loose)).request.tools[0].prefers_strict);
  EXPECT_EQ(asked.request.tool_choice.kind, ToolChoice::Kind::named);
  EXPECT_EQ(asked.request.output.kind, OutputFormat::Kind::json_schema);
  EXPECT_EQ(asked.request.output.schema, (json::value{{"type", "null"}}));
  EXPECT_EQ(asked.request.output.param, "text.format.schema");
  EXPECT_EQ(asked.form.echo.at("tools").at(0).at("name"), "get");
  EXPECT_EQ(asked_of(with(tools)).request.tool_choice.kind, ToolChoice::Kind::automatic);
  EXPECT_EQ(asked_of(with(tools + R"(,"tool_choice":"required")")).request.tool_choice.kind,
            ToolChoice::Kind::required);
  EXPECT_EQ(fault(with(tools + R"(,"tool_choice":{"type":"function","name":"pat"})")), "tool_choice");
  EXPECT_EQ(fault(with(R"("tool_choice":"required")")), "tool_choice");
  const auto allowed = [&](const std::string& choice) {
    return tools + R"(,"tool_choice":{"type":"allowed_tools",)" + choice + "}";
  };
  const ToolChoice one =
      asked_of(with(allowed(R"("mode":"required","tools":[{"type":"function","name":"put"}])"))).request.tool_choice;
  EXPECT_EQ(one.kind, ToolChoice::Kind::required);
  EXPECT_EQ(one.allowed, std::vector<std::string>{"put"});
  EXPECT_EQ(fault(with(allowed(R"("mode":"auto","tools":[{"type":"function","name":"pat"}])"))), "tool_choice");
  EXPECT_EQ(fault(with(allowed(R"("mode":"auto","tools":[])"))), "tool_choice.tools");
  EXPECT_EQ(fault(with(allowed(R"("mode":"some","tools":[{"name":"put"}])"))), "tool_choice.mode");
  EXPECT_EQ(fault(with(R"("tools":[{"type":"function"}])")), "tools[0].name");
  EXPECT_EQ(asked_of(with(R"("text":{"format":{"type":"json_object"}})")).request.output.kind,
            OutputFormat::Kind::json_object);
}

}  // namespace
}  // namespace tidemill::wire
