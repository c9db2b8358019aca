#include "engine/kv_blocks.hpp"

#include <algorithm>
#include <cassert>

#include <fmt/format.h>

namespace tidemill::engine {

KvBlocks::KvBlocks(int64_t blocks, int64_t block_tokens, bool prefix_cache)
    : block_tokens_(block_tokens),
      prefix_cache_(prefix_cache),
      pool_(blocks),
      tree_(prefix_cache ? blocks : 0, block_tokens) {}

std::optional<Block> KvBlocks::allocate() {
  if (pool_.free() == 0) {
    const std::optional<Block> evicted = tree_.evict();
    if (!evicted) return std::nullopt;
    pool_.put_back(*evicted);
  }
  return pool_.take();
}

void KvBlocks::retain(Block block) {
  if (pool_.references(block) == 0) tree_.mark_used(block);
  pool_.retain(block);
}

void KvBlocks::release(Block block) {
  if (!pool_.release(block)) return;
  if (prefix_cache_ && tree_.contains(block)) {
    tree_.mark_unused(block);
  } else {
    pool_.put_back(block);
  }
}

int64_t KvBlocks::freed_by(std::span<const Block> owned) const {
  if (owned.empty()) return 0;
  std::vector<int32_t> released(static_cast<size_t>(size()), 0);
  int64_t freed = 0;
  for (const Block block : owned)
    freed += ++released[static_cast<size_t>(block)] == pool_.references(block) ? 1 : 0;
  return freed;
}

std::vector<Block> KvBlocks::match(std::string_view tenant, std::span<const Token> tokens, int64_t max_blocks) {
  std::vector<Block> blocks;
  if (!prefix_cache_) return blocks;
  std::optional<PrefixTree::Place> place = tree_.root(tenant);
  const int64_t limit = std::min(max_blocks, std::ssize(tokens) / block_tokens_);
  while (place && std::ssize(blocks) < limit) {
    const auto begin = static_cast<size_t>(std::ssize(blocks) * block_tokens_);
    const std::optional<Block> found = tree_.find(*place, tokens.subspan(begin, static_cast<size_t>(block_tokens_)));
    if (!found) break;
    retain(*found);
    blocks.push_back(*found);
    place = *found;
  }
  return blocks;
}

Block KvBlocks::publish(std::string_view tenant, std::optional<Block> previous, std::span<const Token> tokens,
                        Block block) {
  if (!prefix_cache_) return block;
  assert(!previous || tree_.contains(*previous));
  const PrefixTree::Place place = previous ? *previous : tree_.make_root(tenant);
  const std::optional<Block> older = tree_.find(place, tokens);
  if (!older) {
    tree_.insert(place, tokens, block);
    return block;
  }
  assert(*older != block);
  retain(*older);
  release(block);
  return *older;
}

base::Result<void> KvBlocks::audit(std::span<const Block> owned) const {
  const auto broken = [](std::string what) { return base::Error(base::ErrorCode::internal, "KV blocks: " + what); };
  std::vector<int32_t> owners(static_cast<size_t>(size()), 0);
  for (const Block block : owned)
    ++owners[static_cast<size_t>(block)];
  int64_t free_seen = 0;
  for (int64_t i = 0; i < size(); ++i) {
    const auto block = static_cast<Block>(i);
    const int32_t expected = owners[static_cast<size_t>(i)];
    const bool in_tree = prefix_cache_ && tree_.contains(block);
    if (pool_.is_free(block)) {
      ++free_seen;
      if (expected != 0) return broken(fmt::format("block {} is free and has {} owners", i, expected));
      if (in_tree) return broken(fmt::format("block {} is free and in the prefix tree", i));
    } else if (pool_.references(block) != expected) {
      return broken(fmt::format("block {} counts {} owners and has {}", i, pool_.references(block), expected));
    } else if (expected == 0 && !in_tree) {
      return broken(fmt::format("block {} is lost: not free, not cached, not owned", i));
    }
  }
  if (free_seen != free()) return broken(fmt::format("{} blocks are free, the list has {}", free_seen, free()));
  return tree_.audit();
}

}  // namespace tidemill::engine
