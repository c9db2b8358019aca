// What a backend that answers with errors is taken for.
#include <array>
#include <atomic>
#include <memory>
#include <string>

#include <gtest/gtest.h>

#include "gateway/fleet_fixture.hpp"

namespace tidemill::test {
namespace {

class Fault : public FleetFixture {
 protected:
  static inline const std::string question = R"({"model":"bad","messages":[{"role":"user","content":"hi"}]})";

  // One that says `bytes` to everything, and one that is well. Both have the model, which the route asks the first for.
  void start_with(const std::string& bytes) {
    bad = "127.0.0.1:" +
          std::to_string(
              add_backend([bytes](const Received&) { return Script{.bytes = bytes, .end = Script::End::keep}; },
                          R"({"data":[{"id":"bad"}]})")
                  .port());
    add_backend(
        [](const Received&) {
          return Script{.bytes = http_answer(200, "application/json", "{}"), .end = Script::End::keep};
        },
        R"({"data":[{"id":"bad"},{"id":"m"}]})");
    gateway::RouteOptions route{.model = "bad"};
    route.targets = {{.name = "bad", .backends = {bad}}};
    options.routes = {route};
    start();
  }
  void ask(int times, int status) {
    for (int i = 0; i < times; ++i)
      EXPECT_EQ(post("/v1/chat/completions", question).status, status);
  }
  double failures() { return metric("tidemill_gateway_backend_failures_total{backend=\"" + bad + "\"}"); }
  // Of the two.
  int up() {
    const std::string states = get("/backends").body;
    int count = 0;
    for (size_t at = 0; (at = states.find("\"health\":\"up\"", at)) != std::string::npos; ++at)
      ++count;
    return count;
  }

  std::string bad;
};

TEST_F(Fault, ErrorsOfItsOwnCount) {
  start_with(http_answer(500, "application/json", R"({"error":{"message":"device-side assert"}})"));
  ask(4, 500);
  EXPECT_EQ(failures(), 4);
  EXPECT_EQ(up(), 2);
  ask(1, 500);
  EXPECT_EQ(failures(), 5);
  EXPECT_EQ(up(), 1) << get("/backends").body;
}

// Clients would get nothing at all of its model.
TEST_F(Fault, TheOnlyBackendOfAModelIsAskedOn) {
  bad =
      "127.0.0.1:" +
      std::to_string(add_backend([](const Received&) { return Script{.bytes = http_answer(500, "text/plain", "no")}; },
                                 R"({"data":[{"id":"bad"}]})")
                         .port());
  add_backend([](const Received&) { return Script{.bytes = http_answer(200, "application/json", "{}")}; });
  start();
  ask(12, 500);
  EXPECT_EQ(failures(), 12);
  EXPECT_EQ(up(), 2) << get("/backends").body;
}

// Which no client could mend.
TEST_F(Fault, AKeyThatIsNotGoodThereIsCounted) {
  ScriptedBackend& backend =
      add_backend([](const Received&) { return Script{.bytes = http_answer(401, "application/json", "{}")}; },
                  R"({"data":[{"id":"bad"}]})");
  options.backends.back().api_key = "sk-wrong";
  start();
  ask(2, 401);
  EXPECT_EQ(metric("tidemill_gateway_backend_unauthorized_total{backend=\"127.0.0.1:" + std::to_string(backend.port()) +
                   "\"}"),
            2);
}

TEST_F(Fault, AProxysErrorsCountToo) {
  options.retries = 0;
  start_with(http_answer(502, "text/plain", "bad gateway"));
  ask(5, 502);
  EXPECT_EQ(failures(), 5);
  EXPECT_EQ(up(), 1) << get("/backends").body;
}

TEST_F(Fault, AnErrorThatAStreamBeginsWithCounts) {
  start_with(chunked_answer({"data: {\"error\":{\"message\":\"CUDA error\",\"code\":500}}\n\n", "data: [DONE]\n\n"}));
  ask(5, 200);
  EXPECT_EQ(failures(), 5);
  EXPECT_EQ(up(), 1) << get("/backends").body;
}

TEST_F(Fault, AnErrorThatIsCalledAnAnswerCounts) {
  start_with(http_answer(200, "application/json", R"({"error":{"message":"CUDA error","code":500}})"));
  ask(5, 200);
  EXPECT_EQ(failures(), 5);
  EXPECT_EQ(up(), 1) << get("/backends").body;
}

TEST_F(Fault, AClientsErrorThatIsCalledAnAnswerDoesNot) {
  start_with(
      http_answer(200, "application/json", R"({"error":{"message":"too long","type":"BadRequestError","code":400}})"));
  ask(8, 200);
  EXPECT_EQ(failures(), 0);
  EXPECT_EQ(up(), 2) << get("/backends").body;
}

// The client has got nothing yet, so it gets an answer from elsewhere.
TEST_F(Fault, WhatIsNoAnswerCountsAndIsAskedElsewhere) {
  for (const char* body : {"", "<html>hello</html>", R"({"id":"chatcmpl-1","choices":[{"mess)", "[]"}) {
    std::atomic<int> odd = -1;  // the first that is asked
    std::array<std::unique_ptr<ScriptedBackend>, 2> backends;
    options.backends.clear();
    for (int i = 0; i < 2; ++i) {
      auto& backend = backends.at(static_cast<size_t>(i));
      backend = std::make_unique<ScriptedBackend>([&odd, i, body](const Received&) {
        int nobody = -1;
        odd.compare_exchange_strong(nobody, i);
        return Script{.bytes = http_answer(200, "application/json", odd == i ? body : R"({"id":"well"})")};
      });
      options.backends.push_back({.url = backend->url()});
    }
    start();
    const wire::HttpResponse response =
        post("/v1/chat/completions", R"({"model":"m","messages":[{"role":"user","content":"hi"}]})");
    EXPECT_EQ(response.status, 200) << body;
    EXPECT_EQ(response.body, R"({"id":"well"})") << body;
    ASSERT_GE(odd, 0);
    bad = "127.0.0.1:" + std::to_string(backends.at(static_cast<size_t>(odd.load()))->port());
    EXPECT_EQ(failures(), 1) << body;
    gateway.reset();
  }
}

TEST_F(Fault, WhereNobodyElseAnswersItIsSaid) {
  options.retries = 0;
  start_with(http_answer(200, "text/html", "<html>hello</html>"));
  ask(1, 503);
  EXPECT_EQ(failures(), 1);
}

TEST_F(Fault, TheClientsOwnDoNot) {
  start_with(http_answer(400, "application/json", R"({"error":{"message":"no"}})"));
  ask(8, 400);
  EXPECT_EQ(failures(), 0);
  EXPECT_EQ(up(), 2) << get("/backends").body;
}

TEST_F(Fault, NorInAStream) {
  start_with(
      chunked_answer({"data: {\"error\":{\"message\":\"too long\",\"type\":\"BadRequestError\",\"code\":400}}\n\n",
                      "data: [DONE]\n\n"}));
  ask(8, 200);
  EXPECT_EQ(failures(), 0);
  EXPECT_EQ(up(), 2) << get("/backends").body;
}

}  // namespace
}  // namespace tidemill::test
