// What whoever runs a gateway reads: its log, and the access log.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "access/api_key.hpp"
#include "access/key_vault.hpp"
#include "base/json.hpp"
#include "gateway/failure_log.hpp"
#include "gateway/fleet_fixture.hpp"
#include "gateway/store_watch.hpp"
#include "session/redis_server.hpp"
#include "session/sqlite_database.hpp"
#include "temporary_folder.hpp"

namespace tidemill::test {
namespace {

using namespace std::chrono_literals;
namespace json = base::json;

size_t times(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size())
    ++count;
  return count;
}

// Standard error while it lives, to which the log goes.
class Captured {
 public:
  Captured() { testing::internal::CaptureStderr(); }
  ~Captured() {
    if (!taken_) (void)testing::internal::GetCapturedStderr();
  }
  std::string take() {
    taken_ = true;
    return testing::internal::GetCapturedStderr();
  }

 private:
  bool taken_ = false;
};

class GatewayLog : public FleetFixture {
 protected:
  static inline const std::string question = R"({"model":"m","messages":[{"role":"user","content":"hi"}]})";

  // Without waiting for backends.
  void start_alone() {
    options.port = 0;
    options.io_threads = 1;
    auto started = gateway::Gateway::start(options);
    ASSERT_TRUE(started) << started.error().to_string();
    gateway = std::move(*started);
  }
  std::string make_key(const std::string& path) {
    const auto made = access::make_key({.name = "n", .tenant = "t"}, base::SystemClock::instance().wall_now());
    const auto add = [&](std::vector<access::ApiKey>& keys) -> base::Result<void> {
      keys.push_back(made->key);
      return {};
    };
    EXPECT_TRUE(access::keys_in_file(path)->update(add));
    return made->secret;
  }
  // The access log's line of the one request to a backend, once it is there.
  json::object line() {
    const auto until = std::chrono::steady_clock::now() + patience;
    while (std::chrono::steady_clock::now() < until) {
      std::ifstream file(options.access_log);
      for (std::string text; std::getline(file, text) && !file.eof();) {
        const auto parsed = base::parse_json(text);
        if (parsed && parsed->at("path") == "/v1/chat/completions") return parsed->as_object();
      }
      std::this_thread::yield();
    }
    ADD_FAILURE() << "the access log has no line of the request";
    return {};
  }

  // The statuses in the lines of requests for `path`, once the gateway has gone.
  std::vector<int64_t> statuses_of(const std::string& path) {
    gateway.reset();
    std::vector<int64_t> statuses;
    std::ifstream file(options.access_log);
    for (std::string text; std::getline(file, text);) {
      const auto parsed = base::parse_json(text);
      EXPECT_TRUE(parsed) << text;
      if (parsed && parsed->at("path") == json::value(path)) statuses.push_back(parsed->at("status").as_int64());
    }
    return statuses;
  }

  TemporaryFolder folder;
};

TEST_F(GatewayLog, ADeadBackendIsNamedOnce) {
  uint16_t nobody = 0;
  {
    const ScriptedBackend gone([](const Received&) { return Script{}; });
    nobody = gone.port();
  }
  options.backend_urls = {"http://127.0.0.1:" + std::to_string(nobody)};
  options.poll_interval = 1h;
  Captured log;
  start_alone();
  for (int i = 0; i < 3; ++i)
    gateway->look();
  const std::string text = log.take();
  EXPECT_EQ(times(text, "backend 127.0.0.1:" + std::to_string(nobody) + " is not ready: "), 1U) << text;
}

TEST_F(GatewayLog, AGatewayWithoutBackendsSaysSo) {
  Captured log;
  start_alone();
  ASSERT_TRUE(gateway->reload(options));
  options.backend_urls = {"http://127.0.0.1:1"};
  ASSERT_TRUE(gateway->reload(options));
  EXPECT_EQ(times(log.take(), "there are no backends"), 2U);  // once for each configuration that has none
}

TEST_F(GatewayLog, WhatAReloadCannotChangeIsNamed) {
  Captured log;
  start_alone();
  options.longest_wait = 5s;
  options.max_open = 7;
  options.resume_window = 3s;
  ASSERT_TRUE(gateway->reload(options));
  options.keys = "keys.json";
  options.session.path = "other.db";
  options.write_timeout = 7s;
  options.slots = 3;
  ASSERT_TRUE(gateway->reload(options));
  const std::string text = log.take();
  EXPECT_EQ(times(text, "count from the next start only"), 1U) << text;
  EXPECT_EQ(times(text, "start only: gateway.write_timeout, gateway.keys, gateway.slots (from or to 0), [session]"), 1U)
      << text;
}

// Not only by the reload that changed it: whoever reloads for something else still runs with what was.
TEST_F(GatewayLog, WhatAReloadCannotChangeIsNamedUntilItIsAsItWas) {
  Captured log;
  start_alone();
  const gateway::GatewayOptions before = options;
  options.write_timeout = 7s;
  ASSERT_TRUE(gateway->reload(options));
  ASSERT_TRUE(gateway->reload(options));
  ASSERT_TRUE(gateway->reload(before));
  EXPECT_EQ(times(log.take(), "count from the next start only: gateway.write_timeout"), 2U);
}

TEST_F(GatewayLog, ATargetThatNoBackendBelongsToIsToldOf) {
  options.backends = {{.url = "http://127.0.0.1:1", .name = "gpu-1", .models = {"m"}}};
  options.routes = {{.model = "code",
                     .targets = {{.name = "a", .model = "m", .backends = {"gpu-*"}},
                                 {.name = "b", .model = "m", .backends = {"cpu-*", "spare"}},
                                 {.name = "c", .model = "m"}}}};
  Captured log;
  start_alone();
  const std::string text = log.take();
  EXPECT_EQ(times(text, "route code: no backend has a name that its target"), 1U) << text;
  EXPECT_EQ(times(text, "target b takes (cpu-*, spare)"), 1U) << text;
}

TEST_F(GatewayLog, MissingKeysAndOpenOnesAreToldOf) {
  options.keys = (folder.path() / "keys.json").string();
  options.backend_urls = {"http://127.0.0.1:1"};
  Captured log;
  start_alone();
  EXPECT_EQ(get("/v1/models", "tm-x").status, 401);
  const std::string secret = make_key(options.keys);
  std::filesystem::permissions(options.keys, std::filesystem::perms(0644));
  const auto until = std::chrono::steady_clock::now() + patience;
  while (get("/v1/models", secret).status != 200)
    ASSERT_LT(std::chrono::steady_clock::now(), until);
  gateway.reset();
  const std::string text = log.take();
  EXPECT_EQ(times(text, "holds no keys, so nobody is let in"), 1U) << text;
  EXPECT_EQ(times(text, "may be read by everybody on this machine (mode 0644)"), 1U) << text;
}

TEST_F(GatewayLog, AStoreThatIsNotToBeHadIsToldOfAtItsChanges) {
  if (!RedisServer::installed()) GTEST_SKIP() << "redis-server is not installed";
  RedisServer redis({"--requirepass", "right"});
  const base::SystemClock& clock = base::SystemClock::instance();
  Captured log;
  const auto wrong = session::open_store({.path = redis.url(":wrong")}, clock);
  gateway::StoreWatch refused(**wrong);
  for (int i = 0; i < 3; ++i)
    refused.look();
  std::string text = log.take();
  EXPECT_EQ(times(text, "the session store cannot be used"), 1U) << text;
  EXPECT_EQ(times(text, "refuses the user or the password"), 1U) << text;
  EXPECT_EQ(text.find("wrong"), std::string::npos) << text;

  Captured again;
  base::ManualClock time;
  const auto right = session::open_store({.path = redis.url(":right"), .deadline = patience}, time);
  gateway::StoreWatch watch(**right);
  watch.look();
  redis.kill();
  for (int i = 0; i < 3; ++i)
    watch.look();
  redis.restart();
  time.advance(10s);
  for (int i = 0; i < 3; ++i)
    watch.look();
  text = again.take();
  EXPECT_EQ(times(text, "the session store"), 2U) << text;
  EXPECT_EQ(times(text, "the session store is back"), 1U) << text;
}

TEST_F(GatewayLog, AFullStoreIsToldOfAtItsChanges) {
  const std::string path = (folder.path() / "sessions.db").string();
  const auto store = session::open_store({.path = path}, base::SystemClock::instance());
  ASSERT_TRUE(store);
  auto other = session::SqliteDatabase::open(path, 1s);
  ASSERT_TRUE(other);
  Captured log;
  gateway::StoreWatch watch(**store);
  watch.look();
  ASSERT_TRUE(other->execute(
      "CREATE TRIGGER full BEFORE INSERT ON record BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"));
  const std::vector<session::Record> records = {{"a", "1"}};
  EXPECT_FALSE((*store)->put("t", records));
  for (int i = 0; i < 3; ++i) {
    watch.look();
    EXPECT_TRUE(watch.lost());
  }
  ASSERT_TRUE(other->execute("DROP TRIGGER full"));
  for (int i = 0; i < 3; ++i) {
    watch.look();
    EXPECT_FALSE(watch.lost());
  }
  const std::string text = log.take();
  EXPECT_EQ(times(text, "the session store cannot be used, and requests that need it get 503 until it can"), 1U)
      << text;
  EXPECT_EQ(times(text, "disk is full"), 1U) << text;
  EXPECT_EQ(times(text, "the session store is back"), 1U) << text;
}

// The gateway itself looks from its start on.
TEST_F(GatewayLog, ARefusedPasswordIsToldOfAtTheStart) {
  if (!RedisServer::installed()) GTEST_SKIP() << "redis-server is not installed";
  const RedisServer redis({"--requirepass", "right"});
  options.session.path = redis.url(":wrong");
  Captured log;
  start_alone();
  const std::string stateful = R"({"model":"m","input":"x","previous_response_id":"resp_1"})";
  const wire::HttpResponse response = post("/v1/responses", stateful);
  EXPECT_EQ(response.status, 503);
  EXPECT_EQ(response.body.find(std::to_string(redis.port())), std::string::npos) << response.body;
  gateway->stop(1s);  // after the look that is under way
  const std::string text = log.take();
  EXPECT_EQ(times(text, "the session store cannot be used, and requests that need it get 503"), 1U) << text;
  EXPECT_GE(times(text, "refuses the user or the password"), 1U) << text;
}

TEST(FailureLog, OneLineASecondWithWhatItLeavesOut) {
  gateway::FailureLog failures;
  base::ManualClock clock;
  const base::Error plain(base::ErrorCode::unavailable, "told");
  const base::Error caused =
      base::Error(base::ErrorCode::unavailable, "no backend answered").caused_by({base::ErrorCode::io, "10.0.0.1: no"});
  Captured log;
  failures.note("req-0", plain, clock.now());
  failures.note("req-1", caused, clock.now());
  for (int i = 0; i < 5; ++i)
    failures.note("req-2", caused, clock.now());
  clock.advance(1s);
  failures.note("req-3", caused, clock.now());
  const std::string text = log.take();
  EXPECT_EQ(times(text, "\n"), 2U) << text;
  EXPECT_NE(text.find("req-1: no backend answered: 10.0.0.1: no\n"), std::string::npos) << text;
  EXPECT_NE(text.find("req-3: no backend answered: 10.0.0.1: no (5 more requests failed"), std::string::npos) << text;
}

// ---- the access log

TEST_F(GatewayLog, AClientThatGoesBeforeTheAnswerIs499) {
  ScriptedBackend& backend = add_backend([](const Received&) { return Script{.bytes = "", .end = Script::End::hang}; });
  options.access_log = (folder.path() / "access").string();
  start();
  RawClient client(gateway->port());
  ASSERT_TRUE(client.send(raw_post("/v1/chat/completions", question)));
  ASSERT_TRUE(backend.wait_for_requests(1));
  client.close();
  ASSERT_TRUE(backend.wait_for_hang_up());
  const json::object told = line();
  EXPECT_EQ(told.at("status"), 499);
  EXPECT_EQ(told.at("error"), "client went away");
}

TEST_F(GatewayLog, AClientThatTakesNothingIsSaidToHaveBeenCut) {
  std::string events;
  while (events.size() < size_t{64} << 10)
    events += "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a word\"}}]}\n\n";
  const std::string answer = chunked_answer(std::vector<std::string>(128, events));  // more than kernels hold
  add_backend([&](const Received&) { return Script{.bytes = answer}; });
  options.access_log = (folder.path() / "access").string();
  options.write_timeout = 50ms;
  start();
  RawClient client(gateway->port(), 4096);
  const std::string streamed = R"({"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true})";
  ASSERT_TRUE(client.send(raw_post("/v1/chat/completions", streamed)));
  const json::object told = line();
  EXPECT_EQ(told.at("status"), 200);
  EXPECT_EQ(told.at("error"), "client took nothing for gateway.write_timeout and was cut off");
}

TEST_F(GatewayLog, TheLineSaysWhoPaidHowMuchAndNotForWhat) {
  add_backend([](const Received&) {
    const std::string body = R"({"text":"an answer","usage":{"prompt_tokens":1000,"completion_tokens":100}})";
    return Script{.bytes = http_answer(200, "application/json", body)};
  });
  options.keys = (folder.path() / "keys.json").string();
  options.policy = folder.put("policy.toml", "[prices.m]\ninput = 2\noutput = 10\n").string();
  options.access_log = (folder.path() / "access").string();
  const std::string secret = make_key(options.keys);
  start();
  const std::string body = R"({"model":"m","messages":[{"role":"user","content":"a question"}]})";
  ASSERT_EQ(post("/v1/chat/completions?of=mine", body, {{"Authorization", "Bearer " + secret}}).status, 200);
  const json::object told = line();
  EXPECT_EQ(told.at("status"), 200);
  EXPECT_EQ(told.at("model"), "m");
  EXPECT_EQ(told.at("tenant"), "t");
  EXPECT_TRUE(told.at("key").as_string().starts_with("key_"));
  EXPECT_EQ(told.at("prompt_tokens"), 1000);
  EXPECT_EQ(told.at("output_tokens"), 100);
  EXPECT_EQ(told.at("cost"), "0.003");
  const std::string text = json::serialize(told);
  for (const std::string& private_one : {std::string("question"), std::string("answer"), std::string("mine"), secret})
    EXPECT_EQ(text.find(private_one), std::string::npos) << text;
}

// A line stays one that can be read, whatever a body says.
// Of those too that no endpoint has seen: once each, with what is known of it.
TEST_F(GatewayLog, WhatTheServerAnswersItselfHasALine) {
  options.access_log = (folder.path() / "access.jsonl").string();
  options.header_timeout = 30ms;
  options.body_timeout = 30ms;
  options.max_body = base::ByteSize{1024};
  start_alone();
  struct Case {
    std::string name;  // its x-request-id
    std::string line;  // of the request
    std::string rest;  // behind the id
    int status;
    std::string error;      // part of it
    bool has_id = true;     // its head could be read
    std::string path = "";  // that of `line` if empty
  };
  const std::string generate = "POST /v1/completions HTTP/1.1";
  const std::vector<Case> cases = {
      {"wrong-method", "DELETE /v1/completions HTTP/1.1", "\r\n", 405, "does not answer DELETE"},
      {"no-path", "GET /nothing?key=secret HTTP/1.1", "\r\n", 404, "no such URL", true, "/nothing"},
      {"preflight", "OPTIONS /v1/completions HTTP/1.1", "\r\n", 204, ""},
      {"large", generate, "Content-Length: 2000\r\n\r\n", 413, "larger than the limit"},
      {"encoded", generate, "Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}", 415, "gzip"},
      {"slow-body", generate, "Content-Length: 200\r\n\r\n{}", 408, "within the time"},
      {"slow-head", generate, "X: y", 408, "within the time", false},
      {"long-head", generate, "X: " + std::string(70'000, 'a') + "\r\n\r\n", 431, "longer than the limit", false},
      {"two-lengths", generate, "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "not certain"},
      {"bad-coding", generate, "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400, "not certain"},
      {"bad-field", generate, "A B: c\r\n\r\n", 400, "not a valid HTTP/1.1 request"},
  };
  for (const Case& each : cases) {
    RawClient client(gateway->port());
    client.send(each.line + "\r\nHost: h\r\nX-Request-Id: " + each.name + "\r\n" + each.rest);
    const std::string answer = each.rest == "\r\n" ? client.read_answer() : client.read_all();
    EXPECT_TRUE(answer.starts_with("HTTP/1.1 " + std::to_string(each.status))) << each.name << answer;
  }
  gateway.reset();
  std::vector<json::object> lines;
  std::ifstream file(options.access_log);
  for (std::string text; std::getline(file, text);) {
    const auto parsed = base::parse_json(text);
    ASSERT_TRUE(parsed) << text;
    lines.push_back(parsed->as_object());
  }
  ASSERT_EQ(lines.size(), cases.size());
  for (size_t i = 0; i < cases.size(); ++i) {
    const Case& expected = cases[i];
    const json::object& line = lines[i];
    const std::string text = json::serialize(line);
    const size_t blank = expected.line.find(' ');
    const std::string path =
        expected.path.empty() ? expected.line.substr(blank + 1, expected.line.rfind(' ') - blank - 1) : expected.path;
    EXPECT_EQ(line.at("status"), expected.status) << text;
    EXPECT_EQ(line.at("method"), json::value(expected.line.substr(0, blank))) << text;
    EXPECT_EQ(line.at("path"), json::value(path)) << text;
    EXPECT_TRUE(line.contains("peer")) << text;
    EXPECT_FALSE(line.contains("tenant")) << text;
    if (expected.has_id) {
      EXPECT_EQ(line.at("id"), json::value(expected.name)) << text;
    }
    if (expected.status == 204) continue;
    EXPECT_NE(std::string(line.at("error").as_string()).find(expected.error), std::string::npos) << text;
    EXPECT_GT(line.at("bytes_out").as_int64(), 0) << text;
  }
}

TEST_F(GatewayLog, TheLineHasTheBeginningOfALongName) {
  add_backend([](const Received&) { return Script{.bytes = http_answer(200, "application/json", "{}")}; });
  options.access_log = (folder.path() / "access").string();
  start();
  const std::string name(1'000'000, 'M');
  EXPECT_EQ(post("/v1/chat/completions", R"({"model":")" + name + R"(","messages":[]})").status, 404);
  EXPECT_EQ(std::string(line().at("model").as_string()), std::string(200, 'M'));
}

TEST_F(GatewayLog, APromptIsInTheLineIfAskedFor) {
  add_backend(
      [](const Received&) { return Script{.bytes = http_answer(200, "application/json", R"({"text":"an answer"})")}; });
  options.access_log = (folder.path() / "access").string();
  options.log_prompts = true;
  start();
  const std::string body = R"({"model":"m","messages":[{"role":"user","content":"a \"question\""}]})";
  ASSERT_EQ(post("/v1/chat/completions", body).status, 200);
  const json::object told = line();
  EXPECT_EQ(told.at("asked").as_string(), body);
  EXPECT_EQ(json::serialize(told).find("an answer"), std::string::npos);
}

// A gateway before this one asks for it every second, which would drown what else there is to see.
TEST_F(GatewayLog, AListOfModelsIsNotMadeMuchOf) {
  add_backend([](const Received&) { return Script{.bytes = http_answer(200, "application/json", "{}")}; });
  options.access_log = (folder.path() / "access").string();
  start();
  for (int i = 0; i < 3; ++i)
    ASSERT_EQ(get("/v1/models").status, 200);
  ASSERT_EQ(get("/v1/models/m").status, 200);
  std::string traces = get("/debug/traces").body;
  EXPECT_EQ(times(traces, "\"GET /v1/models\""), 0U) << traces;
  EXPECT_EQ(times(traces, "\"GET /v1/models/*\""), 1U) << traces;
  // Who traces it wants to see it.
  wire::ClientRequest traced{.method = "GET",
                             .url = gateway->url() + "/v1/models",
                             .headers = {{"traceparent", "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"}},
                             .body = {}};
  ASSERT_EQ(wire::HttpClient().fetch(std::move(traced))->status, 200);
  traces = get("/debug/traces").body;
  EXPECT_EQ(times(traces, "\"GET /v1/models\""), 1U) << traces;
  EXPECT_EQ(statuses_of("/v1/models"), std::vector<int64_t>{200});
  EXPECT_EQ(statuses_of("/v1/models/m"), std::vector<int64_t>{200});
}

TEST_F(GatewayLog, AListOfModelsThatFailsHasALine) {
  add_backend([](const Received&) { return Script{.bytes = http_answer(200, "application/json", "{}")}; });
  options.access_log = (folder.path() / "access").string();
  options.keys = (folder.path() / "keys.json").string();
  const std::string secret = make_key(options.keys);
  start();
  EXPECT_EQ(get("/v1/models", secret).status, 200);
  EXPECT_EQ(get("/v1/models", "tm-x").status, 401);
  EXPECT_EQ(statuses_of("/v1/models"), std::vector<int64_t>{401});
}

TEST_F(GatewayLog, ListsOfModelsHaveLinesIfAskedFor) {
  add_backend([](const Received&) { return Script{.bytes = http_answer(200, "application/json", "{}")}; });
  options.access_log = (folder.path() / "access").string();
  options.log_polls = true;
  start();
  ASSERT_EQ(get("/v1/models").status, 200);
  EXPECT_EQ(times(get("/debug/traces").body, "\"GET /v1/models\""), 1U);
  EXPECT_EQ(statuses_of("/v1/models"), std::vector<int64_t>{200});
}

TEST_F(GatewayLog, SpansGoToTheCollector) {
  ScriptedBackend collector([](const Received&) {
    return Script{.bytes = http_answer(200, "application/json", "{}", "Connection: close\r\n")};
  });
  add_backend([](const Received&) { return Script{.bytes = http_answer(200, "application/json", "{}")}; });
  options.otlp_endpoint = collector.url();
  start();
  const std::string trace = "0123456789abcdef0123456789abcdef";
  const wire::Headers headers{{"traceparent", "00-" + trace + "-0123456789abcdef-01"}};
  ASSERT_EQ(post("/v1/chat/completions", question, headers).status, 200);
  gateway.reset();  // which sends what is left
  std::string sent;
  for (const Received& request : collector.received()) {
    EXPECT_EQ(request.path, "/v1/traces");
    sent += request.body;
  }
  for (const std::string& part : {trace, std::string("POST /v1/chat/completions"), std::string("upstream")})
    EXPECT_NE(sent.find(part), std::string::npos) << part << " in " << sent;
}

TEST_F(GatewayLog, AClientThatGoesInMidStreamIsSaidToHaveGone) {
  ScriptedBackend& backend = add_backend([](const Received&) {
    std::string bytes = chunked_answer({"data: {\"text\":\"1\"}\n\n"});
    bytes.resize(bytes.size() - 5);
    return Script{.bytes = bytes, .end = Script::End::hang};
  });
  options.access_log = (folder.path() / "access").string();
  start();
  const std::string body = R"({"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]})";
  RawClient client(gateway->port());
  ASSERT_TRUE(client.send(raw_post("/v1/chat/completions", body)));
  ASSERT_NE(client.read_through("\"text\":\"1\"").find("200"), std::string::npos);
  client.close();
  ASSERT_TRUE(backend.wait_for_hang_up());
  const json::object told = line();
  EXPECT_EQ(told.at("status"), 200);
  EXPECT_EQ(told.at("error"), "client went away");
}

TEST_F(GatewayLog, AnAnswerThatWasTakenHasNoError) {
  add_backend([](const Received&) { return Script{.bytes = http_answer(200, "application/json", "{}")}; });
  options.access_log = (folder.path() / "access").string();
  start();
  RawClient client(gateway->port());
  ASSERT_TRUE(client.send(raw_post("/v1/chat/completions", question, "Connection: close\r\n")));
  EXPECT_TRUE(client.read_all().ends_with("{}"));
  client.close();
  const json::object told = line();
  EXPECT_EQ(told.at("status"), 200);
  EXPECT_FALSE(told.contains("error"));
}

}  // namespace
}  // namespace tidemill::test
