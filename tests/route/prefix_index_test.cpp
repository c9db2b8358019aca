#include "route/prefix_index.hpp"

#include <map>
#include <random>
#include <set>

#include <gtest/gtest.h>

namespace tidemill::route {
namespace {

using Blocks = std::vector<BlockHash>;

// Blocks named by small numbers, chained as a hasher chains them.
Blocks chain(std::initializer_list<int> names) {
  Blocks blocks;
  BlockHash last = 1;
  for (const int name : names) {
    last = (last ^ static_cast<BlockHash>(name)) * 0x9E3779B97F4A7C15U;
    last ^= last >> 29U;
    blocks.push_back(last);
  }
  return blocks;
}

std::vector<uint32_t> match(const PrefixIndex& index, const Blocks& blocks, size_t backends = 3) {
  std::vector<uint32_t> matched(backends, 77);
  index.match(blocks, matched);
  return matched;
}

#define EXPECT_SOUND(index)                              \
  do {                                                   \
    const auto audited = (index).audit();                \
    EXPECT_TRUE(audited) << audited.error().to_string(); \
  } while (false)

TEST(PrefixIndex, FindsNothingAtFirst) {
  const PrefixIndex index;
  EXPECT_EQ(match(index, chain({1, 2})), (std::vector<uint32_t>{0, 0, 0}));
  EXPECT_EQ(match(index, {}), (std::vector<uint32_t>{0, 0, 0}));
  EXPECT_SOUND(index);
}

TEST(PrefixIndex, TellsHowFarEachBackendHolds) {
  PrefixIndex index;
  for (const Backend backend : {0U, 1U, 2U})
    index.set_capacity(backend, 100);
  index.record(0, chain({1, 2, 3, 4}));
  index.record(1, chain({1, 2, 5}));
  EXPECT_EQ(match(index, chain({1, 2, 3, 4, 9})), (std::vector<uint32_t>{4, 2, 0}));
  EXPECT_EQ(match(index, chain({1, 2, 5, 6})), (std::vector<uint32_t>{2, 3, 0}));
  EXPECT_EQ(match(index, chain({1})), (std::vector<uint32_t>{1, 1, 0}));
  EXPECT_EQ(match(index, chain({2, 3})), (std::vector<uint32_t>{0, 0, 0}));
  EXPECT_EQ(index.blocks(), 5U);
  EXPECT_EQ(index.held(0), 4U);
  EXPECT_EQ(index.held(1), 3U);
  EXPECT_SOUND(index);
}

TEST(PrefixIndex, AGrowingConversationStaysOneNode) {
  PrefixIndex index;
  index.set_capacity(0, 10'000);
  Blocks blocks;
  for (BlockHash block = 1; block <= 1000; ++block) {
    blocks.push_back(block * 0x9E3779B97F4A7C15U);
    index.record(0, blocks);
  }
  EXPECT_EQ(index.nodes(), 1U);
  EXPECT_EQ(match(index, blocks, 1), (std::vector<uint32_t>{1000}));
  EXPECT_SOUND(index);
}

TEST(PrefixIndex, ForgetsTheLeastRecentlyUsedBeyondTheCapacity) {
  PrefixIndex index;
  index.set_capacity(0, 6);
  index.record(0, chain({1, 2, 3}));
  index.record(0, chain({4, 5, 6}));
  index.record(0, chain({1, 2, 3}));
  index.record(0, chain({7, 8}));  // pushes out the end of 4, 5, 6
  EXPECT_EQ(match(index, chain({4, 5, 6}), 1)[0], 1U);
  EXPECT_EQ(match(index, chain({1, 2, 3}), 1)[0], 3U);
  EXPECT_EQ(match(index, chain({7, 8}), 1)[0], 2U);
  EXPECT_EQ(index.held(0), 6U);
  EXPECT_SOUND(index);
}

TEST(PrefixIndex, SharedBeginningsOutliveWhatExtendsThem) {
  PrefixIndex index;
  index.set_capacity(0, 5);
  index.record(0, chain({1, 2, 3}));
  index.record(0, chain({1, 2, 4}));
  index.record(0, chain({1, 2, 5}));
  index.record(0, chain({1, 2, 6}));
  EXPECT_EQ(match(index, chain({1, 2, 3}), 1)[0], 2U);
  EXPECT_EQ(match(index, chain({1, 2, 6}), 1)[0], 3U);
  EXPECT_SOUND(index);
}

TEST(PrefixIndex, OneBackendsEvictionLeavesAnothersBelief) {
  PrefixIndex index;
  index.set_capacity(0, 3);
  index.set_capacity(1, 10);
  index.record(0, chain({1, 2, 3}));
  index.record(1, chain({1, 2, 3}));
  index.record(0, chain({4, 5, 6}));
  EXPECT_EQ(match(index, chain({1, 2, 3})), (std::vector<uint32_t>{0, 3, 0}));
  EXPECT_SOUND(index);
}

TEST(PrefixIndex, KeepsTheBeginningOfWhatIsTooLong) {
  PrefixIndex index;
  index.set_capacity(0, 2);
  index.record(0, chain({1, 2, 3, 4}));
  EXPECT_EQ(match(index, chain({1, 2, 3, 4}), 1)[0], 2U);
  index.set_capacity(0, 0);
  EXPECT_EQ(index.nodes(), 0U);
  index.record(0, chain({1, 2}));
  EXPECT_EQ(index.nodes(), 0U);
  EXPECT_SOUND(index);
}

TEST(PrefixIndex, ForgetsABackendWhole) {
  PrefixIndex index;
  index.set_capacity(0, 10);
  index.set_capacity(1, 10);
  index.record(0, chain({1, 2, 3}));
  index.record(1, chain({1, 2}));
  index.forget(0);
  EXPECT_EQ(match(index, chain({1, 2, 3})), (std::vector<uint32_t>{0, 2, 0}));
  EXPECT_EQ(index.blocks(), 2U);
  index.forget(1);
  EXPECT_EQ(index.nodes(), 0U);
  EXPECT_EQ(index.blocks(), 0U);
  EXPECT_SOUND(index);
}

TEST(PrefixIndex, WhatWasUsedBeforeAnEvictedBlockIsGoneToo) {
  PrefixIndex index;
  index.set_capacity(0, 100);
  index.record(0, chain({1, 2}));
  index.record(0, chain({3, 4}));
  index.record(0, chain({5, 6}));
  const auto used = index.record(0, chain({3, 4, 7}));  // and the backend says that 3, 4 were not there
  index.forget_until(0, used);
  EXPECT_EQ(match(index, chain({1, 2}), 1)[0], 0U);
  EXPECT_EQ(match(index, chain({5, 6}), 1)[0], 2U);
  EXPECT_EQ(match(index, chain({3, 4, 7}), 1)[0], 3U);  // computed since
  EXPECT_SOUND(index);
}

TEST(PrefixIndex, TellsWhenTheDeepestBlockWasUsed) {
  PrefixIndex index;
  index.set_capacity(0, 100);
  EXPECT_EQ(index.record(0, chain({1, 2})), 0U);
  const auto first = index.now();
  index.record(0, chain({1, 3}));
  EXPECT_EQ(index.record(0, chain({1, 2, 4})), first);
  EXPECT_EQ(index.record(0, chain({9})), 0U);
}

// Random prompts that share beginnings, checked against sets of blocks without any tree.
TEST(PrefixIndex, AgreesWithSetsOfBlocks) {
  std::mt19937 random(7);
  const auto draw = [&](uint32_t below) { return static_cast<uint32_t>(random() % below); };
  for (const size_t capacity : {size_t{1'000'000}, size_t{60}}) {
    PrefixIndex index;
    constexpr Backend kBackends = 5;
    for (Backend backend = 0; backend < kBackends; ++backend)
      index.set_capacity(backend, capacity);
    std::vector<std::set<BlockHash>> ever(kBackends);
    std::vector<Blocks> prompts = {chain({1})};
    for (int step = 0; step < 4000; ++step) {
      // Cut a known prompt anywhere and go on otherwise.
      Blocks prompt = prompts[draw(static_cast<uint32_t>(prompts.size()))];
      prompt.resize(1 + draw(static_cast<uint32_t>(prompt.size())));
      BlockHash last = draw(8) == 0 ? draw(3) : prompt.back();
      if (last < 3) prompt.clear();
      for (uint32_t i = draw(12); i > 0; --i) {
        last = (last ^ (10 + draw(3))) * 0x9E3779B97F4A7C15U;
        last ^= last >> 31U;
        prompt.push_back(last);
      }
      if (prompt.empty()) continue;
      if (prompts.size() < 50) prompts.push_back(prompt);
      prompts[draw(static_cast<uint32_t>(prompts.size()))] = prompt;

      std::vector<uint32_t> matched(kBackends);
      index.match(prompt, matched);
      for (Backend backend = 0; backend < kBackends; ++backend) {
        uint32_t longest = 0;
        while (longest < prompt.size() && ever[backend].contains(prompt[longest]))
          ++longest;
        if (capacity == 60) {
          EXPECT_LE(matched[backend], longest);
        } else {
          EXPECT_EQ(matched[backend], longest) << "step " << step;
        }
      }
      const Backend backend = draw(kBackends);
      index.record(backend, prompt);
      ever[backend].insert(prompt.begin(), prompt.end());
      index.match(prompt, matched);
      EXPECT_EQ(matched[backend], std::min(prompt.size(), capacity));
      if (draw(300) == 0) {
        index.forget(backend);
        ever[backend].clear();
      }
      if (capacity == 60 && draw(100) == 0) index.forget_until(draw(kBackends), index.now() - draw(200));
      ASSERT_LE(index.held(backend), capacity);
      const auto audited = index.audit();
      ASSERT_TRUE(audited) << audited.error().to_string() << " after step " << step;
    }
  }
}

}  // namespace
}  // namespace tidemill::route
