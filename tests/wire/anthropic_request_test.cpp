#include "wire/anthropic_request.hpp"

#include <string>

#include <gtest/gtest.h>

namespace tidemill::wire {
namespace {

namespace json = base::json;

constexpr std::string_view hello_message = R"("max_tokens":9,"messages":[{"role":"user","content":"Hi"}])";

std::string message_with(std::string_view more) {
  return "{" + std::string(hello_message) + "," + std::string(more) + "}";
}
std::string turns(std::string_view messages) {
  return R"({"max_tokens":9,"messages":[)" + std::string(messages) + "]}";
}

GenerateRequest parsed(std::string_view body) {
  auto request = parse_messages_request(body);
  EXPECT_TRUE(request) << body << ": " << request.error().to_string();
  return request ? std::move(*request) : GenerateRequest();
}

// The parameter that the error of this body names; "(none)" when it is accepted.
std::string messages_fault(std::string_view body) {
  const auto request = parse_messages_request(body);
  return request ? "(none)" : request.error().param();
}

TEST(MessagesRequest, ReadsEveryField) {
  const GenerateRequest request = parsed(message_with(
      R"("model":"m","system":"Be brief.","temperature":0.5,"top_p":0.9,"top_k":40,"stop_sequences":["a","b"],)"
      R"("stream":true,"metadata":{"user_id":"u"},"service_tier":"auto","cache_control":{"type":"ephemeral"},)"
      R"("thinking":{"type":"enabled","budget_tokens":8},"output_config":{"effort":"low"},"unheard_of":1)"));
  EXPECT_EQ(request.dialect, Dialect::messages);
  EXPECT_EQ(request.model, "m");
  EXPECT_EQ(request.max_tokens, 9);
  EXPECT_EQ(request.reasoning_tokens, 8);
  EXPECT_EQ(request.sampling.temperature, 0.5);
  EXPECT_EQ(request.sampling.top_p, 0.9);
  EXPECT_EQ(request.sampling.top_k, 40);
  EXPECT_EQ(request.stop, (std::vector<std::string>{"a", "b"}));
  EXPECT_TRUE(request.stream);
  EXPECT_EQ(request.template_variables, (json::object{{"enable_thinking", true}, {"reasoning_effort", "low"}}));
  EXPECT_EQ(request.messages, (json::array{json::object{{"role", "system"}, {"content", "Be brief."}},
                                           json::object{{"role", "user"}, {"content", "Hi"}}}));
  EXPECT_EQ(request.tool_choice.kind, ToolChoice::Kind::none);
}

TEST(MessagesRequest, TellsThreadsThatBeginFromThoseThatGoOn) {
  EXPECT_EQ(messages_fault(message_with(R"("thread":{"type":"create"})")), "(none)");
  EXPECT_EQ(messages_fault(message_with(R"("thread":null)")), "(none)");
  EXPECT_EQ(messages_fault(message_with(R"("thread":{"type":"fork"})")), "thread.type");
  EXPECT_EQ(messages_fault(message_with(R"("thread":{})")), "thread.type");
  EXPECT_EQ(messages_fault(message_with(R"("thread":"create")")), "thread");
  EXPECT_EQ(messages_fault(message_with(R"("thread":{"type":"continue"})")), "thread.previous_message_id");
  // Before its messages are looked at: they are the end of a conversation.
  const auto next = parse_messages_request(
      R"({"max_tokens":9,"thread":{"type":"continue","previous_message_id":"msg_1"},"messages":[]})");
  ASSERT_FALSE(next);
  EXPECT_EQ(next.error().code(), base::ErrorCode::not_found);
  EXPECT_EQ(next.error().param(), "thread.previous_message_id");
}

TEST(MessagesRequest, ThinksOnlyWhenAsked) {
  EXPECT_EQ(parsed(message_with(R"("model":"m")")).template_variables.at("enable_thinking"), false);
  EXPECT_EQ(parsed(message_with(R"("thinking":{"type":"disabled"})")).template_variables.at("enable_thinking"), false);
  EXPECT_EQ(parsed(message_with(R"("thinking":{"type":"adaptive"})")).template_variables.at("enable_thinking"), true);
}

TEST(MessagesRequest, BringsTurnsIntoTheTemplatesForm) {
  const GenerateRequest request = parsed(
      R"({"max_tokens":9,"system":[{"type":"text","text":"One."},{"type":"text","text":"Two.","cache_control":
         {"type":"ephemeral"}}],"messages":[{"role":"user","content":[{"type":"text","text":"a","cache_control":
         {"type":"ephemeral","ttl":"1h"}},{"type":"text","text":"b"}]},{"role":"user","content":"c"},
         {"role":"assistant","content":[{"type":"thinking","thinking":"Hm.","signature":"s"},
         {"type":"redacted_thinking","data":"x"},{"type":"text","text":"I look."},
         {"type":"tool_use","id":"t1","name":"look","input":{"at":1}},
         {"type":"tool_use","id":"t2","name":"hear","input":{}},
         {"type":"tool_use","id":"t3","name":"look","input":{}}]},
         {"role":"user","content":[{"type":"tool_result","tool_use_id":"t2","content":[{"type":"text","text":"x"},
         {"type":"text","text":"y"}]},{"type":"tool_result","tool_use_id":"t1","is_error":true,"content":"blind"},
         {"type":"tool_result","tool_use_id":"t3"},{"type":"text","text":"So?"}]}]})");
  const auto call = [](std::string_view id, std::string_view name, json::object arguments) {
    return json::object{
        {"id", id}, {"type", "function"}, {"function", {{"name", name}, {"arguments", std::move(arguments)}}}};
  };
  const auto result = [](std::string_view id, std::string_view name, std::string_view content) {
    return json::object{{"role", "tool"}, {"tool_call_id", id}, {"name", name}, {"content", content}};
  };
  const json::array expected{json::object{{"role", "system"}, {"content", "One.\nTwo."}},
                             json::object{{"role", "user"}, {"content", "a\nb\nc"}},
                             json::object{{"role", "assistant"},
                                          {"content", "I look."},
                                          {"reasoning_content", "Hm."},
                                          {"tool_calls", json::array{call("t1", "look", {{"at", 1}}),
                                                                     call("t2", "hear", {}), call("t3", "look", {})}}},
                             result("t2", "hear", "x\ny"),
                             result("t1", "look", "Error: blind"),
                             result("t3", "look", ""),
                             json::object{{"role", "user"}, {"content", "So?"}}};
  EXPECT_EQ(request.messages, expected) << json::serialize(request.messages);
}

TEST(MessagesRequest, NamesThePlaceOfAFault) {
  EXPECT_EQ(messages_fault(R"({"messages":[{"role":"user","content":"Hi"}]})"), "max_tokens");
  EXPECT_EQ(messages_fault(R"({"max_tokens":0,"messages":[{"role":"user","content":"Hi"}]})"), "max_tokens");
  EXPECT_EQ(messages_fault(R"({"max_tokens":1})"), "messages");
  EXPECT_EQ(messages_fault(turns("")), "messages");
  EXPECT_EQ(messages_fault(turns("1")), "messages[0]");
  EXPECT_EQ(messages_fault(turns(R"({"content":"x"})")), "messages[0].role");
  EXPECT_EQ(messages_fault(turns(R"({"role":"tool","content":"x"})")), "messages[0].role");
  EXPECT_EQ(messages_fault(turns(R"({"role":"user"})")), "messages[0].content");
  EXPECT_EQ(messages_fault(turns(R"({"role":"user","content":[]})")), "messages[0].content");
  EXPECT_EQ(messages_fault(turns(R"({"role":"user","content":5})")), "messages[0].content");
  EXPECT_EQ(messages_fault(turns(R"({"role":"user","content":["x"]})")), "messages[0].content[0]");
  EXPECT_EQ(messages_fault(turns(R"({"role":"user","content":[{"text":"x"}]})")), "messages[0].content[0].type");
  EXPECT_EQ(messages_fault(turns(R"({"role":"user","content":[{"type":"text"}]})")), "messages[0].content[0].text");
  EXPECT_EQ(messages_fault(turns(R"({"role":"user","content":[{"type":"tool_result","tool_use_id":"t"}]})")),
            "messages[0].content[0].tool_use_id");
  EXPECT_EQ(
      messages_fault(turns(R"({"role":"assistant","content":[{"type":"tool_use","id":"t","name":"n","input":3}]})")),
      "messages[0].content[0].input");
  EXPECT_EQ(messages_fault(message_with(R"("system":[{"type":"image"}])")), "system[0].type");
  EXPECT_EQ(messages_fault(message_with(R"("temperature":1.5)")), "temperature");
  EXPECT_EQ(messages_fault(message_with(R"("top_p":0)")), "top_p");
  EXPECT_EQ(messages_fault(message_with(R"("stop_sequences":[""])")), "stop_sequences");
  EXPECT_EQ(messages_fault(message_with(R"("metadata":"u")")), "metadata");
  EXPECT_EQ(messages_fault(message_with(R"("metadata":{"user_id":7})")), "metadata.user_id");
  EXPECT_EQ(messages_fault(message_with(R"("metadata":{"user_id":null,"more":7})")), "(none)");
  EXPECT_EQ(messages_fault(message_with(R"("thinking":{"type":"enabled"})")), "thinking.budget_tokens");
  EXPECT_EQ(messages_fault(message_with(R"("thinking":{"type":"enabled","budget_tokens":9})")),
            "thinking.budget_tokens");
  EXPECT_EQ(messages_fault(message_with(R"("thinking":{"type":"enabled","budget_tokens":0})")),
            "thinking.budget_tokens");
  EXPECT_EQ(messages_fault(message_with(R"("thinking":{"type":"enabled","budget_tokens":1})")), "(none)")
      << "contexts may be small here";
  EXPECT_EQ(messages_fault(message_with(R"("thinking":{"type":"perhaps"})")), "thinking.type");
  EXPECT_EQ(messages_fault(message_with(R"("output_config":{"format":{"type":"xml"}})")), "output_config.format.type");
  EXPECT_EQ(messages_fault(message_with(R"("output_config":{"format":{"type":"json_schema"}})")),
            "output_config.format.schema");
  for (const char* body : {"", "[]", "{", "\xff"})
    EXPECT_FALSE(parse_messages_request(body)) << body;
}

TEST(MessagesRequest, WantsEveryCallAnsweredInTheTurnBehindIt) {
  const std::string ask = R"({"role":"user","content":"x"},)";
  const std::string call = R"({"type":"tool_use","id":"a","name":"f","input":{}})";
  const std::string calls = R"({"role":"assistant","content":[{"type":"text","text":"I look."},)" + call +
                            R"(,{"type":"tool_use","id":"b","name":"g","input":{}}]},)";
  const std::string a = R"({"type":"tool_result","tool_use_id":"a","content":"A"})";
  const std::string b = R"({"type":"tool_result","tool_use_id":"b"})";
  const auto user = [](const std::string& blocks) { return R"({"role":"user","content":[)" + blocks + "]}"; };
  EXPECT_EQ(messages_fault(turns(ask + calls + user(b + "," + a))), "(none)");
  EXPECT_EQ(messages_fault(turns(ask + calls + user(a) + "," + user(b))), "(none)") << "turns of one role are one";
  EXPECT_EQ(messages_fault(turns(ask + calls + user(a))), "messages[1].content[2]");
  EXPECT_EQ(messages_fault(turns(ask + calls + R"({"role":"user","content":"never mind"})")), "messages[1].content[1]");
  EXPECT_EQ(messages_fault(turns(ask + calls + user(a) + R"(,{"role":"assistant","content":"so"},)" + user(b))),
            "messages[1].content[2]");
  EXPECT_EQ(messages_fault(turns(ask + calls + user(a + "," + a + "," + b))), "messages[2].content[1].tool_use_id");
  EXPECT_EQ(messages_fault(turns(ask + calls + user(a + "," + b) + "," + user(b))),
            "messages[3].content[0].tool_use_id");
  const std::string twice = R"({"role":"assistant","content":[)" + call + "," + call + "]},";
  EXPECT_EQ(messages_fault(turns(ask + twice + user(a))), "messages[1].content[1].id");
  const std::string later = ask + calls + user(a + "," + b) + R"(,{"role":"assistant","content":"So."},)";
  EXPECT_EQ(messages_fault(turns(later + user(R"({"type":"text","text":"and?"})"))), "(none)");
  EXPECT_EQ(messages_fault(turns(later + user(a))), "messages[4].content[0].tool_use_id") << "of an earlier turn";
  EXPECT_TRUE(ask_count_tokens(turns(ask + calls + user(a + "," + b))));
}

TEST(MessagesRequest, WantsInputOfToolsToBeAnObject) {
  const auto with_schema = [](const std::string& schema) {
    return messages_fault(message_with(R"("tools":[{"name":"f","input_schema":)" + schema + "}]"));
  };
  EXPECT_EQ(with_schema(R"({"type":"object"})"), "(none)");
  EXPECT_EQ(with_schema("{}"), "(none)");
  EXPECT_EQ(with_schema(R"({"type":"string"})"), "tools[0].input_schema.type");
}

TEST(MessagesRequest, TakesTheSystemsWordsBetweenTurns) {
  const GenerateRequest request = parsed(R"({"max_tokens":9,"system":"One.","messages":[{"role":"user","content":"x"},
                {"role":"assistant","content":"y"},{"role":"system","content":"Two."},{"role":"user","content":"z"}]})");
  ASSERT_EQ(request.messages.size(), 5u);
  EXPECT_EQ(request.messages[3], (json::value{{"role", "system"}, {"content", "Two."}}));
  EXPECT_EQ(request.system_param, "system");
  EXPECT_EQ(parsed(message_with(R"("model":"m")")).system_param, "");
}

TEST(MessagesRequest, RefusesWhatIsNotSupportedByItsPlace) {
  const auto unsupported = [](std::string_view body) {
    const auto request = parse_messages_request(body);
    EXPECT_FALSE(request) << body;
    if (request) return std::string();
    EXPECT_EQ(request.error().code(), base::ErrorCode::unsupported) << request.error().to_string();
    return request.error().param();
  };
  EXPECT_EQ(unsupported(turns(R"({"role":"user","content":[{"type":"text","text":"x"},{"type":"image"}]})")),
            "messages[0].content[1].type");
  EXPECT_EQ(unsupported(turns(R"({"role":"user","content":[{"type":"document"}]})")), "messages[0].content[0].type");
  EXPECT_EQ(unsupported(message_with(R"("tools":[{"type":"web_search_20250305","name":"web_search"}])")),
            "tools[0].type");
  EXPECT_EQ(unsupported(message_with(R"("mcp_servers":[{"url":"x"}])")), "mcp_servers");
  EXPECT_EQ(messages_fault(message_with(R"("mcp_servers":[],"container":null)")), "(none)");
}

TEST(MessagesRequest, GoesOnFromALastTurnOfTheAssistants) {
  const std::string prefilled = R"({"role":"user","content":"x"},{"role":"assistant","content":)";
  const GenerateRequest request = parsed(turns(prefilled + R"([{"type":"text","text":"{\"a\": "}]})"));
  EXPECT_EQ(request.answer_begins, "{\"a\": ");
  ASSERT_EQ(request.messages.size(), 1u);
  EXPECT_EQ(request.messages[0].at("role"), "user");
  EXPECT_EQ(parsed(turns(R"({"role":"user","content":"x"})")).answer_begins, "");
  EXPECT_EQ(messages_fault(turns(R"({"role":"assistant","content":"x"})")), "messages");
  EXPECT_EQ(messages_fault(turns(prefilled + R"([{"type":"tool_use","id":"a","name":"f","input":{}}]})")),
            "messages[1]");
  const std::string more = R"({"max_tokens":9000,"messages":[)" + prefilled + R"("{"}],)";
  EXPECT_EQ(messages_fault(more + R"("thinking":{"type":"enabled","budget_tokens":1024}})"), "messages");
  EXPECT_EQ(messages_fault(more + R"("output_format":{"type":"json_schema","schema":{}}})"), "messages");
  EXPECT_EQ(messages_fault(more + R"("tools":[{"name":"f","input_schema":{}}],"tool_choice":{"type":"any"}})"),
            "messages");
  EXPECT_EQ(messages_fault(more + R"("tools":[{"name":"f","input_schema":{}}]})"), "(none)");
}

TEST(MessagesRequest, TakesToolsAndTheChoiceAmongThem) {
  const std::string tools =
      R"("tools":[{"name":"get","description":"Gets.","input_schema":{"type":"object"},"strict":true,
         "cache_control":{"type":"ephemeral"}},{"type":"custom","name":"put","input_schema":{"type":"object"}}])";
  const auto choose = [&](std::string_view choice) {
    return parsed(message_with(tools + R"(,"tool_choice":)" + std::string(choice)));
  };
  const GenerateRequest request = choose(R"({"type":"tool","name":"put","disable_parallel_tool_use":true})");
  ASSERT_EQ(request.tools.size(), 2u);
  EXPECT_EQ(request.tools[0].name, "get");
  EXPECT_EQ(request.tools[0].description, "Gets.");
  EXPECT_EQ(request.tools[0].parameters, (json::value{{"type", "object"}}));
  EXPECT_TRUE(request.tools[0].strict);
  EXPECT_FALSE(request.tools[1].strict);
  EXPECT_EQ(request.tool_choice.kind, ToolChoice::Kind::named);
  EXPECT_EQ(request.tool_choice.name, "put");
  EXPECT_FALSE(request.parallel_tool_calls);
  EXPECT_EQ(parsed(message_with(tools)).tool_choice.kind, ToolChoice::Kind::automatic);
  EXPECT_TRUE(parsed(message_with(tools)).parallel_tool_calls);
  EXPECT_EQ(choose(R"({"type":"any"})").tool_choice.kind, ToolChoice::Kind::required);
  EXPECT_EQ(choose(R"({"type":"none"})").tool_choice.kind, ToolChoice::Kind::none);
  EXPECT_EQ(messages_fault(message_with(tools + R"(,"tool_choice":{"type":"tool","name":"pat"})")), "tool_choice");
  EXPECT_EQ(messages_fault(message_with(tools + R"(,"tool_choice":{"type":"tool"})")), "tool_choice.name");
  EXPECT_EQ(messages_fault(message_with(tools + R"(,"tool_choice":{"type":"some"})")), "tool_choice.type");
  EXPECT_EQ(messages_fault(message_with(R"("tool_choice":{"type":"any"})")), "tool_choice");
  EXPECT_EQ(messages_fault(message_with(R"("tools":[{"name":"get"}])")), "tools[0].input_schema");
  EXPECT_EQ(messages_fault(message_with(R"("tools":[{"input_schema":{}}])")), "tools[0].name");
  EXPECT_EQ(messages_fault(message_with(R"("tools":[{"name":"a b","input_schema":{}}])")), "tools");
}

TEST(MessagesRequest, TakesASchemaForTheOutput) {
  for (const char* name : {R"("output_config":{"format":)", R"("output_format":)"}) {
    const std::string field(name);
    const GenerateRequest request = parsed(message_with(field + R"({"type":"json_schema","schema":{"type":"null"}})" +
                                                        (field.find('{') == std::string::npos ? "" : "}")));
    EXPECT_EQ(request.output.kind, OutputFormat::Kind::json_schema);
    EXPECT_EQ(request.output.schema, (json::value{{"type", "null"}}));
  }
}

TEST(CountTokensRequest, NeedsNoLimit) {
  EXPECT_TRUE(ask_count_tokens(R"({"messages":[{"role":"user","content":"Hi"}]})"));
  EXPECT_EQ(ask_count_tokens(R"({})").error().param(), "messages");
}

}  // namespace
}  // namespace tidemill::wire
