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
    rollout::Bandit& bandit() { return routes->find("smart")->adaptive()->bandit(); }
    void learn(int times) {
      for (int i = 0; i < times; ++i)
        bandit().learn_quality(rollout::features_of({}), 0, 1);
    }
  };

  Peer make(const std::string& name) {
    RouteOptions options{.model = "smart", .targets = {{.model = "small"}, {.model = "big"}}};
    options.adaptive.reference = "big";
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
