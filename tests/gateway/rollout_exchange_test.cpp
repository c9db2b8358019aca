// Gateways that come and go, and what they have learned together.
#include "gateway/rollout_exchange.hpp"

#include <gtest/gtest.h>

#include "observe/metrics.hpp"
#include "session/session_store.hpp"

namespace tidemill::gateway {
namespace {

using namespace std::chrono_literals;

class Exchange : public ::testing::Test {
 protected:
  struct Peer {
    std::shared_ptr<const RouteTable> routes;
    std::unique_ptr<RolloutExchange> exchange;

    void tell() { exchange->exchange(*routes); }
    ModelRoute& code() { return *routes->find("code"); }
    rollout::Bandit& bandit() { return routes->find("smart")->adaptive()->bandit(); }
    void learn(int times) {
      for (int i = 0; i < times; ++i)
        bandit().learn_quality(rollout::features_of({}), 0, 1);
    }
  };

  Peer make(const std::string& name) {
    RouteOptions options{.model = "smart", .targets = {{.model = "small"}, {.model = "big"}}};
    options.adaptive.reference = "big";
    return make(name, options);
  }
  // With a rollout.
  Peer roll_out(const std::string& name) {
    RouteOptions options{.model = "code", .targets = {{.model = "v1"}, {.model = "v2"}}};
    options.canary.target = "v2";
    options.canary.steps = {"50%"};
    return make(name, options);
  }
  Peer make(const std::string& name, const RouteOptions& options) {
    auto routes = RouteTable::create({options}, RouteTable(), metrics, clock);
    EXPECT_TRUE(routes) << routes.error().to_string();
    return {.routes = *routes, .exchange = std::make_unique<RolloutExchange>(name, *store, clock)};
  }
  // As many ratings as somebody who knows nothing itself hears of.
  double known() {
    Peer reader = make("reader-" + std::to_string(++readers));
    reader.tell();
    const auto blob = store->read_blob(reader.routes->find("smart")->adaptive()->state_key());
    const auto parsed = base::parse_json(blob->value);
    double weight = 0;
    for (const auto& [name, member] : parsed->as_object()) {
      const auto state = rollout::BanditState::from_json(member.at("is"));
      for (const auto& model : state->models)
        weight += model.quality.weight();
    }
    return weight;
  }

  // Of the rollout, as the store has it.
  base::json::object members(Peer& peer) {
    const auto blob = store->read_blob("rollout/" + peer.code().plan().canary->name);
    return base::parse_json(blob->value)->as_object();
  }

  base::ManualClock clock;
  observe::Metrics metrics;
  std::unique_ptr<session::Store> store = std::move(session::open_store({}, clock)).value();
  int readers = 0;
};

TEST_F(Exchange, AddsUpOverGateways) {
  Peer one = make("one");
  Peer two = make("two");
  one.learn(3);
  two.learn(4);
  one.tell();
  two.tell();
  one.tell();
  one.tell();
  EXPECT_EQ(known(), 7);
  const rollout::Features x = rollout::features_of({});
  EXPECT_NEAR(one.bandit().belief(x, 0).quality, two.bandit().belief(x, 0).quality, 1e-12);
  Peer alone = make("alone");
  alone.learn(7);
  EXPECT_NEAR(one.bandit().belief(x, 0).quality, alone.bandit().belief(x, 0).quality, 1e-12);
}

TEST_F(Exchange, TheSilentAreAddedUpAndCountOnce) {
  Peer one = make("one");
  Peer two = make("two");
  one.learn(3);
  one.tell();
  two.learn(4);
  two.tell();
  clock.advance(25h);
  two.tell();  // which buries the first
  const auto blob = store->read_blob(two.routes->find("smart")->adaptive()->state_key());
  EXPECT_EQ(blob->value.find("\"one\":"), std::string::npos) << blob->value;
  EXPECT_EQ(known(), 7);
  one.learn(2);  // it was only cut off; what it heard meanwhile is lost with what it told, which is in the past
  one.tell();
  one.learn(1);
  one.tell();
  EXPECT_EQ(known(), 8);
}

TEST_F(Exchange, SaysThatItLives) {
  Peer one = make("one");
  one.learn(3);
  for (int hour = 0; hour < 30; ++hour) {
    one.tell();
    clock.advance(1h);
  }
  Peer two = make("two");
  two.tell();
  const auto blob = store->read_blob(two.routes->find("smart")->adaptive()->state_key());
  EXPECT_NE(blob->value.find("\"one\":"), std::string::npos);
  EXPECT_EQ(blob->value.find("\"past\":"), std::string::npos);
}

TEST_F(Exchange, OppositeDecisionsEndAlike) {
  Peer one = roll_out("one");
  Peer two = roll_out("two");
  one.tell();
  two.tell();
  EXPECT_EQ(one.code().end_rollout(rollout::Phase::promoted, "by one"), rollout::Phase::promoted);
  EXPECT_EQ(two.code().end_rollout(rollout::Phase::rolled_back, "by two"), rollout::Phase::rolled_back);
  for (int round = 0; round < 2; ++round) {
    one.tell();
    two.tell();
  }
  EXPECT_EQ(one.code().canary()->status().phase, rollout::Phase::rolled_back);
  EXPECT_EQ(two.code().canary()->status().phase, rollout::Phase::rolled_back);
}

TEST_F(Exchange, RolloutsKeepNoRecordOfTheDead) {
  for (int start = 0; start < 20; ++start) {
    Peer gone = roll_out("gone-" + std::to_string(start));
    gone.tell();
    if (start == 0) gone.code().end_rollout(rollout::Phase::promoted, "by the first");
    gone.tell();
  }
  Peer first = roll_out("first");
  first.tell();
  clock.advance(25h);
  Peer second = roll_out("second");
  second.tell();
  const auto left = members(second);
  EXPECT_EQ(left.size(), 2U) << base::json::serialize(left);
  EXPECT_TRUE(left.contains("past"));
  EXPECT_TRUE(left.contains("second"));
  EXPECT_EQ(second.code().canary()->status().phase, rollout::Phase::promoted);  // what they decided is not forgotten
}

TEST_F(Exchange, OneThatWakesUpCountsOnceInARollout) {
  Peer one = roll_out("one");
  Peer two = roll_out("two");
  rollout::Canary& canary = *one.code().canary();
  int asked = 0;
  const auto answer = [&] {
    const auto assignment = canary.assign("request-" + std::to_string(asked++));
    canary.observe(assignment, {.ttft = 0.1}, clock.now());
  };
  for (int i = 0; i < 100; ++i)
    answer();
  const int64_t seen = canary.record().step_requests;
  ASSERT_GT(seen, 0);
  one.tell();
  clock.advance(25h);
  two.tell();  // which buries the first
  one.tell();  // it was only cut off
  const auto all = members(one);
  EXPECT_EQ(all.at("past").at("is").at("step_requests").as_int64(), seen);
  EXPECT_EQ(all.at("one").at("is").at("step_requests").as_int64(), 0);
}

TEST_F(Exchange, ForeignBlobsAreLeftAlone) {
  Peer one = make("one");
  const std::string key = one.routes->find("smart")->adaptive()->state_key();
  for (const char* text : {"no json", "[]", R"({"one":7})", R"({"one":{"at":"x","is":{}}})"}) {
    const auto blob = store->read_blob(key);
    ASSERT_TRUE(store->replace_blob(key, blob->version, text));
    one.tell();
    EXPECT_EQ(store->read_blob(key)->value, text);
  }
}

}  // namespace
}  // namespace tidemill::gateway
