// The physical KV blocks: which are free, and how many hold each of the others.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace tidemill::engine {

// Index of a physical block in the KV cache.
using Block = int32_t;

// A block is free, held (one or more references), or idle (taken, no references: its content is being kept for later).
// Not thread-safe: the engine's thread owns it.
class BlockPool {
 public:
  explicit BlockPool(int64_t blocks);

  int64_t size() const { return static_cast<int64_t>(references_.size()); }
  int64_t free() const { return static_cast<int64_t>(free_.size()); }

  // A free block, now held once. There must be one.
  Block take();
  // One more reference to a held or idle block.
  void retain(Block block);
  // One reference less; true when that was the last, so that the block is idle now.
  bool release(Block block);
  // An idle block becomes free.
  void put_back(Block block);

  int32_t references(Block block) const { return references_[static_cast<size_t>(block)]; }
  bool is_free(Block block) const { return references(block) == kFree; }

 private:
  static constexpr int32_t kFree = -1;

  std::vector<int32_t> references_;  // [blocks]; kFree, 0 for idle, or the number of holders
  std::vector<Block> free_;          // a stack: the block freed last is the one still in the processor's caches
};

}  // namespace tidemill::engine
