// SentencePiece's precompiled map of characters: what its normalising puts in the place of the characters of a text
// (compatibility forms, full-width letters, white space of all kinds, controls, ...).
//
// As its normalizer.cc writes it: u32, the bytes of a trie; the trie, a double array of u32 units as darts-clone builds
// them (https://github.com/s-yata/darts-clone); and the texts that the trie's values point at, each with a NUL behind
// it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace tidemill::text {

// Immutable; thread-safe.
class CharactersMap {
 public:
  // One that changes nothing.
  CharactersMap() = default;
  // Empty bytes are such a one as well. `corrupt` for what is no such map, `unsupported` for entries that no character
  // has.
  static base::Result<CharactersMap> parse(std::string_view bytes);

  struct Step {
    std::string_view text;  // valid as long as the map and the text that it was made of
    size_t length = 0;      // bytes of the text that it stands for, at least 1
  };
  // What the beginning of `text`, which is not empty, becomes: the longest of the map's entries, else one character as
  // it is. A byte that is not part of valid UTF-8 becomes U+FFFD.
  Step next(std::string_view text) const;

 private:
  std::vector<uint32_t> units_;
  std::string texts_;
};

}  // namespace tidemill::text
