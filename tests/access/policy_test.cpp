#include "access/policy.hpp"

#include <limits>
#include <string>

#include <gtest/gtest.h>

namespace tidemill::access {
namespace {

Money money(const char* text) {
  auto parsed = parse_money(text);
  EXPECT_TRUE(parsed) << parsed.error().to_string();
  return parsed ? *parsed : Money();
}

TEST(Money, IsExact) {
  EXPECT_EQ(money("12").nanos, 12'000'000'000);
  EXPECT_EQ(money("0.1").nanos, 100'000'000);
  EXPECT_EQ(money("0.000000001").nanos, 1);
  EXPECT_EQ(money("1000000000").nanos, 1'000'000'000'000'000'000);
  EXPECT_EQ(to_string(money("12")), "12.00");
  EXPECT_EQ(to_string(money("0.000045")), "0.000045");
  EXPECT_EQ(to_string(Money{-1'500'000'000}), "-1.50");
  for (const char* wrong : {"", ".", "1.", ".5", "-1", "1e3", "1,5", "1000000001", "0.0000000001", "99999999999", "x"})
    EXPECT_FALSE(parse_money(wrong)) << wrong;
}

TEST(Prices, OfARequestAreRoundedUpOnce) {
  const Price price{money("0.10"), money("0.01"), money("0.40")};
  // 900 at 100 nanos, 100 at 10, 50 at 400.
  EXPECT_EQ(cost_of(price, {1000, 100, 50}).nanos, 90'000 + 1'000 + 20'000);
  const Price fine{Money{1}, Money{1}, Money{1}};  // a billionth for a million tokens
  EXPECT_EQ(cost_of(fine, {1, 0, 1}).nanos, 1);
  EXPECT_EQ(cost_of(fine, {999'999, 0, 1}).nanos, 1);
  EXPECT_EQ(cost_of(fine, {1'000'000, 0, 1}).nanos, 2);
  EXPECT_EQ(cost_of(price, {}).nanos, 0);
  EXPECT_EQ(cost_of(price, {10, 20, -5}).nanos, 100);  // cached: all ten
  // A thousand million tokens at 75.000001 a million: no overflow.
  EXPECT_EQ(cost_of({money("75.000001"), {}, {}}, {1'000'000'000, 0, 0}), money("75000.001"));
}

TEST(Prices, WhatIsTooLargeCostsAsMuchAsCanBe) {
  const Price dear{money("1000000000"), money("1000000000"), money("1000000000")};
  constexpr int64_t most = std::numeric_limits<int64_t>::max();
  const Money cost = cost_of(dear, {most, 0, most});
  EXPECT_GT(cost, money("1000000000"));
  EXPECT_GE(cost + cost, cost);
  EXPECT_EQ((Money{most} + Money{1}).nanos, most);
  EXPECT_EQ((Usage{most, 0, most}).tokens(), most);
  EXPECT_EQ((Usage{7, 0, -5}).tokens(), 7);
  EXPECT_EQ((Usage{-7, 0, 5}).tokens(), 5);
}

TEST(Prices, TheLongestNameCounts) {
  PriceTable table;
  table.set("*", {Money{1}, {}, {}});
  table.set("qwen3-*", {Money{2}, {}, {}});
  table.set("qwen3-8b", {Money{3}, {}, {}});
  table.set("qwen3-8*", {Money{4}, {}, {}});
  EXPECT_EQ(table.find("llama")->input.nanos, 1);
  EXPECT_EQ(table.find("qwen3-4b")->input.nanos, 2);
  EXPECT_EQ(table.find("qwen3-8b")->input.nanos, 3);
  EXPECT_EQ(table.find("qwen3-80b")->input.nanos, 4);
  EXPECT_FALSE(PriceTable().find("x"));
}

TEST(Policy, ReadsTenantsAndPrices) {
  const auto policy = parse_policy(R"(
    currency = "EUR"
    [tenants.acme]
    weight = 2
    budget_per_month = "500"
    [tenants.default]
    requests_per_minute = 600
    tokens_per_minute = 200000
    budget_per_day = 0.1
    priority = "low"
    [tenants."big team"]
    tokens_per_minute = 0
    priority = "high"
    [prices."qwen3-*"]
    input = 0.10
    output = 0.40
    [prices.nano]
    input = 1
    cached_input = "0.25"
  )",
                                   "policy.toml");
  ASSERT_TRUE(policy) << policy.error().to_string();
  EXPECT_EQ(policy->currency, "EUR");
  EXPECT_EQ(policy->of("anyone").requests_per_minute, 600);
  EXPECT_EQ(policy->of("acme").requests_per_minute, 600);
  EXPECT_EQ(policy->of("acme").weight, 2);
  EXPECT_EQ(policy->of("acme").budget_per_month, money("500"));
  EXPECT_EQ(policy->of("acme").budget_per_day, money("0.1"));
  EXPECT_EQ(policy->of("acme").priority, Priority::low);
  EXPECT_EQ(policy->of("big team").tokens_per_minute, 0);
  EXPECT_EQ(policy->of("big team").priority, Priority::high);
  EXPECT_EQ(policy->prices.find("qwen3-8b")->cached_input, money("0.1"));
  EXPECT_EQ(policy->prices.find("nano")->cached_input, money("0.25"));
  EXPECT_EQ(policy->prices.find("nano")->output, Money());
  EXPECT_TRUE(parse_policy("", "empty"));
}

// Rounded to nothing it would be no limit.
TEST(Policy, AnAmountThatVanishesIsRefused) {
  for (const char* text : {"[tenants.default]\nbudget_per_day = 0.0000000001", "[tenants.t]\nbudget_per_month = 4e-10",
                           "[prices.m]\ninput = 0.0000000001"}) {
    const auto policy = parse_policy(text, "policy.toml");
    ASSERT_FALSE(policy) << text;
    EXPECT_NE(policy.error().to_string().find("0.000000001"), std::string::npos) << policy.error().to_string();
  }
  const auto none = parse_policy("[tenants.default]\nbudget_per_day = 0.0\nbudget_per_month = 0", "policy.toml");
  ASSERT_TRUE(none) << none.error().to_string();
  EXPECT_EQ(none->fallback.budget_per_day.nanos, 0);
  const auto least = parse_policy("[tenants.default]\nbudget_per_day = 0.000000001", "policy.toml");
  ASSERT_TRUE(least) << least.error().to_string();
  EXPECT_EQ(least->fallback.budget_per_day.nanos, 1);
}

TEST(Policy, NamesWhatIsWrong) {
  const auto fault = [](const char* text) {
    const auto policy = parse_policy(text, "p.toml");
    return policy ? std::string("(none)") : policy.error().to_string();
  };
  const auto says = [&](const char* text, const char* part) {
    EXPECT_NE(fault(text).find(part), std::string::npos) << fault(text);
  };
  says("[tenant.a]\n", "did you mean 'tenants'");
  says("[tenants.a]\n\nrequest_per_minute = 3", "p.toml:3");
  says("[tenants.a]\nrequest_per_minute = 3", "did you mean 'requests_per_minute'");
  says("[tenants.a]\nrequests_per_minute = -3", "integer from 0");
  says("[tenants.a]\nrequests_per_minute = \"3\"", "integer from 0");
  says("[tenants.a]\nweight = 0", "number from 0.001 to 1000");
  says("[tenants.a]\nweight = nan", "number from 0.001 to 1000");
  says("[tenants.a]\npriority = \"urgent\"", "low, normal or high");
  says("[tenants.a]\nbudget_per_day = -1", "amount of money");
  says("[tenants.a]\nbudget_per_day = inf", "amount of money");
  says("[tenants]\na = 3", "a table");
  says("prices = 3", "a table");
  says("[prices.x]\noutputs = 3", "did you mean 'output'");
  for (const char* name : {"a*b", "*b", "a**"})
    says(("[prices.\"" + std::string(name) + "\"]\ninput = 3").c_str(), "with a * at its end alone");
  says("currency = 3", "a word");
  says("[tenants.a\n", "p.toml:1");
}

}  // namespace
}  // namespace tidemill::access
