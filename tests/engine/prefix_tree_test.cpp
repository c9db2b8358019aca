#include "engine/prefix_tree.hpp"

#include <vector>

#include <gtest/gtest.h>

namespace tidemill::engine {
namespace {

constexpr int64_t kNodeTokens = 4;
using Tokens = std::vector<Token>;

void expect_sound(const PrefixTree& tree) {
  const auto checked = tree.audit();
  EXPECT_TRUE(checked) << checked.error().to_string();
}

TEST(PrefixTree, FindsABlockOnlyBelowItsOwnPrefix) {
  PrefixTree tree(8, kNodeTokens);
  const auto root = tree.make_root("");
  tree.insert(root, Tokens{1, 2, 3, 4}, 0);
  tree.insert(0, Tokens{5, 6, 7, 8}, 1);
  EXPECT_EQ(tree.find(root, Tokens{1, 2, 3, 4}), 0);
  EXPECT_EQ(tree.find(0, Tokens{5, 6, 7, 8}), 1);
  EXPECT_EQ(tree.find(root, Tokens{5, 6, 7, 8}), std::nullopt);
  EXPECT_EQ(tree.find(0, Tokens{1, 2, 3, 4}), std::nullopt);
  EXPECT_EQ(tree.find(root, Tokens{1, 2, 3, 5}), std::nullopt);
  expect_sound(tree);
}

TEST(PrefixTree, TenantsDoNotSeeEachOther) {
  PrefixTree tree(8, kNodeTokens);
  const auto a = tree.make_root("a");
  tree.insert(a, Tokens{1, 2, 3, 4}, 0);
  EXPECT_EQ(tree.root("b"), std::nullopt);
  const auto b = tree.make_root("b");
  EXPECT_NE(a, b);
  EXPECT_EQ(tree.find(b, Tokens{1, 2, 3, 4}), std::nullopt);
  tree.insert(b, Tokens{1, 2, 3, 4}, 1);
  EXPECT_EQ(tree.find(a, Tokens{1, 2, 3, 4}), 0);
  EXPECT_EQ(tree.find(b, Tokens{1, 2, 3, 4}), 1);
  expect_sound(tree);
}

TEST(PrefixTree, EvictsUnusedLeavesLeastRecentlyUsedFirst) {
  PrefixTree tree(8, kNodeTokens);
  const auto root = tree.make_root("");
  tree.insert(root, Tokens{1, 1, 1, 1}, 0);  // 0 - 1
  tree.insert(0, Tokens{2, 2, 2, 2}, 1);     //   \ 2
  tree.insert(0, Tokens{3, 3, 3, 3}, 2);
  tree.insert(root, Tokens{4, 4, 4, 4}, 3);
  EXPECT_EQ(tree.evict(), std::nullopt) << "all are in use";

  tree.mark_unused(2);
  tree.mark_unused(1);
  tree.mark_unused(0);
  tree.mark_unused(3);
  EXPECT_EQ(tree.unused(), 4);
  tree.mark_used(0);
  tree.mark_used(2);
  tree.mark_unused(2);  // the youngest now
  tree.mark_unused(0);
  expect_sound(tree);

  EXPECT_EQ(tree.evict(), 1);
  EXPECT_EQ(tree.evict(), 3);
  EXPECT_EQ(tree.evict(), 2) << "0 has a child until now";
  EXPECT_EQ(tree.evict(), 0);
  EXPECT_EQ(tree.evict(), std::nullopt);
  EXPECT_EQ(tree.root(""), std::nullopt) << "a tenant without blocks is forgotten";
  expect_sound(tree);
}

TEST(PrefixTree, AnEvictedBlockIsNotFoundAndCanBeReused) {
  PrefixTree tree(2, kNodeTokens);
  tree.insert(tree.make_root(""), Tokens{1, 2, 3, 4}, 1);
  tree.mark_unused(1);
  EXPECT_EQ(tree.evict(), 1);
  EXPECT_FALSE(tree.contains(1));
  const auto root = tree.make_root("x");
  EXPECT_EQ(tree.find(root, Tokens{1, 2, 3, 4}), std::nullopt);
  tree.insert(root, Tokens{9, 9, 9, 9}, 1);
  EXPECT_EQ(tree.find(root, Tokens{9, 9, 9, 9}), 1);
  expect_sound(tree);
}

}  // namespace
}  // namespace tidemill::engine
