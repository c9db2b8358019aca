#include "access/limiter.hpp"

#include <limits>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "session/session_store.hpp"

namespace tidemill::access {
namespace {

using base::Error;
using base::ErrorCode;
using base::Result;
using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

// A store that can be made to fail: before it does anything, or after, when only the answer is lost.
class FaultyState final : public session::SharedState {
 public:
  explicit FaultyState(session::SharedState& inner) : inner_(inner) {}

  enum class Fault { none, down, answer_lost };
  Fault fault = Fault::none;
  int exchanges = 0;

  Result<std::vector<int64_t>> add(std::span<const session::CounterAdd> additions) override {
    return inner_.add(additions);
  }
  Result<std::vector<int64_t>> read(std::span<const std::string> keys) override { return inner_.read(keys); }
  Result<session::Blob> read_blob(std::string_view key) override { return inner_.read_blob(key); }
  Result<std::optional<int64_t>> replace_blob(std::string_view key, int64_t version, std::string_view value) override {
    return inner_.replace_blob(key, version, value);
  }
  Result<session::BucketLevels> take(std::span<const session::BucketTake> takes, session::TakeMode mode) override {
    return inner_.take(takes, mode);
  }
  Result<session::Exchanged> exchange(const session::Exchange& exchange) override {
    ++exchanges;
    return with_fault([&] { return inner_.exchange(exchange); });
  }

 private:
  template <typename Call>
  auto with_fault(const Call& call) -> decltype(call()) {
    if (fault == Fault::down) return Error(ErrorCode::unavailable, "the store is down");
    auto done = call();
    if (fault == Fault::answer_lost) return Error(ErrorCode::timeout, "no answer");
    return done;
  }
  session::SharedState& inner_;
};

class Limits : public testing::Test {
 protected:
  Limits() : store_(std::move(*session::open_sqlite_store({}, clock_))), faulty_(*store_) {}

  std::unique_ptr<Limiter> alone() { return std::make_unique<Limiter>(LimiterOptions{.gateway = "g"}, clock_); }
  std::unique_ptr<Limiter> shared(std::string name) {
    return std::make_unique<Limiter>(LimiterOptions{.gateway = std::move(name), .store = &faulty_}, clock_);
  }
  static TenantPolicy per_minute(int64_t requests, int64_t tokens) {
    return {.requests_per_minute = requests, .tokens_per_minute = tokens};
  }

  base::ManualClock clock_;
  std::unique_ptr<session::Store> store_;
  FaultyState faulty_;
};

TEST_F(Limits, RequestsPerMinute) {
  auto limiter = alone();
  const TenantPolicy policy = per_minute(3, 0);
  std::vector<Reservation> held;
  for (int i = 0; i < 3; ++i) {
    auto admission = limiter->admit("t", policy, 1'000'000, {});
    ASSERT_FALSE(admission.refusal);
    EXPECT_EQ(admission.status.requests->remaining, 2 - i);
    held.push_back(std::move(admission.reservation));
  }
  auto refused = limiter->admit("t", policy, 1, {});
  ASSERT_TRUE(refused.refusal);
  EXPECT_EQ(refused.refusal->reason, RefusalReason::requests_per_minute);
  EXPECT_EQ(refused.refusal->retry_after, seconds(20));
  EXPECT_FALSE(refused.reservation);
  EXPECT_FALSE(limiter->admit("other", policy, 1, {}).refusal);
  for (Reservation& reservation : held)
    reservation.settle(5, {});  // a request that ran has counted
  EXPECT_TRUE(limiter->admit("t", policy, 1, {}).refusal);
  clock_.advance(seconds(20) - milliseconds(1));
  EXPECT_TRUE(limiter->admit("t", policy, 1, {}).refusal);
  clock_.advance(milliseconds(1));
  EXPECT_FALSE(limiter->admit("t", policy, 1, {}).refusal);
}

TEST_F(Limits, TokensAreReservedAndSettled) {
  auto limiter = alone();
  const TenantPolicy policy = per_minute(0, 6000);
  auto first = limiter->admit("t", policy, 5000, {});
  ASSERT_FALSE(first.refusal);
  EXPECT_EQ(first.status.tokens->remaining, 1000);
  auto second = limiter->admit("t", policy, 2000, {});
  ASSERT_TRUE(second.refusal);
  EXPECT_EQ(second.refusal->reason, RefusalReason::tokens_per_minute);
  EXPECT_EQ(second.refusal->retry_after, seconds(10));
  EXPECT_EQ(first.reservation.settle(500, {}).tokens->remaining, 5500);
  EXPECT_FALSE(first.reservation);
  auto third = limiter->admit("t", policy, 1000, {});
  ASSERT_FALSE(third.refusal);
  EXPECT_EQ(third.reservation.settle(6000, {}).tokens->remaining, 0);  // 500 are owed
  clock_.advance(seconds(5));
  EXPECT_EQ(limiter->admit("t", policy, 1, {}).refusal->retry_after, milliseconds(10));
  clock_.advance(milliseconds(10));
  EXPECT_FALSE(limiter->admit("t", policy, 1, {}).refusal);
  auto never = limiter->admit("t", policy, 6001, {});
  EXPECT_EQ(never.refusal->reason, RefusalReason::larger_than_limit);
  EXPECT_FALSE(never.refusal->retry_after);
}

TEST_F(Limits, ARequestThatNeverRanGivesAllBack) {
  auto limiter = alone();
  TenantPolicy policy = per_minute(1, 100);
  policy.budget_per_day = Money{100};
  { auto dropped = limiter->admit("t", policy, 100, Money{100}); }
  auto again = limiter->admit("t", policy, 100, Money{100});
  ASSERT_FALSE(again.refusal);
  Reservation moved = std::move(again.reservation);
  EXPECT_TRUE(limiter->admit("t", policy, 1, {}).refusal);
  moved = Reservation();
  EXPECT_FALSE(limiter->admit("t", policy, 100, Money{100}).refusal);
}

// Whoever asks: nothing is admitted, and nothing is settled, by which there would be more left than before.
TEST_F(Limits, LessThanNothingIsNothing) {
  auto limiter = alone();
  TenantPolicy policy = per_minute(0, 300);
  policy.budget_per_day = Money{1000};
  auto first = limiter->admit("t", policy, 200, Money{600});
  ASSERT_FALSE(first.refusal);
  auto negative = limiter->admit("t", policy, -1'000'000, Money{-1'000'000});
  ASSERT_FALSE(negative.refusal);
  EXPECT_EQ(negative.status.tokens->remaining, 100);
  EXPECT_EQ(negative.reservation.settle(-1'000'000, Money{-1'000'000}).tokens->remaining, 100);
  EXPECT_EQ(limiter->spending("t").day, Money{0});
  EXPECT_TRUE(limiter->admit("t", policy, 1, Money{401}).refusal) << "the first one's money is held still";
  EXPECT_TRUE(limiter->admit("t", policy, 101, Money{0}).refusal);
  EXPECT_EQ(first.reservation.settle(-5, Money{-5}).tokens->remaining, 300) << "what was reserved, and no more";
  EXPECT_EQ(limiter->spending("t").day, Money{0});
  EXPECT_TRUE(limiter->admit("t", policy, 1, Money{1001}).refusal);
}

TEST_F(Limits, WhatIsTooLargeIsRefused) {
  auto limiter = alone();
  TenantPolicy policy = per_minute(0, 300);
  constexpr int64_t most = std::numeric_limits<int64_t>::max();
  const auto tokens = limiter->admit("t", policy, most, Money{});
  ASSERT_TRUE(tokens.refusal);
  EXPECT_EQ(tokens.refusal->reason, RefusalReason::larger_than_limit);
  policy = {.budget_per_day = Money{1000}};
  auto held = limiter->admit("u", policy, 1, Money{500});
  const auto money = limiter->admit("u", policy, 1, Money{most});
  ASSERT_TRUE(money.refusal);
  EXPECT_EQ(money.refusal->reason, RefusalReason::budget);
}

TEST_F(Limits, HeadersAreOpenAis) {
  auto limiter = alone();
  auto admission = limiter->admit("t", per_minute(100, 60'000), 7'660, {});
  const auto headers = rate_headers(admission.status);
  const std::map<std::string, std::string> found(headers.begin(), headers.end());
  EXPECT_EQ(found, (std::map<std::string, std::string>{{"x-ratelimit-limit-requests", "100"},
                                                       {"x-ratelimit-remaining-requests", "99"},
                                                       {"x-ratelimit-reset-requests", "600ms"},
                                                       {"x-ratelimit-limit-tokens", "60000"},
                                                       {"x-ratelimit-remaining-tokens", "52340"},
                                                       {"x-ratelimit-reset-tokens", "7.66s"}}));
  EXPECT_TRUE(rate_headers(limiter->admit("u", per_minute(0, 0), 5, {}).status).empty());
  EXPECT_EQ(retry_after_seconds(milliseconds(1)), "1");
  EXPECT_EQ(retry_after_seconds(milliseconds(1001)), "2");
}

TEST_F(Limits, BudgetsOfDaysAndMonths) {
  clock_.advance(hours(2));  // 2023-11-15 00:13 UTC
  auto limiter = alone();
  const TenantPolicy policy{.budget_per_day = Money{100}, .budget_per_month = Money{150}};
  auto first = limiter->admit("t", policy, 1, Money{60});
  ASSERT_FALSE(first.refusal);
  auto second = limiter->admit("t", policy, 1, Money{60});
  ASSERT_TRUE(second.refusal);  // what is reserved counts
  EXPECT_EQ(second.refusal->reason, RefusalReason::budget);
  EXPECT_EQ(error_code(second.refusal->reason), "insufficient_quota");
  first.reservation.settle(1, Money{40});
  EXPECT_EQ(limiter->spending("t").day, Money{40});
  auto third = limiter->admit("t", policy, 1, Money{60});
  ASSERT_FALSE(third.refusal);
  third.reservation.settle(1, Money{60});
  const auto full = limiter->admit("t", policy, 1, Money{1});
  ASSERT_TRUE(full.refusal);
  EXPECT_EQ(full.refusal->retry_after, hours(24) - minutes(13) - seconds(20));
  clock_.advance(*full.refusal->retry_after);
  EXPECT_EQ(limiter->spending("t").day, Money());
  EXPECT_EQ(limiter->spending("t").month, Money{100});
  EXPECT_FALSE(limiter->admit("t", policy, 1, Money{50}).refusal);
  const auto month = limiter->admit("t", policy, 1, Money{51});
  ASSERT_TRUE(month.refusal);
  EXPECT_EQ(month.refusal->retry_after, hours(24 * 15));  // the first of December
}

TEST_F(Limits, GatewaysShareWhatWasUsedAndSpent) {
  auto one = shared("one");
  auto two = shared("two");
  const TenantPolicy policy{.requests_per_minute = 10, .budget_per_day = Money{100}};
  auto admission = one->admit("t", policy, 1, Money{50});
  ASSERT_TRUE(one->exchange());
  auto other = two->admit("t", policy, 1, Money{10});
  ASSERT_FALSE(other.refusal);
  ASSERT_TRUE(two->exchange());
  EXPECT_EQ(two->admit("t", policy, 1, Money{0}).status.requests->remaining, 7);
  EXPECT_TRUE(two->admit("t", policy, 1, Money{45}).refusal);  // the other's 50 are reserved
  admission.reservation.settle(1, Money{20});
  ASSERT_TRUE(one->exchange());
  ASSERT_TRUE(two->exchange());
  EXPECT_EQ(two->spending("t").day, Money{20});
  EXPECT_FALSE(two->admit("t", policy, 1, Money{70}).refusal);
  auto restarted = shared("three");
  EXPECT_EQ(restarted->spending("t").day, Money{0});  // it knows nothing before its first exchange
  (void)restarted->admit("t", policy, 1, {});
  ASSERT_TRUE(restarted->exchange());
  EXPECT_EQ(restarted->spending("t").day, Money{20});
}

// In a new life nothing is known of what the last one spent, until it was asked for: once.
TEST_F(Limits, ANewLifeLearnsWhatIsSpentBeforeItAdmits) {
  const TenantPolicy policy{.requests_per_minute = 10, .budget_per_day = Money{100}};
  auto before = shared("g");
  for (int i = 0; i < 9; ++i)
    before->admit("t", policy, 1, Money{11}).reservation.settle(1, Money{11});
  ASSERT_TRUE(before->exchange());
  before.reset();
  auto life = shared("g");
  faulty_.exchanges = 0;
  EXPECT_FALSE(life->knows("t", policy));
  EXPECT_EQ(faulty_.exchanges, 0) << "asking does not wait";
  life->learn("t", policy);
  EXPECT_EQ(faulty_.exchanges, 1);
  EXPECT_TRUE(life->knows("t", policy));
  const auto refused = life->admit("t", policy, 1, Money{2});
  ASSERT_TRUE(refused.refusal);
  EXPECT_EQ(refused.refusal->reason, RefusalReason::budget);
  EXPECT_EQ(refused.status.requests->remaining, 1);
  EXPECT_FALSE(life->admit("t", policy, 1, Money{1}).refusal);
  life->learn("t", policy);  // as of a second request that waited beside the first
  EXPECT_EQ(faulty_.exchanges, 1);
  EXPECT_FALSE(life->knows("other", policy));
}

TEST_F(Limits, WhatNobodyAskedForOfLateIsLearnedAnew) {
  const TenantPolicy policy{.tokens_per_minute = 1000, .budget_per_month = Money{100}};
  auto one = shared("one");
  one->learn("t", policy);
  for (int i = 0; i < 10; ++i) {
    clock_.advance(seconds(30));
    EXPECT_TRUE(one->knows("t", policy)) << "it is in use, refused or not";
    ASSERT_TRUE(one->exchange());
  }
  auto two = shared("two");
  two->admit("t", policy, 1, Money{90}).reservation.settle(1, Money{90});
  clock_.advance(minutes(3));
  ASSERT_TRUE(two->exchange());
  ASSERT_TRUE(one->exchange());
  EXPECT_FALSE(one->knows("t", policy));
  one->learn("t", policy);
  EXPECT_TRUE(one->knows("t", policy));
  EXPECT_TRUE(one->admit("t", policy, 1, Money{20}).refusal);
}

TEST_F(Limits, ADayThatBeginsIsLearned) {
  const TenantPolicy policy{.budget_per_day = Money{100}};
  auto one = shared("one");
  one->learn("t", policy);
  for (int i = 0; i < 24 * 60; ++i) {
    clock_.advance(minutes(1));
    if (!one->knows("t", policy)) break;
    ASSERT_TRUE(one->exchange());
  }
  EXPECT_FALSE(one->knows("t", policy));
  EXPECT_LT(clock_.wall_now().time_since_epoch() % hours(24), minutes(1));
}

TEST_F(Limits, WhoHasNoLimitsWaitsForNothing) {
  auto limiter = shared("g");
  EXPECT_TRUE(limiter->knows("t", {}));
  limiter->learn("t", {});
  ASSERT_TRUE(limiter->exchange());
  EXPECT_EQ(faulty_.exchanges, 0);
  EXPECT_TRUE(alone()->knows("t", per_minute(1, 1)));
}

TEST_F(Limits, AStoreThatIsLostIsWaitedForOnce) {
  const TenantPolicy policy{.budget_per_day = Money{100}};
  auto limiter = shared("g");
  faulty_.fault = FaultyState::Fault::down;
  limiter->learn("t", policy);
  EXPECT_EQ(faulty_.exchanges, 1);
  EXPECT_TRUE(limiter->knows("t", policy));
  EXPECT_TRUE(limiter->knows("other", policy));
  EXPECT_FALSE(limiter->admit("t", policy, 1, Money{1}).refusal);
  // Back again: the exchange that failed is told first, and does not ask for what was asked for later.
  faulty_.fault = FaultyState::Fault::none;
  ASSERT_TRUE(limiter->exchange());
  faulty_.exchanges = 0;
  EXPECT_TRUE(limiter->knows("t", policy));
  EXPECT_FALSE(limiter->knows("other", policy));
  limiter->learn("other", policy);
  EXPECT_EQ(faulty_.exchanges, 1);
  EXPECT_TRUE(limiter->knows("other", policy));
}

TEST_F(Limits, AGatewayThatDiedLeavesNoReservations) {
  const TenantPolicy policy{.budget_per_day = Money{100}};
  auto dead = shared("dead");  // tells of its reservation, and nothing more
  const auto lost = dead->admit("t", policy, 1, Money{80});
  ASSERT_TRUE(dead->exchange());
  auto two = shared("two");
  (void)two->admit("t", policy, 1, {});
  ASSERT_TRUE(two->exchange());
  EXPECT_TRUE(two->admit("t", policy, 1, Money{80}).refusal);
  clock_.advance(minutes(31));
  (void)two->admit("t", policy, 1, {});
  ASSERT_TRUE(two->exchange());
  EXPECT_FALSE(two->admit("t", policy, 1, Money{80}).refusal);
}

TEST_F(Limits, WithoutItsStoreAGatewayGoesOnAndTellsLater) {
  auto one = shared("one");
  auto two = shared("two");
  const TenantPolicy policy = per_minute(60, 0);
  faulty_.fault = FaultyState::Fault::down;
  for (int i = 0; i < 40; ++i)
    EXPECT_FALSE(one->admit("t", policy, 1, {}).reservation.settle(1, {}).requests->remaining < 0);
  EXPECT_FALSE(one->exchange());
  EXPECT_TRUE(one->apart());
  EXPECT_EQ(one->admit("t", policy, 1, {}).status.requests->remaining, 19);
  faulty_.fault = FaultyState::Fault::none;
  ASSERT_TRUE(one->exchange());
  EXPECT_FALSE(one->apart());
  (void)two->admit("t", policy, 1, {});
  ASSERT_TRUE(two->exchange());
  EXPECT_EQ(two->admit("t", policy, 1, {}).status.requests->remaining, 19);
}

TEST_F(Limits, AnExchangeWhoseAnswerWasLostCountsOnce) {
  auto one = shared("one");
  const TenantPolicy policy{.requests_per_minute = 60, .budget_per_day = Money{1000}};
  one->admit("t", policy, 1, Money{10}).reservation.settle(1, Money{10});
  faulty_.fault = FaultyState::Fault::answer_lost;
  EXPECT_FALSE(one->exchange());
  EXPECT_FALSE(one->exchange());
  one->admit("t", policy, 1, Money{10}).reservation.settle(1, Money{10});
  faulty_.fault = FaultyState::Fault::none;
  ASSERT_TRUE(one->exchange());
  ASSERT_TRUE(one->exchange());
  EXPECT_EQ(one->spending("t").day, Money{20});
  auto two = shared("two");
  (void)two->admit("t", policy, 1, {});
  ASSERT_TRUE(two->exchange());
  EXPECT_EQ(two->spending("t").day, Money{20});
  EXPECT_EQ(two->admit("t", policy, 1, {}).status.requests->remaining, 57);
}

// Four gateways, a tenant that floods all of them, an exchange every 100 ms of simulated time.
TEST_F(Limits, TheOvershootOfManyGatewaysIsBounded) {
  constexpr int gateways = 4;
  constexpr int64_t limit = 600;
  std::vector<std::unique_ptr<Limiter>> limiters;
  for (int i = 0; i < gateways; ++i)
    limiters.push_back(shared("g" + std::to_string(i)));
  int64_t admitted = 0;
  for (int tick = 0; tick < 6000; ++tick) {  // ten minutes
    for (auto& limiter : limiters) {
      for (int i = 0; i < 20; ++i) {
        auto admission = limiter->admit("t", per_minute(limit, 0), 1, {});
        if (admission.refusal) break;
        admission.reservation.settle(1, {});
        ++admitted;
      }
    }
    for (auto& limiter : limiters)
      ASSERT_TRUE(limiter->exchange());
    clock_.advance(milliseconds(100));
  }
  const int64_t exact = limit + limit * 10;
  EXPECT_LE(admitted, exact + (gateways - 1) * limit);
  EXPECT_GE(admitted, exact * 99 / 100);
  RecordProperty("overshoot", std::to_string(admitted - exact));
}

}  // namespace
}  // namespace tidemill::access
