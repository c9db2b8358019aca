#include "engine/prompt_lookup.hpp"

#include <algorithm>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace tidemill::engine {
namespace {

std::vector<Token> proposed(PromptLookup& lookup, std::span<const Token> tokens, int64_t most = 4) {
  const Proposal proposal = lookup.propose(tokens, most);
  return {proposal.tokens.begin(), proposal.tokens.end()};
}

std::vector<Token> proposed(std::vector<Token> tokens, int64_t most = 4) {
  PromptLookup lookup;
  return proposed(lookup, tokens, most);
}

// The definition: of all places whose last two tokens at least are the sequence's last, the one that agrees furthest
// back, of equals the latest.
struct Expected {
  std::vector<Token> tokens;
  int support = 0;
  int occurrences = 0;  // of the last two tokens
};
Expected brute_force(std::span<const Token> tokens, int64_t most) {
  const int64_t size = std::ssize(tokens);
  int64_t best = -1;
  int64_t length = 1;
  Expected expected;
  for (int64_t at = 0; at < size - 1; ++at) {
    int64_t common = 0;
    while (common < 32 && common <= at &&
           tokens[static_cast<size_t>(at - common)] == tokens[static_cast<size_t>(size - 1 - common)])
      ++common;
    expected.occurrences += common >= 2;
    if (common >= std::max<int64_t>(2, length)) {
      best = at;
      length = common;
    }
  }
  if (best < 0) return expected;
  std::vector<Token> all(tokens.begin(), tokens.end());
  for (int64_t i = 0; i < most; ++i)
    all.push_back(all[static_cast<size_t>(best + 1 + i)]);
  expected.tokens.assign(all.begin() + size, all.end());
  expected.support = static_cast<int>(length);
  return expected;
}

TEST(PromptLookup, ProposesWhatFollowedLastTime) {
  EXPECT_EQ(proposed({1, 2, 3, 4, 5, 6, 7, 1, 2}), (std::vector<Token>{3, 4, 5, 6}));
  EXPECT_EQ(proposed({1, 2, 3, 4, 5, 6, 7, 1, 2}, 2), (std::vector<Token>{3, 4}));
  EXPECT_EQ(proposed({1, 2, 3, 9, 1, 2, 4, 9, 1, 2}, 1), (std::vector<Token>{4})) << "the latest of equals";
  EXPECT_EQ(proposed({8, 1, 2, 3, 9, 1, 2, 4, 8, 1, 2}, 1), (std::vector<Token>{3})) << "the longest past";
}

TEST(PromptLookup, GoesAroundALoop) {
  EXPECT_EQ(proposed({5, 5, 5}), (std::vector<Token>{5, 5, 5, 5}));
  EXPECT_EQ(proposed({1, 2, 3, 1, 2, 3, 1, 2}, 7), (std::vector<Token>{3, 1, 2, 3, 1, 2, 3}));
}

TEST(PromptLookup, HasNothingToSayWithoutARepetition) {
  EXPECT_TRUE(proposed(std::vector<Token>{}).empty());
  EXPECT_TRUE(proposed({1}).empty());
  EXPECT_TRUE(proposed({1, 1}).empty()) << "one common token is not enough";
  EXPECT_TRUE(proposed({1, 2, 3, 4, 5, 6}).empty());
  EXPECT_TRUE(proposed({1, 2, 3, 4, 5, 1}).empty());
  EXPECT_TRUE(proposed({1, 2, 1, 2}, 0).empty());
}

TEST(PromptLookup, AgreesWithBruteForceHoweverTheSequenceGrows) {
  std::mt19937 random(7);
  int found = 0;
  for (int round = 0; round < 300; ++round) {
    const auto alphabet = static_cast<Token>(8 + random() % 40);
    std::vector<Token> tokens;
    PromptLookup grown;
    while (tokens.size() < 150) {
      // Some tokens of its own, or a stretch of what was before.
      const size_t stretch = 1 + random() % 12;
      const size_t from = tokens.empty() ? 0 : random() % tokens.size();
      const bool copies = random() % 2 == 0;
      for (size_t i = 0; i < stretch; ++i) {
        tokens.push_back(copies && from + i < tokens.size()
                             ? tokens[from + i]
                             : static_cast<Token>(random() % static_cast<unsigned>(alphabet)));
      }
      const auto most = static_cast<int64_t>(random() % 10);
      const Expected expected = brute_force(tokens, most);
      const Proposal proposal = grown.propose(tokens, most);
      ASSERT_EQ(proposal.tokens.size(), expected.tokens.size());
      if (expected.occurrences > 12) continue;  // it need not look at them all
      ASSERT_EQ(std::vector<Token>(proposal.tokens.begin(), proposal.tokens.end()), expected.tokens);
      ASSERT_EQ(proposal.support, expected.support);
      ASSERT_EQ(proposed(tokens, most), expected.tokens) << "the same in one go";
      found += !expected.tokens.empty();
    }
  }
  EXPECT_GT(found, 1000);
}

// However many occurrences there are, a bounded number is looked at: quadratic work would not come to an end here.
TEST(PromptLookup, ManyOccurrencesCostNoMore) {
  std::vector<Token> tokens;
  PromptLookup lookup;
  for (int i = 0; i < 200'000; ++i) {
    tokens.push_back(i % 2);
    lookup.propose(tokens, 8);
  }
  EXPECT_EQ(proposed(lookup, tokens, 3), (std::vector<Token>{0, 1, 0}));
}

}  // namespace
}  // namespace tidemill::engine
