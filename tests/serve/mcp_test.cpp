// The Model Context Protocol at /mcp: what is spoken, and that a request ends when its client gives it up. With the
// official SDK in tests/e2e/mcp.test.mjs.
#include <future>
#include <stop_token>
#include <string>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "live_server.hpp"
#include "serve/running_calls.hpp"

namespace tidemill {
namespace {

using test::parse_object;
namespace json = base::json;

serve::ServeOptions mcp_options() {
  auto options = test::small_options();
  options.mcp = true;
  return options;
}

class Mcp : public test::OnSharedServer<Mcp> {
 public:
  static serve::ServeOptions server_options() { return mcp_options(); }

 protected:
  int64_t code_of(std::string_view body) {
    return parse_object(client_.post("/mcp", body)).at("error").at("code").to_number<int64_t>();
  }
};

std::string initialize(std::string_view version) {
  return fmt::format(R"({{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"{}"}}}})",
                     version);
}

// Goes on for as long as `tokens` let it.
std::string generate(int64_t id, int64_t tokens) {
  return fmt::format(R"({{"jsonrpc":"2.0","id":{},"method":"tools/call","params":{{"name":"generate","arguments":)"
                     R"({{"prompt":"x = ","max_tokens":{},"seed":1,)"
                     R"("schema":{{"type":"array","items":{{"type":"integer"}},"minItems":5000}}}}}}}})",
                     id, tokens);
}

std::string cancel(std::string_view id) {
  return fmt::format(
      R"({{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{},"reason":"enough"}}}})", id);
}

std::string new_session(test::Client client) {
  const auto response = client.post("/mcp", initialize("2025-11-25"));
  return std::string(response.headers.find("mcp-session-id").value_or(""));
}

wire::Headers in(const std::string& session) {
  wire::Headers headers;
  if (!session.empty()) headers.add("Mcp-Session-Id", session);
  return headers;
}

std::future<wire::HttpResponse> begin(test::LiveServer& live, const std::string& body, const std::string& session) {
  return std::async(std::launch::async, [client = live.client(), body, session]() mutable {
    return client.post("/mcp", body, in(session));
  });
}

TEST_F(Mcp, AnswersInAVersionThatItSpeaks) {
  const auto answered = [&](std::string_view wanted) {
    return std::string(
        parse_object(client_.post("/mcp", initialize(wanted))).at("result").at("protocolVersion").as_string());
  };
  for (const std::string version : {"2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"})
    EXPECT_EQ(answered(version), version);
  EXPECT_EQ(answered("2026-07-28"), "2025-11-25");
  EXPECT_EQ(answered("1999-01-01"), "2025-11-25");
}

TEST_F(Mcp, RefusesAHeaderWithAVersionThatItDoesNotSpeak) {
  const std::string ping = R"({"jsonrpc":"2.0","id":5,"method":"ping"})";
  const auto refused = client_.post("/mcp", ping, {{"MCP-Protocol-Version", "2026-07-28"}});
  EXPECT_EQ(refused.status, 400);
  const json::object body = parse_object(refused);
  EXPECT_EQ(body.at("id"), 5);
  const std::string words(body.at("error").at("message").as_string());
  EXPECT_NE(words.find("2026-07-28"), std::string::npos);
  EXPECT_NE(words.find("2025-11-25"), std::string::npos);
  EXPECT_EQ(client_.post("/mcp", ping, {{"MCP-Protocol-Version", "2025-06-18"}}).status, 200);
  // What begins with a version that is not known here is told one that is.
  EXPECT_EQ(client_.post("/mcp", initialize("2026-07-28"), {{"MCP-Protocol-Version", "2026-07-28"}}).status, 200);
}

TEST_F(Mcp, TakesNoRequestWhoseIdIsNull) {
  EXPECT_EQ(client_.post("/mcp", R"({"jsonrpc":"2.0","id":null,"method":"ping"})").status, 400);
  EXPECT_EQ(code_of(R"({"jsonrpc":"2.0","id":null,"method":"ping"})"), -32600);
  EXPECT_EQ(client_.post("/mcp", R"({"jsonrpc":"2.0","method":"notifications/initialized"})").status, 202);
}

TEST_F(Mcp, SessionsHaveNamesOfTheirOwn) {
  const std::string one = new_session(live_->client());
  EXPECT_EQ(one.size(), 36U);
  EXPECT_NE(one, new_session(live_->client()));
  const std::string ping = R"({"jsonrpc":"2.0","id":5,"method":"ping"})";
  EXPECT_EQ(client_.post("/mcp", ping, in(one)).status, 200);
  EXPECT_EQ(client_.post("/mcp", ping, in("a b")).status, 400);
  EXPECT_EQ(client_.post("/mcp", ping, in(std::string(129, 'a'))).status, 400);
}

TEST_F(Mcp, ACancelledRequestEnds) {
  const std::string session = new_session(live_->client());
  auto running = begin(*live_, generate(7, 4000), session);
  test::wait_until([&] { return live_->engine().stats().running == 1; }, "the request to run");
  for (const std::string_view other : {"8", "\"7\"", "null", "[7]"})
    EXPECT_EQ(client_.post("/mcp", cancel(other), in(session)).status, 202);
  EXPECT_EQ(client_.post("/mcp", cancel("7"), in(session)).status, 202);
  const auto response = running.get();
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.headers.find("content-type").value_or(""), "text/event-stream");
  EXPECT_EQ(response.body, "");
  test::wait_until([&] { return live_->engine().idle(); }, "the engine to be idle");
  EXPECT_EQ(client_.post("/mcp", cancel("7"), in(session)).status, 202);  // too late, and no harm
}

// Messages come on connections of their own.
TEST_F(Mcp, ACancellationMayOvertakeItsRequest) {
  const std::string session = new_session(live_->client());
  EXPECT_EQ(client_.post("/mcp", cancel("3"), in(session)).status, 202);
  EXPECT_NE(client_.post("/mcp", generate(4, 8), in(session)).body, "");
  EXPECT_EQ(client_.post("/mcp", generate(3, 4000), in(session)).body, "");
  EXPECT_NE(client_.post("/mcp", generate(3, 8), in(session)).body, "");
  // Only so many are remembered.
  for (int id = 100; id < 165; ++id)
    EXPECT_EQ(client_.post("/mcp", cancel(std::to_string(id)), in(session)).status, 202);
  EXPECT_NE(client_.post("/mcp", generate(100, 8), in(session)).body, "");
  EXPECT_EQ(client_.post("/mcp", generate(101, 8), in(session)).body, "");
}

TEST_F(Mcp, NobodyCancelsTheRequestsOfOthers) {
  const std::string session = new_session(live_->client());
  for (const std::string& other : {new_session(live_->client()), std::string()}) {
    auto mine = begin(*live_, generate(1, 4000), session);
    auto theirs = begin(*live_, generate(1, 200), other);
    const auto ended = [&] { return theirs.wait_for(std::chrono::seconds(0)) == std::future_status::ready; };
    test::wait_until([&] { return live_->engine().stats().running == 2 || ended(); }, "both requests to run");
    EXPECT_EQ(client_.post("/mcp", cancel("1")).status, 202);
    EXPECT_EQ(client_.post("/mcp", cancel("1"), in(session)).status, 202);
    EXPECT_EQ(mine.get().body, "");
    const json::object result = parse_object(theirs.get()).at("result").as_object();
    EXPECT_EQ(result.at("structuredContent").at("completion_tokens"), 200);
  }
}

TEST(McpDrain, ARequestIsCancelledWhileTheServerDrains) {
  test::LiveServer live(mcp_options());
  const std::string session = new_session(live.client());
  auto running = begin(live, generate(1, 4000), session);
  test::wait_until([&] { return live.engine().stats().running == 1; }, "the request to run");
  live.server().drain();
  auto client = live.client();
  EXPECT_EQ(client.post("/mcp", generate(2, 1), in(session)).status, 503);
  EXPECT_EQ(client.post("/mcp", cancel("1"), in(session)).status, 202);
  EXPECT_EQ(running.get().body, "");
}

TEST(RunningCalls, TellTheirWorkToStop) {
  serve::RunningCalls calls;
  int wakes = 0;
  {
    const auto running = calls.begin("one", [&] { ++wakes; });
    const std::stop_token token = running.token();
    calls.cancel("another");
    EXPECT_FALSE(token.stop_requested());
    calls.cancel("one");
    EXPECT_TRUE(token.stop_requested());
    EXPECT_TRUE(running.cancelled());
    EXPECT_EQ(wakes, 1);
  }
  const auto overtaken = calls.begin("another", [] {});
  EXPECT_TRUE(overtaken.token().stop_requested());
  EXPECT_FALSE(serve::RunningCalls::Running().token().stop_requested());
}

}  // namespace
}  // namespace tidemill
