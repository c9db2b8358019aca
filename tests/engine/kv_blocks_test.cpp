#include "engine/kv_blocks.hpp"

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace tidemill::engine {
namespace {

constexpr int64_t kTokens = 4;

void expect_books(const KvBlocks& blocks, const std::vector<Block>& owned) {
  const auto checked = blocks.audit(owned);
  EXPECT_TRUE(checked) << checked.error().to_string();
}

TEST(KvBlocks, GivesEveryBlockOnceAndThenNone) {
  KvBlocks blocks(3, kTokens, true);
  std::vector<Block> owned;
  while (const auto block = blocks.allocate())
    owned.push_back(*block);
  std::ranges::sort(owned);
  EXPECT_EQ(owned, (std::vector<Block>{0, 1, 2}));
  expect_books(blocks, owned);
  for (const Block block : owned)
    blocks.release(block);
  EXPECT_EQ(blocks.free(), 3);
  expect_books(blocks, {});
}

TEST(KvBlocks, PublishedBlocksAreFoundAfterTheirOwnerHasGone) {
  KvBlocks blocks(4, kTokens, true);
  const std::vector<Token> tokens{1, 2, 3, 4, 5, 6, 7, 8, 9};
  const std::span<const Token> all(tokens);
  const Block first = blocks.publish("", std::nullopt, all.subspan(0, 4), *blocks.allocate());
  const Block second = blocks.publish("", first, all.subspan(4, 4), *blocks.allocate());
  blocks.release(second);
  blocks.release(first);
  EXPECT_EQ(blocks.cached(), 2);
  EXPECT_EQ(blocks.available(), 4);

  EXPECT_EQ(blocks.match("other", tokens, 8), std::vector<Block>{});
  EXPECT_EQ(blocks.match("", std::span(tokens).subspan(0, 7), 8), std::vector<Block>{first});
  blocks.release(first);
  const auto found = blocks.match("", tokens, 8);
  EXPECT_EQ(found, (std::vector<Block>{first, second}));
  EXPECT_EQ(blocks.cached(), 0);
  expect_books(blocks, found);
}

TEST(KvBlocks, ABlockIsFreedWhenAllThatOwnItGiveItUp) {
  KvBlocks blocks(4, kTokens, true);
  const std::vector<Token> tokens{1, 2, 3, 4};
  const Block shared = blocks.publish("", std::nullopt, tokens, *blocks.allocate());
  blocks.retain(shared);
  const Block own = *blocks.allocate();
  EXPECT_EQ(blocks.freed_by({}), 0);
  EXPECT_EQ(blocks.freed_by(std::vector<Block>{shared, own}), 1);
  EXPECT_EQ(blocks.freed_by(std::vector<Block>{shared, own, shared}), 2);
  const int64_t before = blocks.available();
  for (const Block block : {shared, own, shared})
    blocks.release(block);
  EXPECT_EQ(blocks.available(), before + 2) << "one free, one cached";
}

TEST(KvBlocks, EqualContentIsKeptOnce) {
  KvBlocks blocks(4, kTokens, true);
  const std::vector<Token> tokens{1, 2, 3, 4};
  const Block a = blocks.publish("", std::nullopt, tokens, *blocks.allocate());
  const Block b = blocks.publish("", std::nullopt, tokens, *blocks.allocate());
  EXPECT_EQ(a, b);
  EXPECT_EQ(blocks.free(), 3);
  expect_books(blocks, {a, a});
}

TEST(KvBlocks, WithoutThePrefixCacheNothingIsKept) {
  KvBlocks blocks(2, kTokens, false);
  const std::vector<Token> tokens{1, 2, 3, 4};
  const Block a = *blocks.allocate();
  EXPECT_EQ(blocks.publish("", std::nullopt, tokens, a), a);
  blocks.release(a);
  EXPECT_EQ(blocks.free(), 2);
  EXPECT_TRUE(blocks.match("", tokens, 8).empty());
}

TEST(KvBlocks, AuditNoticesAForgottenAndAnInventedOwner) {
  KvBlocks blocks(2, kTokens, true);
  const Block block = *blocks.allocate();
  EXPECT_FALSE(blocks.audit({}));
  EXPECT_FALSE(blocks.audit(std::vector<Block>{block, block}));
  EXPECT_FALSE(blocks.audit(std::vector<Block>{block, static_cast<Block>(1 - block)}));
  expect_books(blocks, {block});
}

// Random sequences over a small alphabet, so that they share prefixes. A map from block to the whole prefix that was
// written through it says what each matched block must hold.
TEST(KvBlocks, RandomUseKeepsBooksAndContents) {
  std::mt19937 random(1);
  KvBlocks blocks(24, kTokens, true);
  struct Owner {
    std::string tenant;
    std::vector<Token> tokens;
    std::vector<Block> table;
  };
  std::vector<Owner> owners;
  std::map<Block, std::pair<std::string, std::vector<Token>>> content;
  int hits = 0;
  for (int round = 0; round < 4000; ++round) {
    if (owners.size() < 5 && random() % 2 == 0) {
      Owner owner{random() % 2 == 0 ? "a" : "b", {}, {}};
      for (size_t i = 0; i < kTokens * (1 + random() % 6); ++i)
        owner.tokens.push_back(static_cast<Token>(i % kTokens ? 0 : random() % 2));
      owner.table = blocks.match(owner.tenant, owner.tokens, 100);
      hits += static_cast<int>(owner.table.size());
      for (size_t i = 0; i < owner.table.size(); ++i) {
        const std::vector<Token> prefix(owner.tokens.begin(),
                                        owner.tokens.begin() + static_cast<int64_t>(i + 1) * kTokens);
        ASSERT_EQ(content.at(owner.table[i]), std::pair(owner.tenant, prefix));
      }
      owners.push_back(std::move(owner));
    } else if (!owners.empty()) {
      const size_t which = random() % owners.size();
      Owner& owner = owners[which];
      const size_t next = owner.table.size();
      if (next * kTokens < owner.tokens.size() && random() % 4 != 0) {
        if (const auto block = blocks.allocate()) {
          const auto end = owner.tokens.begin() + static_cast<int64_t>(next + 1) * kTokens;
          content[*block] = {owner.tenant, std::vector<Token>(owner.tokens.begin(), end)};
          owner.table.push_back(blocks.publish(owner.tenant, next ? std::optional(owner.table.back()) : std::nullopt,
                                               std::span(owner.tokens).subspan(next * kTokens, kTokens), *block));
        } else {
          EXPECT_EQ(blocks.available(), 0);
        }
      } else {
        while (!owner.table.empty()) {
          blocks.release(owner.table.back());
          owner.table.pop_back();
        }
        owners.erase(owners.begin() + static_cast<int64_t>(which));
      }
    }
    std::vector<Block> owned;
    for (const Owner& owner : owners)
      owned.insert(owned.end(), owner.table.begin(), owner.table.end());
    const auto checked = blocks.audit(owned);
    ASSERT_TRUE(checked) << "round " << round << ": " << checked.error().to_string();
  }
  EXPECT_GT(hits, 100);
}

}  // namespace
}  // namespace tidemill::engine
