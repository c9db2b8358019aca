// A backend's prefix cache as engines have it: whole blocks, least recently used evicted first, block by block.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "route/block_hasher.hpp"

namespace tidemill::replay {

// Knows nothing of the router's index, whose idea of it is what a replay puts to the test.
class BlockCache {
 public:
  explicit BlockCache(size_t capacity) : capacity_(capacity) {}

  // How many blocks from the first on are there.
  size_t match(std::span<const route::BlockHash> blocks) const;
  // They are all there now, used most recently: the first block last, so that beginnings outlive ends.
  void insert(std::span<const route::BlockHash> blocks);
  void clear();
  size_t size() const { return index_.size(); }

 private:
  struct Entry {
    route::BlockHash block = 0;
    uint32_t newer = 0;
    uint32_t older = 0;
  };
  void unlink(uint32_t at);
  void link_newest(uint32_t at);

  size_t capacity_;
  std::vector<Entry> entries_{Entry{}};  // the first is the ring's head: older of it is the newest
  std::vector<uint32_t> free_;
  std::unordered_map<route::BlockHash, uint32_t> index_;
};

}  // namespace tidemill::replay
