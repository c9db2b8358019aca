// Backends that load, drain or restart: what they say of it, and what becomes of requests meanwhile.
#include <array>
#include <atomic>
#include <future>
#include <memory>

#include <gtest/gtest.h>

#include "gateway/fleet.hpp"
#include "gateway/fleet_fixture.hpp"
#include "gateway/readiness.hpp"
#include "gateway/told_unready.hpp"

namespace tidemill::test {
namespace {

using namespace std::chrono_literals;
using gateway::Outcome;
using route::Unready;

// By a backend that takes further requests on the connection: one that it closes may fail the next, without retries.
Script kept(const std::string& bytes) {
  return {.bytes = bytes, .end = Script::End::keep};
}

const std::string answer = http_answer(200, "application/json", R"({"id":"chatcmpl-1"})");
const std::string loading =
    http_answer(503, "application/json", R"({"error":{"message":"the model is still being loaded"}})",
                "Retry-After: 7\r\nX-Tidemill-Unready: loading\r\n");

TEST(ToldUnready, OnlyByItsOwnWord) {
  const auto told = [](int status, wire::Headers headers, const std::string& body) {
    return gateway::told_unready({.status = status, .headers = std::move(headers), .body = {}}, body);
  };
  const std::string llama = R"({"error":{"code":503,"message":"Loading model","type":"unavailable_error"}})";
  EXPECT_EQ(told(503, {{"x-tidemill-unready", "loading"}}, ""), Unready::loading);
  EXPECT_EQ(told(503, {{"X-Tidemill-Unready", "draining"}}, "{"), Unready::draining);
  EXPECT_EQ(told(503, {}, llama), Unready::loading);
  EXPECT_EQ(told(503, {{"x-tidemill-unready", "tired"}}, ""), std::nullopt);
  EXPECT_EQ(told(200, {{"x-tidemill-unready", "loading"}}, ""), std::nullopt);
  EXPECT_EQ(told(500, {}, llama), std::nullopt);
  EXPECT_EQ(told(503, {{"Retry-After", "1"}}, R"({"error":{"message":"the queue is full"}})"), std::nullopt);
  for (const char* body : {"", "[]", "{", R"({"error":"Loading model"})", R"({"error":{"message":"Loading model"}})",
                           R"({"error":{"message":503,"type":"unavailable_error"}})"})
    EXPECT_EQ(told(503, {}, body), std::nullopt) << body;
  EXPECT_EQ(told(503, {}, llama + std::string(2000, ' ')), std::nullopt);
}

// Two backends as the fleet knows them, in simulated time.
class UnreadyInFleet : public testing::Test {
 protected:
  UnreadyInFleet() {
    fleet_.replace({one_, other_});
    wanted_.model = "m";
  }
  std::shared_ptr<gateway::Backend> make(const std::string& name) {
    return std::make_shared<gateway::Backend>(
        gateway::BackendOptions{.url = "http://127.0.0.1:1", .name = name, .models = {"m"}}, metrics_);
  }
  bool may_be_asked(const gateway::Backend& backend) {
    const gateway::Backend& another = &backend == one_.get() ? *other_ : *one_;
    auto lease = fleet_.pick(wanted_, {&another});
    return lease.has_value();
  }
  // So many requests to the first, all of which end like this.
  void serve(Outcome outcome, int times) {
    for (int i = 0; i < times; ++i) {
      auto lease = fleet_.pick(wanted_, {other_.get()});
      ASSERT_TRUE(lease) << lease.error().to_string();
      lease->end(outcome);
    }
  }
  route::HealthState health_of(const std::string& name) {
    for (const route::BackendView& view : fleet_.view())
      if (view.address == name) return view.health;
    ADD_FAILURE() << name;
    return route::HealthState::down;
  }

  base::ManualClock clock_;
  observe::Metrics metrics_;
  gateway::Fleet fleet_{clock_, 16};
  std::shared_ptr<gateway::Backend> one_ = make("one");
  std::shared_ptr<gateway::Backend> other_ = make("other");
  gateway::Wanted wanted_;
};

TEST_F(UnreadyInFleet, GetsNothingUntilALookFindsItReady) {
  fleet_.note_poll(*one_, {}, clock_.now());
  EXPECT_TRUE(one_->ready());
  clock_.advance(1ms);
  fleet_.note_unready(*one_, Unready::loading, clock_.now());
  EXPECT_EQ(health_of("one"), route::HealthState::loading);
  EXPECT_FALSE(one_->ready());
  EXPECT_TRUE(one_->asks_for_none());
  EXPECT_FALSE(may_be_asked(*one_));
  EXPECT_TRUE(may_be_asked(*other_));
  clock_.advance(std::chrono::hours(1));
  EXPECT_FALSE(may_be_asked(*one_));
  fleet_.note_poll(*one_, {}, clock_.now());
  EXPECT_TRUE(may_be_asked(*one_));
  EXPECT_TRUE(one_->ready());
  EXPECT_FALSE(one_->asks_for_none());
}

// The instance that answered the look may be gone: what was said after the look had begun counts.
TEST_F(UnreadyInFleet, ALookThatBeganBeforeItsWordIsOutOfDate) {
  const base::SteadyTime begun = clock_.now();
  clock_.advance(1ms);
  fleet_.note_unready(*one_, Unready::draining, clock_.now());
  clock_.advance(1ms);
  fleet_.note_poll(*one_, {.started_at = 2}, begun);
  EXPECT_FALSE(one_->ready());
  EXPECT_FALSE(may_be_asked(*one_));
  EXPECT_EQ(health_of("one"), route::HealthState::draining);
  fleet_.note_poll(*one_, {.started_at = 2}, clock_.now());
  EXPECT_TRUE(may_be_asked(*one_));
}

// Of two looks the later one counts, whichever ends first.
TEST_F(UnreadyInFleet, ALookThatBeganAfterAnothersWordIsNotOutOfDate) {
  const base::SteadyTime asked = clock_.now();
  clock_.advance(1ms);
  const base::SteadyTime begun = clock_.now();
  clock_.advance(1ms);
  fleet_.note_unready(*one_, Unready::loading, asked);
  fleet_.note_poll(*one_, {}, begun);
  EXPECT_TRUE(may_be_asked(*one_));
}

TEST_F(UnreadyInFleet, IsNoFailure) {
  serve(Outcome::unready, 20);
  EXPECT_EQ(health_of("one"), route::HealthState::up);
  serve(Outcome::failed, 5);
  EXPECT_EQ(health_of("one"), route::HealthState::ejected) << "as failures do";
}

TEST_F(UnreadyInFleet, WhatWasReplacedDoesNotSpeakForItsSuccessor) {
  const auto before = one_;
  one_ = make("one");
  fleet_.replace({one_, other_});
  fleet_.note_unready(*before, Unready::draining, clock_.now());
  EXPECT_TRUE(may_be_asked(*one_));
}

// When a client that no backend could serve may come again. One of the two is meant, and looked at every 20 s.
class NextChance : public UnreadyInFleet {
 protected:
  NextChance() { wanted_.backends = &only_one_; }
  base::Duration next_chance() const { return fleet_.next_chance(wanted_, 20s); }

  const std::vector<std::string> only_one_{"one"};
};

TEST_F(NextChance, IsWithTheNextLookAtOneThatLoads) {
  EXPECT_EQ(next_chance(), 0s) << "it may have been full";
  fleet_.note_unready(*one_, Unready::loading, clock_.now());
  EXPECT_EQ(next_chance(), 2s) << "it is looked at ten times as often";
  wanted_.backends = nullptr;
  EXPECT_EQ(next_chance(), 0s) << "the other does not load";
  fleet_.note_unready(*other_, Unready::draining, clock_.now());
  EXPECT_EQ(next_chance(), 2s);
}

TEST_F(NextChance, IsAtTheEndOfAnEjection) {
  serve(Outcome::failed, 5);
  EXPECT_EQ(next_chance(), 5s);
  clock_.advance(2s);
  EXPECT_EQ(next_chance(), 3s);
  clock_.advance(4s);
  EXPECT_EQ(next_chance(), 0s);
}

TEST_F(NextChance, IsAfterTheLooksThatBringOneUpAgain) {
  fleet_.note_failed_poll(*one_, "gone");
  EXPECT_EQ(next_chance(), 0s) << "one failure takes nobody down";
  fleet_.note_failed_poll(*one_, "gone");
  EXPECT_EQ(next_chance(), 40s);
  fleet_.note_poll(*one_, {}, clock_.now());
  EXPECT_EQ(next_chance(), 20s);
  fleet_.note_poll(*one_, {}, clock_.now());
  EXPECT_EQ(next_chance(), 0s);
}

// Too few are well for the signs to be believed: the next request is tried all the same.
TEST_F(NextChance, IsNowWhereAllAreDown) {
  for (int i = 0; i < 2; ++i) {
    fleet_.note_failed_poll(*one_, "gone");
    fleet_.note_failed_poll(*other_, "gone");
  }
  EXPECT_EQ(next_chance(), 0s);
}

TEST_F(NextChance, IsNeverFartherThanAMinute) {
  fleet_.note_unready(*one_, Unready::loading, clock_.now());
  EXPECT_EQ(fleet_.next_chance(wanted_, 1h), 60s);
  fleet_.replace({});
  EXPECT_EQ(next_chance(), 20s) << "nobody is there yet";
}

class UnreadyBackends : public FleetFixture {
 protected:
  // Nothing but Gateway::look() looks at the backends once they are known, and no failure is forgiven.
  UnreadyBackends() {
    options.poll_interval = 1h;
    options.retries = 0;
  }
  wire::HttpResponse ask() {
    return post("/v1/chat/completions",
                R"({"model":"m","messages":[{"role":"user","content":")" + std::to_string(asked_++) + "\"}]}");
  }

 private:
  int asked_ = 0;
};

TEST_F(UnreadyBackends, OneThatLoadsIsPassedOverAtOnce) {
  std::atomic<int> loads = -1;  // the first that is asked
  std::array<ScriptedBackend*, 2> backends{};
  for (int i = 0; i < 2; ++i) {
    backends[static_cast<size_t>(i)] = &add_backend([&loads, i](const Received&) {
      int nobody = -1;
      loads.compare_exchange_strong(nobody, i);
      return kept(loads == i ? loading : answer);
    });
  }
  start();
  for (int i = 0; i < 8; ++i)
    EXPECT_EQ(ask().status, 200) << i;
  ScriptedBackend& first = *backends.at(static_cast<size_t>(loads.load()));
  EXPECT_EQ(first.received().size(), 1U) << "it has said it once";
  EXPECT_EQ(metric("tidemill_gateway_retries_total"), 1);
  EXPECT_NE(get("/backends").body.find(R"("health":"loading")"), std::string::npos) << get("/backends").body;
  EXPECT_EQ(get("/ready").status, 200);

  loads = 1 - loads;
  gateway->look();
  EXPECT_EQ(ask().status, 200);
  EXPECT_EQ(first.received().size(), 2U) << "whether the other was asked first or not";
}

// What another kind of server answers to a path that is none of its API tells nothing of its API.
TEST_F(UnreadyBackends, OneThatAnswersOddlyToReadyIsGoneByItsModels) {
  ScriptedBackend& backend = add_backend([](const Received&) { return kept(answer); });
  start();
  for (const int status : {200, 204, 301, 302, 400, 401, 403, 404, 405, 406, 418, 429, 500, 501}) {
    backend.set_ready(503);
    gateway->look();
    EXPECT_EQ(get("/ready").status, 503);
    backend.set_ready(status);
    gateway->look();
    EXPECT_EQ(get("/ready").status, 200) << status;
    EXPECT_EQ(ask().status, 200) << status;
  }
  for (const int status : {502, 503, 504}) {
    backend.set_ready(status);
    gateway->look();
    EXPECT_EQ(get("/ready").status, 503) << status;
  }
  for (const auto& [models, ready] : {std::pair(500, 503), std::pair(401, 200), std::pair(502, 503)}) {
    backend.set_ready(500);
    backend.set_models_status(models);
    gateway->look();
    EXPECT_EQ(get("/ready").status, ready) << models;
  }
}

TEST_F(UnreadyBackends, WhereItTellsThatItIsReadyCanBeConfigured) {
  std::atomic<int> health = 200;
  ScriptedBackend& backend = add_backend([&health](const Received& request) {
    return Script{.bytes = request.path == "/health" ? http_answer(health, "text/plain", "") : answer};
  });
  backend.set_ready(503);  // which nobody asks
  options.backends.back().ready_path = "/health";
  start();
  for (const auto& [status, ready] : {std::pair(500, 503), std::pair(200, 200), std::pair(404, 503),
                                      std::pair(204, 200), std::pair(503, 503), std::pair(301, 503)}) {
    health = status;
    gateway->look();
    EXPECT_EQ(get("/ready").status, ready) << status;
  }
}

TEST_F(UnreadyBackends, OneWithoutSuchAPathIsGoneByItsModels) {
  ScriptedBackend& backend = add_backend([](const Received&) { return kept(answer); });
  backend.set_ready(503);
  options.backends.back().ready_path = "none";
  start();
  for (const auto& [status, ready] :
       {std::pair(500, 503), std::pair(401, 200), std::pair(503, 503), std::pair(200, 200)}) {
    backend.set_models_status(status);
    gateway->look();
    EXPECT_EQ(get("/ready").status, ready) << status;
  }
  EXPECT_EQ(ask().status, 200);
}

TEST(Readiness, APathThatIsConfiguredMeansWhatItSays) {
  using gateway::look_path;
  using gateway::Readiness;
  using gateway::readiness_of;
  EXPECT_EQ(look_path(""), "/ready");
  EXPECT_EQ(look_path("none"), "/v1/models");
  EXPECT_EQ(look_path("/health"), "/health");
  EXPECT_EQ(readiness_of("/health", 404), Readiness::failing);
  EXPECT_EQ(readiness_of("/health", 503), Readiness::unready);
  EXPECT_EQ(readiness_of("", 404), Readiness::ready);
  EXPECT_EQ(readiness_of("", 403), Readiness::untold);
  EXPECT_EQ(readiness_of("none", 404), Readiness::ready);
  EXPECT_EQ(readiness_of("none", 503), Readiness::failing);
}

TEST_F(UnreadyBackends, ARequestWaitsForTheOnlyOne) {
  std::atomic<bool> loaded = false;
  ScriptedBackend& backend = add_backend([&loaded](const Received&) { return kept(loaded ? answer : loading); });
  options.patience = patience;
  start();
  auto waiting = std::async(std::launch::async, [this] { return ask(); });
  ASSERT_TRUE(backend.wait_for_requests(1));
  loaded = true;
  while (waiting.wait_for(0s) != std::future_status::ready)
    gateway->look();
  const wire::HttpResponse response = waiting.get();
  EXPECT_EQ(response.status, 200) << response.body;
  EXPECT_EQ(backend.received().size(), 2U);
}

TEST_F(UnreadyBackends, ItsOwnWordsAreHandedOnWhenThePatienceIsOver) {
  ScriptedBackend& backend = add_backend([](const Received&) { return kept(loading); });
  options.poll_interval = 590s;  // a tenth of which is less than the longest wait that is told
  options.patience = 0s;
  start();
  const wire::HttpResponse told = ask();
  EXPECT_EQ(told.status, 503);
  EXPECT_NE(told.body.find("the model is still being loaded"), std::string::npos) << told.body;
  EXPECT_EQ(told.headers.find("retry-after"), "7");
  EXPECT_FALSE(told.headers.has("x-tidemill-unready")) << "the gateway is ready";
  const wire::HttpResponse known = ask();
  EXPECT_EQ(known.status, 503);
  EXPECT_NE(known.body.find("1 loading"), std::string::npos) << known.body;
  EXPECT_EQ(known.headers.find("retry-after"), "59") << "a tenth of the time between two looks";
  EXPECT_EQ(backend.received().size(), 1U);
  const wire::HttpResponse ready = get("/ready");
  EXPECT_EQ(ready.status, 503);
  EXPECT_EQ(ready.headers.find("retry-after"), "59");
}

TEST_F(UnreadyBackends, AGatewayThatDrainsSendsClientsElsewhereAtOnce) {
  add_backend([](const Received&) { return kept(loading); });
  options.patience = 0s;
  start();
  EXPECT_EQ(ask().status, 503);
  EXPECT_EQ(get("/ready").headers.find("retry-after"), "60");
  gateway->drain();
  EXPECT_EQ(get("/ready").headers.find("retry-after"), "1");
  EXPECT_EQ(ask().headers.find("retry-after"), "1");
}

// A gateway before gateways: one that drains says so as a server does.
TEST_F(UnreadyBackends, AGatewayThatDrainsIsPassedOverAtOnce) {
  const ScriptedBackend behind([](const Received&) { return kept(answer); });
  gateway::GatewayOptions before;
  before.port = 0;
  before.io_threads = 1;
  before.backends = {{.url = behind.url()}};
  const auto draining = gateway::Gateway::start(before);
  ASSERT_TRUE(draining) << draining.error().to_string();
  (*draining)->look();
  options.backends.push_back({.url = (*draining)->url(), .models = {"m"}});
  add_backend([](const Received&) { return kept(answer); });
  start();
  (*draining)->drain();
  // Work is evened out, so that it is chosen soon.
  for (int i = 0; i < 64 && metric("tidemill_gateway_retries_total") < 1; ++i)
    EXPECT_EQ(ask().status, 200) << i;
  EXPECT_EQ(metric("tidemill_gateway_retries_total"), 1);
  EXPECT_NE(get("/backends").body.find(R"("health":"draining")"), std::string::npos) << get("/backends").body;
}

// Its /ready says something else than it does.
TEST_F(UnreadyBackends, OneThatSaysSoAgainAndAgainFails) {
  ScriptedBackend& backend = add_backend([](const Received&) { return kept(loading); });
  options.poll_interval = 10ms;
  options.patience = patience;
  options.retries = 1;
  start();
  EXPECT_EQ(ask().status, 503);
  EXPECT_EQ(backend.received().size(), 3U) << "once for free, and two that count";
}

// As while it restarts: nothing was asked of it, so none of the tries is used up.
TEST_F(UnreadyBackends, OneThatTakesNoConnectionWasNotTried) {
  ScriptedBackend& gone = add_backend([](const Received&) { return kept(answer); });
  add_backend([](const Received&) { return kept(answer); });
  start();
  gone.stop();
  // Work is evened out, so that it is chosen soon.
  for (int i = 0; i < 64 && metric("tidemill_gateway_retries_total") < 1; ++i)
    EXPECT_EQ(ask().status, 200) << i;
  EXPECT_GE(metric("tidemill_gateway_retries_total"), 1);
}

TEST_F(UnreadyBackends, WhereAllTakeNoConnectionTheWaitIsBounded) {
  add_backend([](const Received&) { return kept(answer); }).stop();
  options.patience = 100ms;
  options.backends.front().models = {"m"};
  options.port = 0;
  options.io_threads = 1;
  auto started = gateway::Gateway::start(options);
  ASSERT_TRUE(started) << started.error().to_string();
  gateway = std::move(*started);
  const wire::HttpResponse response = ask();
  EXPECT_EQ(response.status, 503);
  EXPECT_TRUE(response.headers.has("retry-after"));
  EXPECT_NE(response.body.find("no backend answered, after "), std::string::npos) << response.body;
}

}  // namespace
}  // namespace tidemill::test
