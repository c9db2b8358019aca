#include "text/piece_trie.hpp"

#include <algorithm>
#include <deque>

namespace tidemill::text {

PieceTrie::PieceTrie(std::vector<Piece> pieces) : nodes_(1) {
  std::stable_sort(pieces.begin(), pieces.end(), [](const Piece& a, const Piece& b) { return a.text < b.text; });
  // Level by level: a node stands for the pieces that have its first bytes in common.
  struct Range {
    uint32_t node;
    size_t begin;
    size_t end;
    size_t depth;  // bytes in common
  };
  std::deque<Range> open = {{0, 0, pieces.size(), 0}};
  for (; !open.empty(); open.pop_front()) {
    auto [node, begin, end, depth] = open.front();
    for (; begin < end && pieces[begin].text.size() == depth; ++begin) {
      if (nodes_[node].token < 0) nodes_[node].token = pieces[begin].token;
    }
    nodes_[node].first = static_cast<uint32_t>(labels_.size());
    while (begin < end) {
      const char byte = pieces[begin].text[depth];
      size_t next = begin + 1;
      while (next < end && pieces[next].text[depth] == byte)
        ++next;
      const auto target = static_cast<uint32_t>(nodes_.size());
      nodes_.emplace_back();
      labels_.push_back(static_cast<uint8_t>(byte));
      targets_.push_back(target);
      ++nodes_[node].edges;
      open.push_back({target, begin, next, depth + 1});
      begin = next;
    }
  }
}

uint32_t PieceTrie::step(uint32_t node, uint8_t byte) const {
  const Node& here = nodes_[node];
  const auto first = labels_.begin() + here.first;
  const auto last = first + here.edges;
  const auto found = std::lower_bound(first, last, byte);
  return found != last && *found == byte ? targets_[static_cast<size_t>(found - labels_.begin())] : 0;
}

}  // namespace tidemill::text
