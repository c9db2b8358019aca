// What one version of a route does not answer, another does; and the rollout hears of it.
#include <atomic>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include <gtest/gtest.h>

#include "gateway/route_fixture.hpp"
#include "rollout/decision_log.hpp"
#include "temporary_folder.hpp"

namespace tidemill::test {
namespace {

using namespace std::chrono_literals;

Script refuse(int status) {
  return Script{.bytes = http_answer(status, "application/json", R"({"error":{"message":"no"}})")};
}

class Handover : public Route {
 protected:
  // A canary that gets half of the requests, and no verdict on it but by very many.
  void add_long_canary() {
    add_canary();
    gateway::CanarySection& canary = options.routes.front().canary;
    canary.steps = {"50%"};
    canary.min_requests = 100'000;
    canary.max_error_increase = 0.5;
  }
  // So many requests, all of which are answered well.
  void ask_well(int times) {
    for (int i = 0; i < times; ++i) {
      const wire::HttpResponse response = ask();
      ASSERT_EQ(response.status, 200) << response.body;
      EXPECT_NE(response.body.find("tide"), std::string::npos);
    }
  }
};

// However it fails, the client does not notice, and the failure is the version's.
TEST_F(Handover, WhatACanaryDoesNotAnswerStableDoes) {
  const std::string cut = http_answer(200, "application/json", std::string(100, ' ')).substr(0, 120);
  const std::map<std::string, Script> failures = {
      {"says 500", refuse(500)},      {"says 502", refuse(502)},
      {"says 408", refuse(408)},      {"is busy", refuse(503)},
      {"closes", {.bytes = ""}},      {"resets", {.bytes = "", .end = Script::End::reset}},
      {"breaks off", {.bytes = cut}}, {"is no HTTP", {.bytes = "tide\r\n\r\n"}}};
  std::atomic<const Script*> failure = nullptr;
  add_two_versions(say_answer, [&failure](const Received&) { return *failure.load(); });
  add_long_canary();
  start();
  int64_t handed_over = 0;
  for (const auto& [name, script] : failures) {
    failure = &script;
    options.routes.front().canary.revision = name;
    ASSERT_TRUE(gateway->reload(options));
    for (int i = 0; i < 16; ++i) {
      const wire::HttpResponse response = ask();
      ASSERT_EQ(response.status, 200) << name << response.body;
      EXPECT_EQ(response.headers.find("x-tidemill-target"), "stable") << "who answered, not who was chosen";
      EXPECT_EQ(response.headers.find("x-tidemill-model"), "v1");
    }
    EXPECT_GT(count(1, "failed"), 0) << name;
    EXPECT_EQ(count(1, "failed"), count(1, "handed_over")) << name;
    EXPECT_EQ(count(1, "failed"), count(1, "requests")) << name;
    EXPECT_EQ(count(0, "failed"), 0) << name;
    EXPECT_EQ(count(0, "requests"), 16) << "stable answers all, whoever was chosen";
    handed_over += count(1, "handed_over");
  }
  EXPECT_EQ(metric("tidemill_gateway_route_handovers_total{route=\"code\",target=\"v2\"}"),
            static_cast<double>(handed_over));
}

TEST_F(Handover, ASilentCanaryIsLeft) {
  add_two_versions(say_answer, [](const Received&) { return Script{.bytes = "", .end = Script::End::hang}; });
  add_long_canary();
  options.answer_timeout = 200ms;
  start();
  while (v2->received().empty())
    ask_well(1);
  EXPECT_EQ(count(1, "failed"), count(1, "requests"));
}

// A version that nobody serves, as while its pods start, is not there for its requests.
TEST_F(Handover, ACanaryWithoutBackendsFails) {
  add_two_versions();
  add_long_canary();
  options.routes.front().targets[1].backends = {"nobody"};
  start();
  ask_well(16);
  EXPECT_GT(count(1, "failed"), 0);
  EXPECT_EQ(count(1, "handed_over"), count(1, "failed"));
  EXPECT_TRUE(v2->received().empty());
}

TEST_F(Handover, AVersionThatAHeaderAskedForAnswersForItself) {
  add_two_versions(say_answer, [](const Received&) { return refuse(500); });
  add_long_canary();
  options.routes.front().targets[1].headers = {"x-version: next"};
  start();
  EXPECT_EQ(ask({{"x-version", "next"}}).status, 500);
  EXPECT_EQ(v1->received().size(), 0U);
}

TEST_F(Handover, StablesOwnFailuresAreNotTheCanarys) {
  add_two_versions([](const Received&) { return refuse(500); }, say_answer);
  add_long_canary();
  start();
  int failed = 0;
  while (failed < 3)  // of more, its backend would be ejected
    failed += ask().status == 500 ? 1 : 0;
  EXPECT_EQ(count(0, "failed"), failed);
  EXPECT_EQ(count(0, "handed_over"), 0);
  EXPECT_EQ(count(1, "failed"), 0);
}

// A retry within stable hides a failure from the client, and from no comparison: of a canary there is no such retry.
// (A try that finds its connection closed takes a fresh one; so two in a row must fail.)
TEST_F(Handover, ARetryDoesNotHideAFailure) {
  std::atomic<int> asked = 0;
  add_two_versions(
      [&asked](const Received&) { return ++asked % 3 != 0 ? Script{.bytes = ""} : Script{.bytes = routed_answer}; });
  add_long_canary();
  start();
  while (count(0, "requests") == 0)
    ask_well(1);
  EXPECT_EQ(count(0, "failed"), count(0, "requests"));
}

TEST_F(Handover, TheVersionThatAnswersIsPaid) {
  TemporaryFolder folder;
  options.policy =
      folder.put("policy.toml", "[prices.v1]\ninput = 0\noutput = 1\n[prices.v2]\ninput = 0\noutput = 1000\n").string();
  add_two_versions(say_answer, [](const Received&) { return refuse(500); });
  add_long_canary();
  start();
  std::set<std::string> costs;
  while (v2->received().empty())
    costs.insert(std::string(ask().headers.find("x-tidemill-cost").value_or("")));
  EXPECT_EQ(costs, std::set<std::string>{"0.000005"});
}

// ---- streams

std::string event_of(const std::string& text, const char* finish = nullptr) {
  return R"(data: {"id":"c","choices":[{"index":0,"delta":{"content":")" + text + R"("},"finish_reason":)" +
         (finish == nullptr ? "null" : "\"" + std::string(finish) + "\"") + "}]}\n\n";
}

const std::string streamed_question = R"({"model":"code","stream":true,"messages":[{"role":"user","content":"hi"}]})";

Script broken_stream(const std::string& text) {
  const std::string whole = chunked_answer({event_of(text)});
  return Script{.bytes = whole.substr(0, whole.size() - 5)};  // without the last chunk
}

// Versions say different things, so a stream goes on with its own.
TEST_F(Handover, AStreamIsTakenUpByItsOwnVersion) {
  std::atomic<int> asked = 0;
  add_two_versions(
      [](const Received&) {
        return Script{.bytes = chunked_answer({event_of("other", "stop"), "data: [DONE]\n\n"})};
      },
      [&asked](const Received& request) {
        if (++asked % 2 == 1) return broken_stream("ti");
        EXPECT_NE(request.body.find("continue_final_message"), std::string::npos);
        return Script{.bytes = chunked_answer({event_of("de", "stop"), "data: [DONE]\n\n"})};
      });
  add_long_canary();
  start();
  wire::HttpResponse response;
  while (asked == 0)
    response = post("/v1/chat/completions", streamed_question);
  EXPECT_EQ(response.headers.find("x-tidemill-target"), "v2");
  EXPECT_NE(response.body.find("\"ti\""), std::string::npos);
  EXPECT_NE(response.body.find("\"de\""), std::string::npos);
  EXPECT_EQ(response.body.find("other"), std::string::npos);
  EXPECT_NE(response.body.find("[DONE]"), std::string::npos);
  EXPECT_EQ(count(1, "handed_over"), 0);
  EXPECT_EQ(count(1, "failed"), 1) << "it broke off, though the client has all of it";
}

TEST_F(Handover, AStreamThatItsVersionDoesNotTakeUpEndsWithAnError) {
  add_two_versions(
      [](const Received&) {
        return Script{.bytes = chunked_answer({event_of("other", "stop"), "data: [DONE]\n\n"})};
      },
      [](const Received& request) {
        const bool resumed = request.body.find("continue_final_message") != std::string::npos;
        return resumed ? refuse(400) : broken_stream("ti");
      });
  add_long_canary();
  start();
  wire::HttpResponse response;
  size_t asked = 0;
  for (; v2->received().empty(); ++asked)
    response = post("/v1/chat/completions", streamed_question);
  EXPECT_NE(response.body.find("\"ti\""), std::string::npos);
  EXPECT_NE(response.body.find("\"error\""), std::string::npos) << response.body;
  EXPECT_EQ(response.body.find("other"), std::string::npos);
  EXPECT_EQ(response.body.find("[DONE]"), std::string::npos);
  EXPECT_EQ(v1->received().size(), asked - 1) << "the other version was not asked to go on";
  EXPECT_EQ(count(1, "failed"), 1);
}

// As long as the client has got nothing, a stream is a request like any other.
TEST_F(Handover, AStreamThatDoesNotBeginComesFromStable) {
  add_two_versions(
      [](const Received&) {
        return Script{.bytes = chunked_answer({event_of("tide", "stop"), "data: [DONE]\n\n"})};
      },
      [](const Received&) {
        return Script{.bytes =
                          "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"};
      });
  add_long_canary();
  start();
  while (v2->received().empty()) {
    const wire::HttpResponse response = post("/v1/chat/completions", streamed_question);
    EXPECT_EQ(response.headers.find("x-tidemill-target"), "stable");
    EXPECT_NE(response.body.find("tide"), std::string::npos);
    EXPECT_EQ(response.body.find("error"), std::string::npos);
  }
  EXPECT_EQ(count(1, "failed"), count(1, "requests"));
}

// ---- 4xx

TEST_F(Handover, ACanaryThatRefusesWhatStableTakesIsRolledBack) {
  add_two_versions(say_answer, [](const Received&) { return refuse(400); });
  add_canary();
  options.routes.front().canary.max_error_increase = 0.05;
  start();
  EXPECT_EQ(roll_out(), "rolled_back");
  EXPECT_EQ(route_state().at("canary").at("reason"), "error_rate");
  EXPECT_EQ(count(1, "failed"), count(1, "requests"));
}

TEST_F(Handover, WhatBothRefuseIsTheClientsFault) {
  const auto choosy = [](const Received& request) {
    return request.body.find("bad") != std::string::npos ? refuse(422) : Script{.bytes = routed_answer};
  };
  add_two_versions(choosy, choosy);
  add_long_canary();
  start();
  for (int i = 0; i < 24; ++i)
    EXPECT_EQ(post("/v1/chat/completions", R"({"model":"code","messages":"bad"})").status, 422);
  EXPECT_GT(v2->received().size(), 0U);
  EXPECT_EQ(count(0, "failed"), 0);
  EXPECT_EQ(count(1, "failed"), 0);
  EXPECT_EQ(route_state().at("canary").at("requests_in_step"), 0) << "it says nothing of either";
}

// One client whose session is with the canary and who asks nothing right would make it look bad, if that counted.
TEST_F(Handover, AnAbusiveSessionBiasesNothing) {
  const auto choosy = [](const Received& request) {
    return request.body.find("bad") != std::string::npos ? refuse(400) : Script{.bytes = routed_answer};
  };
  add_two_versions(choosy, choosy);
  add_long_canary();
  options.routes.front().sticky = "session";
  start();
  std::string abuser;
  for (int i = 0; abuser.empty(); ++i) {
    const std::string session = "abuser" + std::to_string(i);
    if (ask({{"x-session-token", session}}).headers.find("x-tidemill-target") == "v2") abuser = session;
  }
  for (int i = 0; i < 30; ++i) {
    for (int k = 0; k < 3; ++k) {
      EXPECT_EQ(
          post("/v1/chat/completions", R"({"model":"code","messages":"bad"})", {{"x-session-token", abuser}}).status,
          400);
    }
    EXPECT_EQ(ask({{"x-session-token", std::to_string(i)}}).status, 200);
  }
  EXPECT_EQ(count(0, "failed"), 0);
  EXPECT_EQ(count(1, "failed"), 0);
  EXPECT_GT(count(1, "handed_over"), 0) << "stable was asked whether it is the client's fault";
  EXPECT_EQ(phase(), "running");
}

// ---- sessions

// All turns of a conversation go where the first went, at whichever gateway, as long as the store knows them.
TEST_F(Handover, AConversationStaysWithItsVersion) {
  std::atomic<int> answered = 0;
  const auto respond = [&answered](const Received&) {
    const std::string n = std::to_string(++answered);
    return Script{.bytes = http_answer(200, "application/json",
                                       R"({"id":"resp_)" + n +
                                           R"(","object":"response","status":"completed","output":[)"
                                           R"({"id":"msg_)" +
                                           n + R"(","type":"message","role":"assistant","content":[]}]})")};
  };
  TemporaryFolder folder;
  options.session.path = (folder.path() / "sessions.db").string();
  add_two_versions(respond, respond);
  options.routes.front().sticky = "session";
  start();
  const auto second = gateway::Gateway::start(options);
  ASSERT_TRUE(second);
  (*second)->look();
  std::set<std::string> of_all;
  for (int conversation = 0; conversation < 12; ++conversation) {
    std::string previous;
    std::set<std::string> of_one;
    for (int turn = 0; turn < 4; ++turn) {
      wire::HttpClient client;
      const std::string& url = turn % 2 == 0 ? gateway->url() : (*second)->url();
      const auto response = client.fetch(
          {.method = "POST",
           .url = url + "/v1/responses",
           .headers = {{"Content-Type", "application/json"}},
           .body = R"({"model":"code","input":"x")" +
                   (previous.empty() ? std::string() : R"(,"previous_response_id":")" + previous + "\"") + "}"});
      ASSERT_TRUE(response);
      ASSERT_EQ(response->status, 200) << response->body;
      previous = std::string(base::parse_json(response->body)->at("id").as_string());
      of_one.insert(std::string(*response->headers.find("x-tidemill-target")));
    }
    EXPECT_EQ(of_one.size(), 1U) << conversation;
    of_all.merge(of_one);
  }
  EXPECT_EQ(of_all.size(), 2U);
}

TEST_F(Handover, UsersStayWithTheirVersion) {
  add_two_versions();
  options.routes.front().sticky = "session";
  options.routes.front().session = {"header:x-chat", "user"};
  start();
  const auto target_of = [this](const std::string& body, const wire::Headers& headers = {}) {
    return std::string(*post("/v1/chat/completions", body, headers).headers.find("x-tidemill-target"));
  };
  const auto asked_by = [](const std::string& user) {
    return R"({"model":"code","messages":[],"user":")" + user + "\"}";
  };
  std::set<std::string> of_all;
  for (int user = 0; user < 12; ++user) {
    const std::string n = std::to_string(user);
    std::set<std::string> of_user;
    std::set<std::string> of_chat;
    for (int i = 0; i < 3; ++i) {
      of_user.insert(target_of(asked_by(n)));
      of_chat.insert(target_of(asked_by(std::to_string(i)), {{"X-Chat", n}}));
    }
    EXPECT_EQ(of_user.size(), 1U);
    EXPECT_EQ(of_chat.size(), 1U);
    of_all.merge(of_user);
  }
  EXPECT_EQ(of_all.size(), 2U);
}

// ---- adaptive routes

class AdaptiveHandover : public FleetFixture {
 protected:
  // A route "smart" to the models "small" and "big"; the first costs nothing.
  void add_route(ScriptedBackend::Answer of_small, ScriptedBackend::Answer of_big) {
    small = &add_backend(std::move(of_small), models("small"));
    big = &add_backend(std::move(of_big), models("big"));
    options.routes.push_back({.model = "smart", .targets = {{.model = "small"}, {.model = "big"}}});
    gateway::AdaptiveSection& adaptive = options.routes.front().adaptive;
    adaptive.reference = "big";
    adaptive.cost_weight = 0;
    adaptive.decision_log = (folder.path() / "decisions.jsonl").string();
  }
  static Script say_answer(const Received&) { return Script{.bytes = routed_answer}; }
  wire::HttpResponse ask() {
    return post("/v1/chat/completions", R"({"model":"smart","messages":[{"role":"user","content":"hi"}]})");
  }
  json::value state() {
    const auto body = base::parse_json(get("/rollouts/smart").body);
    EXPECT_TRUE(body);
    return body ? *body : json::value();
  }
  double of_model(size_t model, const char* what) {
    return state().at("adaptive").at("models").at(model).at(what).to_number<double>();
  }

  TemporaryFolder folder;
  ScriptedBackend* small = nullptr;
  ScriptedBackend* big = nullptr;
};

TEST_F(AdaptiveHandover, AnotherModelAnswersForOneThatIsDown) {
  add_route([](const Received&) { return Script{.bytes = "", .end = Script::End::reset}; }, say_answer);
  start();
  std::string id;
  while (small->received().size() < 3) {
    const wire::HttpResponse response = ask();
    ASSERT_EQ(response.status, 200) << response.body;
    EXPECT_EQ(response.headers.find("x-tidemill-target"), "big");
    id = *response.headers.find("x-request-id");
  }
  EXPECT_LT(of_model(0, "available"), 1);
  EXPECT_EQ(of_model(1, "available"), 1);
  EXPECT_EQ(of_model(0, "ratings"), 0) << "its quality is what it was";
  // A rating is of the answer that there was.
  const wire::HttpResponse rated = post("/v1/feedback", R"({"id":")" + id + R"(","score":1})");
  ASSERT_EQ(rated.status, 200) << rated.body;
  EXPECT_EQ(base::parse_json(rated.body)->at("target"), "big");
  EXPECT_EQ(of_model(1, "ratings"), 1);

  // The log says what the choice came to, and not what another model's answer was worth.
  gateway->stop(5s);
  std::stringstream text;
  text << std::ifstream(options.routes.front().adaptive.decision_log).rdbuf();
  const auto log = rollout::read_log(text.str(), {"small", "big"}, rollout::Trade());
  ASSERT_TRUE(log) << log.error().to_string();
  size_t of_small = 0;
  for (const rollout::LoggedChoice& choice : log->choices) {
    EXPECT_EQ(choice.model, 0U) << "nothing else was rated";
    EXPECT_LE(choice.reward, 0);
    ++of_small;
  }
  EXPECT_GE(of_small, 2U);  // a try may have found its connection closed, and taken a fresh one
}

TEST_F(AdaptiveHandover, TheFloorHoldsWhoeverIsDown) {
  add_route(say_answer, [](const Received&) { return refuse(503); });
  options.routes.front().adaptive.quality_floor = 0.8;
  options.routes.front().adaptive.explore = 0;
  options.retries = 1;
  start();
  EXPECT_EQ(ask().status, 503) << "the small model is not known to be good enough";
  EXPECT_EQ(small->received().size(), 0U);
  options.routes.front().adaptive.quality_floor = 0;
  ASSERT_TRUE(gateway->reload(options));
  for (int i = 0; i < 8; ++i)
    EXPECT_EQ(ask().status, 200);
}

// A small model may refuse what is too long for it: then the reference is asked, and it is learned.
TEST_F(AdaptiveHandover, WhatOnlyOneModelRefusesIsLearned) {
  const auto choosy = [](const Received& request) {
    return request.body.find("bad") != std::string::npos ? refuse(400) : Script{.bytes = routed_answer};
  };
  add_route([](const Received&) { return refuse(400); }, choosy);
  start();
  while (small->received().size() < 4)
    EXPECT_EQ(ask().status, 200);
  EXPECT_EQ(of_model(0, "ratings"), 4);
  EXPECT_EQ(of_model(0, "available"), 1);
  const size_t before = small->received().size();
  for (int i = 0; i < 8; ++i)
    EXPECT_EQ(post("/v1/chat/completions", R"({"model":"smart","messages":"bad"})").status, 400);
  EXPECT_EQ(of_model(0, "ratings"), 4) << "what both refuse says nothing";
  EXPECT_GE(small->received().size(), before);
}

}  // namespace
}  // namespace tidemill::test
