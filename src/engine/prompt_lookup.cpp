#include "engine/prompt_lookup.hpp"

#include <algorithm>
#include <bit>

namespace tidemill::engine {
namespace {

constexpr int64_t kMostOccurrences = 16;  // looked at for one proposal, of each index
constexpr int64_t kLongestMatch = 32;     // tokens compared; more do not make a proposal any surer
constexpr size_t kFirstSlots = 64;

// How many tokens before and at `earlier` are those before and at the end of `tokens`.
int64_t common_past(std::span<const Token> tokens, int64_t earlier) {
  const int64_t last = std::ssize(tokens) - 1;
  const int64_t limit = std::min(kLongestMatch, earlier + 1);
  int64_t length = 0;
  while (length < limit && tokens[static_cast<size_t>(earlier - length)] == tokens[static_cast<size_t>(last - length)])
    ++length;
  return length;
}

}  // namespace

size_t NgramIndex::slot(std::span<const Token> tokens, int64_t last) const {
  uint64_t hash = 0;
  for (int64_t i = last - order_ + 1; i <= last; ++i) {
    hash = (hash ^ static_cast<uint32_t>(tokens[static_cast<size_t>(i)])) * 0x9E3779B97F4A7C15u;
    hash ^= hash >> 32;
  }
  return static_cast<size_t>(hash) & (heads_.size() - 1);
}

void NgramIndex::insert(std::span<const Token> tokens, int64_t last) {
  int32_t& head = heads_[slot(tokens, last)];
  previous_[static_cast<size_t>(last)] = head;
  head = static_cast<int32_t>(last);
}

void NgramIndex::extend(std::span<const Token> tokens, int64_t end) {
  int64_t next = std::ssize(previous_);
  if (end <= next) return;
  previous_.resize(static_cast<size_t>(end), -1);
  if (heads_.size() < static_cast<size_t>(end)) {
    heads_.assign(std::max(kFirstSlots, std::bit_ceil(static_cast<size_t>(end) * 2)), -1);
    next = 0;
  }
  for (int64_t last = std::max(next, order_ - 1); last < end; ++last)
    insert(tokens, last);
}

int64_t NgramIndex::latest(std::span<const Token> tokens) const {
  if (heads_.empty() || std::ssize(tokens) < order_) return -1;
  return heads_[slot(tokens, std::ssize(tokens) - 1)];
}

Proposal PromptLookup::propose(std::span<const Token> tokens, int64_t most) {
  const int64_t size = std::ssize(tokens);
  proposed_.clear();
  int64_t best = -1;
  int64_t length = 0;
  for (NgramIndex* index : {&long_, &short_}) {
    index->extend(tokens, size - 1);  // the last token has no follower yet
    int64_t at = index->latest(tokens);
    for (int64_t i = 0; i < kMostOccurrences && at >= 0 && length < kLongestMatch; ++i, at = index->earlier(at)) {
      const int64_t match = common_past(tokens, at);
      if (match < index->order() || match <= length) continue;
      best = at;
      length = match;
    }
    if (best >= 0) break;
  }
  if (best < 0) return {};
  for (int64_t i = 0; i < most; ++i) {
    const int64_t from = best + 1 + i;
    proposed_.push_back(from < size ? tokens[static_cast<size_t>(from)] : proposed_[static_cast<size_t>(from - size)]);
  }
  return {proposed_, static_cast<int>(length)};
}

}  // namespace tidemill::engine
