// Who holds which KV block: the pool of physical blocks and the tree of those worth keeping, as one ledger.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "engine/block_pool.hpp"
#include "engine/prefix_tree.hpp"
#include "engine/sampling.hpp"

namespace tidemill::engine {

// Every block is free, cached (unused, but its content can be found and used again), or owned by one or more sequences.
// A block's content never moves: sharing is counting.
//
// Not thread-safe: the engine's thread owns it.
class KvBlocks {
 public:
  KvBlocks(int64_t blocks, int64_t block_tokens, bool prefix_cache);

  int64_t size() const { return pool_.size(); }
  int64_t free() const { return pool_.free(); }
  int64_t cached() const { return tree_.unused(); }
  // How many times allocate() can succeed from here.
  int64_t available() const { return free() + cached(); }
  int64_t block_tokens() const { return block_tokens_; }
  // Blocks that hold `tokens` tokens.
  int64_t blocks_for(int64_t tokens) const { return (tokens + block_tokens_ - 1) / block_tokens_; }

  // A block with nothing of value in it, owned by the caller; evicts a cached one if none is free. nullopt: all are
  // owned.
  std::optional<Block> allocate();
  // One more owner of an owned block. As with match(), blocks are taken from the sequence's first on.
  void retain(Block block);
  // Gives up a block; a sequence releases its last block first.
  void release(Block block);
  // How many more blocks would be available if all of `owned` were released, a block as often as it is listed.
  int64_t freed_by(std::span<const Block> owned) const;

  // The longest run of cached blocks, at most `max_blocks`, that holds the beginning of `tokens`; the caller owns them
  // now.
  std::vector<Block> match(std::string_view tenant, std::span<const Token> tokens, int64_t max_blocks);

  // Says that `block` holds `tokens` (a whole block of them), computed after those of `previous` (nullopt: a sequence's
  // first block; else a published one). Gives the block that the sequence shall use from now on: `block`, or an older
  // one with the same content, in which case the caller owns that one and `block` is released. With the prefix cache
  // off, does nothing.
  Block publish(std::string_view tenant, std::optional<Block> previous, std::span<const Token> tokens, Block block);

  // What the prefix cache holds, as PrefixTree::entries().
  std::vector<PrefixTree::Entry> cached_entries() const { return tree_.entries(); }

  // Checks that every block is free, cached or owned, and owned as often as `owned` (a list of blocks, one entry an
  // owner) says. An error says what is wrong.
  base::Result<void> audit(std::span<const Block> owned) const;

 private:
  int64_t block_tokens_;
  bool prefix_cache_;
  BlockPool pool_;
  PrefixTree tree_;
};

}  // namespace tidemill::engine
