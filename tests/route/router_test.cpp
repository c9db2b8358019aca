#include "route/router.hpp"

#include <map>
#include <random>
#include <thread>

#include <gtest/gtest.h>

namespace tidemill::route {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Blocks = std::vector<BlockHash>;

class RouterTest : public testing::Test {
 protected:
  static RouterOptions options() {
    RouterOptions options;
    options.bytes_per_token = 4;
    options.load.tokens_per_second = 5000;
    options.load.overhead_seconds = 0;
    return options;
  }
  void start(size_t backends, const RouterOptions& options = RouterTest::options()) {
    router_.emplace(options);
    endpoints_.clear();
    for (size_t i = 0; i < backends; ++i)
      endpoints_.push_back({.address = "b" + std::to_string(i) + ":80"});
    router_->set_backends(endpoints_, now_);
  }
  // A prompt of a conversation: the same blocks for the same name.
  static Blocks prompt(uint64_t name, size_t blocks) {
    Blocks all;
    BlockHash last = name * 0x9E3779B97F4A7C15U + 1;
    for (size_t i = 0; i < blocks; ++i) {
      last = (last ^ i) * 0xBF58476D1CE4E5B9U;
      last ^= last >> 27U;
      all.push_back(last);
    }
    return all;
  }
  Route route(const Blocks& blocks, std::string_view session = {}, const std::vector<std::string>& exclude = {}) {
    auto routed = router_->route(
        {.blocks = blocks, .prompt_bytes = blocks.size() * kBlockBytes, .session = session, .exclude = exclude}, now_);
    EXPECT_TRUE(routed) << routed.error().to_string();
    return *routed;
  }
  // Serves it as fast as the backend is believed to.
  void serve(const Route& route, std::optional<int64_t> cached = {}) {
    now_ += std::chrono::duration_cast<base::Duration>(std::chrono::duration<double>(route.ttft_seconds));
    router_->first_token(route.ticket, now_);
    router_->finish(route.ticket,
                    {.prompt_tokens = route.prompt_tokens,
                     .cached_tokens = cached.value_or(route.cached_tokens),
                     .output_tokens = 10},
                    now_);
  }
  BackendView view(const std::string& address) {
    for (const BackendView& view : router_->view(now_)) {
      if (view.address == address) return view;
    }
    ADD_FAILURE() << address;
    return {};
  }

  std::optional<Router> router_;
  std::vector<Endpoint> endpoints_;
  base::SteadyTime now_{seconds(1000)};
};

TEST_F(RouterTest, WithoutBackendsSaysSo) {
  start(0);
  const auto routed = router_->route({}, now_);
  ASSERT_FALSE(routed);
  EXPECT_EQ(routed.error().code(), base::ErrorCode::unavailable);
  EXPECT_EQ(routed.error().message(), "no backend can be used: none is known that serves this");
}

TEST_F(RouterTest, AConversationStaysWhereItsPrefixIs) {
  start(8);
  for (uint64_t conversation = 0; conversation < 50; ++conversation) {
    const Route first = route(prompt(conversation, 100));
    EXPECT_EQ(first.cached_tokens, 0);
    serve(first);
    for (size_t turn = 1; turn < 4; ++turn) {
      const Route next = route(prompt(conversation, 100 + turn * 10));
      EXPECT_EQ(next.address, first.address);
      EXPECT_EQ(next.cached_tokens, static_cast<int64_t>((100 + turn * 10 - 10) * kBlockBytes / 4));
      serve(next);
    }
  }
}

TEST_F(RouterTest, RetriesGoElsewhereUntilNobodyIsLeft) {
  start(3);
  std::vector<std::string> tried;
  for (int i = 0; i < 3; ++i) {
    const Route next = route(prompt(1, 10), {}, tried);
    EXPECT_EQ(std::ranges::find(tried, next.address), tried.end());
    EXPECT_EQ(next.alternatives.size(), static_cast<size_t>(2 - i));
    router_->finish(next.ticket, {.outcome = Outcome::failure}, now_);
    tried.push_back(next.address);
  }
  const auto routed = router_->route({.exclude = tried}, now_);
  ASSERT_FALSE(routed);
  EXPECT_NE(routed.error().message().find("3 tried already"), std::string::npos) << routed.error().message();
}

TEST_F(RouterTest, UsesThoseThatServeTheModel) {
  start(4);
  for (uint64_t i = 0; i < 20; ++i) {
    const auto routed = router_->route({.eligible = [](std::string_view address) { return address == "b2:80"; }}, now_);
    ASSERT_TRUE(routed);
    EXPECT_EQ(routed->address, "b2:80");
    EXPECT_TRUE(routed->alternatives.empty());
  }
  EXPECT_FALSE(router_->route({.eligible = [](std::string_view) { return false; }}, now_));
}

TEST_F(RouterTest, AHotPrefixIsReplicatedWhenItsHolderIsOverloaded) {
  start(4);
  serve(route(prompt(1, 200)));
  std::map<std::string, int> used;
  for (int i = 0; i < 64; ++i) {
    Blocks blocks = prompt(1, 200);
    const Blocks own = prompt(100 + static_cast<uint64_t>(i), 40);
    blocks.insert(blocks.end(), own.begin(), own.end());
    ++used[route(blocks).address];  // all at once, none served
  }
  ASSERT_EQ(used.size(), 4U);
  for (const auto& [address, count] : used)
    EXPECT_GE(count, 10) << address;
}

TEST_F(RouterTest, RequestsAtTheSameTimeMeetWhereTheFirstWent) {
  start(8);
  const Route first = route(prompt(1, 400));
  const Route second = route(prompt(1, 400));
  EXPECT_EQ(first.address, second.address);
}

TEST_F(RouterTest, TenantsWithOtherSaltsShareNothing) {
  start(2);
  BlockHasher a("tenant a");
  BlockHasher b("tenant b");
  const std::string text(100'000, 'x');
  a.add(text);
  b.add(text);
  serve(route({a.blocks().begin(), a.blocks().end()}));
  EXPECT_EQ(route({b.blocks().begin(), b.blocks().end()}).cached_tokens, 0);
}

TEST_F(RouterTest, ARestartedBackendIsNotBelievedWarm) {
  start(3);
  router_->report("b0:80", {.started_at = 100.0}, now_);
  router_->report("b1:80", {.started_at = 100.0}, now_);
  router_->report("b2:80", {.started_at = 100.0}, now_);
  const Route first = route(prompt(1, 400));
  serve(first);
  router_->report(first.address, {.started_at = 100.2}, now_);  // the same, rounded otherwise
  EXPECT_GT(view(first.address).believed_blocks, 0U);
  router_->report(first.address, {.started_at = 500.0}, now_);
  EXPECT_EQ(view(first.address).believed_blocks, 0U);
  EXPECT_LT(view(first.address).ramp, 1);
  const Route again = route(prompt(1, 400));
  EXPECT_EQ(again.cached_tokens, 0);
}

TEST_F(RouterTest, AnotherInstanceAtAnAddressIsAnotherBackend) {
  start(2);
  endpoints_[0].instance = "uid-1";
  endpoints_[1].instance = "uid-2";
  router_->set_backends(endpoints_, now_);
  const Route first = route(prompt(1, 400));
  serve(first);
  for (Endpoint& endpoint : endpoints_) {
    if (endpoint.address == first.address) endpoint.instance = "uid-3";
  }
  const Route open = route(prompt(1, 400));
  router_->set_backends(endpoints_, now_);
  EXPECT_EQ(view(first.address).believed_blocks, 0U);
  router_->finish(open.ticket, {.outcome = Outcome::failure}, now_);  // of the instance that is gone
  EXPECT_EQ(view(first.address).health, HealthState::up);
  EXPECT_EQ(view(first.address).open, 0);
}

TEST_F(RouterTest, BelievesLessOfABackendThatReportsLess) {
  start(1);
  for (uint64_t i = 0; i < 20; ++i)
    serve(route(prompt(i, 100)));
  EXPECT_EQ(view("b0:80").believed_blocks, 2000U);
  // It has room for the last five only.
  for (uint64_t i = 0; i < 3; ++i) {
    const Route again = route(prompt(10 + i, 100));
    serve(again, 0);
  }
  EXPECT_LT(view("b0:80").believed_capacity, 2000U);
  const uint64_t shrunk = view("b0:80").believed_capacity;
  EXPECT_EQ(route(prompt(0, 100)).cached_tokens, 0);
  // And later it holds more than was believed.
  for (int i = 0; i < 10; ++i)
    serve(route(prompt(500 + static_cast<uint64_t>(i), 100)), 6000);
  EXPECT_GT(view("b0:80").believed_capacity, shrunk);
}

TEST_F(RouterTest, AnAbortedPrefillTeachesNothingAboutCapacity) {
  start(1);
  for (uint64_t i = 0; i < 20; ++i)
    serve(route(prompt(i, 100)));
  const uint64_t capacity = view("b0:80").believed_capacity;
  for (uint64_t i = 100; i < 103; ++i) {
    router_->finish(route(prompt(i, 100)).ticket, {.outcome = Outcome::cancelled}, now_);
    serve(route(prompt(i, 100)), 0);
  }
  EXPECT_EQ(view("b0:80").believed_capacity, capacity);
}

TEST_F(RouterTest, LearnsBytesPerToken) {
  start(2);
  for (uint64_t i = 0; i < 300; ++i) {
    const Route routed = route(prompt(i, 30));
    now_ += seconds(2);
    router_->finish(routed.ticket, {.prompt_tokens = 30 * 256 / 3}, now_);
  }
  EXPECT_NEAR(router_->bytes_per_token(), 3, 0.05);
}

TEST_F(RouterTest, HowManyMayBeOpenCanChange) {
  RouterOptions options = RouterTest::options();
  options.health.most_open = 1;
  start(1, options);
  (void)route(prompt(1, 4));
  EXPECT_FALSE(router_->route({.prompt_bytes = 1}, now_));
  router_->set_most_open(2);
  EXPECT_TRUE(router_->route({.prompt_bytes = 1}, now_));
  EXPECT_FALSE(router_->route({.prompt_bytes = 1}, now_));
}

TEST_F(RouterTest, DrainingAndDownBackendsGetNothing) {
  start(3);
  router_->drain("b0:80", seconds(30), now_);
  router_->check("b1:80", false, now_);
  router_->check("b1:80", false, now_);
  for (uint64_t i = 0; i < 20; ++i)
    EXPECT_EQ(route(prompt(i, 3)).address, "b2:80");
  router_->ready("b0:80", now_);
  bool back = false;
  for (uint64_t i = 0; i < 40; ++i)
    back |= route(prompt(1000 + i, 3)).address == "b0:80";
  EXPECT_TRUE(back);
}

TEST_F(RouterTest, SaysThatAllAreLoading) {
  start(2);
  for (const char* address : {"b0:80", "b1:80"})
    router_->drain(address, std::nullopt, now_, Unready::loading);
  const auto routed = router_->route({}, now_);
  ASSERT_FALSE(routed);
  EXPECT_NE(routed.error().message().find("of 2, 0 tried already, 2 loading, 0 draining"), std::string::npos)
      << routed.error().message();
  EXPECT_EQ(view("b1:80").health, HealthState::loading);
  router_->ready("b1:80", now_);
  EXPECT_EQ(view("b1:80").health, HealthState::up);
}

TEST_F(RouterTest, EndpointsThatAreNotReadyDrain) {
  start(2);
  endpoints_[0].ready = false;
  router_->set_backends(endpoints_, now_);
  for (uint64_t i = 0; i < 20; ++i)
    EXPECT_EQ(route(prompt(i, 3)).address, "b1:80");
  endpoints_[0].ready = true;
  router_->set_backends(endpoints_, now_);
  EXPECT_EQ(view("b0:80").health, HealthState::up);
}

TEST_F(RouterTest, AnEjectedBackendIsProbedAndServesAgain) {
  start(3);
  for (int i = 0; i < 5; ++i) {
    const Route failed = route(prompt(1, 50), {}, {"b1:80", "b2:80"});
    EXPECT_EQ(failed.address, "b0:80");
    router_->finish(failed.ticket, {.outcome = Outcome::failure}, now_);
  }
  EXPECT_EQ(view("b0:80").health, HealthState::ejected);
  for (uint64_t i = 0; i < 20; ++i)
    EXPECT_NE(route(prompt(50 + i, 2)).address, "b0:80");
  now_ += seconds(5);
  const Route probe = route(prompt(90, 50));
  EXPECT_TRUE(probe.probe);
  EXPECT_EQ(probe.address, "b0:80");
  serve(probe);
  now_ += seconds(1);
  serve(route(prompt(91, 50)));
  EXPECT_EQ(view("b0:80").health, HealthState::up);
  now_ += seconds(30);
  std::map<std::string, int> used;
  for (uint64_t i = 0; i < 300; ++i) {
    const Route routed = route(prompt(2000 + i, 20));
    ++used[routed.address];
    serve(routed);
    now_ += milliseconds(300);
  }
  EXPECT_GE(used["b0:80"], 50);
}

TEST_F(RouterTest, ServesFasterHardwareMore) {
  start(2);
  // b0 serves 2,000 tokens a second and b1 8,000; both are always busy.
  std::map<std::string, double> free_at;
  std::map<std::string, int> used;
  const auto start_of_all = now_;
  struct Running {
    base::SteadyTime end;
    Route route;
  };
  std::vector<Running> running;
  for (uint64_t i = 0; i < 2000; ++i) {
    now_ += milliseconds(180);
    std::ranges::sort(running, {}, &Running::end);
    while (!running.empty() && running.front().end <= now_) {
      router_->first_token(running.front().route.ticket, running.front().end);
      router_->finish(running.front().route.ticket, {.output_tokens = 1}, running.front().end);
      running.erase(running.begin());
    }
    const Route routed = route(prompt(i, 24));  // 1,536 tokens
    if (i > 500) ++used[routed.address];
    double& free = free_at[routed.address];
    free = std::max(free, base::seconds(now_ - start_of_all)) + 1536.0 / (routed.address == "b0:80" ? 2000 : 8000);
    running.push_back(
        {start_of_all + std::chrono::duration_cast<base::Duration>(std::chrono::duration<double>(free)), routed});
  }
  EXPECT_GT(used["b1:80"], 2 * used["b0:80"]);
  EXPECT_NEAR(view("b0:80").tokens_per_second, 2000, 200);
  EXPECT_NEAR(view("b1:80").tokens_per_second, 8000, 800);
}

TEST_F(RouterTest, AnErrorDoesNotMakeABackendFast) {
  start(1);
  serve(route(prompt(1, 40)));
  const double before = view("b0:80").tokens_per_second;
  for (const Outcome outcome : {Outcome::declined, Outcome::failure, Outcome::declined}) {
    for (uint64_t i = 0; i < 4; ++i) {
      const Route asked = route(prompt(100 + i, 40));
      now_ += milliseconds(1);
      router_->finish(asked.ticket, {.outcome = outcome, .prompt_tokens = 1, .cached_tokens = 0}, now_);
    }
  }
  EXPECT_EQ(view("b0:80").tokens_per_second, before);
  for (uint64_t i = 0; i < 8; ++i) {
    const Route quick = route(prompt(200 + i, 40));
    now_ += milliseconds(1);
    router_->finish(quick.ticket, {.outcome = Outcome::success}, now_);
  }
  EXPECT_GT(view("b0:80").tokens_per_second, before) << "as an answer does";
}

TEST_F(RouterTest, BackendsComeAndGoUnderOpenRequests) {
  std::mt19937 random(3);
  start(4);
  std::vector<Route> open;
  for (int step = 0; step < 3000; ++step) {
    now_ += milliseconds(20);
    if (random() % 50 == 0) {
      std::vector<Endpoint> some;
      for (int i = 0; i < 8; ++i) {
        if (random() % 2 == 0) {
          some.push_back({.address = "b" + std::to_string(i) + ":80", .instance = std::to_string(random() % 2)});
        }
      }
      if (some.empty()) some.push_back({.address = "b0:80"});
      router_->set_backends(some, now_);
    }
    open.push_back(route(prompt(random() % 30, 1 + random() % 60), random() % 2 == 0 ? "s" : ""));
    if (open.size() > 20) {
      const size_t at = random() % open.size();
      if (random() % 3 != 0) router_->first_token(open[at].ticket, now_, 100);
      router_->finish(open[at].ticket, {.outcome = static_cast<Outcome>(random() % 3), .cached_tokens = 0}, now_);
      router_->finish(open[at].ticket, {.outcome = Outcome::failure}, now_);  // twice does nothing
      open.erase(open.begin() + static_cast<ptrdiff_t>(at));
    }
  }
  for (const Route& routed : open)
    router_->finish(routed.ticket, {}, now_);
  for (const BackendView& each : router_->view(now_)) {
    EXPECT_EQ(each.open, 0) << each.address;
    EXPECT_DOUBLE_EQ(each.backlog_seconds, 0);
  }
}

TEST_F(RouterTest, TellsOfThoseItIsAskedForWhatKeepsRequestsAway) {
  start(6);
  router_->drain("b0:80", std::nullopt, now_, Unready::loading);
  router_->drain("b1:80", std::nullopt, now_);
  for (const bool passed : {false, false, true})
    router_->check("b2:80", passed, now_);
  for (int i = 0; i < 5; ++i) {
    const Route routed = route(prompt(1, 1), {}, {"b0:80", "b1:80", "b2:80", "b4:80", "b5:80"});
    router_->finish(routed.ticket, {.outcome = Outcome::failure}, now_);
  }
  const std::vector<std::string_view> asked{"b3:80", "nobody:80", "b4:80", "b2:80", "b1:80", "b0:80"};
  const auto told = router_->hindrances(asked, now_ + seconds(2));
  ASSERT_EQ(told.size(), asked.size());
  for (size_t i = 0; i < told.size(); ++i) {
    EXPECT_EQ(told[i].asks_for_none, i >= 4) << asked[i];
    EXPECT_EQ(told[i].ejected_for, seconds(i == 0 ? 3 : 0)) << asked[i];
    EXPECT_EQ(told[i].checks_to_go, i == 3 ? 1 : 0) << asked[i];
  }
  EXPECT_TRUE(router_->hindrances({}, now_).empty());
}

TEST_F(RouterTest, TheSameCallsGiveTheSameRoutes) {
  const auto play = [&] {
    start(6);
    std::mt19937 random(9);
    std::string log;
    for (int i = 0; i < 500; ++i) {
      now_ += milliseconds(10);
      const Route routed = route(prompt(random() % 40, 5 + random() % 100));
      log += routed.address;
      if (random() % 2 == 0) serve(routed);
    }
    return log;
  };
  const base::SteadyTime begin = now_;
  const std::string first = play();
  now_ = begin;
  EXPECT_EQ(play(), first);
}

TEST_F(RouterTest, ManyThreadsAtOnce) {
  start(4);
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (uint64_t i = 0; i < 500; ++i) {
        const Blocks blocks = prompt(t * 100 + i % 20, 1 + i % 50);
        const auto routed = router_->route({.blocks = blocks, .prompt_bytes = blocks.size() * kBlockBytes}, now_);
        ASSERT_TRUE(routed);
        router_->first_token(routed->ticket, now_);
        router_->check("b0:80", i % 2 == 0, now_);
        router_->report("b1:80", {.waiting = 3, .started_at = static_cast<double>(i / 100 * 10)}, now_);
        if (i % 50 == 0) {
          EXPECT_EQ(router_->view(now_).size(), 4U);
        }
        router_->finish(routed->ticket, {.cached_tokens = 0}, now_);
      }
    });
  }
  for (std::thread& thread : threads)
    thread.join();
  for (const BackendView& each : router_->view(now_))
    EXPECT_EQ(each.open, 0);
}

}  // namespace
}  // namespace tidemill::route
