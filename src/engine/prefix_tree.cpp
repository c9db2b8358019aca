#include "engine/prefix_tree.hpp"

#include <algorithm>
#include <cassert>
#include <limits>

#include <fmt/format.h>
#include <xxhash.h>

#include "base/ids.hpp"

namespace tidemill::engine {

// The hash is keyed by a random seed, so that no client can choose tokens that collide. Nothing depends on its value
// but the time a lookup takes.
size_t PrefixTree::KeyHash::operator()(const Key& key) const {
  return XXH3_64bits_withSeed(key.tokens.data(), key.tokens.size_bytes(), seed ^ static_cast<uint64_t>(key.parent));
}

bool PrefixTree::KeyEqual::operator()(const Key& a, const Key& b) const {
  return a.parent == b.parent && std::ranges::equal(a.tokens, b.tokens);
}

PrefixTree::PrefixTree(int64_t blocks, int64_t block_tokens)
    : block_tokens_(block_tokens),
      nodes_(static_cast<size_t>(blocks)),
      tokens_(static_cast<size_t>(blocks * block_tokens)),
      index_(0, KeyHash{base::random_u64()}) {}

std::optional<PrefixTree::Place> PrefixTree::root(std::string_view tenant) const {
  const auto found = tenants_.find(tenant);
  if (found == tenants_.end()) return std::nullopt;
  return found->second;
}

PrefixTree::Place PrefixTree::make_root(std::string_view tenant) {
  if (const auto existing = root(tenant)) return *existing;
  const Place place = next_root_--;
  tenants_.emplace(tenant, place);
  roots_.emplace(place, Root{std::string(tenant), 0});
  return place;
}

std::optional<Block> PrefixTree::find(Place place, std::span<const Token> tokens) const {
  assert(std::ssize(tokens) == block_tokens_);
  const auto found = index_.find(Key{place, tokens});
  if (found == index_.end()) return std::nullopt;
  return found->second;
}

void PrefixTree::insert(Place place, std::span<const Token> tokens, Block block) {
  assert(std::ssize(tokens) == block_tokens_ && !contains(block));
  std::ranges::copy(tokens, tokens_of(block).begin());
  const bool added = index_.emplace(Key{place, tokens_of(block)}, block).second;
  assert(added);
  (void)added;
  if (place < 0) {
    ++roots_.at(place).children;
  } else {
    Node& parent = nodes_[static_cast<size_t>(place)];
    assert(parent.present && parent.used);
    ++parent.children;
  }
  nodes_[static_cast<size_t>(block)] = Node{.present = true, .used = true, .parent = place};
}

void PrefixTree::mark_used(Block block) {
  Node& node = nodes_[static_cast<size_t>(block)];
  assert(node.present && !node.used);
  if (node.children == 0) evictable_.erase({node.unused_since, block});
  node.used = true;
  --unused_;
}

void PrefixTree::mark_unused(Block block) {
  Node& node = nodes_[static_cast<size_t>(block)];
  assert(node.present && node.used);
  node.used = false;
  node.unused_since = ++clock_;
  if (node.children == 0) evictable_.emplace(node.unused_since, block);
  ++unused_;
}

std::optional<Block> PrefixTree::evict() {
  if (evictable_.empty()) return std::nullopt;
  const Block block = evictable_.begin()->second;
  evictable_.erase(evictable_.begin());
  Node& node = nodes_[static_cast<size_t>(block)];
  index_.erase(Key{node.parent, tokens_of(block)});
  const Place parent = node.parent;
  node = Node{};
  --unused_;
  drop_child(parent);
  return block;
}

void PrefixTree::drop_child(Place parent) {
  if (parent < 0) {
    const auto root = roots_.find(parent);
    if (--root->second.children > 0) return;
    tenants_.erase(root->second.tenant);
    roots_.erase(root);
    return;
  }
  Node& node = nodes_[static_cast<size_t>(parent)];
  if (--node.children == 0 && !node.used) evictable_.emplace(node.unused_since, static_cast<Block>(parent));
}

std::vector<PrefixTree::Entry> PrefixTree::entries() const {
  std::vector<Block> by_use;
  for (size_t i = 0; i < nodes_.size(); ++i) {
    if (nodes_[i].present) by_use.push_back(static_cast<Block>(i));
  }
  const auto node_of = [this](Block block) -> const Node& { return nodes_[static_cast<size_t>(block)]; };
  std::ranges::stable_sort(by_use, [&](Block a, Block b) {
    const uint64_t never = std::numeric_limits<uint64_t>::max();
    return (node_of(a).used ? never : node_of(a).unused_since) > (node_of(b).used ? never : node_of(b).unused_since);
  });
  std::vector<Entry> listed;
  std::vector<std::string_view> tenants(nodes_.size());
  std::vector<bool> done(nodes_.size(), false);
  std::vector<Block> path;
  for (const Block leaf : by_use) {
    Place place = leaf;
    for (; place >= 0 && !done[static_cast<size_t>(place)]; place = nodes_[static_cast<size_t>(place)].parent)
      path.push_back(static_cast<Block>(place));
    std::string_view tenant =
        place >= 0 ? tenants[static_cast<size_t>(place)] : std::string_view(roots_.at(place).tenant);
    for (; !path.empty(); path.pop_back()) {
      const Block block = path.back();
      const Place parent = node_of(block).parent;
      done[static_cast<size_t>(block)] = true;
      tenants[static_cast<size_t>(block)] = tenant;
      listed.push_back(
          {block, parent < 0 ? std::nullopt : std::optional(static_cast<Block>(parent)), tenant, tokens_of(block)});
    }
  }
  return listed;
}

base::Result<void> PrefixTree::audit() const {
  const auto broken = [](std::string what) { return base::Error(base::ErrorCode::internal, "prefix tree: " + what); };
  std::vector<int32_t> children(nodes_.size(), 0);
  std::unordered_map<Place, int32_t> root_children;
  int64_t present = 0;
  int64_t unused = 0;
  int64_t leaves = 0;
  for (size_t i = 0; i < nodes_.size(); ++i) {
    const Node& node = nodes_[i];
    if (!node.present) continue;
    ++present;
    const auto block = static_cast<Block>(i);
    if (find(node.parent, tokens_of(block)) != block) return broken(fmt::format("block {} is not found by its key", i));
    if (node.parent < 0) {
      ++root_children[node.parent];
    } else {
      const Node& parent = nodes_[static_cast<size_t>(node.parent)];
      if (!parent.present) return broken(fmt::format("block {} hangs below absent block {}", i, node.parent));
      if (node.used && !parent.used)
        return broken(fmt::format("block {} is in use, its parent {} not", i, node.parent));
      ++children[static_cast<size_t>(node.parent)];
    }
    unused += node.used ? 0 : 1;
    if (!node.used && node.children == 0) {
      ++leaves;
      if (!evictable_.contains({node.unused_since, block})) return broken(fmt::format("leaf {} cannot be evicted", i));
    }
  }
  for (size_t i = 0; i < nodes_.size(); ++i) {
    if (nodes_[i].children != children[i]) {
      return broken(fmt::format("block {} has {} children, not {}", i, children[i], nodes_[i].children));
    }
  }
  if (present != size() || unused != unused_ || leaves != std::ssize(evictable_)) {
    return broken(fmt::format("{} nodes, {} unused, {} evictable; the books say {}, {}, {}", present, unused, leaves,
                              size(), unused_, evictable_.size()));
  }
  if (roots_.size() != root_children.size() || roots_.size() != tenants_.size()) {
    return broken(
        fmt::format("{} roots for {} tenants, {} with blocks", roots_.size(), tenants_.size(), root_children.size()));
  }
  for (const auto& [place, root] : roots_) {
    if (root.children != root_children[place]) return broken(fmt::format("root {} miscounts its blocks", place));
  }
  return {};
}

}  // namespace tidemill::engine
