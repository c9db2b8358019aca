#include "route/backend_load.hpp"

#include <gtest/gtest.h>

namespace tidemill::route {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr LoadOptions kPlain{.tokens_per_second = 1000, .overhead_seconds = 0, .decode_weight = 2};

class Load : public testing::Test {
 protected:
  base::SteadyTime at(double s) const { return base::SteadyTime(milliseconds(static_cast<int64_t>(s * 1000))); }
  BackendLoad load_{kPlain, at(0)};
};

TEST_F(Load, CountsTheWorkAhead) {
  auto a = load_.begin(1000, 1000, 10, at(0));
  auto b = load_.begin(3000, 4000, 10, at(0));
  EXPECT_DOUBLE_EQ(load_.backlog_seconds(at(0)), 4);
  EXPECT_DOUBLE_EQ(load_.backlog_seconds(at(0.5)), 3.5);
  EXPECT_DOUBLE_EQ(load_.backlog_seconds(at(9)), 3);  // the first is late, but the second cannot have begun
  load_.first_token(a, std::nullopt, at(1));
  EXPECT_DOUBLE_EQ(load_.backlog_seconds(at(1)), 3);
  EXPECT_EQ(load_.prefilling(), 1);
  EXPECT_EQ(load_.decoding(), 1);
  load_.finish(a, 10, at(2));
  load_.finish(b, std::nullopt, at(2));
  EXPECT_DOUBLE_EQ(load_.backlog_seconds(at(2)), 0);
  EXPECT_EQ(load_.open(), 0);
  EXPECT_EQ(load_.kv_free_tokens(), load_.kv_capacity_tokens());
}

TEST_F(Load, LearnsItsSpeedFromAQueueToo) {
  // Always three prompts waiting, served one by one at 4000 tokens a second.
  std::vector<BackendLoad::Open> open;
  double now = 0;
  for (int i = 0; i < 3; ++i)
    open.push_back(load_.begin(500 + i * 700 % 3000, 4000, 1, at(now)));
  for (int i = 3; i < 300; ++i) {
    const double tokens = open.front().tokens;
    now += tokens / 4000;
    load_.first_token(open.front(), std::nullopt, at(now));
    load_.finish(open.front(), 1, at(now));
    open.erase(open.begin());
    open.push_back(load_.begin(500 + i * 700 % 3000, 4000, 1, at(now)));
  }
  EXPECT_NEAR(load_.speed().tokens_per_second(), 4000, 200);
}

TEST_F(Load, RemembersTheWorkOfLately) {
  auto open = load_.begin(10'000, 10'000, 0, at(0));
  EXPECT_DOUBLE_EQ(load_.recent_seconds(at(0)), 10);
  EXPECT_NEAR(load_.recent_seconds(at(60)), 10 / 2.718281828, 1e-6);
  EXPECT_NEAR(load_.arrivals_per_second(at(0)), 1.0 / 60, 1e-9);
  load_.finish(open, std::nullopt, at(1));
}

TEST_F(Load, TakesReportsOfWhatOthersSent) {
  auto open = load_.begin(1000, 1000, 0, at(0));
  load_.observe({.waiting = 3, .kv_usage = 0.5, .kv_capacity_tokens = 10'000}, at(0));
  EXPECT_DOUBLE_EQ(load_.backlog_seconds(at(0)), 1 + 3);
  EXPECT_EQ(load_.kv_free_tokens(), 5000);
  EXPECT_DOUBLE_EQ(load_.backlog_seconds(at(10)), 0);  // reports age
  load_.observe({.waiting = 0, .kv_usage = 0.0}, at(10));
  EXPECT_EQ(load_.kv_free_tokens(), 9000);
  load_.finish(open, std::nullopt, at(11));
}

TEST_F(Load, ARestartEndsWhatWasOpen) {
  auto a = load_.begin(1000, 1000, 0, at(0));
  load_.restart(at(1));
  EXPECT_DOUBLE_EQ(load_.backlog_seconds(at(1)), 0);
  EXPECT_EQ(load_.open(), 0);
  load_.finish(a, std::nullopt, at(2));
  EXPECT_EQ(load_.open(), 0);
}

TEST_F(Load, DecodingTakesItsShare) {
  EXPECT_DOUBLE_EQ(load_.decode_share(), 0);
  for (int i = 0; i < 100; ++i) {
    auto open = load_.begin(1, 1, 100, at(0));
    load_.first_token(open, std::nullopt, at(0.001));
    if (i == 4) {
      EXPECT_DOUBLE_EQ(load_.decode_share(), 5 * 30 * 2 / load_.speed().tokens_per_second());
    }
  }
  EXPECT_LE(load_.decode_share(), 0.75);
}

}  // namespace
}  // namespace tidemill::route
