// The Conversations API at the gateway, which keeps them for backends that know nothing of it.
#include <algorithm>
#include <atomic>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "access/api_key.hpp"
#include "access/key_vault.hpp"
#include "base/json.hpp"
#include "gateway/fleet_fixture.hpp"
#include "session/redis_server.hpp"
#include "temporary_folder.hpp"

namespace tidemill::test {
namespace {

namespace json = base::json;

class Conversations : public FleetFixture {
 protected:
  // Its responses, "resp_1" and so on, say of how many items their input was. `before` is called before each.
  ScriptedBackend& add_counting_backend(const std::function<void()>& before = {}) {
    return add_backend([this, before](const Received& request) {
      if (before) before();
      const auto body = base::parse_json(request.body);
      EXPECT_TRUE(body) << request.body;
      for (const char* own : {"conversation", "previous_response_id"})
        EXPECT_FALSE(body->as_object().contains(own)) << request.body;
      EXPECT_EQ(body->at("store"), false);
      const std::string n = std::to_string(++answered);
      const json::object text{{"type", "output_text"}, {"text", std::to_string(body->at("input").as_array().size())}};
      const json::object message{
          {"id", "msg_" + n}, {"type", "message"}, {"role", "assistant"}, {"content", json::array{text}}};
      const json::object response{{"id", "resp_" + n},
                                  {"status", status},
                                  {"store", false},
                                  {"output", status == "failed" ? json::array() : json::array{message}}};
      if (!body->as_object().contains("stream"))
        return Script{.bytes = http_answer(200, "application/json", json::serialize(response))};
      const auto event = [](const std::string& type, const json::object& carried) {
        return "event: " + type + "\ndata: " + json::serialize(json::object{{"type", type}, {"response", carried}}) +
               "\n\n";
      };
      json::object begun = response;
      begun["status"] = "in_progress";
      begun["output"] = json::array();
      const json::object delta{{"type", "response.output_text.delta"}, {"delta", "x"}};
      return Script{.bytes =
                        chunked_answer({event("response.created", begun),
                                        "event: response.output_text.delta\ndata: " + json::serialize(delta) + "\n\n",
                                        event("response." + status, response)})};
    });
  }

  static json::object parsed(const wire::HttpResponse& response, int status = 200) {
    EXPECT_EQ(response.status, status) << response.body;
    auto read = base::parse_json(response.body);
    return read && read->is_object() ? read->as_object() : json::object();
  }
  static std::string id_of(const json::object& thing) { return std::string(thing.at("id").as_string()); }
  static std::string param_of(const wire::HttpResponse& response) {
    const auto body = base::parse_json(response.body);
    if (!body || !body->is_object() || !body->as_object().contains("error")) return response.body;
    const json::value& param = body->at("error").at("param");
    return param.is_string() ? std::string(param.as_string()) : "(null)";
  }
  static bool is_locked(const wire::HttpResponse& response) {
    return response.status == 400 && response.body.find(R"("code":"conversation_locked")") != std::string::npos;
  }
  wire::HttpResponse remove(const std::string& path, const wire::Headers& headers = {}) {
    wire::ClientRequest request{.method = "DELETE", .url = gateway->url() + path, .headers = headers, .body = {}};
    auto response = wire::HttpClient().fetch(std::move(request));
    EXPECT_TRUE(response) << response.error().to_string();
    return response ? *response : wire::HttpResponse();
  }
  std::string create(const std::string& body = "{}") { return id_of(parsed(post("/v1/conversations", body))); }
  static std::string turn_of(const std::string& id, const std::string& more = "") {
    return R"({"model":"m","input":"next","conversation":")" + id + "\"" + more + "}";
  }
  wire::HttpResponse turn(const std::string& id, const std::string& more = "") {
    return post("/v1/responses", turn_of(id, more));
  }
  // The oldest first.
  json::array items(const std::string& id) {
    return parsed(get("/v1/conversations/" + id + "/items?order=asc&limit=100")).at("data").as_array();
  }
  static std::string said(const json::object& response) {
    const json::value& item = response.at("output").as_array().at(0);
    return std::string(item.at("content").as_array().at(0).at("text").as_string());
  }
  // Makes a key, and gives the header that shows it.
  wire::Headers make_key(access::ApiKey wanted) {
    const auto made = access::make_key(std::move(wanted), base::SystemClock::instance().wall_now());
    EXPECT_TRUE(made) << made.error().to_string();
    options.keys = (folder.path() / "keys.json").string();
    const auto add = [&](std::vector<access::ApiKey>& keys) -> base::Result<void> {
      keys.push_back(made->key);
      return {};
    };
    EXPECT_TRUE(access::keys_in_file(options.keys)->update(add));
    return {{"Authorization", "Bearer " + made->secret}};
  }

  TemporaryFolder folder;
  std::atomic<int> answered = 0;
  std::string status = "completed";  // of responses; set before start()
};

TEST_F(Conversations, AreTheGatewaysOwn) {
  ScriptedBackend& backend = add_counting_backend();
  start();
  const json::object made = parsed(
      post("/v1/conversations",
           R"({"metadata":{"k":"v"},"items":[{"role":"user","content":"a"},{"type":"computer_call","id":"cu_1"}]})"));
  const std::string id = id_of(made);
  const std::string path = "/v1/conversations/" + id;
  EXPECT_EQ(parsed(get(path)), made);
  EXPECT_EQ(parsed(post(path, R"({"metadata":{"k":"w"}})")).at("metadata").at("k"), "w");
  EXPECT_EQ(parsed(post(path + "/items", R"({"items":[{"role":"user","content":"b"}]})")).at("object"), "list");
  EXPECT_EQ(items(id).size(), 3U);
  EXPECT_EQ(parsed(get(path + "/items/cu_1")).at("type"), "computer_call");
  EXPECT_EQ(id_of(parsed(remove(path + "/items/cu_1"))), id);
  EXPECT_EQ(param_of(get(path + "/items/cu_1")), "item_id");
  EXPECT_EQ(get("/v1/conversations").status, 405);
  EXPECT_EQ(get(path + "/turns").status, 404);
  EXPECT_EQ(param_of(post("/v1/conversations", R"({"items":[{"type":5}]})")), "items[0].type");
  EXPECT_EQ(param_of(post(path, "{}")), "metadata");
  EXPECT_EQ(parsed(remove(path)).at("deleted"), true);
  EXPECT_EQ(get(path).status, 404);
  EXPECT_EQ(remove(path).status, 404);
  const wire::HttpResponse gone = turn(id);
  EXPECT_EQ(gone.status, 404);
  EXPECT_EQ(param_of(gone), "conversation");
  EXPECT_TRUE(backend.received().empty());
}

TEST_F(Conversations, EachTurnSeesAllThatCameBefore) {
  add_counting_backend();
  add_counting_backend();
  start();
  const std::string id = create(R"({"items":[{"role":"user","content":"a"}]})");
  const json::object first = parsed(turn(id));
  EXPECT_EQ(said(first), "2");
  EXPECT_EQ(first.at("conversation"), (json::value{{"id", id}}));
  EXPECT_EQ(first.at("store"), true);
  const std::string whole = R"({"model":"m","input":"next","store":false,"conversation":{"id":")" + id + R"("}})";
  EXPECT_EQ(said(parsed(post("/v1/responses", whole))), "4");
  EXPECT_EQ(get("/v1/responses/resp_1").status, 200);
  EXPECT_EQ(get("/v1/responses/resp_2").status, 404) << "but it is of the conversation";
  const json::array kept = items(id);
  ASSERT_EQ(kept.size(), 5U);
  EXPECT_EQ(kept[1].at("content").at(0).at("text"), "next");
  EXPECT_EQ(kept[2].at("id"), "msg_1");
  EXPECT_EQ(kept[4].at("id"), "msg_2");
  // An item that the conversation holds may be referred to, and is not doubled.
  const std::string refers = R"({"model":"m","input":[{"type":"item_reference","id":"msg_1"}],"conversation":")";
  EXPECT_EQ(said(parsed(post("/v1/responses", refers + id + "\"}"))), "5");
  const std::string doubles = R"({"model":"m","input":[{"role":"user","id":"msg_1"}],"conversation":")";
  EXPECT_EQ(param_of(post("/v1/responses", doubles + id + "\"}")), "input[0].id");
}

TEST_F(Conversations, AStreamIsAppendedBeforeItsEndIsTold) {
  add_counting_backend();
  start();
  const std::string id = create();
  const wire::HttpResponse response = turn(id, R"(,"stream":true)");
  EXPECT_EQ(response.status, 200);
  wire::SseParser parser;
  const auto events = parser.feed(response.body);
  ASSERT_TRUE(events);
  ASSERT_EQ(events->size(), 3U) << response.body;
  for (const size_t carrier : {0, 2})
    EXPECT_EQ(base::parse_json(events->at(carrier).data)->at("response").at("conversation").at("id"), json::value(id));
  EXPECT_EQ(items(id).size(), 2U);
  EXPECT_EQ(said(parsed(turn(id))), "3");
}

TEST_F(Conversations, ATurnThatFailedIsNone) {
  status = "failed";
  add_counting_backend();
  start();
  const std::string id = create();
  const wire::HttpResponse streamed = turn(id, R"(,"stream":true)");
  EXPECT_NE(streamed.body.find("response.failed"), std::string::npos) << streamed.body;
  turn(id);
  EXPECT_TRUE(items(id).empty());
}

// As OpenAI has it: what comes in the middle of a turn would not be seen by it, nor see it.
TEST_F(Conversations, HaveOneTurnAtATime) {
  struct Known {
    std::string id;
    std::vector<std::string> urls;  // of gateways, each of which knows as much as the other
  };
  std::promise<Known> made;
  std::atomic<int> looked = 0;
  options.session.path = (folder.path() / "sessions.db").string();
  add_counting_backend([&looked, promised = made.get_future().share()] {
    const Known& known = promised.get();
    const auto send = [](const std::string& method, const std::string& url, const std::string& body) {
      wire::ClientRequest request{
          .method = method, .url = url, .headers = {{"Content-Type", "application/json"}}, .body = body};
      const auto response = wire::HttpClient().fetch(std::move(request));
      EXPECT_TRUE(response) << response.error().to_string();
      return response ? *response : wire::HttpResponse();
    };
    for (const std::string& url : known.urls) {
      const std::string conversation = url + "/v1/conversations/" + known.id;
      std::vector<wire::HttpResponse> refused;
      for (const char* more : {"", R"(,"stream":true)", R"(,"store":false)"})
        refused.push_back(send("POST", url + "/v1/responses", turn_of(known.id, more)));
      refused.push_back(send("POST", conversation + "/items", R"({"items":[{"role":"user","content":"b"}]})"));
      for (const wire::HttpResponse& each : refused) {
        EXPECT_TRUE(is_locked(each)) << each.status << each.body;
        EXPECT_EQ(param_of(each), "conversation");
      }
      EXPECT_EQ(send("GET", conversation, "").status, 200);
      EXPECT_EQ(send("GET", conversation + "/items", "").status, 200);
      EXPECT_EQ(send("POST", conversation, R"({"metadata":{"k":"v"}})").status, 200);
    }
    ++looked;
  });
  start();
  const std::unique_ptr<gateway::Gateway> other = std::move(gateway);
  start();
  const std::string id = create();
  made.set_value({id, {other->url(), gateway->url()}});
  for (const char* more : {"", R"(,"stream":true)", R"(,"store":false)", R"(,"stream":true)"}) {
    const wire::HttpResponse done = turn(id, more);
    EXPECT_EQ(done.status, 200) << "the one before is over as soon as it is told: " << done.body;
  }
  EXPECT_EQ(looked, 4);
  EXPECT_EQ(items(id).size(), 8U);
  EXPECT_EQ(post("/v1/conversations/" + id + "/items", R"({"items":[{"role":"user","content":"b"}]})").status, 200);
  EXPECT_EQ(items(id).size(), 9U);
}

// However a turn ends, the next may come as soon as its client has heard of it.
TEST_F(Conversations, ATurnThatGoesWrongHoldsNobodyUp) {
  std::atomic<int> how = 0;
  const std::string failed = R"({"id":"resp_1","status":"failed","error":{"code":"server_error"},"output":[]})";
  add_backend([&](const Received&) {
    const auto event = [](const std::string& type, const std::string& more) {
      return "event: " + type + "\ndata: {\"type\":\"" + type + "\"" + more + "}\n\n";
    };
    const std::string begun = event("response.created", R"(,"response":{"id":"resp_1","status":"in_progress"})") +
                              event("response.output_text.delta", R"(,"delta":"x")");
    switch (how % 7) {
      case 0:
        return Script{.bytes = http_answer(400, "application/json", R"({"error":{"message":"no"}})")};
      case 1:
        return Script{.bytes = http_answer(503, "application/json", R"({"error":{"message":"busy"}})")};
      case 2:
        return Script{.bytes = ""};  // broken off
      case 3:
        return Script{.bytes = http_answer(200, "application/json", failed)};
      case 4:
        return Script{.bytes = chunked_answer({begun, event("response.failed", ",\"response\":" + failed)})};
      case 5:
        return Script{.bytes = chunked_answer({begun, event("error", R"(,"message":"no")")})};
      default: {
        std::string bytes = chunked_answer({begun});
        bytes.resize(bytes.size() - 5);  // its last chunk
        return Script{.bytes = bytes};
      }
    }
  });
  options.retries = 0;
  options.patience = std::chrono::milliseconds(10);
  options.resume_window = std::chrono::milliseconds(10);
  start();
  const std::string id = create();
  for (int i = 0; i < 14; ++i) {
    how = i;
    const wire::HttpResponse response = turn(id, i % 7 < 4 ? "" : R"(,"stream":true)");
    EXPECT_FALSE(is_locked(response)) << i << response.body;
  }
  EXPECT_EQ(post("/v1/conversations/" + id + "/items", R"({"items":[{"role":"user","content":"b"}]})").status, 200);
  // Nor do those that never began.
  EXPECT_EQ(turn("conv_none").status, 404);
  EXPECT_EQ(turn("conv_none").status, 404);
  EXPECT_EQ(post("/v1/responses", R"({"model":"other","input":"x","conversation":")" + id + "\"}").status, 404);
  EXPECT_FALSE(is_locked(turn(id)));
}

TEST_F(Conversations, OneThatGoesDuringATurnIsMissed) {
  std::promise<std::string> made;
  add_counting_backend(
      [this, known = made.get_future().share()] { EXPECT_EQ(remove("/v1/conversations/" + known.get()).status, 200); });
  start();
  const std::string id = create();
  made.set_value(id);
  const wire::HttpResponse late = turn(id);
  EXPECT_EQ(late.status, 404) << late.body;
  EXPECT_EQ(param_of(late), "conversation");
  EXPECT_EQ(get("/v1/responses/resp_1").status, 404) << "both are kept, or neither";
}

TEST_F(Conversations, FaultsAreRefusedBeforeABackendIsAsked) {
  ScriptedBackend& backend = add_counting_backend();
  start();
  const std::string id = create();
  for (const auto& [value, param] :
       std::vector<std::pair<std::string, std::string>>{{"5", "conversation"},
                                                        {"[]", "conversation"},
                                                        {R"("")", "conversation"},
                                                        {R"({"id":5})", "conversation.id"}}) {
    const wire::HttpResponse refused =
        post("/v1/responses", R"({"model":"m","input":"x","conversation":)" + value + "}");
    EXPECT_EQ(refused.status, 400) << refused.body;
    EXPECT_EQ(param_of(refused), param);
  }
  const wire::HttpResponse both = turn(id, R"(,"previous_response_id":"resp_1")");
  EXPECT_EQ(both.status, 400);
  EXPECT_EQ(param_of(both), "conversation");
  EXPECT_TRUE(backend.received().empty());
  EXPECT_EQ(post("/v1/responses", R"({"model":"m","input":"x","conversation":null})").status, 200);
}

TEST_F(Conversations, AreTheirTenants) {
  add_counting_backend();
  const wire::Headers own = make_key({.name = "a", .tenant = "one"});
  const wire::Headers other = make_key({.name = "b", .tenant = "two"});
  const wire::Headers writer = make_key({.name = "c", .tenant = "one", .scopes = {"generate"}});
  const wire::Headers reader = make_key({.name = "d", .tenant = "one", .scopes = {"read"}});
  const std::string admin = make_key({.name = "e", .tenant = "ops", .scopes = {"admin"}}).begin()->second.substr(7);
  start(admin);
  const std::string id = id_of(parsed(post("/v1/conversations", "{}", writer)));
  const std::string path = "/v1/conversations/" + id;
  EXPECT_EQ(post("/v1/conversations", "{}").status, 401);
  EXPECT_EQ(post("/v1/conversations", "{}", reader).status, 403);
  EXPECT_EQ(post(path, R"({"metadata":null})", reader).status, 403);
  EXPECT_EQ(get(path, reader.begin()->second.substr(7)).status, 200);
  EXPECT_EQ(get(path, writer.begin()->second.substr(7)).status, 403);
  EXPECT_EQ(remove(path, reader).status, 403) << "who may only read takes nothing away";
  EXPECT_EQ(post("/v1/responses", turn_of(id), own).status, 200);
  EXPECT_EQ(post("/v1/responses", turn_of(id), other).status, 404);
  EXPECT_EQ(get(path, other.begin()->second.substr(7)).status, 404);
  EXPECT_EQ(post(path, R"({"metadata":null})", other).status, 404);
  EXPECT_EQ(remove(path, other).status, 404);
  const json::array kept = parsed(get(path + "/items", reader.begin()->second.substr(7))).at("data").as_array();
  ASSERT_FALSE(kept.empty());
  const std::string item = path + "/items/" + id_of(kept.at(0).as_object());
  EXPECT_EQ(remove(item, reader).status, 403);
  EXPECT_EQ(remove(item, writer).status, 200);
  EXPECT_EQ(remove(path, writer).status, 200);
}

// Ten gateways on one Redis answer one conversation in turn and at once; it goes down and comes back under them.
TEST_F(Conversations, GatewaysTakeTurnsOnARedisThatFails) {
  if (!RedisServer::installed()) GTEST_SKIP() << "redis-server is not installed";
  RedisServer redis;
  ASSERT_TRUE(redis.running());
  options.session.path = redis.url();
  options.session.deadline = std::chrono::seconds(60);  // where an answer is expected, on any machine
  add_counting_backend();
  std::vector<std::unique_ptr<gateway::Gateway>> gateways;
  for (int i = 0; i < 10; ++i) {
    start();
    gateways.push_back(std::move(gateway));
  }
  gateway = std::move(gateways[0]);
  const std::string id = create();
  gateways[0] = std::move(gateway);
  for (size_t i = 0; i < 20; ++i) {
    gateway = std::move(gateways[i % 10]);
    EXPECT_EQ(said(parsed(turn(id))), std::to_string(2 * i + 1));
    gateways[i % 10] = std::move(gateway);
  }
  std::vector<std::thread> threads;
  std::mutex mutex;
  std::vector<int> saw;  // items, each turn
  for (const auto& each : gateways) {
    threads.emplace_back([&, url = each->url()] {
      const auto until = std::chrono::steady_clock::now() + patience;
      base::Result<wire::HttpResponse> response = wire::HttpResponse();
      do {
        wire::ClientRequest request{.method = "POST",
                                    .url = url + "/v1/responses",
                                    .headers = {{"Content-Type", "application/json"}},
                                    .body = turn_of(id)};
        response = wire::HttpClient().fetch(std::move(request));
        ASSERT_TRUE(response) << response.error().to_string();
      } while (is_locked(*response) && std::chrono::steady_clock::now() < until);
      const json::object done = parsed(*response);
      const std::lock_guard lock(mutex);
      saw.push_back(std::stoi(said(done)));
    });
  }
  for (std::thread& thread : threads)
    thread.join();
  std::sort(saw.begin(), saw.end());
  EXPECT_EQ(saw, (std::vector<int>{41, 43, 45, 47, 49, 51, 53, 55, 57, 59})) << "each saw all that came before it";
  gateway = std::move(gateways[0]);
  const json::array kept = items(id);
  ASSERT_EQ(kept.size(), 60U);
  for (size_t i = 0; i < kept.size(); i += 2) {
    EXPECT_EQ(kept[i].at("role"), "user");
    EXPECT_EQ(kept[i + 1].at("role"), "assistant");
  }
  redis.kill();
  for (const wire::HttpResponse& down :
       {post("/v1/conversations", "{}"), get("/v1/conversations/" + id), turn(id), turn(id, R"(,"store":false)")}) {
    EXPECT_EQ(down.status, 503) << down.body;
    EXPECT_EQ(down.headers.find("retry-after"), "2");
    EXPECT_NE(down.body.find("session store"), std::string::npos) << down.body;
  }
  redis.restart();  // empty, so the conversation is gone, but the next one is kept
  wire::HttpResponse made;
  do {
    made = post("/v1/conversations", "{}");
  } while (made.status == 503);
  const std::string next = id_of(parsed(made));
  wire::HttpResponse again;
  do {  // until a look at the store has found it
    again = turn(next);
  } while (again.status == 503);
  EXPECT_EQ(said(parsed(again)), "1");
  EXPECT_EQ(turn(id).status, 404);
}

}  // namespace
}  // namespace tidemill::test
