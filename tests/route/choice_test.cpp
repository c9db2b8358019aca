#include "route/choice.hpp"

#include <map>
#include <random>

#include <gtest/gtest.h>

namespace tidemill::route {
namespace {

std::vector<Candidate> alike(size_t count) {
  std::vector<Candidate> candidates(count);
  for (size_t i = 0; i < count; ++i) {
    candidates[i].backend = static_cast<Backend>(i);
    candidates[i].name_hash = 1000 + i * 77;
    candidates[i].kv_free_tokens = 1'000'000;
  }
  return candidates;
}

std::vector<Ranked> ranked(const Demand& demand, const std::vector<Candidate>& candidates,
                           const ChoiceOptions& options = {}) {
  std::vector<Ranked> all;
  rank(demand, candidates, options, all);
  return all;
}

Backend best(const Demand& demand, const std::vector<Candidate>& candidates, const ChoiceOptions& options = {}) {
  return ranked(demand, candidates, options).front().backend;
}

TEST(Choice, NobodyToChoose) {
  EXPECT_TRUE(ranked({.prompt_tokens = 10}, {}).empty());
}

TEST(Choice, RanksEveryCandidateOnce) {
  auto candidates = alike(20);
  for (size_t i = 0; i < 20; ++i)
    candidates[i].backlog_seconds = static_cast<double>(i * 7 % 20);
  const auto all = ranked({.prompt_tokens = 1000}, candidates);
  ASSERT_EQ(all.size(), 20U);
  std::vector<bool> seen(20);
  for (size_t i = 0; i < all.size(); ++i) {
    EXPECT_FALSE(seen[all[i].backend]);
    seen[all[i].backend] = true;
    if (i > 1) {
      EXPECT_LE(all[i - 1].cost, all[i].cost);
    }
  }
}

TEST(Choice, GoesWhereThePromptIsCached) {
  auto candidates = alike(4);
  candidates[2].cached_tokens = 9000;
  EXPECT_EQ(best({.prompt_tokens = 10'000}, candidates), 2U);
}

TEST(Choice, LeavesTheHolderWhenWaitingCostsMoreThanComputing) {
  auto candidates = alike(4);
  candidates[2].cached_tokens = 9000;  // worth 1.8 seconds
  candidates[2].backlog_seconds = 1.5;
  EXPECT_EQ(best({.prompt_tokens = 10'000}, candidates), 2U);
  candidates[2].backlog_seconds = 2.5;
  EXPECT_NE(best({.prompt_tokens = 10'000}, candidates), 2U);
}

TEST(Choice, StaysLongerWithTheHolderWhereAllAreBusy) {
  auto candidates = alike(4);
  for (Candidate& candidate : candidates) {
    candidate.utilisation = 0.8;
    candidate.arrivals_per_second = 1;
    candidate.backlog_seconds = 0.5;
  }
  candidates[2].cached_tokens = 9000;
  candidates[2].backlog_seconds = 2.5;  // enough to leave it in idle company
  EXPECT_EQ(best({.prompt_tokens = 10'000}, candidates), 2U);
}

TEST(Choice, PrefersTheFasterOfMixedHardware) {
  auto candidates = alike(2);
  candidates[0].tokens_per_second = 2500;
  EXPECT_EQ(best({.prompt_tokens = 10'000}, candidates), 1U);
  candidates[1].backlog_seconds = 3;
  EXPECT_EQ(best({.prompt_tokens = 10'000}, candidates), 0U);
}

TEST(Choice, AvoidsAFullKvCacheAndASlowStart) {
  auto candidates = alike(2);
  candidates[0].kv_free_tokens = -20'000;
  EXPECT_EQ(best({.prompt_tokens = 1000}, candidates), 1U);
  candidates = alike(2);
  candidates[1].ramp = 0.1;
  EXPECT_EQ(best({.prompt_tokens = 1000}, candidates), 0U);
}

TEST(Choice, EvensOutTheWorkOfLately) {
  auto candidates = alike(2);
  candidates[0].recent_seconds = 40;
  candidates[1].recent_seconds = 20;
  EXPECT_EQ(best({.prompt_tokens = 1000}, candidates), 1U);
  // But not at any price.
  candidates[0].cached_tokens = 90'000;
  EXPECT_EQ(best({.prompt_tokens = 100'000}, candidates), 0U);
}

TEST(Choice, ASessionsHomeIsAHint) {
  auto candidates = alike(8);
  EXPECT_EQ(best({.prompt_tokens = 5000, .spread_key = 3, .home = Backend{6}}, candidates), 6U);
  candidates[6].backlog_seconds = 5;
  EXPECT_NE(best({.prompt_tokens = 5000, .spread_key = 3, .home = Backend{6}}, candidates), 6U);
  // What the index knows counts for more.
  candidates[6].backlog_seconds = 0;
  candidates[1].cached_tokens = 4000;
  EXPECT_EQ(best({.prompt_tokens = 5000, .spread_key = 3, .home = Backend{6}}, candidates), 1U);
}

TEST(Choice, SpreadsColdPromptsEvenlyAndConsistently) {
  const auto candidates = alike(8);
  auto fewer = candidates;
  fewer.erase(fewer.begin() + 3);
  std::map<Backend, int> counts;
  std::mt19937_64 random(5);
  for (int i = 0; i < 8000; ++i) {
    const Demand demand{.prompt_tokens = 2000, .spread_key = random()};
    const Backend chosen = best(demand, candidates);
    ++counts[chosen];
    EXPECT_EQ(best(demand, candidates), chosen);
    // Without the fourth backend only its own prompts move.
    if (chosen != 3) {
      EXPECT_EQ(best(demand, fewer), chosen);
    }
  }
  for (const auto& [backend, count] : counts)
    EXPECT_NEAR(count, 1000, 150) << backend;
}

}  // namespace
}  // namespace tidemill::route
