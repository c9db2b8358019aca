// Conversations that the gateway keeps: each turn may go to another backend.
#include <atomic>

#include <gtest/gtest.h>

#include "base/json.hpp"
#include "expect_says.hpp"
#include "gateway/fleet_fixture.hpp"
#include "session/redis_server.hpp"
#include "session/sqlite_database.hpp"
#include "temporary_folder.hpp"

namespace tidemill::test {
namespace {

namespace json = base::json;

// A backend's response to `request`, which says how many items it saw.
json::object response_to(const Received& request, int number) {
  const auto body = base::parse_json(request.body);
  EXPECT_TRUE(body) << request.body;
  EXPECT_EQ(body->at("store"), false);
  EXPECT_FALSE(body->as_object().contains("previous_response_id"));
  const std::string n = std::to_string(number);
  const json::object text{{"type", "output_text"}, {"text", std::to_string(body->at("input").as_array().size())}};
  const json::object message{
      {"id", "msg_" + n}, {"type", "message"}, {"role", "assistant"}, {"content", json::array{text}}};
  return {{"id", "resp_" + n},
          {"object", "response"},
          {"status", "completed"},
          {"store", false},
          {"previous_response_id", nullptr},
          {"output", json::array{message}}};
}

class Conversation : public FleetFixture {
 protected:
  void add_backends(int count) {
    for (int i = 0; i < count; ++i) {
      add_backend([this](const Received& request) {
        const json::object response = response_to(request, ++answered);
        if (!base::parse_json(request.body)->as_object().contains("stream")) {
          return Script{.bytes = http_answer(200, "application/json", json::serialize(response))};
        }
        const auto event = [&](const std::string& type, bool done) {
          json::object carried = response;
          if (!done) carried["output"] = json::array();
          return "event: " + type +
                 "\ndata: " + json::serialize(json::object{{"type", type}, {"response", std::move(carried)}}) + "\n\n";
        };
        return Script{.bytes = chunked_answer({event("response.created", false),
                                               "event: response.output_text.delta\ndata: {\"delta\":\"x\"}\n\n",
                                               event("response.completed", true)})};
      });
    }
  }
  json::object turn(const json::object& body) {
    const wire::HttpResponse response = post("/v1/responses", json::serialize(body));
    EXPECT_EQ(response.status, 200) << response.body;
    auto parsed = base::parse_json(response.body);
    return parsed && parsed->is_object() ? parsed->as_object() : json::object();
  }
  static std::string said(const json::object& response) {
    const json::value& item = response.at("output").as_array().at(0);
    return std::string(item.at("content").as_array().at(0).at("text").as_string());
  }

  TemporaryFolder folder;
  std::atomic<int> answered = 0;
};

TEST_F(Conversation, EachTurnSeesAllThatCameBefore) {
  add_backends(2);
  start();
  const json::object first = turn({{"model", "m"}, {"input", "hello"}});
  EXPECT_EQ(said(first), "1");
  EXPECT_EQ(first.at("store"), true);
  EXPECT_EQ(first.at("previous_response_id"), nullptr);
  const json::object second = turn({{"model", "m"}, {"input", "and"}, {"previous_response_id", "resp_1"}});
  EXPECT_EQ(said(second), "3");
  EXPECT_EQ(second.at("previous_response_id"), "resp_1");
  EXPECT_EQ(said(turn({{"model", "m"}, {"input", "so"}, {"previous_response_id", "resp_2"}})), "5");
  // A conversation forks where it is taken up.
  EXPECT_EQ(said(turn({{"model", "m"}, {"input", "or"}, {"previous_response_id", "resp_1"}})), "3");
}

TEST_F(Conversation, AStreamIsKeptBeforeItsEndIsTold) {
  add_backends(1);
  start();
  const wire::HttpResponse response = post("/v1/responses", R"({"model":"m","stream":true,"input":"hello"})");
  EXPECT_EQ(response.status, 200);
  wire::SseParser parser;
  const auto events = parser.feed(response.body);
  ASSERT_TRUE(events);
  ASSERT_EQ(events->size(), 3U) << response.body;
  EXPECT_EQ(events->at(0).event, "response.created");
  EXPECT_EQ(base::parse_json(events->at(0).data)->at("response").at("store"), true);
  EXPECT_EQ(events->at(1).data, R"({"delta":"x"})");
  EXPECT_EQ(base::parse_json(events->at(2).data)->at("response").at("store"), true);
  EXPECT_EQ(said(turn({{"model", "m"}, {"input", "and"}, {"previous_response_id", "resp_1"}})), "3");
}

// Servers write events as the format allows: what is complete is complete, and is kept.
TEST_F(Conversation, AStreamIsKeptHoweverItIsWritten) {
  std::string form;
  std::atomic<int> number = 0;
  add_backend([&](const Received& request) {
    const json::object response = response_to(request, ++number);
    const auto event = [&](const std::string& type, const std::string& more) {
      const std::string data = R"({"type":")" + type + "\"," + more + "}";
      std::string text;
      for (const char c : form)
        text += c == 'E' ? type : c == 'D' ? data : std::string(1, c);
      return text;
    };
    const std::string carried = "\"response\":" + json::serialize(response);
    return Script{.bytes = chunked_answer({event("response.created", R"("response":{"id":"resp_0"})"),
                                           event("response.output_text.delta", R"("delta":"x")"),
                                           event("response.completed", carried)})};
  });
  start();
  for (const char* spelling :
       {"event: E\ndata: D\n\n", "event:E\ndata:D\n\n", "data: D\n\n", "data: D\nevent: E\n\n",
        "id: 1\nevent: E\ndata: D\n\n", "event: E\r\ndata: D\r\n\r\n", "event: E\rdata: D\r\r", "data:D\r\r"}) {
    SCOPED_TRACE(spelling);
    form = spelling;
    const wire::HttpResponse response = post("/v1/responses", R"({"model":"m","stream":true,"input":"hello"})");
    EXPECT_EQ(response.status, 200);
    wire::SseParser parser;
    const auto events = parser.feed(response.body);
    ASSERT_TRUE(events);
    ASSERT_EQ(events->size(), 3U) << response.body;
    EXPECT_EQ(base::parse_json(events->at(2).data)->at("type"), "response.completed");
    EXPECT_EQ(base::parse_json(events->at(2).data)->at("response").at("store"), true);
    EXPECT_EQ(get("/v1/responses/resp_" + std::to_string(number)).status, 200);
  }
}

TEST_F(Conversation, WhatIsKeptCanBeReadAndForgotten) {
  add_backends(1);
  start();
  turn({{"model", "m"}, {"input", "hello"}});
  turn({{"model", "m"}, {"input", "and"}, {"previous_response_id", "resp_1"}});
  EXPECT_EQ(base::parse_json(get("/v1/responses/resp_2").body)->at("id"), "resp_2");
  const auto items = base::parse_json(get("/v1/responses/resp_2/input_items?order=asc&limit=2").body);
  ASSERT_EQ(items->at("data").as_array().size(), 2U);
  EXPECT_EQ(items->at("data").as_array().at(1).at("id"), "msg_1");
  EXPECT_EQ(items->at("has_more"), true);
  // An item may be referred to by its id.
  EXPECT_EQ(
      said(turn({{"model", "m"}, {"input", json::array{json::object{{"type", "item_reference"}, {"id", "msg_2"}}}}})),
      "1");
  wire::ClientRequest request;
  request.method = "DELETE";
  request.url = gateway->url() + "/v1/responses/resp_1";
  wire::HttpClient client;
  EXPECT_EQ(client.fetch(request)->status, 200);
  EXPECT_EQ(client.fetch(request)->status, 404);
  EXPECT_EQ(get("/v1/responses/resp_1").status, 404);
  EXPECT_EQ(get("/v1/responses/resp_2").status, 200);
}

TEST_F(Conversation, WhatIsNotToBeKeptIsNot) {
  add_backends(1);
  start();
  turn({{"model", "m"}, {"input", "hello"}});
  const json::object second =
      turn({{"model", "m"}, {"input", "and"}, {"previous_response_id", "resp_1"}, {"store", false}});
  EXPECT_EQ(second.at("store"), false);
  EXPECT_EQ(get("/v1/responses/resp_2").status, 404);
  const wire::HttpResponse lost = post("/v1/responses", R"({"input":"x","previous_response_id":"resp_2"})");
  EXPECT_EQ(lost.status, 400);
  EXPECT_EQ(base::parse_json(lost.body)->at("error").at("param"), "previous_response_id");
}

// Members of other dialects do not stand in the input's way, and what is not the gateway's to judge goes on.
TEST_F(Conversation, OnlyTheInputIsTheInput) {
  ScriptedBackend& backend = add_backend([](const Received& request) {
    const json::object response = response_to(request, 1);
    return Script{.bytes = http_answer(200, "application/json", json::serialize(response))};
  });
  start();
  for (const char* rest : {R"("prompt":null)", R"("messages":null)", R"("messages":[])", R"("prompt":{"id":"p"})"}) {
    const wire::HttpResponse response =
        post("/v1/responses", std::string(R"({"model":"m","input":"hi",)") + rest + "}");
    EXPECT_EQ(response.status, 200) << rest << response.body;
    EXPECT_EQ(said(base::parse_json(response.body)->as_object()), "1");
  }
  EXPECT_EQ(base::parse_json(backend.received().back().body)->at("prompt").at("id"), "p");
  EXPECT_EQ(post("/v1/responses", R"({"model":"m","input":"hi","store":"false"})").status, 400);
  EXPECT_EQ(backend.received().size(), 4U);
}

TEST_F(Conversation, WithoutAnInputTheBackendSaysWhatIsWrong) {
  ScriptedBackend& backend = add_backend(
      [](const Received&) { return Script{.bytes = http_answer(400, "application/json", R"({"error":{}})")}; });
  start();
  EXPECT_EQ(post("/v1/responses", R"({"model":"m"})").status, 400);
  EXPECT_EQ(post("/v1/responses", R"({"model":"m","input":null})").status, 400);
  EXPECT_EQ(post("/v1/responses", R"({"model":"m","input":[]})").status, 400);
  const auto seen = backend.received();
  ASSERT_EQ(seen.size(), 3U);
  for (size_t i = 0; i < seen.size(); ++i) {
    const auto body = base::parse_json(seen[i].body);
    EXPECT_EQ(body->as_object().contains("input"), i == 2) << seen[i].body;
  }
}

TEST_F(Conversation, MoreItemsThanAnyContextHoldsAreRefused) {
  add_backends(1);
  start();
  const auto asked = [](size_t count) {
    json::array items(count, json::object{{"role", "user"}, {"content", "x"}});
    return json::serialize(json::object{{"model", "m"}, {"input", std::move(items)}});
  };
  EXPECT_EQ(post("/v1/responses", asked(16'384)).status, 200);
  const wire::HttpResponse refused = post("/v1/responses", asked(16'385));
  EXPECT_EQ(refused.status, 400);
  EXPECT_NE(refused.body.find("'input' has 16385 entries"), std::string::npos) << refused.body;
}

// It is told of its own size, and not of a store that might be there again in a while.
TEST_F(Conversation, OneThatIsTooLargeForTheStoreSaysWhatHelps) {
  options.session.max_bytes = 4000;
  add_backends(1);
  start();
  turn({{"model", "m"}, {"input", "hello"}});
  const std::string large = R"("model":"m","input":[{"role":"user","content":")" + std::string(4000, 'x') + "\"}]";
  const wire::HttpResponse refused = post("/v1/responses", "{" + large + "}");
  EXPECT_EQ(refused.status, 400) << refused.body;
  EXPECT_SAYS(refused.body, "the session store 4000 at most: set session.max_size, or send 'store': false");
  EXPECT_EQ(post("/v1/responses", "{" + large + R"(,"store":false})").status, 200);
  EXPECT_EQ(get("/v1/responses/resp_1").status, 200) << "and nothing had to make room for it";
}

// Another gateway on the same store goes on.
TEST_F(Conversation, SeveralGatewaysShareAStore) {
  options.session.path = (folder.path() / "sessions.db").string();
  add_backends(1);
  start();
  turn({{"model", "m"}, {"input", "hello"}});
  gateway.reset();
  start();
  EXPECT_EQ(said(turn({{"model", "m"}, {"input", "and"}, {"previous_response_id", "resp_1"}})), "3");
}

// A response that cannot be kept costs nothing once that is known.
TEST_F(Conversation, NothingIsMadeThatCannotBeKept) {
  ScriptedBackend& backend = add_backend([](const Received&) {
    return Script{.bytes = http_answer(200, "application/json", R"({"id":"resp_1","status":"completed","output":[]})")};
  });
  options.session.path = "redis://127.0.0.1:1";
  start();
  const std::string stateful = R"({"model":"m","input":"hi"})";
  const auto until = std::chrono::steady_clock::now() + patience;
  size_t before = 0;
  do {
    before = backend.received().size();
    const wire::HttpResponse refused = post("/v1/responses", stateful);
    EXPECT_EQ(refused.status, 503) << refused.body;
    EXPECT_EQ(refused.headers.find("retry-after"), "2");
  } while (backend.received().size() != before && std::chrono::steady_clock::now() < until);
  EXPECT_EQ(backend.received().size(), before);
  EXPECT_EQ(post("/v1/responses", R"({"model":"m","input":"hi","store":false})").status, 200);
}

// A store that answers, and takes nothing: after the first response that could not be kept, nothing is made for
// nothing.
TEST_F(Conversation, NothingIsMadeForAStoreThatIsFull) {
  options.session.path = (folder.path() / "sessions.db").string();
  add_backends(1);
  start();
  turn({{"model", "m"}, {"input", "hello"}});
  auto other = session::SqliteDatabase::open(options.session.path, std::chrono::seconds(5));
  ASSERT_TRUE(other);
  ASSERT_TRUE(other->execute(
      "CREATE TRIGGER full BEFORE INSERT ON record BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"));
  const std::string stateful = R"({"model":"m","input":"and"})";
  const auto until = std::chrono::steady_clock::now() + patience;
  int before = 0;
  do {  // a look that is under way may know better for a moment
    before = answered;
    const wire::HttpResponse refused = post("/v1/responses", stateful);
    EXPECT_EQ(refused.status, 503) << refused.body;
    EXPECT_EQ(refused.headers.find("retry-after"), "2");
  } while (answered != before && std::chrono::steady_clock::now() < until);
  EXPECT_LE(answered, 3) << "the one that was kept, the one that was not, and at most one more";
  for (int i = 0; i < 5; ++i)
    EXPECT_EQ(post("/v1/responses", stateful).status, 503);
  EXPECT_EQ(answered, before);
  EXPECT_EQ(get("/v1/responses/resp_1").status, 200) << "what is there can be read";
  ASSERT_TRUE(other->execute("DROP TRIGGER full"));
  wire::HttpResponse kept;
  do {  // until it is seen that there is room
    kept = post("/v1/responses", stateful);
  } while (kept.status == 503 && std::chrono::steady_clock::now() < until);
  EXPECT_EQ(kept.status, 200) << kept.body;
}

// Ten gateways on one Redis answer one conversation in turn; it goes down and comes back under them.
TEST_F(Conversation, GatewaysTakeTurnsOnARedisThatFails) {
  if (!RedisServer::installed()) GTEST_SKIP() << "redis-server is not installed";
  RedisServer redis;
  ASSERT_TRUE(redis.running());
  options.session.path = redis.url();
  add_backends(1);
  std::vector<std::unique_ptr<gateway::Gateway>> gateways;
  for (int i = 0; i < 10; ++i) {
    start();
    gateways.push_back(std::move(gateway));
  }
  std::string previous;
  for (int i = 0; i < 20; ++i) {
    gateway = std::move(gateways[i % 10]);
    json::object body{{"model", "m"}, {"input", "next"}};
    if (!previous.empty()) body["previous_response_id"] = previous;
    const json::object response = turn(body);
    EXPECT_EQ(said(response), std::to_string(2 * i + 1));
    previous = response.at("id").as_string();
    gateways[i % 10] = std::move(gateway);
  }
  gateway = std::move(gateways[0]);
  redis.kill();
  const std::string stateful = R"({"model":"m","input":"x","previous_response_id":")" + previous + "\"}";
  const wire::HttpResponse down = post("/v1/responses", stateful);
  EXPECT_EQ(down.status, 503) << down.body;
  EXPECT_NE(down.body.find("session store"), std::string::npos) << down.body;
  EXPECT_EQ(post("/v1/responses", R"({"model":"m","input":[{"role":"user","content":"x"}],"store":false})").status,
            200);
  redis.restart();  // empty, so the conversation is gone, but the next one is kept
  wire::HttpResponse kept;
  do {
    kept = post("/v1/responses", R"({"model":"m","input":"anew"})");
  } while (kept.status == 503);
  EXPECT_EQ(kept.status, 200);
  EXPECT_EQ(post("/v1/responses", stateful).status, 400);
}

// What a client of a stream reads when its response cannot be kept: all that came, and that the response has failed.
TEST_F(Conversation, AStreamThatCannotBeKeptHasFailed) {
  if (!RedisServer::installed()) GTEST_SKIP() << "redis-server is not installed";
  RedisServer redis;
  ASSERT_TRUE(redis.running());
  options.session.path = redis.url();
  add_backend([&](const Received& request) {
    const std::string response = json::serialize(response_to(request, 1));
    const std::string begun = R"({"id":"resp_1","status":"in_progress","output":[]})";
    const auto event = [](const std::string& type, int number, const std::string& more) {
      return "event: " + type + "\ndata: {\"type\":\"" + type + "\"," + more +
             ",\"sequence_number\":" + std::to_string(number) + "}\n\n";
    };
    redis.freeze();
    return Script{.bytes = chunked_answer({event("response.created", 0, "\"response\":" + begun),
                                           event("response.output_text.delta", 1, R"("delta":"x")") +
                                               event("response.completed", 2, "\"response\":" + response)})};
  });
  start();
  const wire::HttpResponse answer = post("/v1/responses", R"({"model":"m","stream":true,"input":"hello"})");
  redis.thaw();
  EXPECT_EQ(answer.status, 200);
  wire::SseParser parser;
  const auto events = parser.feed(answer.body);
  ASSERT_TRUE(events);
  ASSERT_EQ(events->size(), 4U) << answer.body;
  EXPECT_EQ(events->at(1).event, "response.output_text.delta");
  EXPECT_EQ(events->at(2).event, "response.failed");
  const auto failed = base::parse_json(events->at(2).data);
  EXPECT_EQ(failed->at("sequence_number"), 2);
  EXPECT_EQ(failed->at("response").at("id"), "resp_1");
  EXPECT_EQ(failed->at("response").at("store"), true);
  EXPECT_EQ(events->at(3).event, "error");
  EXPECT_EQ(base::parse_json(events->at(3).data)->at("sequence_number"), 3);
  EXPECT_EQ(answer.body.find(std::to_string(redis.port())), std::string::npos) << answer.body;
}

TEST_F(Conversation, ARedisThatFreezesHoldsNobodyAndLosesNothing) {
  if (!RedisServer::installed()) GTEST_SKIP() << "redis-server is not installed";
  RedisServer redis;
  ASSERT_TRUE(redis.running());
  options.session.path = redis.url();
  add_backends(1);
  start();
  turn({{"model", "m"}, {"input", "hello"}});
  const std::string stateful = R"({"model":"m","input":"and","previous_response_id":"resp_1"})";
  redis.freeze();
  for (int i = 0; i < 20; ++i) {
    const wire::HttpResponse frozen = post("/v1/responses", stateful);
    EXPECT_EQ(frozen.status, 503) << frozen.body;
    EXPECT_EQ(frozen.headers.find("retry-after"), "2") << "by then it has been tried again";
  }
  EXPECT_EQ(post("/v1/responses", R"({"model":"m","input":[{"role":"user","content":"x"}],"store":false})").status,
            200);
  redis.thaw();
  wire::HttpResponse again;
  do {
    again = post("/v1/responses", stateful);
  } while (again.status == 503);
  EXPECT_EQ(again.status, 200) << again.body;
  EXPECT_EQ(said(base::parse_json(again.body)->as_object()), "3");
}

TEST_F(Conversation, ARedisThatIsFullKeepsWhatItHas) {
  if (!RedisServer::installed()) GTEST_SKIP() << "redis-server is not installed";
  const RedisServer redis({"--maxmemory", "4mb", "--maxmemory-policy", "noeviction"});
  ASSERT_TRUE(redis.running());
  options.session.path = redis.url();
  add_backends(1);
  start();
  turn({{"model", "m"}, {"input", "hello"}});
  const std::string large = R"({"model":"m","input":")" + std::string(300'000, 'x') + "\"}";
  wire::HttpResponse full{.status = 200, .headers = {}, .body = {}};
  for (int i = 0; i < 100 && full.status == 200; ++i)
    full = post("/v1/responses", large);
  EXPECT_EQ(full.status, 503) << full.body;
  EXPECT_NE(full.body.find("session store"), std::string::npos) << full.body;
  EXPECT_EQ(get("/v1/responses/resp_1").status, 200);
  EXPECT_EQ(post("/v1/responses", R"({"model":"m","input":[{"role":"user","content":"x"}],"store":false})").status,
            200);
  wire::ClientRequest removal;
  removal.method = "DELETE";
  removal.url = gateway->url() + "/v1/responses/resp_2";
  EXPECT_EQ(wire::HttpClient().fetch(removal)->status, 200);
  wire::HttpResponse kept;
  do {  // until it is seen that there is room
    kept = post("/v1/responses", R"({"model":"m","input":"and","previous_response_id":"resp_1"})");
  } while (kept.status == 503);
  EXPECT_EQ(kept.status, 200) << kept.body;
}

}  // namespace
}  // namespace tidemill::test
