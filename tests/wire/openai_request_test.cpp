#include "wire/openai_request.hpp"

#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/utf8.hpp"

namespace tidemill::wire {
namespace {

namespace json = base::json;

constexpr std::string_view hello = R"("messages":[{"role":"user","content":"Hi"}])";

std::string chat(std::string_view more) {
  return "{" + std::string(hello) + "," + std::string(more) + "}";
}
std::string completion(std::string_view more) {
  return R"({"prompt":"Hi",)" + std::string(more) + "}";
}

// The parameter that the error of this body names; "(none)" when it is accepted.
std::string chat_fault(std::string_view body) {
  const auto parsed = parse_chat_request(body);
  return parsed ? "(none)" : parsed.error().param();
}
std::string completion_fault(std::string_view body) {
  const auto parsed = parse_completion_request(body);
  return parsed ? "(none)" : parsed.error().param();
}

TEST(ChatRequest, ASeedIsAnyIntegerOf64Bits) {
  const auto seed = [](const std::string& number) {
    const auto parsed = parse_chat_request(chat(R"("seed":)" + number));
    return parsed ? parsed->sampling.seed : std::nullopt;
  };
  EXPECT_EQ(seed("-9223372036854775808"), std::numeric_limits<int64_t>::min());
  EXPECT_EQ(seed("9223372036854775807"), std::numeric_limits<int64_t>::max());
  EXPECT_EQ(seed("9223372036854775808"), std::numeric_limits<int64_t>::min()) << "the same bits";
  EXPECT_EQ(seed("18446744073709551615"), -1);
  for (const char* number : {"18446744073709551616", "-9223372036854775809", "1.5", R"("1")"}) {
    const auto refused = parse_chat_request(chat(std::string(R"("seed":)") + number));
    ASSERT_FALSE(refused) << number;
    EXPECT_EQ(refused.error().param(), "seed");
    EXPECT_NE(refused.error().message().find("from -9223372036854775808 to 18446744073709551615"), std::string::npos)
        << refused.error().message();
  }
}

TEST(ChatRequest, ReadsEveryField) {
  const auto parsed = parse_chat_request(chat(
      R"("model":"m","temperature":0.5,"top_p":0.9,"top_k":40,"min_p":0.05,"repetition_penalty":1.1,)"
      R"("frequency_penalty":0.1,"presence_penalty":-0.1,"logit_bias":{"5":-100,"7":2.5},"seed":42,"stop":["a","b"],)"
      R"("max_tokens":3,"max_completion_tokens":9,"n":2,"logprobs":true,"top_logprobs":4,"stream":true,)"
      R"("stream_options":{"include_usage":true},"ignore_eos":true,"stop_token_ids":[1,2],"priority":-3,)"
      R"("skip_special_tokens":false,"chat_template_kwargs":{"enable_thinking":false},"user":"u","unheard_of":1)"));
  ASSERT_TRUE(parsed) << parsed.error().to_string();
  EXPECT_EQ(parsed->model, "m");
  EXPECT_EQ(parsed->sampling.temperature, 0.5);
  EXPECT_EQ(parsed->sampling.top_p, 0.9);
  EXPECT_EQ(parsed->sampling.top_k, 40);
  EXPECT_EQ(parsed->sampling.min_p, 0.05);
  EXPECT_EQ(parsed->sampling.repetition_penalty, 1.1);
  EXPECT_EQ(parsed->sampling.frequency_penalty, 0.1);
  EXPECT_EQ(parsed->sampling.presence_penalty, -0.1);
  EXPECT_EQ(parsed->sampling.logit_bias, (std::map<int32_t, float>{{5, -100.f}, {7, 2.5f}}));
  EXPECT_EQ(parsed->sampling.seed, 42);
  EXPECT_EQ(parsed->stop, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(parsed->max_tokens, 9);
  EXPECT_EQ(parsed->n, 2);
  EXPECT_TRUE(parsed->logprobs);
  EXPECT_EQ(parsed->top_logprobs, 4);
  EXPECT_TRUE(parsed->stream);
  EXPECT_TRUE(parsed->include_usage);
  EXPECT_TRUE(parsed->ignore_eos);
  EXPECT_EQ(parsed->stop_tokens, (TokenIds{1, 2}));
  EXPECT_EQ(parsed->priority, -3);
  EXPECT_FALSE(parsed->skip_special_tokens);
  EXPECT_EQ(parsed->template_variables, (json::object{{"enable_thinking", false}}));
}

TEST(ChatRequest, NullMeansAbsent) {
  const auto parsed = parse_chat_request(chat(R"("temperature":null,"stop":null,"stream_options":null,"tools":null)"));
  ASSERT_TRUE(parsed) << parsed.error().to_string();
  EXPECT_FALSE(parsed->sampling.temperature.has_value());
}

TEST(ChatRequest, NamesTheParameterAtFault) {
  EXPECT_EQ(chat_fault(chat(R"("temperature":"hot")")), "temperature");
  EXPECT_EQ(chat_fault(chat(R"("temperature":2.1)")), "temperature");
  EXPECT_EQ(chat_fault(chat(R"("top_p":0)")), "top_p");
  EXPECT_EQ(chat_fault(chat(R"("top_p":1.5)")), "top_p");
  EXPECT_EQ(chat_fault(chat(R"("n":0)")), "n");
  EXPECT_EQ(chat_fault(chat(R"("n":1.5)")), "n");
  EXPECT_EQ(chat_fault(chat(R"("max_tokens":0)")), "max_tokens");
  EXPECT_EQ(chat_fault(chat(R"("max_completion_tokens":"9")")), "max_completion_tokens");
  EXPECT_EQ(chat_fault(chat(R"("logit_bias":{"x":1})")), "logit_bias");
  EXPECT_EQ(chat_fault(chat(R"("logit_bias":{"1":101})")), "logit_bias");
  EXPECT_EQ(chat_fault(chat(R"("logit_bias":{"1":"a"})")), "logit_bias");
  EXPECT_EQ(chat_fault(chat(R"("stop":[1])")), "stop");
  EXPECT_EQ(chat_fault(chat(R"("stop":"")")), "stop");
  EXPECT_EQ(chat_fault(chat(R"("top_logprobs":2)")), "top_logprobs");
  EXPECT_EQ(chat_fault(chat(R"("logprobs":true,"top_logprobs":21)")), "top_logprobs");
  EXPECT_EQ(chat_fault(chat(R"("stream_options":{"include_usage":true})")), "stream_options");
  EXPECT_EQ(chat_fault(chat(R"("stream":"yes")")), "stream");
  EXPECT_EQ(chat_fault(chat(R"("stream":true,"stream_options":{"include_usage":1})")), "stream_options.include_usage");
  EXPECT_EQ(chat_fault(chat(R"("model":7)")), "model");
  EXPECT_EQ(chat_fault(chat(R"("frequency_penalty":3)")), "frequency_penalty");
}

TEST(ChatRequest, AFaultQuotesWholeCharacters) {
  for (const std::string shift : {"", "a", "ab"}) {
    std::string role = shift;
    for (int i = 0; i < 50; ++i)
      role += "你";
    const auto parsed = parse_chat_request(R"({"messages":[{"role":")" + role + R"(","content":"Hi"}]})");
    ASSERT_FALSE(parsed);
    EXPECT_TRUE(base::utf8::is_valid(parsed.error().message())) << parsed.error().message();
  }
}

TEST(ChatRequest, ChecksMessages) {
  EXPECT_EQ(chat_fault("{}"), "messages");
  EXPECT_EQ(chat_fault(R"({"messages":[]})"), "messages");
  EXPECT_EQ(chat_fault(R"({"messages":"Hi"})"), "messages");
  EXPECT_EQ(chat_fault(R"({"messages":["Hi"]})"), "messages[0]");
  EXPECT_EQ(chat_fault(R"({"messages":[{"content":"Hi"}]})"), "messages[0].role");
  EXPECT_EQ(chat_fault(R"({"messages":[{"role":"king","content":"Hi"}]})"), "messages[0].role");
  EXPECT_EQ(parse_chat_request(R"({"messages":[{"role":"king","content":"Hi"}]})").error().message(),
            "'messages[0].role' must be one of system, developer, user, assistant, tool, function, not \"king\"");
  EXPECT_EQ(chat_fault(R"({"messages":[{"role":"user","content":"Hi","name":5}]})"), "messages[0].name");
  EXPECT_EQ(chat_fault(R"({"messages":[{"role":"user","content":"Hi","name":null}]})"), "(none)");
  EXPECT_EQ(chat_fault(R"({"messages":[{"role":"user"}]})"), "messages[0].content");
  EXPECT_EQ(chat_fault(R"({"messages":[{"role":"user","content":5}]})"), "messages[0].content");
  EXPECT_EQ(chat_fault(R"({"messages":[{"role":"user","content":[{"type":"text"}]}]})"), "messages[0].content[0].text");
  EXPECT_EQ(chat_fault(R"({"messages":[{"role":"user","content":[{"type":"image_url","image_url":{}}]}]})"),
            "messages[0].content[0].type");
  EXPECT_EQ(chat_fault(R"({"messages":[{"role":"assistant","content":null,"tool_calls":[]}]})"), "(none)");
  const auto call_fault = [](std::string_view call) {
    return chat_fault(R"({"messages":[{"role":"assistant","tool_calls":[)" + std::string(call) + "]}]}");
  };
  EXPECT_EQ(call_fault(R"({"function":{"name":"f"}})"), "(none)");
  EXPECT_EQ(call_fault("{}"), "messages[0].tool_calls[0].function");
  EXPECT_EQ(call_fault(R"({"function":{}})"), "messages[0].tool_calls[0].function.name");
  EXPECT_EQ(call_fault(R"({"id":1,"function":{"name":"f"}})"), "messages[0].tool_calls[0].id");
  EXPECT_EQ(call_fault(R"({"type":"custom","custom":{"name":"f"}})"), "messages[0].tool_calls[0].type");
}

// The parameter that a chat whose messages these are is refused for, the user's first words standing before them.
std::string rounds_fault(const std::string& messages) {
  const std::string body = R"({"messages":[{"role":"user","content":"a"},)" + messages + "]}";
  EXPECT_TRUE(parse_chat_request(body)) << body;  // the beginning of a prompt may end anywhere
  const auto asked = ask_chat(body);
  return asked ? "(none)" : asked.error().param();
}
// The assistant's calls, by their ids, and the result of one.
std::string calls_of(const std::vector<std::string>& ids) {
  std::string calls;
  for (const std::string& id : ids)
    calls += (calls.empty() ? "" : ",") + (R"({"id":")" + id) + R"(","type":"function","function":{"name":"f"}})";
  return R"({"role":"assistant","tool_calls":[)" + calls + "]}";
}
std::string result_of(const std::string& id) {
  return R"({"role":"tool","tool_call_id":")" + id + R"(","content":"x"})";
}

TEST(ChatRequest, WantsCallsAndResultsTogether) {
  const std::string said = R"({"role":"user","content":"b"})";
  EXPECT_EQ(rounds_fault(calls_of({"1", "2"}) + "," + result_of("2") + "," + result_of("1") + "," + said), "(none)");
  EXPECT_EQ(rounds_fault(calls_of({"1"}) + "," + result_of("1") + "," + calls_of({"2"}) + "," + result_of("2")),
            "(none)");
  EXPECT_EQ(rounds_fault(calls_of({})), "(none)");
  // A result without a call.
  EXPECT_EQ(rounds_fault(result_of("1")), "messages[1].role");
  EXPECT_EQ(rounds_fault(calls_of({"1"}) + "," + result_of("1") + "," + said + "," + result_of("1")),
            "messages[4].role");
  EXPECT_EQ(rounds_fault(calls_of({"1"}) + "," + result_of("2")), "messages[2].tool_call_id");
  EXPECT_EQ(rounds_fault(calls_of({"1"}) + R"(,{"role":"tool","tool_call_id":1,"content":"x"})"),
            "messages[2].tool_call_id");
  // Two results of one call.
  EXPECT_EQ(rounds_fault(calls_of({"1"}) + "," + result_of("1") + "," + result_of("1")), "messages[3].tool_call_id");
  EXPECT_EQ(rounds_fault(calls_of({"1", "2"}) + "," + result_of("2") + "," + result_of("2") + "," + result_of("1")),
            "messages[3].tool_call_id");
  EXPECT_EQ(rounds_fault(calls_of({"1", "1"}) + "," + result_of("1") + "," + result_of("1")), "(none)");
  // A call without a result.
  EXPECT_EQ(rounds_fault(calls_of({"1"})), "messages[1].tool_calls");
  EXPECT_EQ(rounds_fault(calls_of({"1", "2"}) + "," + result_of("1")), "messages[1].tool_calls");
  EXPECT_EQ(rounds_fault(calls_of({"1", "1"}) + "," + result_of("1")), "messages[1].tool_calls") << "of one id";
  EXPECT_EQ(rounds_fault(calls_of({"1"}) + "," + said + "," + result_of("1")), "messages[1].tool_calls");
  const auto error = ask_chat(R"({"messages":[{"role":"user","content":"a"},)" + calls_of({"one", "two"}) + "," +
                              result_of("one") + "]}")
                         .error();
  EXPECT_NE(error.message().find("\"two\""), std::string::npos) << error.message();
}

TEST(ChatRequest, WantsResultsOfFunctionsBehindTheirCalls) {
  const std::string call = R"({"role":"assistant","content":null,"function_call":{"name":"f","arguments":"{}"}})";
  const auto result = [](const std::string& name) {
    return R"({"role":"function","name":")" + name + R"(","content":"x"})";
  };
  EXPECT_EQ(rounds_fault(call + "," + result("f")), "(none)");
  EXPECT_EQ(rounds_fault(call), "(none)");
  EXPECT_EQ(rounds_fault(result("f")), "messages[1].role");
  EXPECT_EQ(rounds_fault(call + "," + result("g")), "messages[2].role");
  EXPECT_EQ(rounds_fault(result("f") + "," + call), "messages[1].role");
}

TEST(ChatRequest, WantsParametersOfToolsToBeOfAnObject) {
  const auto with_parameters = [](const std::string& schema) {
    return chat_fault(chat(R"("tools":[{"type":"function","function":{"name":"f","parameters":)" + schema + "}}]"));
  };
  for (const char* schema : {R"({"type":"object"})", R"({"type":["object","null"]})", "{}", R"({"properties":{}})",
                             R"({"type":"OBJECT"})", R"({"type":["Object"]})", R"({"type":"dict"})"})
    EXPECT_EQ(with_parameters(schema), "(none)") << schema;
  for (const char* schema : {R"({"type":"string"})", R"({"type":"array","items":{}})", R"({"type":["string","null"]})",
                             R"({"type":"STRING"})", R"({"type":5})", R"({"type":null})", R"({"type":true})",
                             R"({"type":{}})", R"({"type":[]})", R"({"type":["dict"]})", R"({"type":[["object"]]})"})
    EXPECT_EQ(with_parameters(schema), "tools[0].function.parameters.type") << schema;
  EXPECT_EQ(chat_fault(chat(R"("functions":[{"name":"f","parameters":{"type":"integer"}}])")),
            "functions[0].parameters.type");
}

TEST(ChatRequest, TakesCallsAndResultsWithoutIds) {
  const std::string calls = R"({"role":"assistant","tool_calls":[{"function":{"name":"f"}},
                              {"id":"","function":{"name":"g"}}]})";
  const std::string result = R"({"role":"tool","content":"x"})";
  EXPECT_EQ(rounds_fault(calls), "(none)");
  EXPECT_EQ(rounds_fault(calls + "," + result_of("any")), "(none)");
  EXPECT_EQ(rounds_fault(calls + "," + result_of("any") + "," + result_of("any")), "(none)");
  EXPECT_EQ(rounds_fault(calls_of({"1", "2"}) + "," + result + "," + result_of("1")), "messages[3].tool_call_id");
  EXPECT_EQ(rounds_fault(calls_of({"1", "2"}) + "," + result + "," + result), "(none)");
  EXPECT_EQ(rounds_fault(calls_of({"1", "2"}) + "," + result), "messages[1].tool_calls");
  EXPECT_EQ(rounds_fault(result), "messages[1].role");
  // The older words go together by names.
  EXPECT_EQ(rounds_fault(R"({"role":"function","name":"f","content":"x"})"), "messages[1].role");
  EXPECT_EQ(rounds_fault(R"({"role":"assistant","function_call":{"name":"f","arguments":"{}"}})"), "(none)");
}

// A model's call that a limit cut off is no JSON; the conversation goes on all the same.
TEST(ChatRequest, TakesArgumentsThatAreNoJsonAsText) {
  const auto parsed = parse_chat_request(
      R"({"messages":[{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"{\"a\": \"b"}},
          {"function":{"name":"f","arguments":"[1]"}},{"function":{"name":"f","arguments":{"a":1}}}]}]})");
  ASSERT_TRUE(parsed) << parsed.error().to_string();
  const json::value& calls = parsed->messages[0].at("tool_calls");
  EXPECT_EQ(calls.at(0).at("function").at("arguments"), json::value("{\"a\": \"b"));
  EXPECT_EQ(calls.at(1).at("function").at("arguments"), json::value("[1]"));
  EXPECT_EQ(calls.at(2).at("function").at("arguments"), (json::value{{"a", 1}}));
  EXPECT_EQ(chat_fault(R"({"messages":[{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":5}}]}]})"),
            "messages[0].tool_calls[0].function.arguments");
}

TEST(ChatRequest, ChecksWhatClientsNote) {
  for (const char* name : {"user", "safety_identifier", "prompt_cache_key"}) {
    const std::string field = "\"" + std::string(name) + "\":";
    EXPECT_EQ(chat_fault(chat(field + "\"x\"")), "(none)");
    EXPECT_EQ(chat_fault(chat(field + "null")), "(none)");
    EXPECT_EQ(chat_fault(chat(field + "3")), name);
    EXPECT_EQ(completion_fault(completion(field + "3")), name);
  }
  EXPECT_EQ(chat_fault(chat(R"("metadata":{"k":"v"},"store":true)")), "(none)");
  EXPECT_EQ(chat_fault(chat(R"("metadata":{"k":3})")), "metadata.k");
  EXPECT_EQ(parse_embedding_request(R"({"input":"a","user":3})").error().param(), "user");
}

// What has no effect is refused where it is of a type that cannot be meant.
TEST(ChatRequest, ChecksTheTypesOfHints) {
  for (const std::string name : {"service_tier", "verbosity", "prompt_cache_retention", "store", "prediction"}) {
    EXPECT_EQ(chat_fault(chat("\"" + name + "\":5")), name);
    EXPECT_EQ(chat_fault(chat("\"" + name + "\":null")), "(none)");
  }
  EXPECT_EQ(chat_fault(chat(R"("service_tier":"auto","verbosity":"low","store":false)")), "(none)");
  EXPECT_EQ(chat_fault(chat(R"("prediction":{"type":"content","content":"x"})")), "(none)");
  EXPECT_EQ(chat_fault(R"({"messages":[{"role":"assistant","content":"a","reasoning_content":5}]})"),
            "messages[0].reasoning_content");
  EXPECT_EQ(chat_fault(R"({"messages":[{"role":"assistant","content":"a","reasoning_content":null}]})"), "(none)");
  for (const std::string strict : {"\"x\"", "5"}) {
    EXPECT_EQ(chat_fault(chat(R"("response_format":{"type":"json_schema","json_schema":{"schema":{},"strict":)" +
                              strict + "}}")),
              "response_format.json_schema.strict");
  }
  const std::string tools = R"("tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":)";
  EXPECT_EQ(chat_fault(chat(tools + R"({"type":5,"function":{"name":"f"}})")), "tool_choice.type");
  EXPECT_EQ(chat_fault(chat(tools + R"({"function":{"name":"f"}})")), "(none)");
}

TEST(ChatRequest, SaysRangesAndNumbersAlike) {
  const auto message = [](std::string_view more) { return parse_chat_request(chat(more)).error().message(); };
  EXPECT_EQ(message(R"("temperature":2.25)"), "'temperature' must be a number from 0 to 2, not 2.25");
  EXPECT_EQ(message(R"("top_p":0)"), "'top_p' must be a number above 0 and at most 1, not 0");
  EXPECT_EQ(message(R"("top_p":1.1)"), "'top_p' must be a number above 0 and at most 1, not 1.1");
  EXPECT_EQ(message(R"("top_p":"x")"), "'top_p' must be a number above 0 and at most 1, not \"x\"");
  EXPECT_EQ(message(R"("n":1.5)"), "'n' must be an integer from 1 to 128, not 1.5");
  EXPECT_EQ(message(R"("frequency_penalty":1e300)"), "'frequency_penalty' must be a number from -2 to 2, not 1e+300");
  EXPECT_EQ(message(R"("top_k":2147483648)"), "'top_k' must be an integer from -1 to 2147483647, not 2147483648");
  EXPECT_EQ(message(R"("priority":-2147483648)"),
            "'priority' must be an integer from -2147483647 to 2147483647, not -2147483648");
  EXPECT_EQ(message(R"("n":129.0)"), "'n' must be an integer from 1 to 128, not 129.0");
  EXPECT_EQ(message(R"("max_tokens":0)"), "'max_tokens' must be an integer of at least 1, not 0");
  EXPECT_EQ(message(R"("max_tokens":3000000000.5)"), "'max_tokens' must be an integer of at least 1, not 3000000000.5");
}

TEST(ChatRequest, TakesAnyLimitOfTokensForTheLargest) {
  for (const char* large : {"2147483648", "9223372036854775807", "18446744073709551615", "3e9", "1e300"}) {
    const auto parsed = parse_chat_request(chat(R"("max_tokens":)" + std::string(large)));
    ASSERT_TRUE(parsed) << large << ": " << parsed.error().to_string();
    EXPECT_EQ(parsed->max_tokens, 2147483647) << large;
  }
  EXPECT_EQ(parse_chat_request(chat(R"("max_completion_tokens":4294967296)"))->max_tokens, 2147483647);
  EXPECT_EQ(parse_completion_request(R"({"prompt":"a","max_tokens":4294967296})")->max_tokens, 2147483647);
}

// Before anything is made of them.
TEST(ChatRequest, TakesSoManyThingsAndNoMore) {
  const auto repeated = [](const std::string& item, size_t count) {
    std::string items;
    items.reserve((item.size() + 1) * count);
    for (size_t i = 0; i < count; ++i)
      items.append(i == 0 ? "" : ",").append(item);
    return "[" + items + "]";
  };
  const std::string message = R"({"role":"user","content":"a"})";
  EXPECT_EQ(chat_fault("{\"messages\":" + repeated(message, 16'384) + "}"), "(none)");
  const auto many = parse_chat_request("{\"messages\":" + repeated(message, 16'385) + "}");
  ASSERT_FALSE(many);
  EXPECT_EQ(many.error().param(), "messages");
  EXPECT_EQ(many.error().message(), "'messages' has 16385 entries; at most 16384 are taken");

  const std::string part = R"({"type":"text","text":"a"})";
  const std::string half = R"({"role":"user","content":)" + repeated(part, 32'768) + "}";
  EXPECT_EQ(chat_fault("{\"messages\":[" + half + "," + half + "]}"), "(none)");
  EXPECT_EQ(chat_fault("{\"messages\":[" + half + "," + half + R"(,{"role":"user","content":[)" + part + "]}]}"),
            "messages[2].content");
  const std::string call = R"({"function":{"name":"f"}})";
  EXPECT_EQ(chat_fault(R"({"messages":[{"role":"assistant","tool_calls":)" + repeated(call, 65'537) + "}]}"),
            "messages[0].tool_calls");
  EXPECT_EQ(chat_fault(chat("\"tools\":" + repeated("{}", 1025))), "tools");
  EXPECT_EQ(chat_fault(chat("\"functions\":" + repeated("{}", 1025))), "functions");
}

TEST(ChatRequest, BringsMessagesIntoTheTemplatesForm) {
  const auto parsed = parse_chat_request(
      R"({"messages":[{"role":"user","name":"ann","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},)"
      R"({"role":"assistant","tool_calls":[{"id":"1","type":"function","function":)"
      R"({"name":"f","arguments":"{\"x\": 1}"}}]}]})");
  ASSERT_TRUE(parsed) << parsed.error().to_string();
  EXPECT_EQ(parsed->messages[0].at("content"), json::value("a\nb"));
  EXPECT_EQ(parsed->messages[0].at("name"), json::value("ann"));
  EXPECT_TRUE(parsed->messages[1].at("content").is_null());
  EXPECT_EQ(parsed->messages[1].at("tool_calls").at(0).at("function").at("arguments"), (json::value{{"x", 1}}));
}

TEST(ChatRequest, RefusesWhatIsNotSupportedInsteadOfDroppingIt) {
  for (const char* more : {R"("modalities":["audio"])", R"("tools":[{"type":"web_search"}])"}) {
    const auto parsed = parse_chat_request(chat(more));
    ASSERT_FALSE(parsed) << more;
    EXPECT_EQ(parsed.error().code(), base::ErrorCode::unsupported) << more;
  }
  EXPECT_EQ(chat_fault(chat(R"("response_format":{"type":"text"},"tools":[],"modalities":["text"])")), "(none)");
}

TEST(ChatRequest, TakesABudgetOfReasoning) {
  EXPECT_EQ(parse_chat_request(chat(R"("thinking_token_budget":0)"))->reasoning_tokens, 0);
  EXPECT_FALSE(parse_chat_request(chat(R"("seed":1)"))->reasoning_tokens.has_value());
  EXPECT_EQ(chat_fault(chat(R"("thinking_token_budget":-1)")), "thinking_token_budget");
  EXPECT_EQ(chat_fault(chat(R"("thinking_token_budget":"much")")), "thinking_token_budget");
}

TEST(ChatRequest, TakesFunctionsForTools) {
  const std::string functions = R"("functions":[{"name":"f","description":"F.","parameters":{"type":"object"}},)"
                                R"({"name":"g"}])";
  const auto plain = parse_chat_request(chat(functions));
  ASSERT_TRUE(plain) << plain.error().to_string();
  ASSERT_EQ(plain->tools.size(), 2u);
  EXPECT_EQ(plain->tools[0].name, "f");
  EXPECT_EQ(plain->tools[0].description, "F.");
  EXPECT_EQ(plain->tools[0].parameters, (json::value{{"type", "object"}}));
  EXPECT_EQ(plain->tool_choice.kind, ToolChoice::Kind::automatic);
  EXPECT_FALSE(plain->parallel_tool_calls);
  EXPECT_TRUE(plain->tells_function_call);
  EXPECT_EQ(parse_chat_request(chat(functions + R"(,"function_call":"auto")"))->tool_choice.kind,
            ToolChoice::Kind::automatic);
  EXPECT_EQ(parse_chat_request(chat(functions + R"(,"function_call":"none")"))->tool_choice.kind,
            ToolChoice::Kind::none);
  const auto named = parse_chat_request(chat(functions + R"(,"function_call":{"name":"g"})"));
  ASSERT_TRUE(named) << named.error().to_string();
  EXPECT_EQ(named->tool_choice.kind, ToolChoice::Kind::named);
  EXPECT_EQ(named->tool_choice.name, "g");
  EXPECT_FALSE(parse_chat_request(chat(R"("seed":1)"))->tells_function_call);

  EXPECT_EQ(chat_fault(chat(functions + R"(,"function_call":{"name":"h"})")), "function_call");
  EXPECT_EQ(chat_fault(chat(functions + R"(,"function_call":"required")")), "function_call");
  EXPECT_EQ(chat_fault(chat(functions + R"(,"function_call":{})")), "function_call.name");
  EXPECT_EQ(chat_fault(chat(R"("function_call":"auto")")), "function_call");
  EXPECT_EQ(chat_fault(chat(R"("functions":[{}])")), "functions[0].name");
  EXPECT_EQ(chat_fault(chat(R"("functions":[1])")), "functions[0]");
  EXPECT_EQ(chat_fault(chat(R"("functions":[{"name":"f"},{"name":"f"}])")), "functions");
  EXPECT_EQ(chat_fault(chat(functions + R"(,"tools":[{"type":"function","function":{"name":"f"}}])")), "functions");
  EXPECT_EQ(chat_fault(chat(functions + R"(,"tool_choice":"auto")")), "functions");
  EXPECT_EQ(completion_fault(completion(functions)), "functions");
}

TEST(ChatRequest, TakesCallsOfFunctionsInMessages) {
  const auto parsed = parse_chat_request(
      R"({"messages":[{"role":"user","content":"a"},
          {"role":"assistant","content":null,"function_call":{"name":"f","arguments":"{\"x\":1}"}},
          {"role":"function","name":"f","content":"one"},
          {"role":"assistant","content":null,"function_call":{"name":"f","arguments":"no json"},"tool_calls":null},
          {"role":"function","name":"f","content":null},
          {"role":"assistant","content":"b","function_call":null},
          {"role":"function","name":"g","content":"unasked"}]})");
  ASSERT_TRUE(parsed) << parsed.error().to_string();
  const json::array& messages = parsed->messages;
  const json::value& call = messages[1].at("tool_calls").at(0);
  EXPECT_EQ(call.at("type"), json::value("function"));
  EXPECT_EQ(call.at("function").at("name"), json::value("f"));
  EXPECT_EQ(call.at("function").at("arguments"), (json::value{{"x", 1}}));
  EXPECT_FALSE(messages[1].get_object().contains("function_call"));
  EXPECT_EQ(messages[2].at("role"), json::value("tool"));
  EXPECT_EQ(messages[2].at("tool_call_id"), call.at("id"));
  EXPECT_EQ(messages[2].at("content"), json::value("one"));
  EXPECT_EQ(messages[3].at("tool_calls").at(0).at("function").at("arguments"), json::value("no json"));
  EXPECT_NE(messages[3].at("tool_calls").at(0).at("id"), call.at("id"));
  EXPECT_EQ(messages[4].at("tool_call_id"), messages[3].at("tool_calls").at(0).at("id"));
  EXPECT_EQ(messages[4].at("content"), json::value(""));
  EXPECT_EQ(messages[6].at("role"), json::value("tool"));

  const auto fault_of = [](std::string_view message) {
    return chat_fault(R"({"messages":[{"role":"user","content":"a"},)" + std::string(message) + "]}");
  };
  EXPECT_EQ(fault_of(R"({"role":"function","content":"x"})"), "messages[1].name");
  EXPECT_EQ(fault_of(R"({"role":"assistant","function_call":"f"})"), "messages[1].function_call");
  EXPECT_EQ(fault_of(R"({"role":"assistant","function_call":{"name":"f"}})"), "messages[1].function_call.arguments");
  EXPECT_EQ(fault_of(R"({"role":"assistant","function_call":{"arguments":"{}"}})"), "messages[1].function_call.name");
  EXPECT_EQ(fault_of(R"({"role":"assistant","function_call":{"name":"f","arguments":"{}"},
                         "tool_calls":[{"function":{"name":"f"}}]})"),
            "messages[1].function_call");
  EXPECT_EQ(fault_of(R"({"role":"assistant","function_call":{"name":"f","arguments":"{}"},"tool_calls":[]})"),
            "(none)");
}

TEST(ChatRequest, TakesTools) {
  const auto parsed = parse_chat_request(chat(
      R"("tools":[{"type":"function","function":{"name":"get","description":"Gets.","parameters":{"type":"object"},
         "strict":true}},{"type":"function","function":{"name":"put"}}],
         "tool_choice":{"type":"function","function":{"name":"put"}},"parallel_tool_calls":false)"));
  ASSERT_TRUE(parsed) << parsed.error().to_string();
  ASSERT_EQ(parsed->tools.size(), 2u);
  EXPECT_EQ(parsed->tools[0].name, "get");
  EXPECT_EQ(parsed->tools[0].description, "Gets.");
  EXPECT_EQ(parsed->tools[0].parameters, (base::json::value{{"type", "object"}}));
  EXPECT_TRUE(parsed->tools[0].strict);
  EXPECT_TRUE(parsed->tools[1].parameters.is_null());
  EXPECT_EQ(parsed->tool_choice.kind, ToolChoice::Kind::named);
  EXPECT_EQ(parsed->tool_choice.name, "put");
  EXPECT_FALSE(parsed->parallel_tool_calls);
  EXPECT_EQ(parse_chat_request(chat(R"("model":"m")"))->tool_choice.kind, ToolChoice::Kind::none);
}

TEST(ChatRequest, AllowsSomeOfTheTools) {
  const std::string tools =
      R"("tools":[{"type":"function","function":{"name":"get"}},{"type":"function","function":{"name":"put"}}])";
  const auto choice = [&](std::string_view allowed) {
    return chat(tools + R"(,"tool_choice":{"type":"allowed_tools","allowed_tools":)" + std::string(allowed) + "}");
  };
  const auto parsed =
      parse_chat_request(choice(R"({"mode":"required","tools":[{"type":"function","function":{"name":"put"}}]})"));
  ASSERT_TRUE(parsed) << parsed.error().to_string();
  EXPECT_EQ(parsed->tool_choice.kind, ToolChoice::Kind::required);
  EXPECT_EQ(parsed->tool_choice.allowed, std::vector<std::string>{"put"});
  EXPECT_EQ(parsed->tools.size(), 2u);
  EXPECT_EQ(chat_fault(choice(R"({"mode":"auto","tools":[{"type":"function","function":{"name":"pat"}}]})")),
            "tool_choice");
  EXPECT_EQ(chat_fault(choice(R"({"mode":"auto","tools":[{}]})")), "tool_choice.allowed_tools.tools[0].name");
  EXPECT_EQ(chat_fault(choice(R"({"tools":[]})")), "tool_choice.allowed_tools.mode");
}

TEST(ChatRequest, GoesOnFromALastMessageOfTheAssistants) {
  const auto body = [](std::string_view last, std::string_view more) {
    return R"({"continue_final_message":true,"messages":[{"role":"user","content":"Hi"},)" + std::string(last) + "]" +
           std::string(more) + "}";
  };
  const std::string begun = R"({"role":"assistant","content":"So"})";
  const auto parsed = parse_chat_request(body(begun, R"(,"add_generation_prompt":false)"));
  ASSERT_TRUE(parsed) << parsed.error().to_string();
  EXPECT_EQ(parsed->answer_begins, "So");
  EXPECT_EQ(parsed->messages.size(), 1u);
  EXPECT_TRUE(parsed->add_generation_prompt) << "the beginning stands behind it";
  EXPECT_EQ(parsed->answer_reasoning, "");
  const auto thought = parse_chat_request(body(R"({"role":"assistant","content":"So","reasoning_content":"Hm"})", ""));
  ASSERT_TRUE(thought);
  EXPECT_EQ(thought->answer_reasoning, "Hm");
  EXPECT_EQ(chat_fault(body(R"({"role":"user","content":"x"})", "")), "continue_final_message");
  EXPECT_EQ(chat_fault(body(R"({"role":"assistant","content":null})", "")), "continue_final_message");
  EXPECT_EQ(chat_fault(body(begun, R"(,"guided_regex":"a")")), "continue_final_message");
  EXPECT_EQ(chat_fault(R"({"continue_final_message":true,"messages":[{"role":"assistant","content":"x"}]})"),
            "messages");
}

TEST(ChatRequest, NamesTheFaultOfATool) {
  const std::string one = R"({"type":"function","function":{"name":"get"}})";
  EXPECT_EQ(chat_fault(chat(R"("tools":[{"type":"function"}])")), "tools[0].function");
  EXPECT_EQ(chat_fault(chat(R"("tools":[{"type":"function","function":{}}])")), "tools[0].function.name");
  EXPECT_EQ(chat_fault(chat(R"("tools":[{"type":"function","function":{"name":"a b"}}])")), "tools");
  EXPECT_EQ(chat_fault(chat(R"("tools":[)" + one + "," + one + "]")), "tools");
  EXPECT_EQ(chat_fault(chat(R"("tool_choice":"required")")), "tool_choice");
  EXPECT_EQ(chat_fault(chat(R"("tools":[)" + one + R"(],"tool_choice":"perhaps")")), "tool_choice");
  EXPECT_EQ(chat_fault(chat(R"("tools":[)" + one + R"(],"tool_choice":{"function":{"name":"put"}})")), "tool_choice");
}

// As clients send back what they have got: without calls, or with calls of the one type that there is.
TEST(ChatRequest, TakesMessagesWithoutCallsForWhatTheyAre) {
  for (const std::string_view none : {"[]", "null"}) {
    const auto parsed = parse_chat_request(
        R"({"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b","tool_calls":)" +
        std::string(none) + R"(}],"continue_final_message":true})");
    ASSERT_TRUE(parsed) << parsed.error().to_string();
    EXPECT_EQ(parsed->answer_begins, "b");
  }
  const auto parsed = parse_chat_request(
      R"({"messages":[{"role":"assistant","content":null,"tool_calls":[{"id":"a","function":{"name":"f"}}]}]})");
  ASSERT_TRUE(parsed) << parsed.error().to_string();
  EXPECT_EQ(parsed->messages.at(0).at("tool_calls").at(0).at("type"), "function");
}

TEST(ChatRequest, TakesNamesOf128Characters) {
  const auto named = [](size_t length) {
    return chat(R"("tools":[{"type":"function","function":{"name":")" + std::string(length, 'm') + R"("}}])");
  };
  EXPECT_EQ(chat_fault(named(128)), "(none)");
  EXPECT_EQ(chat_fault(named(129)), "tools");
}

TEST(ChatRequest, TakesEveryFormOfOutput) {
  using Kind = OutputFormat::Kind;
  const auto kind = [](std::string_view more) { return parse_chat_request(chat(more))->output.kind; };
  EXPECT_EQ(kind(R"("response_format":{"type":"json_object"})"), Kind::json_object);
  EXPECT_EQ(kind(R"("guided_regex":"a+")"), Kind::regex);
  EXPECT_EQ(kind(R"("guided_choice":["a","b"])"), Kind::choice);
  EXPECT_EQ(kind(R"("grammar":"root ::= \"a\"")"), Kind::grammar);
  EXPECT_EQ(kind(R"("structured_outputs":{"json":{}})"), Kind::json_schema);
  EXPECT_EQ(kind(R"("structured_outputs":{"json_object":true,"regex":null})"), Kind::json_object);
  EXPECT_EQ(kind(R"("structured_outputs":{"json_object":false})"), Kind::text);
  EXPECT_EQ(kind(R"("guided_json_object":true)"), Kind::json_object);
  EXPECT_EQ(kind(R"("response_format":{"type":"json_object","schema":{"type":"null"}})"), Kind::json_schema);
  EXPECT_EQ(chat_fault(chat(R"("structured_outputs":{"structural_tag":{}})")), "structured_outputs.structural_tag");
  EXPECT_EQ(chat_fault(chat(R"("json_schema":{})")), "json_schema");
  EXPECT_EQ(chat_fault(chat(R"("best_of":2)")), "best_of");
  EXPECT_EQ(chat_fault(chat(R"("best_of":1,"suffix":"")")), "(none)");
  const auto schema = parse_chat_request(
      chat(R"("response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"null"}}})"));
  ASSERT_TRUE(schema);
  EXPECT_EQ(schema->output.kind, Kind::json_schema);
  EXPECT_EQ(schema->output.name, "n");
  EXPECT_EQ(schema->output.schema, (base::json::value{{"type", "null"}}));
}

TEST(ChatRequest, NamesTheFaultOfAnOutputFormat) {
  EXPECT_EQ(chat_fault(chat(R"("response_format":{})")), "response_format.type");
  EXPECT_EQ(chat_fault(chat(R"("response_format":{"type":"xml"})")), "response_format.type");
  EXPECT_EQ(chat_fault(chat(R"("response_format":{"type":"json_schema"})")), "response_format.json_schema");
  EXPECT_EQ(chat_fault(chat(R"("response_format":{"type":"json_schema","json_schema":{"name":"a"}})")),
            "response_format.json_schema.schema");
  EXPECT_EQ(chat_fault(chat(R"("guided_regex":1)")), "guided_regex");
  EXPECT_EQ(chat_fault(chat(R"("guided_choice":[])")), "guided_choice");
  EXPECT_EQ(chat_fault(chat(R"("guided_json":"{")")), "guided_json");
  EXPECT_EQ(chat_fault(chat(R"("guided_regex":"a","response_format":{"type":"json_object"})")), "guided_regex");
}

TEST(ChatRequest, ExplainsWhatIsNotAnObject) {
  for (const char* body : {"", "[]", "3", "{", "{\"messages\":", "\xff", "nul"}) {
    const auto parsed = parse_chat_request(body);
    ASSERT_FALSE(parsed) << body;
    EXPECT_EQ(parsed.error().code(), base::ErrorCode::invalid_argument);
    EXPECT_FALSE(parsed.error().message().empty());
  }
}

TEST(CompletionRequest, TakesEveryFormOfPrompt) {
  const auto text = parse_completion_request(R"({"prompt":"a"})");
  ASSERT_TRUE(text);
  EXPECT_EQ(text->prompts, (std::vector<Prompt>{"a"}));
  EXPECT_EQ(text->max_tokens, 16);
  const auto texts = parse_completion_request(R"({"prompt":["a","b"]})");
  ASSERT_TRUE(texts);
  EXPECT_EQ(texts->prompts, (std::vector<Prompt>{"a", "b"}));
  const auto ids = parse_completion_request(R"({"prompt":[1,2,3]})");
  ASSERT_TRUE(ids);
  EXPECT_EQ(ids->prompts, (std::vector<Prompt>{TokenIds{1, 2, 3}}));
  const auto many = parse_completion_request(R"({"prompt":[[1],[2,3]]})");
  ASSERT_TRUE(many);
  EXPECT_EQ(many->prompts, (std::vector<Prompt>{TokenIds{1}, TokenIds{2, 3}}));
}

TEST(CompletionRequest, NamesTheParameterAtFault) {
  EXPECT_EQ(completion_fault("{}"), "prompt");
  EXPECT_EQ(completion_fault(R"({"prompt":[]})"), "prompt");
  EXPECT_EQ(completion_fault(R"({"prompt":[1,"a"]})"), "prompt");
  EXPECT_EQ(completion_fault(R"({"prompt":[-1]})"), "prompt");
  EXPECT_EQ(completion_fault(R"({"prompt":[true]})"), "prompt");
  EXPECT_EQ(completion_fault(completion(R"("max_tokens":-1)")), "max_tokens");
  EXPECT_EQ(completion_fault(completion(R"("max_tokens":0,"echo":true)")), "(none)");
  EXPECT_EQ(completion_fault(completion(R"("logprobs":true)")), "logprobs");
  EXPECT_EQ(completion_fault(completion(R"("logprobs":21)")), "logprobs");
  EXPECT_EQ(completion_fault(completion(R"("suffix":"end")")), "suffix");
  EXPECT_EQ(completion_fault(completion(R"("best_of":4)")), "best_of");
}

TEST(CompletionRequest, SaysWhyAnIdIsNone) {
  const auto message = [](std::string_view prompt) {
    return parse_completion_request(R"({"prompt":)" + std::string(prompt) + "}").error().message();
  };
  EXPECT_EQ(message("[1, 2.0]"), "'prompt[1]' must be a token id, an integer from 0 to 2147483647, not 2.0");
  EXPECT_EQ(message("[2.0, 1]"), "'prompt[0]' must be a token id, an integer from 0 to 2147483647, not 2.0");
  EXPECT_EQ(message("[[1], [2, 2147483648]]"),
            "'prompt[1][1]' must be a token id, an integer from 0 to 2147483647, not 2147483648");
  EXPECT_EQ(message(R"([1, "a"])"), "'prompt[1]' must be a token id, an integer from 0 to 2147483647, not \"a\"");
}

TEST(EmbeddingRequest, ReadsInputsAndFormat) {
  const auto parsed = parse_embedding_request(R"({"input":["a","b"],"encoding_format":"base64"})");
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->inputs.size(), 2u);
  EXPECT_TRUE(parsed->base64);
  EXPECT_EQ(parse_embedding_request("{}").error().param(), "input");
  EXPECT_EQ(parse_embedding_request(R"({"input":""})").error().param(), "input");
  EXPECT_EQ(parse_embedding_request(R"({"input":[]})").error().param(), "input");
  EXPECT_EQ(parse_embedding_request(R"({"input":[""]})").error().param(), "input");
  EXPECT_EQ(parse_embedding_request(R"({"input":["a",""]})").error().param(), "input[1]");
  EXPECT_EQ(parse_embedding_request(R"({"input":[[1],[]]})").error().param(), "input[1]");
  EXPECT_TRUE(parse_embedding_request(R"({"input":" "})"));
  EXPECT_EQ(parse_embedding_request(R"({"input":"a","encoding_format":"hex"})").error().param(), "encoding_format");
}

TEST(TokenizeRequest, TakesTextOrMessages) {
  const auto text = parse_tokenize_request(R"({"prompt":"a","add_special_tokens":false})");
  ASSERT_TRUE(text);
  EXPECT_EQ(text->text, "a");
  EXPECT_FALSE(text->add_special_tokens);
  const auto messages = parse_tokenize_request("{" + std::string(hello) + "}");
  ASSERT_TRUE(messages);
  EXPECT_FALSE(text->conversation);
  ASSERT_TRUE(messages->conversation);
  EXPECT_EQ(messages->conversation->messages.size(), 1u);
  const auto more = parse_tokenize_request(
      "{" + std::string(hello) +
      R"(,"tools":[{"type":"function","function":{"name":"f"}}],"add_generation_prompt":false,"reasoning_effort":"low",
         "chat_template_kwargs":{"enable_thinking":false}})");
  ASSERT_TRUE(more) << more.error().to_string();
  EXPECT_EQ(more->conversation->tools.size(), 1u);
  EXPECT_FALSE(more->conversation->add_generation_prompt);
  EXPECT_EQ(more->conversation->template_variables,
            (json::object{{"reasoning_effort", "low"}, {"enable_thinking", false}}));
  EXPECT_EQ(parse_tokenize_request("{" + std::string(hello) + R"(,"tools":[{"type":"function"}]})").error().param(),
            "tools[0].function");
  EXPECT_EQ(parse_tokenize_request("{}").error().param(), "prompt");
  EXPECT_EQ(parse_detokenize_request(R"({"tokens":"1"})").error().param(), "tokens");
  EXPECT_EQ(parse_detokenize_request(R"({"tokens":[1,2]})")->tokens, (TokenIds{1, 2}));
}

}  // namespace
}  // namespace tidemill::wire
