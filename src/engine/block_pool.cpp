#include "engine/block_pool.hpp"

#include <cassert>

namespace tidemill::engine {

BlockPool::BlockPool(int64_t blocks) : references_(static_cast<size_t>(blocks), kFree) {
  free_.reserve(static_cast<size_t>(blocks));
  for (int64_t block = blocks; block-- > 0;)
    free_.push_back(static_cast<Block>(block));
}

Block BlockPool::take() {
  assert(!free_.empty());
  const Block block = free_.back();
  free_.pop_back();
  assert(is_free(block));
  references_[static_cast<size_t>(block)] = 1;
  return block;
}

void BlockPool::retain(Block block) {
  assert(!is_free(block));
  ++references_[static_cast<size_t>(block)];
}

bool BlockPool::release(Block block) {
  assert(references(block) > 0);
  return --references_[static_cast<size_t>(block)] == 0;
}

void BlockPool::put_back(Block block) {
  assert(references(block) == 0);
  references_[static_cast<size_t>(block)] = kFree;
  free_.push_back(block);
}

}  // namespace tidemill::engine
