// How large an answer may be, and what becomes of one that is larger.
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "gateway/fleet_fixture.hpp"

namespace tidemill::test {
namespace {

std::string marked(const std::string& json) {
  return ": tidemill " + json + "\n\n";
}

std::string long_event(size_t bytes) {
  return R"(data: {"choices":[{"index":0,"delta":{"content":")" + std::string(bytes, 'x') + "\"}}]}\n\n";
}

class AnswerLimits : public FleetFixture {
 protected:
  static inline const std::string stream = R"({"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]})";
  static inline const std::string whole = R"({"model":"m","messages":[{"role":"user","content":"hi"}]})";

  // Two that answer alike.
  void start_with(const std::string& bytes) {
    for (ScriptedBackend*& backend : backends)
      backend = &add_backend([bytes](const Received&) { return Script{.bytes = bytes}; });
    start();
  }
  // Asks so often that a backend would be ejected for it, and expects that no backend was asked twice for one request,
  // and none blamed.
  void expect_nobody_blamed(const std::string& body, int status, const std::string& option) {
    constexpr size_t times = 12;
    for (size_t i = 0; i < times; ++i) {
      const wire::HttpResponse response = post("/v1/chat/completions", body);
      EXPECT_EQ(response.status, status) << response.body;
      const std::string end = response.body.substr(response.body.size() - std::min<size_t>(500, response.body.size()));
      EXPECT_NE(end.find(option), std::string::npos) << end;
      EXPECT_NE(end.find("invalid_request_error"), std::string::npos) << end;
      EXPECT_EQ(end.find("[DONE]"), std::string::npos) << end;
    }
    EXPECT_EQ(backends[0]->received().size() + backends[1]->received().size(), times);
    EXPECT_EQ(metric("tidemill_gateway_retries_total"), 0);
    for (const ScriptedBackend* backend : backends) {
      const std::string name = "127.0.0.1:" + std::to_string(backend->port());
      EXPECT_EQ(metric("tidemill_gateway_backend_failures_total{backend=\"" + name + "\"}"), 0);
    }
    const std::string states = get("/backends").body;
    EXPECT_EQ(states.find("ejected"), std::string::npos) << states;
  }

  std::vector<ScriptedBackend*> backends{nullptr, nullptr};
};

// As the last events of a response do, each of which repeats all of it.
TEST_F(AnswerLimits, WhatOneMarkStandsForMayBeLarge) {
  const std::string group = long_event(5 << 20) + long_event(6 << 20);
  start_with(chunked_answer({marked(R"({"open":{"id":"x"}})"), long_event(1) + marked(R"({"choice":0,"tokens":[1]})"),
                             group + "data: [DONE]\n\n" + marked(R"({"end":true})")}));
  const wire::HttpResponse response = post("/v1/chat/completions", stream);
  EXPECT_EQ(response.status, 200);
  EXPECT_TRUE(response.body == long_event(1) + group + "data: [DONE]\n\n") << response.body.size();
}

TEST_F(AnswerLimits, SoMayAnEventOfAnotherServer) {
  const std::string events = long_event(9 << 20) + "data: [DONE]\n\n";
  start_with(chunked_answer({events}));
  const wire::HttpResponse response = post("/v1/chat/completions", stream);
  EXPECT_EQ(response.status, 200);
  EXPECT_TRUE(response.body == events) << response.body.size();
}

TEST_F(AnswerLimits, ALargerFirstEventIsRefusedOnce) {
  options.max_event = base::ByteSize{10'000};
  start_with(chunked_answer({long_event(1 << 20), "data: [DONE]\n\n"}));
  expect_nobody_blamed(stream, 400, "gateway.max_event");
}

TEST_F(AnswerLimits, ALargerLaterEventEndsTheStream) {
  options.max_event = base::ByteSize{10'000};
  start_with(chunked_answer({long_event(10), long_event(1 << 20), "data: [DONE]\n\n"}));
  expect_nobody_blamed(stream, 200, "gateway.max_event");
}

TEST_F(AnswerLimits, SoDoesALargerGroup) {
  options.max_event = base::ByteSize{10'000};
  start_with(chunked_answer({marked(R"({"open":{"id":"x"}})"), long_event(1) + marked(R"({"choice":0,"tokens":[1]})"),
                             long_event(1 << 20) + long_event(1 << 20) + marked(R"({"end":true})")}));
  expect_nobody_blamed(stream, 200, "gateway.max_event");
}

TEST_F(AnswerLimits, ALargerAnswerThatIsNoStreamIsRefusedOnce) {
  options.max_answer = base::ByteSize{10'000};
  start_with(http_answer(200, "application/json", R"({"choices":[],"x":")" + std::string(1 << 20, 'x') + "\"}"));
  expect_nobody_blamed(whole, 400, "gateway.max_answer");
}

}  // namespace
}  // namespace tidemill::test
