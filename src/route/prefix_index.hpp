// Which backends are believed to hold which beginnings of prompts in their prefix caches.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/result.hpp"
#include "route/block_hasher.hpp"

namespace tidemill::route {

// A backend's place in the router's tables, from 0; places of backends that are gone are used again.
using Backend = uint32_t;

// A radix tree over block hashes. An edge is a run of blocks that has not been seen to branch, so a conversation is a
// few nodes however long it is; and since a hash stands for all blocks before it, two runs are compared by their last
// hashes, and where they part is found by bisection: a lookup costs a step a node, not a step a block.
//
// Each backend has a list of what it holds, least recently used first, and a capacity; what is over it is forgotten
// from the list's end, as the backend's own cache evicts. A prefix is used whenever what extends it is, and counts as
// used after it, so the end of the list is always a leaf of what the backend holds.
//
// Memory: 8 bytes a block held by anybody, and some 200 a node; both are bounded by the sum of the capacities.
//
// Not thread-safe: the owner locks.
class PrefixIndex {
 public:
  // In blocks; shrinking forgets at once. A backend that was never given a capacity holds nothing.
  void set_capacity(Backend backend, size_t blocks);
  size_t capacity(Backend backend) const;
  // Blocks that the backend is believed to hold.
  size_t held(Backend backend) const;

  // Writes for each backend b < matched.size() how many of `blocks`, from the first on, it holds.
  void match(std::span<const BlockHash> blocks, std::span<uint32_t> matched) const;

  // A time in uses of the index: larger is later.
  using Tick = uint64_t;

  // The backend computes `blocks`, and so holds them all, as its most recently used. Returns when the deepest block
  // that it held before was last used; 0 if it held none of them.
  Tick record(Backend backend, std::span<const BlockHash> blocks);

  // The backend was seen to lack a block that was last used at `tick`: under LRU all that was last used no later is
  // gone as well, and is forgotten.
  void forget_until(Backend backend, Tick tick);
  // The backend restarted or left: it holds nothing.
  void forget(Backend backend);

  Tick now() const { return clock_; }
  size_t nodes() const { return nodes_.size() - free_nodes_.size(); }
  size_t blocks() const { return blocks_; }  // distinct ones, over all backends

  // Checks every invariant above; an error says which one is broken.
  base::Result<void> audit() const;

 private:
  using NodeId = uint32_t;
  using HoldingId = uint32_t;
  static constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();

  struct Node {
    std::vector<BlockHash> edge;  // never empty in a live node
    NodeId parent = kNone;
    uint32_t children = 0;
    std::vector<HoldingId> holdings;  // one a backend, in no order
  };
  // A backend holds the first `blocks` blocks of a node's edge, and all of its ancestors.
  struct Holding {
    NodeId node = kNone;
    Backend backend = 0;
    uint32_t blocks = 0;
    Tick used = 0;
    HoldingId newer = kNone;
    HoldingId older = kNone;
  };
  struct Shelf {
    size_t capacity = 0;
    size_t held = 0;
    HoldingId newest = kNone;
    HoldingId oldest = kNone;
  };

  Shelf& shelf(Backend backend);
  NodeId make_node(NodeId parent, std::span<const BlockHash> edge);
  HoldingId holding_of(const Node& node, Backend backend) const;
  HoldingId add_holding(NodeId node, Backend backend, uint32_t blocks);
  void link_newest(Shelf& shelf, HoldingId id);
  void unlink(Shelf& shelf, HoldingId id);
  void split(NodeId lower, size_t at);
  void trim(Shelf& shelf, HoldingId id, uint32_t by);
  void shrink_to_fit(NodeId id);
  void evict(Shelf& shelf);

  std::vector<Node> nodes_;
  std::vector<NodeId> free_nodes_;
  std::vector<Holding> holdings_;
  std::vector<HoldingId> free_holdings_;
  std::vector<Shelf> shelves_;                      // by backend
  std::unordered_map<BlockHash, NodeId> by_first_;  // a node by the first hash of its edge
  std::vector<NodeId> path_;                        // of the record that is under way
  size_t blocks_ = 0;
  Tick clock_ = 0;
};

}  // namespace tidemill::route
