// What reaches the client when backends fail, before the first byte.
#include <atomic>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/json.hpp"
#include "gateway/fleet_fixture.hpp"
#include "temporary_folder.hpp"

namespace tidemill::test {
namespace {

using namespace std::chrono_literals;

class Relay : public FleetFixture {
 protected:
  static inline const std::string question = R"({"model":"m","messages":[{"role":"user","content":"hi"}]})";
  static inline const std::string answer =
      http_answer(200, "application/json", R"({"id":"chatcmpl-1"})", "X-Backend: yes\r\n");

  // Two backends, of which the one that is asked first does what `script` says. Its answer counts requests.
  void start_with(const Script& script, int times = 1) {
    for (int i = 0; i < 2; ++i) {
      add_backend(
          [this, script, times](const Received&) { return asked++ < times ? script : Script{.bytes = answer}; });
    }
    start();
  }

  std::atomic<int> asked = 0;
};

TEST_F(Relay, PassesRequestsAndAnswersOn) {
  ScriptedBackend& backend = add_backend([](const Received&) { return Script{.bytes = answer}; });
  start();
  const wire::HttpResponse response =
      post("/v1/chat/completions?x=1", question,
           {{"Authorization", "Bearer client"},
            {"X-Request-Id", "id-1"},
            {"X-Other", "kept"},
            {"TE", "trailers"},
            {"Accept-Encoding", "gzip"},
            {"x-tidemill-resumable", "1"},
            {"X-Tidemill-Mirror", "1"},
            {"X-TIDEMILL-ANYTHING", "1"},
            {"traceparent", "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"}});
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.body, R"({"id":"chatcmpl-1"})");
  EXPECT_EQ(response.headers.find("x-backend"), "yes");
  EXPECT_EQ(response.headers.find("x-request-id"), "id-1");
  ASSERT_EQ(backend.received().size(), 1U);
  const Received request = backend.received().front();
  EXPECT_EQ(request.path, "/v1/chat/completions?x=1");
  EXPECT_EQ(request.body, question);
  EXPECT_EQ(request.field("Authorization"), "Bearer client");
  EXPECT_EQ(request.field("X-Request-Id"), "id-1");
  EXPECT_EQ(request.field("X-Other"), "kept");
  EXPECT_EQ(request.field("TE") + request.field("Accept-Encoding") + request.field("x-tidemill-resumable"), "");
  for (const char* name : {"\nx-tidemill-", "\nX-Tidemill-", "\nX-TIDEMILL-"})
    EXPECT_EQ(request.head.find(name), std::string::npos) << "nobody speaks in the gateway's name: " << request.head;
  const std::string parent = request.field("traceparent");
  EXPECT_TRUE(parent.starts_with("00-0123456789abcdef0123456789abcdef-")) << parent;
  EXPECT_EQ(parent.find("0123456789abcdef-01"), std::string::npos) << "the backend's parent is the gateway's span";
}

TEST_F(Relay, AllTriesAreOfOneTrace) {
  std::vector<ScriptedBackend*> backends;
  for (int i = 0; i < 2; ++i) {
    backends.push_back(&add_backend([this](const Received&) {
      return Script{.bytes = asked++ == 0 ? http_answer(503, "text/plain", "busy") : answer};
    }));
  }
  start();
  const std::string trace = "00-0123456789abcdef0123456789abcdef-";
  EXPECT_EQ(post("/v1/chat/completions", question, {{"traceparent", trace + "0123456789abcdef-01"}}).status, 200);
  std::set<std::string> parents;
  for (ScriptedBackend* backend : backends) {
    for (const Received& request : backend->received()) {
      parents.insert(request.field("traceparent"));
      EXPECT_TRUE(request.field("traceparent").starts_with(trace)) << request.head;
    }
  }
  EXPECT_EQ(parents.size(), 2U) << "each has a span of its own";
}

TEST_F(Relay, SendsTheBackendsOwnKey) {
  ScriptedBackend& backend = add_backend([](const Received&) { return Script{.bytes = answer}; });
  options.backends.front().api_key = "secret";
  start();
  post("/v1/messages", question, {{"X-Api-Key", "client"}, {"Authorization", "Bearer client"}});
  ASSERT_EQ(backend.received().size(), 1U);
  EXPECT_EQ(backend.received().front().field("Authorization"), "Bearer secret");
  EXPECT_EQ(backend.received().front().head.find("client"), std::string::npos);
}

// What a backend says in the gateway's name, and where it has its addresses, clients do not hear.
TEST_F(Relay, ABackendDoesNotSpeakForTheGateway) {
  const std::string forged =
      "X-Tidemill-Cost: 99\r\nx-tidemill-target: fake\r\nX-TIDEMILL-Route: fake\r\nDate: never\r\n"
      "Access-Control-Allow-Origin: *\r\nX-Kept: yes\r\n";
  add_backend([forged](const Received& request) {
    const std::string to = request.path == "/v1/files" ? "Location: /v1/files/7\r\nContent-Location: //10.1.2.3/x\r\n"
                                                       : "Location: http://10.1.2.3:8000/internal\r\n";
    return Script{.bytes = http_answer(request.path == "/v1/files" ? 201 : 307, "application/json", "{}", forged + to)};
  });
  start();
  const wire::HttpResponse moved = post("/v1/chat/completions", question);
  EXPECT_EQ(moved.status, 307);
  for (const char* name :
       {"x-tidemill-cost", "x-tidemill-target", "x-tidemill-route", "location", "access-control-allow-origin"}) {
    EXPECT_FALSE(moved.headers.has(name)) << name;
  }
  EXPECT_EQ(moved.headers.find("x-kept"), "yes");
  EXPECT_NE(moved.headers.find("date"), "never");
  const wire::HttpResponse made = post("/v1/files", R"({"model":"m"})");
  EXPECT_EQ(made.status, 201);
  EXPECT_EQ(made.headers.find("location"), "/v1/files/7") << "a path is one of the gateway's too";
  EXPECT_FALSE(made.headers.has("content-location"));
}

// Media types are the same in large letters and small ones.
TEST_F(Relay, AStreamIsOneHoweverItsTypeIsWritten) {
  std::string type;
  const std::string events = "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\ndata: [DONE]\n\n";
  add_backend([&](const Received&) { return Script{.bytes = http_answer(200, type, events)}; });
  start();
  for (const char* written : {"text/event-stream", "Text/Event-Stream", "TEXT/EVENT-STREAM; charset=UTF-8",
                              "text/event-stream ;charset=utf-8"}) {
    type = written;
    const wire::HttpResponse response =
        post("/v1/chat/completions", R"({"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]})");
    EXPECT_EQ(response.status, 200) << written;
    EXPECT_EQ(response.body, events) << written;
  }
  type = "text/event-streams";
  EXPECT_EQ(post("/v1/chat/completions", question).status, 503) << "that is another type, and no JSON";
}

// A backend that says again and again that it is there, and nothing else, is left in the end: another may answer.
TEST_F(Relay, CommentsWithoutAnEventHoldNobodyForEver) {
  options.event_timeout = 50ms;
  const std::string event = "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\ndata: [DONE]\n\n";
  std::string begun = chunked_answer({": there\n\n"});
  begun.resize(begun.size() - 5);  // its last chunk
  std::atomic<bool> all = false;
  for (int i = 0; i < 2; ++i) {
    add_backend([&, begun, event](const Received&) {
      if (asked++ == 0 || all) return Script{.bytes = begun, .comments = 1'000'000'000};
      return Script{.bytes = chunked_answer({event})};
    });
  }
  options.retries = 1;
  start();
  const std::string streamed = R"({"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]})";
  const wire::HttpResponse response = post("/v1/chat/completions", streamed);
  EXPECT_EQ(response.status, 200);
  EXPECT_TRUE(response.body.starts_with(": there\n\n: \n\n")) << response.body;
  EXPECT_TRUE(response.body.ends_with(event)) << response.body;
  EXPECT_EQ(asked, 2);
  all = true;
  const wire::HttpResponse failed = post("/v1/chat/completions", streamed);
  EXPECT_EQ(failed.status, 200) << "comments were told";
  EXPECT_NE(failed.body.find("data: {\"error\":"), std::string::npos) << failed.body;
  EXPECT_EQ(failed.body.find("[DONE]"), std::string::npos) << failed.body;
}

// An event that comes in two reads is on its way after the first of them.
TEST_F(Relay, TheFirstHalfOfAnEventIsNoSilence) {
  options.event_timeout = 0ns;
  options.retries = 0;
  const std::string event = "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n";
  const std::string done = "data: [DONE]\n\n";
  add_backend([&](const Received&) {
    std::string begun = chunked_answer({event.substr(0, 20)});
    begun.resize(begun.size() - 5);  // its last chunk
    const std::string rest = chunked_answer({event.substr(20) + done});
    return Script{.bytes = begun, .end = Script::End::keep, .rest = rest.substr(rest.find("\r\n\r\n") + 4)};
  });
  start();
  for (int i = 0; i < 10; ++i) {
    const wire::HttpResponse response =
        post("/v1/chat/completions", R"({"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]})");
    EXPECT_EQ(response.status, 200);
    EXPECT_EQ(response.body, event + done);
  }
}

// Whatever byte an answer breaks off at, in whatever way, the other backend's is what the client gets.
TEST_F(Relay, AnAnswerThatBreaksOffComesFromElsewhere) {
  std::atomic<size_t> length = 0;
  std::atomic<bool> reset = false;
  std::atomic<bool> broken = false;
  for (int i = 0; i < 2; ++i) {
    add_backend([&](const Received&) {
      if (broken.exchange(true)) return Script{.bytes = answer};
      return Script{.bytes = answer.substr(0, length), .end = reset ? Script::End::reset : Script::End::close};
    });
  }
  start();
  for (size_t at = 0; at < answer.size(); ++at) {
    length = at;
    reset = at % 2 == 0;
    broken = false;
    const wire::HttpResponse response = post("/v1/chat/completions", question);
    ASSERT_EQ(response.status, 200) << at << " " << response.body;
    ASSERT_EQ(response.body, R"({"id":"chatcmpl-1"})") << at;
    ASSERT_TRUE(broken);
  }
  // Where not one byte came on a kept connection, the same backend is asked once more, on a fresh one.
  EXPECT_GE(metric("tidemill_gateway_retries_total"), static_cast<double>(answer.size() - 1));
}

TEST_F(Relay, RefusalsAreTakenElsewhere) {
  for (const int status : {429, 502, 503, 504}) {
    SCOPED_TRACE(status);
    asked = 0;
    if (!gateway) {
      for (int i = 0; i < 2; ++i) {
        add_backend([this](const Received& request) {
          const int wanted = std::stoi(request.field("X-Status"));
          return Script{.bytes = asked++ == 0 ? http_answer(wanted, "text/plain", "no") : answer};
        });
      }
      start();
    }
    EXPECT_EQ(post("/v1/chat/completions", question, {{"X-Status", std::to_string(status)}}).status, 200);
    EXPECT_EQ(asked, 2);
  }
}

TEST_F(Relay, TheRequestsOwnFaultsAreNot) {
  for (int i = 0; i < 2; ++i) {
    add_backend([this](const Received&) {
      ++asked;
      return Script{.bytes = http_answer(400, "application/json", R"({"error":{}})")};
    });
  }
  start();
  const wire::HttpResponse response = post("/v1/chat/completions", question);
  EXPECT_EQ(response.status, 400);
  EXPECT_EQ(response.body, R"({"error":{}})");
  EXPECT_EQ(asked, 1);
}

TEST_F(Relay, NoHttpAtAll) {
  start_with({.bytes = "SSH-2.0-OpenSSH_9.2\r\n\r\n"});
  EXPECT_EQ(post("/v1/chat/completions", question).status, 200);
  EXPECT_EQ(asked, 2);
}

TEST_F(Relay, ASilentBackendIsLeft) {
  options.answer_timeout = 50ms;
  start_with({.bytes = "", .end = Script::End::hang});
  EXPECT_EQ(post("/v1/chat/completions", question).status, 200);
  EXPECT_EQ(asked, 2);
}

TEST_F(Relay, TheTriesAreBounded) {
  options.retries = 2;
  start_with({.bytes = ""}, 1000);
  const wire::HttpResponse response = post("/v1/chat/completions", question);
  EXPECT_EQ(response.status, 503);
  EXPECT_TRUE(response.headers.has("retry-after"));
  EXPECT_GE(asked, 3);
  EXPECT_LE(asked, 6);  // each try may find a kept connection closed, and then takes a fresh one
  const std::string told = "no backend answered, after " + std::to_string(asked.load()) + " tries\"";
  EXPECT_NE(response.body.find(told), std::string::npos) << response.body << " " << asked;
  EXPECT_EQ(response.body.find("127.0.0.1"), std::string::npos) << "addresses are not for clients";
}

// A server may close a connection that was kept just when a request comes. Or it may have read it, and died of it.
class KeptConnection : public FleetFixture {
 protected:
  static inline const std::string answer = http_answer(200, "application/json", R"({"id":"chatcmpl-1"})");

  // Answers all but the second request, for which it resets the connection on which it answered the first.
  void start_one() {
    options.access_log = (folder.path() / "access.jsonl").string();
    backend = &add_backend([this](const Received&) {
      return ++asked == 2 ? Script{.bytes = "", .end = Script::End::reset}
                          : Script{.bytes = answer, .end = Script::End::keep};
    });
    start();
  }
  int ask() {
    return post("/v1/chat/completions", R"({"model":"m","messages":[{"role":"user","content":"hi"}]})").status;
  }
  double sent() {
    return metric("tidemill_gateway_backend_requests_total{backend=\"127.0.0.1:" + std::to_string(backend->port()) +
                  "\"}");
  }
  // Of the lines of the access log, once the gateway has gone.
  std::vector<int64_t> tries() {
    gateway.reset();
    std::vector<int64_t> all;
    std::ifstream file(options.access_log);
    for (std::string line; std::getline(file, line);) {
      const auto parsed = base::parse_json(line);
      if (parsed && parsed->at("path") == "/v1/chat/completions") all.push_back(parsed->at("tries").as_int64());
    }
    return all;
  }

  TemporaryFolder folder;
  ScriptedBackend* backend = nullptr;
  std::atomic<int> asked = 0;
};

TEST_F(KeptConnection, WhatIsSentAgainOnAFreshOneIsCounted) {
  options.retries = 1;
  start_one();
  EXPECT_EQ(ask(), 200);
  EXPECT_EQ(ask(), 200);
  EXPECT_EQ(asked, 3);
  EXPECT_EQ(sent(), 3);
  EXPECT_EQ(metric("tidemill_gateway_retries_total"), 1);
  EXPECT_EQ(tries(), (std::vector<int64_t>{1, 2}));
}

TEST_F(KeptConnection, WithoutRetriesNothingIsSentAgain) {
  options.retries = 0;
  start_one();
  EXPECT_EQ(ask(), 200);
  EXPECT_EQ(ask(), 503);
  EXPECT_EQ(asked, 2);
  EXPECT_EQ(sent(), 2);
  EXPECT_EQ(metric("tidemill_gateway_retries_total"), 0);
  EXPECT_EQ(tries(), (std::vector<int64_t>{1, 1}));
}

TEST_F(Relay, IfAllRefuseTheLastOnesWordsAreHandedOn) {
  start_with({.bytes = http_answer(429, "application/json", R"({"error":{"message":"full"}})", "Retry-After: 7\r\n")},
             1000);
  const wire::HttpResponse response = post("/v1/chat/completions", question);
  EXPECT_EQ(response.status, 429);
  EXPECT_EQ(response.headers.find("retry-after"), "7");
  EXPECT_EQ(response.body, R"({"error":{"message":"full"}})");
}

TEST_F(Relay, AClientThatHangsUpEndsTheBackendsWork) {
  ScriptedBackend& backend = add_backend([](const Received&) { return Script{.bytes = "", .end = Script::End::hang}; });
  start();
  RawClient client(gateway->port());
  ASSERT_TRUE(client.send(raw_post("/v1/chat/completions", question)));
  ASSERT_TRUE(backend.wait_for_requests(1));
  client.close();
  EXPECT_TRUE(backend.wait_for_hang_up());
  EXPECT_EQ(backend.received().size(), 1U);
}

// So that others do not queue behind it.
TEST_F(Relay, ABackendThatRanksIsBusy) {
  ScriptedBackend& backend = add_backend([](const Received&) { return Script{.bytes = "", .end = Script::End::hang}; });
  start();
  std::string body = R"({"query":")" + std::string(1000, 'q') + R"(","documents":["d")";
  for (int i = 1; i < 2000; ++i)
    body += R"(,"d")";
  RawClient client(gateway->port());
  ASSERT_TRUE(client.send(raw_post("/v1/rerank", body + "]}")));
  ASSERT_TRUE(backend.wait_for_requests(1));
  const auto states = base::parse_json(get("/backends").body);
  ASSERT_TRUE(states);
  // Some 570,000 tokens at 5,000 a second.
  EXPECT_GT(states->at("backends").at(0).at("backlog_seconds").to_number<double>(), 30) << get("/backends").body;
  client.close();
  EXPECT_TRUE(backend.wait_for_hang_up());
}

TEST_F(Relay, ModelsDecideWhoIsAsked) {
  ScriptedBackend& a = add_backend([](const Received&) { return Script{.bytes = answer}; }, R"({"data":[{"id":"a"}]})");
  ScriptedBackend& b =
      add_backend([](const Received&) { return Script{.bytes = answer}; }, R"({"data":[{"id":"b"},{"id":"shared"}]})");
  start();
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(post("/v1/completions", R"({"model":"a","prompt":")" + std::to_string(i) + "\"}").status, 200);
    EXPECT_EQ(post("/v1/completions", R"({"model":"b","prompt":")" + std::to_string(i) + "\"}").status, 200);
  }
  EXPECT_EQ(a.received().size(), 5U);
  EXPECT_EQ(b.received().size(), 5U);
  const wire::HttpResponse missing = post("/v1/completions", R"({"model":"c"})");
  EXPECT_EQ(missing.status, 404);
  EXPECT_NE(missing.body.find("model_not_found"), std::string::npos) << missing.body;
  const std::string models = get("/v1/models").body;
  for (const char* name : {"\"a\"", "\"b\"", "\"shared\""})
    EXPECT_NE(models.find(name), std::string::npos) << models;
  EXPECT_EQ(get("/v1/models/shared").status, 200);
  EXPECT_EQ(get("/v1/models/c").status, 404);
}

TEST_F(Relay, AnotherModelIsKnownByTheNextLook) {
  ScriptedBackend& backend = add_backend([](const Received&) { return Script{.bytes = answer}; });
  start();
  const std::string other = R"({"model":"z","prompt":"hi"})";
  EXPECT_EQ(post("/v1/completions", other).status, 404);
  backend.set_models(R"({"data":[{"id":"z"}]})");
  gateway->look();
  EXPECT_EQ(post("/v1/completions", other).status, 200);
  EXPECT_EQ(post("/v1/chat/completions", question).status, 404);
}

// As the backends tell it: since when there is one of that name, and what fits whichever answers.
TEST_F(Relay, ModelsAreToldWithWhatBackendsSayOfThem) {
  add_backend(
      [](const Received&) { return Script{.bytes = answer}; },
      R"({"data":[{"id":"m","created":200,"max_model_len":4096},{"id":"odd","created":"x","max_model_len":-1}]})");
  add_backend([](const Received&) { return Script{.bytes = answer}; },
              R"({"data":[{"id":"m","created":100,"max_model_len":8192}]})");
  options.routes.push_back({.model = "r", .targets = {{.name = "only", .model = "m"}}});
  start();
  const auto m = base::parse_json(get("/v1/models/m").body);
  ASSERT_TRUE(m);
  EXPECT_EQ(m->at("created"), 100);
  EXPECT_EQ(m->at("max_model_len"), 4096);
  EXPECT_EQ(base::parse_json(get("/v1/models/r").body)->at("max_model_len"), 4096);
  const auto odd = base::parse_json(get("/v1/models/odd").body);
  EXPECT_EQ(odd->at("created"), 0);
  EXPECT_FALSE(odd->as_object().contains("max_model_len"));
  EXPECT_EQ(base::parse_json(get("/v1/models").body)->at("data").as_array().size(), 3U);
}

TEST_F(Relay, WhatIsNoRequestIsRefusedHere) {
  ScriptedBackend& backend = add_backend([](const Received&) { return Script{.bytes = answer}; });
  start();
  for (const char* body : {"", "[]", "{\"model\":", R"({"model":"m","model":"n"})", R"({"tidemill_resume":{}})"})
    EXPECT_EQ(post("/v1/chat/completions", body).status, 400) << body;
  const wire::HttpResponse response = post("/v1/messages", "{");
  EXPECT_EQ(response.status, 400);
  EXPECT_EQ(base::parse_json(response.body)->at("type"), "error") << "Anthropic's clients get Anthropic's errors";
  EXPECT_TRUE(backend.received().empty());
}

}  // namespace
}  // namespace tidemill::test
