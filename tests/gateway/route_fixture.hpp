// A route to two versions, each at a backend of its own.
#pragma once

#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "base/json.hpp"
#include "gateway/fleet_fixture.hpp"

namespace tidemill::test {

namespace json = base::json;

inline const std::string routed_question = R"({"model":"code","messages":[{"role":"user","content":"hi"}]})";
inline const std::string routed_answer =
    http_answer(200, "application/json",
                R"({"id":"chatcmpl-1","choices":[{"message":{"content":"tide"}}],"usage":{"completion_tokens":5}})");

inline std::string models(const std::string& name) {
  return R"({"data":[{"id":")" + name + R"("}]})";
}

// More requests than any rollout of these tests takes.
constexpr int plenty = 6000;

class Route : public FleetFixture {
 protected:
  // A route "code" to the models "v1" and "v2", each at a backend of its own.
  void add_two_versions(ScriptedBackend::Answer of_v1 = say_answer, ScriptedBackend::Answer of_v2 = say_answer) {
    v1 = &add_backend(std::move(of_v1), models("v1"));
    v2 = &add_backend(std::move(of_v2), models("v2"));
    options.routes.push_back({.model = "code", .targets = {{.name = "stable", .model = "v1"}, {.model = "v2"}}});
  }
  static Script say_answer(const Received&) { return Script{.bytes = routed_answer}; }

  wire::HttpResponse ask(wire::Headers headers = {}) {
    return post("/v1/chat/completions", routed_question, std::move(headers));
  }
  json::value route_state() {
    const auto body = base::parse_json(get("/rollouts/code").body);
    EXPECT_TRUE(body);
    return body ? *body : json::value();
  }
  int64_t count(size_t target, const char* what) {
    return route_state().at("targets").at(target).at(what).to_number<int64_t>();
  }
  std::string phase() { return std::string(route_state().at("canary").at("phase").as_string()); }
  // A canary whose limits no difference in speed of a test's machine can reach.
  void add_canary() {
    gateway::CanarySection& canary = options.routes.front().canary;
    canary.target = "v2";
    canary.steps = {"20%", "50%"};
    canary.min_requests = 20;
    canary.max_error_increase = 0.3;
    canary.max_ttft_ratio = canary.max_itl_ratio = canary.max_length_ratio = 100;
  }
  // Asks, and is answered well, until the rollout has ended; what phase it is in then.
  std::string roll_out() {
    for (int i = 0; i < plenty; ++i) {
      EXPECT_EQ(ask().status, 200);
      if (i % 50 == 49 && phase() != "running") break;
    }
    return phase();
  }

  ScriptedBackend* v1 = nullptr;
  ScriptedBackend* v2 = nullptr;
};

}  // namespace tidemill::test
