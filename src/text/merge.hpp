// The merging at the heart of both kinds of tokenizer: again and again the best-ranked pair of neighbours becomes one
// symbol, the leftmost of equals first, until no pair can merge.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace tidemill::text {

struct Symbol {
  uint32_t begin;  // where in the text it stands
  uint32_t end;
  int32_t id;  // -1 for a character that is no piece
};

struct Merge {
  uint32_t rank;  // lower merges first
  int32_t id;     // of the merged symbol; -1: the two do not merge
};

// Working space, to be reused from word to word.
class Merger {
 public:
  // Merges `symbols` in place. `find(left, right)` gives the Merge of two neighbours and must depend on them alone;
  // their texts identify symbols, so ids other than -1 must too.
  template <typename Find>
  void merge(std::vector<Symbol>& symbols, const Find& find) {
    if (symbols.size() < 2) return;
    if (symbols.size() <= short_word)
      merge_short(symbols, find);
    else
      merge_long(symbols, find);
  }

 private:
  // Up to here looking through all pairs each time beats keeping a heap; measured on English and Python, where the
  // limit matters little between 16 and 64.
  static constexpr size_t short_word = 32;

  template <typename Find>
  void merge_short(std::vector<Symbol>& symbols, const Find& find) {
    merges_.clear();
    for (size_t i = 0; i + 1 < symbols.size(); ++i)
      merges_.push_back(find(symbols[i], symbols[i + 1]));
    while (true) {
      size_t best = merges_.size();
      for (size_t i = 0; i < merges_.size(); ++i) {
        if (merges_[i].id >= 0 && (best == merges_.size() || merges_[i].rank < merges_[best].rank)) best = i;
      }
      if (best == merges_.size()) return;
      symbols[best] = {symbols[best].begin, symbols[best + 1].end, merges_[best].id};
      symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(best) + 1);
      merges_.erase(merges_.begin() + static_cast<std::ptrdiff_t>(best));
      if (best > 0) merges_[best - 1] = find(symbols[best - 1], symbols[best]);
      if (best + 1 < symbols.size()) merges_[best] = find(symbols[best], symbols[best + 1]);
    }
  }

  // O(n log n): a heap of candidates, each its rank and the place of its left symbol in one number, so that the least
  // is the next. A candidate whose symbols have changed since is known by its rank, which is then no longer theirs.
  template <typename Find>
  void merge_long(std::vector<Symbol>& symbols, const Find& find) {
    const auto count = static_cast<uint32_t>(symbols.size());
    link(count);
    const auto key = [](uint32_t rank, uint32_t left) { return (uint64_t{rank} << 32) | left; };
    const auto push = [&](uint32_t left, uint32_t right) {
      const Merge found = find(symbols[left], symbols[right]);
      if (found.id < 0) return;
      heap_.push_back(key(found.rank, left));
      std::push_heap(heap_.begin(), heap_.end(), std::greater<>());
    };

    for (uint32_t i = 0; i + 1 < count; ++i) {
      const Merge found = find(symbols[i], symbols[i + 1]);
      if (found.id >= 0) heap_.push_back(key(found.rank, i));
    }
    std::make_heap(heap_.begin(), heap_.end(), std::greater<>());
    while (!heap_.empty()) {
      std::pop_heap(heap_.begin(), heap_.end(), std::greater<>());
      const uint64_t best = heap_.back();
      heap_.pop_back();
      const auto left = static_cast<uint32_t>(best);
      const uint32_t right = next_[left];
      if (right == gone || right == count) continue;
      const Merge found = find(symbols[left], symbols[right]);
      if (found.id < 0 || key(found.rank, left) != best) continue;
      symbols[left] = {symbols[left].begin, symbols[right].end, found.id};
      next_[left] = next_[right];
      if (next_[right] < count) previous_[next_[right]] = left;
      next_[right] = gone;
      if (left > 0) push(previous_[left], left);
      if (next_[left] < count) push(left, next_[left]);
    }
    size_t kept = 0;
    for (uint32_t i = 0; i < count; i = next_[i])
      symbols[kept++] = symbols[i];
    symbols.resize(kept);
  }

  static constexpr uint32_t gone = 0xFFFFFFFF;  // as a successor: the symbol was merged into the one before it

  void link(uint32_t count) {
    heap_.clear();
    previous_.resize(count);
    next_.resize(count);
    for (uint32_t i = 0; i < count; ++i) {
      previous_[i] = i - 1;
      next_[i] = i + 1;
    }
  }

  std::vector<Merge> merges_;
  std::vector<uint64_t> heap_;
  std::vector<uint32_t> previous_;
  std::vector<uint32_t> next_;
};

}  // namespace tidemill::text
