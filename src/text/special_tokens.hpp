// Finds the names of special tokens in text.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "text/vocabulary.hpp"

namespace tidemill::text {

// A trie of the names of user-defined, control and unknown tokens. Immutable; thread-safe.
class SpecialTokens {
 public:
  explicit SpecialTokens(const Vocabulary& vocabulary);

  struct Match {
    size_t begin;
    size_t end;
    Token token;
  };

  // The first match at or after `from`, the longest of those that begin there. User-defined tokens always match, the
  // others only with `parse_special` and where they cover none of the offsets in `literal` (ascending). Costs the
  // distance walked times, at worst, the length of the longest name.
  std::optional<Match> find(std::string_view text, size_t from, bool parse_special,
                            std::span<const size_t> literal = {}) const;

 private:
  struct Node {
    std::vector<std::pair<uint8_t, uint32_t>> next;  // by byte, ascending
    Token token = -1;
    bool always = false;  // user-defined
  };

  void insert(std::string_view name, Token token, bool always);
  // The node behind `byte`, or 0.
  uint32_t step(uint32_t node, uint8_t byte) const;

  std::vector<Node> nodes_;             // [0] is the root
  std::array<uint32_t, 256> starts_{};  // the root's successors; 0 where no name starts so
};

}  // namespace tidemill::text
