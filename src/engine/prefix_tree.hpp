// What has been computed already: a tree of whole KV blocks, each found by its tokens and by all tokens before them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/result.hpp"
#include "engine/block_pool.hpp"
#include "engine/sampling.hpp"

namespace tidemill::engine {

// A node is one block and is named by it. Each tenant has a root of its own, so no tenant finds another's blocks.
// Lookups compare the tokens themselves: a hash collision costs time, never a wrong answer.
//
// A node is in use while sequences hold its block, and unused otherwise. Whoever uses a node uses its ancestors too, so
// below an unused node all is unused, and every unused node can be evicted: leaves first, least recently used first.
//
// Not thread-safe: the engine's thread owns it.
class PrefixTree {
 public:
  // Blocks 0 .. blocks - 1, of `block_tokens` tokens each.
  PrefixTree(int64_t blocks, int64_t block_tokens);

  // A place below which blocks are looked up and inserted: a tenant's root, or a block.
  using Place = int64_t;

  // The tenant's root; nullopt if nothing of the tenant is in the tree.
  std::optional<Place> root(std::string_view tenant) const;
  // The same, made if need be. It lasts until its last block goes: insert below it at once.
  Place make_root(std::string_view tenant);

  // The block below `place` that holds exactly `tokens` (block_tokens of them).
  std::optional<Block> find(Place place, std::span<const Token> tokens) const;
  // Adds a block, in use, which must not be in the tree yet, nor may another with the same tokens at that place.
  void insert(Place place, std::span<const Token> tokens, Block block);

  bool contains(Block block) const { return nodes_[static_cast<size_t>(block)].present; }
  // The node's block got its first user (ancestors first), or lost its last one (descendants first).
  void mark_used(Block block);
  void mark_unused(Block block);

  // Removes the unused leaf that has been unused the longest, and gives its block; nullopt if all nodes are in use.
  std::optional<Block> evict();

  // Every block, after the one that it hangs below; apart from that the most recently used first.
  struct Entry {
    Block block;
    std::optional<Block> parent;  // none: it hangs below the tenant's root
    std::string_view tenant;      // valid as long as the tree does not change
    std::span<const Token> tokens;
  };
  std::vector<Entry> entries() const;

  int64_t size() const { return static_cast<int64_t>(index_.size()); }
  int64_t unused() const { return unused_; }

  // Checks every invariant above; an error says which one is broken.
  base::Result<void> audit() const;

 private:
  struct Node {
    bool present = false;
    bool used = false;
    Place parent = 0;
    int32_t children = 0;
    uint64_t unused_since = 0;  // in ticks of clock_
  };
  struct Key {
    Place parent;
    std::span<const Token> tokens;  // in tokens_, or the caller's during a lookup
  };
  struct KeyHash {
    uint64_t seed;
    size_t operator()(const Key& key) const;
  };
  struct KeyEqual {
    bool operator()(const Key& a, const Key& b) const;
  };
  struct Root {
    std::string tenant;
    int32_t children = 0;
  };
  struct TenantHash {
    using is_transparent = void;
    size_t operator()(std::string_view tenant) const { return std::hash<std::string_view>{}(tenant); }
  };

  std::span<Token> tokens_of(Block block) {
    return std::span(tokens_).subspan(static_cast<size_t>(block * block_tokens_), static_cast<size_t>(block_tokens_));
  }
  std::span<const Token> tokens_of(Block block) const {
    return std::span(tokens_).subspan(static_cast<size_t>(block * block_tokens_), static_cast<size_t>(block_tokens_));
  }
  void drop_child(Place parent);

  int64_t block_tokens_;
  std::vector<Node> nodes_;    // [blocks]
  std::vector<Token> tokens_;  // [blocks][block_tokens]
  std::unordered_map<Key, Block, KeyHash, KeyEqual> index_;
  std::unordered_map<std::string, Place, TenantHash, std::equal_to<>> tenants_;
  std::unordered_map<Place, Root> roots_;  // places below zero
  Place next_root_ = -1;
  std::set<std::pair<uint64_t, Block>> evictable_;  // unused leaves by the time they became unused
  uint64_t clock_ = 0;
  int64_t unused_ = 0;
};

}  // namespace tidemill::engine
