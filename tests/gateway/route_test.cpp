// Named routes, as clients and administrators meet them.
#include <atomic>
#include <set>

#include <gtest/gtest.h>

#include "base/json.hpp"
#include "gateway/route_fixture.hpp"
#include "temporary_folder.hpp"

namespace tidemill::test {
namespace {

using namespace std::chrono_literals;

TEST_F(Route, AsksForTheModelOfTheTarget) {
  add_two_versions();
  start();
  std::set<std::string> targets;
  for (int i = 0; i < 40; ++i) {
    const wire::HttpResponse response = ask();
    ASSERT_EQ(response.status, 200) << response.body;
    EXPECT_EQ(response.headers.find("x-tidemill-route"), "code");
    const bool first = response.headers.find("x-tidemill-target") == "stable";
    EXPECT_EQ(response.headers.find("x-tidemill-model"), first ? "v1" : "v2");
    targets.insert(std::string(*response.headers.find("x-tidemill-target")));
  }
  EXPECT_EQ(targets, (std::set<std::string>{"stable", "v2"}));
  for (ScriptedBackend* backend : {v1, v2}) {
    const std::string model = backend == v1 ? "v1" : "v2";
    for (const Received& request : backend->received())
      EXPECT_EQ(request.body, R"({"model":")" + model + R"(","messages":[{"role":"user","content":"hi"}]})");
  }
  // Models are still to be had by their own names.
  const wire::HttpResponse direct = post("/v1/chat/completions", R"({"model":"v1","messages":[]})");
  EXPECT_EQ(direct.status, 200);
  EXPECT_FALSE(direct.headers.has("x-tidemill-route"));
  EXPECT_NE(get("/v1/models").body.find("\"code\""), std::string::npos);
  EXPECT_EQ(get("/v1/models/code").status, 200);
  EXPECT_EQ(metric("tidemill_gateway_route_requests_total{route=\"code\",target=\"v2\"}"),
            static_cast<double>(v2->received().size()));
  const json::value state = route_state();
  EXPECT_EQ(state.at("targets").at(0).at("requests").to_number<int64_t>() +
                state.at("targets").at(1).at("requests").to_number<int64_t>(),
            40);
  EXPECT_EQ(get("/rollouts/other").status, 404);
}

TEST_F(Route, StreamsAreRewrittenAndNamedToo) {
  const auto streamed = [](const Received&) {
    return Script{
        .bytes = chunked_answer({"data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n", "data: [DONE]\n\n"})};
  };
  add_two_versions(streamed, streamed);
  options.routes.front().targets[0].weight = 0;
  start();
  const wire::HttpResponse response =
      post("/v1/chat/completions", R"({"stream":true,"messages":[],"model" : "c\u006fde"})");
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.headers.find("x-tidemill-target"), "v2");
  ASSERT_EQ(v2->received().size(), 1U);
  EXPECT_EQ(v2->received().front().body, R"({"stream":true,"messages":[],"model" : "v2"})");
}

TEST_F(Route, HeadersAndSessionsDecide) {
  add_two_versions();
  options.routes.front().sticky = "session";
  options.routes.front().targets[1].headers = {"x-version: next", "x-beta"};
  options.routes.front().targets[1].weight = 0;
  start();
  EXPECT_EQ(ask().headers.find("x-tidemill-target"), "stable");
  EXPECT_EQ(ask({{"X-Version", "next"}}).headers.find("x-tidemill-target"), "v2");
  EXPECT_EQ(ask({{"X-Version", "other"}}).headers.find("x-tidemill-target"), "stable");
  EXPECT_EQ(ask({{"x-beta", "whatever"}}).headers.find("x-tidemill-target"), "v2");
  options.routes.front().targets[1].weight = 1;
  ASSERT_TRUE(gateway->reload(options));
  std::set<std::string> of_all;
  for (int session = 0; session < 20; ++session) {
    std::set<std::string> of_one;
    for (int i = 0; i < 3; ++i)
      of_one.insert(
          std::string(*ask({{"x-session-token", std::to_string(session)}}).headers.find("x-tidemill-target")));
    EXPECT_EQ(of_one.size(), 1U);
    of_all.merge(of_one);
  }
  EXPECT_EQ(of_all.size(), 2U);
}

// Two versions of one model, told apart by the backends that serve them.
TEST_F(Route, BackendsTellVersionsApart) {
  ScriptedBackend& old_one = add_backend(say_answer, models("code"));
  options.backends.back().name = "old-1";
  ScriptedBackend& new_one = add_backend(say_answer, models("code"));
  options.backends.back().name = "new-1";
  options.routes.push_back(
      {.model = "code",
       .targets = {{.name = "v1", .backends = {"old-*"}, .weight = 0}, {.name = "v2", .backends = {"new-1"}}}});
  start();
  for (int i = 0; i < 5; ++i)
    EXPECT_EQ(ask().status, 200);
  EXPECT_EQ(old_one.received().size(), 0U);
  ASSERT_EQ(new_one.received().size(), 5U);
  EXPECT_EQ(new_one.received().front().body, routed_question) << "the model is called the same";
}

TEST_F(Route, AGoodCanaryIsPromoted) {
  add_two_versions();
  add_canary();
  start();
  EXPECT_EQ(phase(), "running");
  EXPECT_EQ(roll_out(), "promoted");
  const size_t before = v1->received().size();
  for (int i = 0; i < 20; ++i)
    EXPECT_EQ(ask().headers.find("x-tidemill-target"), "v2");
  EXPECT_EQ(v1->received().size(), before);
  EXPECT_EQ(metric("tidemill_gateway_route_share{route=\"code\",target=\"v2\"}"), 1);

  // What has not changed stays as it is, what has begins anew.
  options.routes.push_back({.model = "other", .targets = {{.model = "v1"}}});
  ASSERT_TRUE(gateway->reload(options));
  EXPECT_EQ(phase(), "promoted");
  options.routes.front().canary.revision = "again";
  ASSERT_TRUE(gateway->reload(options));
  EXPECT_EQ(phase(), "running");
  options.routes.front().canary.target = "v9";
  const auto refused = gateway->reload(options);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().param(), "gateway.route.canary.target");
  EXPECT_EQ(phase(), "running");
}

TEST_F(Route, AFailingCanaryIsRolledBack) {
  std::atomic<int> asked = 0;
  add_two_versions(say_answer, [&](const Received&) {
    return ++asked % 2 == 0 ? Script{.bytes = routed_answer} : Script{.bytes = http_answer(500, "text/plain", "no")};
  });
  add_canary();
  options.routes.front().canary.max_error_increase = 0.05;
  start();
  EXPECT_EQ(roll_out(), "rolled_back");  // and no client has noticed
  EXPECT_EQ(route_state().at("canary").at("reason"), "error_rate");
  EXPECT_EQ(metric("tidemill_gateway_route_share{route=\"code\",target=\"v2\"}"), 0);
  for (int i = 0; i < 20; ++i)
    EXPECT_EQ(ask().status, 200);
}

TEST_F(Route, AnOperatorMayDecide) {
  add_two_versions();
  add_canary();
  start();
  EXPECT_EQ(post("/rollouts/code/rollback", "").status, 200);
  EXPECT_EQ(phase(), "rolled_back");
  EXPECT_EQ(ask().headers.find("x-tidemill-target"), "stable");
  EXPECT_EQ(post("/rollouts/code/rollback", "").status, 200) << "it is";
  const wire::HttpResponse late = post("/rollouts/code/promote", "");
  EXPECT_EQ(late.status, 409);
  EXPECT_NE(late.body.find("rolled back by hand"), std::string::npos) << late.body;
  EXPECT_EQ(phase(), "rolled_back") << "what has ended stays so";
  EXPECT_EQ(post("/rollouts/code/halt", "").status, 404);
  EXPECT_EQ(post("/rollouts/other/promote", "").status, 404);
}

TEST_F(Route, AnOperatorsWordIsInTheLog) {
  add_two_versions();
  add_canary();
  start();
  testing::internal::CaptureStderr();
  EXPECT_EQ(post("/rollouts/code/promote", "").status, 200);
  EXPECT_EQ(post("/rollouts/code/rollback", "").status, 409);
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_NE(log.find("route code: v2 promoted by hand: asked for"), std::string::npos) << log;
  EXPECT_EQ(log.find("rolled back"), std::string::npos) << log;
}

// Two gateways on one store: what the one has found out, the other follows, and a third that starts later knows it.
TEST_F(Route, GatewaysFollowEachOther) {
  TemporaryFolder folder;
  options.session.path = (folder.path() / "sessions.db").string();
  add_two_versions();
  add_canary();
  start();
  const auto second = gateway::Gateway::start(options);
  ASSERT_TRUE(second);
  EXPECT_EQ(roll_out(), "promoted");
  const auto follows = [](const std::string& url) {
    wire::HttpClient client;
    const auto until = std::chrono::steady_clock::now() + patience;
    while (std::chrono::steady_clock::now() < until) {
      wire::ClientRequest request;
      request.url = url + "/rollouts/code";
      const auto response = client.fetch(std::move(request));
      if (response && response->body.find("promoted: another gateway has") != std::string::npos) return true;
    }
    return false;
  };
  EXPECT_TRUE(follows((*second)->url()));
  const auto third = gateway::Gateway::start(options);
  ASSERT_TRUE(third);
  EXPECT_TRUE(follows((*third)->url()));
}

// ---- mirrors

class Mirror : public Route {
 protected:
  void add_mirror() {
    options.routes.front().mirror.target = "v2";
    options.routes.front().mirror.share = "100%";
  }
  json::value mirror_state() { return route_state().at("mirror"); }
  // Returns when so many pairs were compared.
  json::value wait_for_pairs(int64_t count) {
    const auto until = std::chrono::steady_clock::now() + patience;
    while (std::chrono::steady_clock::now() < until) {
      json::value report = mirror_state().at("report");
      if (report.at("pairs").to_number<int64_t>() >= count) return report;
    }
    ADD_FAILURE() << "the pairs were not compared";
    return mirror_state().at("report");
  }
};

TEST_F(Mirror, ReportsDifferencesSideBySide) {
  std::atomic<int> asked = 0;
  add_two_versions(say_answer, [&](const Received& request) {
    EXPECT_EQ(request.field("X-Tidemill-Mirror"), "1");
    if (++asked % 4 == 0) return Script{.bytes = http_answer(500, "text/plain", "no")};
    return Script{.bytes =
                      http_answer(200, "application/json",
                                  R"({"choices":[{"message":{"content":"ebb"}}],"usage":{"completion_tokens":10}})")};
  });
  add_mirror();
  start();
  for (int i = 0; i < 8; ++i) {
    const wire::HttpResponse response = ask();
    EXPECT_EQ(response.headers.find("x-tidemill-target"), "stable");
    EXPECT_NE(response.body.find("tide"), std::string::npos);
  }
  const json::value report = wait_for_pairs(8);
  EXPECT_EQ(report.at("pairs"), 8);
  EXPECT_EQ(report.at("exact").to_number<double>(), 0);
  EXPECT_EQ(report.at("failed").at("shadow"), 2);
  EXPECT_NEAR(report.at("output_tokens").at("ratio").at("p50").to_number<double>(), 2, 0.05);
  EXPECT_EQ(v2->received().front().body, R"({"model":"v2","messages":[{"role":"user","content":"hi"}]})");
  EXPECT_EQ(route_state().at("targets").at(1).at("share").to_number<double>(), 0);
}

TEST_F(Mirror, StreamsAreComparedToo) {
  const auto streamed = [](const Received&) {
    return Script{
        .bytes = chunked_answer({"data: {\"choices\":[{\"delta\":{\"content\":\"a \"}}]}\n\n",
                                 "data: {\"choices\":[{\"delta\":{\"content\":\"tide\"}}]}\n\n", "data: [DONE]\n\n"})};
  };
  add_two_versions(streamed, streamed);
  add_mirror();
  start();
  post("/v1/chat/completions", R"({"model":"code","stream":true,"messages":[]})");
  const json::value report = wait_for_pairs(1);
  EXPECT_EQ(report.at("exact").to_number<double>(), 1);
  EXPECT_EQ(report.at("output_tokens").at("ratio").at("count"), 1);
}

// A shadow that says nothing is nothing to the client; beyond the bound nothing is copied.
TEST_F(Mirror, ClientsDoNotWaitForIt) {
  add_two_versions(say_answer, [](const Received&) { return Script{.bytes = "", .end = Script::End::hang}; });
  add_mirror();
  options.routes.front().mirror.max_in_flight = 2;
  options.answer_timeout = 1h;
  start();
  for (int i = 0; i < 6; ++i)
    EXPECT_EQ(ask().status, 200);
  const json::value state = mirror_state();
  EXPECT_EQ(state.at("mirrored"), 2);
  EXPECT_EQ(state.at("dropped_busy"), 4);
  EXPECT_EQ(state.at("in_flight"), 2);
}

}  // namespace
}  // namespace tidemill::test
