#include "route/prefix_index.hpp"

#include <algorithm>
#include <cassert>

#include <fmt/format.h>

namespace tidemill::route {

namespace {

// How many hashes from the first on are equal. Chained hashes that differ once differ ever after.
size_t common_length(std::span<const BlockHash> a, std::span<const BlockHash> b) {
  const size_t length = std::min(a.size(), b.size());
  if (length == 0 || a[length - 1] == b[length - 1]) return length;
  size_t equal = 0;  // blocks before this are equal
  size_t differ = length - 1;
  while (equal < differ) {
    const size_t middle = (equal + differ) / 2;
    if (a[middle] == b[middle]) {
      equal = middle + 1;
    } else {
      differ = middle;
    }
  }
  return equal;
}

}  // namespace

PrefixIndex::Shelf& PrefixIndex::shelf(Backend backend) {
  if (backend >= shelves_.size()) shelves_.resize(backend + size_t{1});
  return shelves_[backend];
}

void PrefixIndex::set_capacity(Backend backend, size_t blocks) {
  Shelf& of = shelf(backend);
  of.capacity = blocks;
  evict(of);
}

size_t PrefixIndex::capacity(Backend backend) const {
  return backend < shelves_.size() ? shelves_[backend].capacity : 0;
}

size_t PrefixIndex::held(Backend backend) const {
  return backend < shelves_.size() ? shelves_[backend].held : 0;
}

void PrefixIndex::match(std::span<const BlockHash> blocks, std::span<uint32_t> matched) const {
  std::ranges::fill(matched, 0U);
  size_t depth = 0;
  while (depth < blocks.size()) {
    const auto found = by_first_.find(blocks[depth]);
    if (found == by_first_.end()) return;
    const Node& node = nodes_[found->second];
    const size_t common = common_length(node.edge, blocks.subspan(depth));
    for (const HoldingId id : node.holdings) {
      const Holding& holding = holdings_[id];
      if (holding.backend >= matched.size()) continue;
      matched[holding.backend] = static_cast<uint32_t>(depth + std::min<size_t>(common, holding.blocks));
    }
    if (common < node.edge.size()) return;
    depth += common;
  }
}

PrefixIndex::Tick PrefixIndex::record(Backend backend, std::span<const BlockHash> blocks) {
  Shelf& of = shelf(backend);
  // What is beyond the capacity cannot be held, and would push out its own beginning.
  blocks = blocks.first(std::min(blocks.size(), of.capacity));
  path_.clear();
  Tick deepest = 0;
  size_t depth = 0;
  NodeId parent = kNone;
  while (depth < blocks.size()) {
    const std::span<const BlockHash> rest = blocks.subspan(depth);
    const auto found = by_first_.find(rest.front());
    if (found == by_first_.end()) {
      const bool extend = parent != kNone && nodes_[parent].children == 0 && nodes_[parent].holdings.size() == 1;
      if (extend) {
        Node& leaf = nodes_[parent];
        leaf.edge.insert(leaf.edge.end(), rest.begin(), rest.end());
        blocks_ += rest.size();
        Holding& holding = holdings_[leaf.holdings.front()];
        holding.blocks += static_cast<uint32_t>(rest.size());
        of.held += rest.size();
      } else {
        const NodeId made = make_node(parent, rest);
        add_holding(made, backend, static_cast<uint32_t>(rest.size()));
        path_.push_back(made);
      }
      break;
    }
    const NodeId id = found->second;
    const size_t common = common_length(nodes_[id].edge, rest);
    NodeId reached = id;
    if (common < nodes_[id].edge.size() && common < rest.size()) {
      split(id, common);
      reached = nodes_[id].parent;
    }
    HoldingId held = holding_of(nodes_[reached], backend);
    if (held == kNone) {
      add_holding(reached, backend, static_cast<uint32_t>(common));
    } else {
      Holding& holding = holdings_[held];
      deepest = holding.used;
      if (holding.blocks < common) {
        of.held += common - holding.blocks;
        holding.blocks = static_cast<uint32_t>(common);
      }
    }
    path_.push_back(reached);
    parent = reached;
    depth += common;
  }
  // Beginnings last: they count as used after what extends them.
  ++clock_;
  for (auto node = path_.rbegin(); node != path_.rend(); ++node) {
    const HoldingId id = holding_of(nodes_[*node], backend);
    holdings_[id].used = clock_;
    unlink(of, id);
    link_newest(of, id);
  }
  evict(of);
  return deepest;
}

void PrefixIndex::forget_until(Backend backend, Tick tick) {
  Shelf& of = shelf(backend);
  while (of.oldest != kNone && holdings_[of.oldest].used <= tick)
    trim(of, of.oldest, holdings_[of.oldest].blocks);
}

void PrefixIndex::forget(Backend backend) {
  forget_until(backend, std::numeric_limits<Tick>::max());
}

PrefixIndex::NodeId PrefixIndex::make_node(NodeId parent, std::span<const BlockHash> edge) {
  NodeId id = 0;
  if (free_nodes_.empty()) {
    id = static_cast<NodeId>(nodes_.size());
    nodes_.emplace_back();
  } else {
    id = free_nodes_.back();
    free_nodes_.pop_back();
  }
  Node& node = nodes_[id];
  node.edge.assign(edge.begin(), edge.end());
  node.parent = parent;
  if (parent != kNone) ++nodes_[parent].children;
  by_first_.emplace(edge.front(), id);
  blocks_ += edge.size();
  return id;
}

PrefixIndex::HoldingId PrefixIndex::holding_of(const Node& node, Backend backend) const {
  for (const HoldingId id : node.holdings) {
    if (holdings_[id].backend == backend) return id;
  }
  return kNone;
}

PrefixIndex::HoldingId PrefixIndex::add_holding(NodeId node, Backend backend, uint32_t blocks) {
  HoldingId id = 0;
  if (free_holdings_.empty()) {
    id = static_cast<HoldingId>(holdings_.size());
    holdings_.emplace_back();
  } else {
    id = free_holdings_.back();
    free_holdings_.pop_back();
  }
  holdings_[id] = Holding{.node = node, .backend = backend, .blocks = blocks, .used = clock_};
  nodes_[node].holdings.push_back(id);
  shelves_[backend].held += blocks;
  link_newest(shelves_[backend], id);
  return id;
}

void PrefixIndex::link_newest(Shelf& shelf, HoldingId id) {
  Holding& holding = holdings_[id];
  holding.newer = kNone;
  holding.older = shelf.newest;
  (shelf.newest == kNone ? shelf.oldest : holdings_[shelf.newest].newer) = id;
  shelf.newest = id;
}

void PrefixIndex::unlink(Shelf& shelf, HoldingId id) {
  const Holding& holding = holdings_[id];
  (holding.newer == kNone ? shelf.newest : holdings_[holding.newer].older) = holding.older;
  (holding.older == kNone ? shelf.oldest : holdings_[holding.older].newer) = holding.newer;
}

// Cuts a node in two: its first `at` blocks become a node of their own, above what keeps the node's name.
void PrefixIndex::split(NodeId lower, size_t at) {
  const std::vector<BlockHash> head(nodes_[lower].edge.begin(),
                                    nodes_[lower].edge.begin() + static_cast<ptrdiff_t>(at));
  const NodeId above = nodes_[lower].parent;
  by_first_.erase(head.front());
  const NodeId upper = make_node(above, head);
  blocks_ -= head.size();  // they were counted already
  if (above != kNone) --nodes_[above].children;
  Node& cut = nodes_[lower];
  cut.edge.erase(cut.edge.begin(), cut.edge.begin() + static_cast<ptrdiff_t>(at));
  cut.parent = upper;
  nodes_[upper].children = 1;
  by_first_.emplace(cut.edge.front(), lower);

  const std::vector<HoldingId> before = std::move(cut.holdings);
  cut.holdings.clear();
  for (const HoldingId id : before) {
    if (holdings_[id].blocks <= at) {  // all that it holds is in the upper part
      holdings_[id].node = upper;
      nodes_[upper].holdings.push_back(id);
      continue;
    }
    nodes_[lower].holdings.push_back(id);
    const Backend backend = holdings_[id].backend;
    Shelf& of = shelves_[backend];
    const HoldingId added = add_holding(upper, backend, static_cast<uint32_t>(at));
    holdings_[id].blocks -= static_cast<uint32_t>(at);
    of.held -= at;
    // Its place in the list is right after the lower part's.
    unlink(of, added);
    Holding& low = holdings_[id];
    Holding& high = holdings_[added];
    high.used = low.used;
    high.older = id;
    high.newer = low.newer;
    (low.newer == kNone ? of.newest : holdings_[low.newer].older) = added;
    low.newer = added;
  }
}

// Takes the last `by` blocks off a holding.
void PrefixIndex::trim(Shelf& shelf, HoldingId id, uint32_t by) {
  Holding& holding = holdings_[id];
  holding.blocks -= by;
  shelf.held -= by;
  const NodeId node = holding.node;
  if (holding.blocks == 0) {
    unlink(shelf, id);
    std::erase(nodes_[node].holdings, id);
    free_holdings_.push_back(id);
  }
  shrink_to_fit(node);
}

// Drops the blocks at a leaf's end that nobody holds, and the leaf with them; then its parent may be a leaf.
void PrefixIndex::shrink_to_fit(NodeId id) {
  while (id != kNone && nodes_[id].children == 0) {
    Node& node = nodes_[id];
    uint32_t longest = 0;
    for (const HoldingId holding : node.holdings)
      longest = std::max(longest, holdings_[holding].blocks);
    blocks_ -= node.edge.size() - longest;
    if (longest > 0) {
      node.edge.resize(longest);
      return;
    }
    const auto found = by_first_.find(node.edge.front());
    if (found != by_first_.end() && found->second == id) by_first_.erase(found);
    const NodeId parent = node.parent;
    if (parent != kNone) --nodes_[parent].children;
    node = Node{};
    free_nodes_.push_back(id);
    id = parent;
  }
}

void PrefixIndex::evict(Shelf& shelf) {
  while (shelf.held > shelf.capacity) {
    const size_t over = shelf.held - shelf.capacity;
    trim(shelf, shelf.oldest, static_cast<uint32_t>(std::min<size_t>(over, holdings_[shelf.oldest].blocks)));
  }
}

base::Result<void> PrefixIndex::audit() const {
  const auto broken = [](std::string what) { return base::Error(base::ErrorCode::internal, std::move(what)); };
  size_t live = 0;
  size_t blocks = 0;
  std::vector<uint32_t> children(nodes_.size());
  for (NodeId id = 0; id < nodes_.size(); ++id) {
    const Node& node = nodes_[id];
    if (node.edge.empty()) continue;
    ++live;
    blocks += node.edge.size();
    if (node.parent != kNone) ++children[node.parent];
    const auto found = by_first_.find(node.edge.front());
    if (found == by_first_.end() || found->second != id) return broken(fmt::format("node {} cannot be found", id));
    uint32_t longest = 0;
    for (const HoldingId held : node.holdings) {
      const Holding& holding = holdings_[held];
      if (holding.node != id || holding.blocks == 0 || holding.blocks > node.edge.size()) {
        return broken(fmt::format("holding {} of node {} is wrong", held, id));
      }
      longest = std::max(longest, holding.blocks);
      if (node.parent == kNone) continue;
      const HoldingId above = holding_of(nodes_[node.parent], holding.backend);
      if (above == kNone || holdings_[above].blocks != nodes_[node.parent].edge.size()) {
        return broken(fmt::format("backend {} holds node {} without what is before it", holding.backend, id));
      }
      if (holdings_[above].used < holding.used) return broken(fmt::format("node {} is newer than its parent", id));
    }
    if (longest < node.edge.size() && node.children == 0) return broken(fmt::format("nobody holds node {}'s end", id));
  }
  for (NodeId id = 0; id < nodes_.size(); ++id) {
    if (children[id] != nodes_[id].children) return broken(fmt::format("node {} miscounts its children", id));
  }
  if (live != nodes() || live != by_first_.size() || blocks != blocks_) return broken("nodes or blocks are miscounted");
  size_t listed = 0;
  for (const Shelf& shelf : shelves_) {
    size_t held = 0;
    Tick last = 0;
    for (HoldingId id = shelf.oldest; id != kNone; id = holdings_[id].newer) {
      if (holdings_[id].used < last) return broken(fmt::format("holding {} is out of order", id));
      last = holdings_[id].used;
      held += holdings_[id].blocks;
      ++listed;
    }
    if (held != shelf.held || held > shelf.capacity) return broken("a backend's blocks are miscounted");
  }
  if (listed != holdings_.size() - free_holdings_.size()) return broken("holdings are lost");
  return {};
}

}  // namespace tidemill::route
