#include "replay/block_cache.hpp"

#include <algorithm>

namespace tidemill::replay {

size_t BlockCache::match(std::span<const route::BlockHash> blocks) const {
  size_t found = 0;
  while (found < blocks.size() && index_.contains(blocks[found]))
    ++found;
  return found;
}

void BlockCache::insert(std::span<const route::BlockHash> blocks) {
  blocks = blocks.first(std::min(blocks.size(), capacity_));
  for (size_t i = blocks.size(); i-- > 0;) {
    const auto [place, added] = index_.try_emplace(blocks[i], 0);
    if (!added) {
      unlink(place->second);
    } else if (free_.empty()) {
      place->second = static_cast<uint32_t>(entries_.size());
      entries_.push_back({.block = blocks[i]});
    } else {
      place->second = free_.back();
      free_.pop_back();
      entries_[place->second].block = blocks[i];
    }
    link_newest(place->second);
  }
  while (index_.size() > capacity_) {
    const uint32_t oldest = entries_[0].newer;
    index_.erase(entries_[oldest].block);
    unlink(oldest);
    free_.push_back(oldest);
  }
}

void BlockCache::clear() {
  index_.clear();
  free_.clear();
  entries_.assign(1, Entry{});
}

void BlockCache::unlink(uint32_t at) {
  entries_[entries_[at].newer].older = entries_[at].older;
  entries_[entries_[at].older].newer = entries_[at].newer;
}

void BlockCache::link_newest(uint32_t at) {
  const uint32_t newest = entries_[0].older;
  entries_[at].newer = 0;
  entries_[at].older = newest;
  entries_[newest].newer = at;
  entries_[0].older = at;
}

}  // namespace tidemill::replay
