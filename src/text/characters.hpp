// Text as code points with the classes that pre-tokenizers ask for.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace tidemill::text {

// Unicode's general categories, as far as they matter here: \p{L}, \p{N}, \p{M}, \p{P}, \p{S}; the White_Space
// property (\s) is a class of its own, none of the former has any.
enum class CharacterClass : uint8_t { letter, number, mark, punctuation, symbol, white_space, other };

// As of Unicode 15.1.
CharacterClass class_of(char32_t code_point);

// Of a letter: whether it is \p{Lu} or \p{Lt}, \p{Ll}, or neither (\p{Lm}, \p{Lo}). As of the same Unicode.
enum class LetterCase : uint8_t { none, upper, lower };
LetterCase case_of(char32_t letter);

// Whether its script is Han (the Script property, \p{Script=Han}), as of the same Unicode.
bool is_han(char32_t code_point);

// A text taken apart. A byte that is not part of valid UTF-8 counts as one character, U+FFFD.
struct Characters {
  void assign(std::string_view text);
  uint32_t size() const { return static_cast<uint32_t>(code_points.size()); }

  std::vector<char32_t> code_points;    // [size]
  std::vector<CharacterClass> classes;  // [size]
  std::vector<uint32_t> offsets;        // [size + 1], in bytes
};

}  // namespace tidemill::text
