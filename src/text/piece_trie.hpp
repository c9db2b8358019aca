// All pieces that a text begins with, found in one walk.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "text/vocabulary.hpp"

namespace tidemill::text {

// Immutable; thread-safe. Costs a walk of as many steps as the longest piece that begins so has bytes.
class PieceTrie {
 public:
  struct Piece {
    std::string_view text;  // not empty; used while the trie is made, and not kept
    Token token = -1;
  };
  // Of pieces with the same text the first counts.
  explicit PieceTrie(std::vector<Piece> pieces);

  // Calls found(token, length) for every piece that `text` begins with, the shortest first.
  template <typename Found>
  void for_prefixes(std::string_view text, Found&& found) const {
    uint32_t node = 0;
    for (size_t i = 0; i < text.size(); ++i) {
      node = step(node, static_cast<uint8_t>(text[i]));
      if (node == 0) return;
      if (nodes_[node].token >= 0) found(nodes_[node].token, i + 1);
    }
  }

 private:
  struct Node {
    uint32_t first = 0;  // of its edges
    uint32_t edges = 0;
    Token token = -1;  // of the piece that ends here; -1: none
  };

  // The node behind `byte`, or 0, which is the root.
  uint32_t step(uint32_t node, uint8_t byte) const;

  std::vector<Node> nodes_;
  // Of each edge, ascending within a node.
  std::vector<uint8_t> labels_;
  std::vector<uint32_t> targets_;
};

}  // namespace tidemill::text
