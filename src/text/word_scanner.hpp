// What the scanners of pre-tokenizers are made of: a part of a text, and how to cut it. Each scanner matches a regular
// expression by hand, from left to right, and looks at no character more than a few times.
#pragma once

#include <cstdint>
#include <vector>

#include "text/characters.hpp"

namespace tidemill::text::scan {

using enum CharacterClass;

// One part of the text; positions outside it have no class, so that no scanner looks past a cut made before it.
class Part {
 public:
  Part(const Characters& characters, uint32_t first, uint32_t past)
      : begin(first), end(past), characters_(characters) {}

  const uint32_t begin;
  const uint32_t end;

  char32_t at(uint32_t position) const { return position < end ? characters_.code_points[position] : none; }
  bool is(CharacterClass wanted, uint32_t position) const {
    return position < end && characters_.classes[position] == wanted;
  }
  // [^\s\p{L}\p{N}]
  bool is_sign(uint32_t position) const {
    if (position >= end) return false;
    const CharacterClass found = characters_.classes[position];
    return found != white_space && found != letter && found != number;
  }
  uint32_t skip(CharacterClass wanted, uint32_t position) const {
    while (is(wanted, position))
      ++position;
    return position;
  }
  uint32_t skip_signs(uint32_t position) const {
    while (is_sign(position))
      ++position;
    return position;
  }

 private:
  static constexpr char32_t none = 0xFFFFFFFF;
  const Characters& characters_;
};

inline bool is_line_break(char32_t c) {
  return c == '\r' || c == '\n';
}

// Makes every match a part of its own, and what lies between matches too. `match(position)` gives the end of the match
// that starts there, or `position` if none does.
template <typename Match>
void isolate(const Part& part, std::vector<uint32_t>& ends, Match match) {
  uint32_t gap = part.begin;
  for (uint32_t position = part.begin; position < part.end;) {
    const uint32_t matched = match(position);
    if (matched == position) {
      ++position;
      continue;
    }
    if (position > gap) ends.push_back(position);
    ends.push_back(matched);
    position = gap = matched;
  }
  if (gap < part.end) ends.push_back(part.end);
}

// The length of an English contraction's tail at `position` ('s 't 'm 'd 're 've 'll), 0 if there is none.
template <bool any_case>
uint32_t contraction(const Part& part, uint32_t position) {
  const auto letter_at = [&part](uint32_t where) {
    const char32_t c = part.at(where);
    return any_case && c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c;
  };
  if (part.at(position) != '\'') return 0;
  const char32_t first = letter_at(position + 1);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
  const char32_t second = letter_at(position + 2);
  const bool known =
      (first == 'r' && second == 'e') || (first == 'v' && second == 'e') || (first == 'l' && second == 'l');
  return known ? 3 : 0;
}

// \s+(?!\S)|\s+  on a run of white space: leaves the last one to the word behind it, unless it is the only one.
inline uint32_t cut_white_space(const Part& part, uint32_t position) {
  const uint32_t run_end = part.skip(white_space, position);
  return run_end < part.end && run_end - position > 1 ? run_end - 1 : run_end;
}

// \p{N}{1,most}
inline uint32_t skip_numbers(const Part& part, uint32_t position, uint32_t most) {
  uint32_t end = position;
  while (end < position + most && part.is(number, end))
    ++end;
  return end;
}

// \s*[\r\n]+|\s+(?!\S)|\s+
inline uint32_t cut_line_breaks_or_space(const Part& part, uint32_t position) {
  uint32_t after_line_break = position;
  for (uint32_t i = position; part.is(white_space, i); ++i) {
    if (is_line_break(part.at(i))) after_line_break = i + 1;
  }
  return after_line_break > position ? after_line_break : cut_white_space(part, position);
}

// Cuts text into words, of which `word(part, position)` gives the end of the one that begins there.
template <uint32_t (*word)(const Part&, uint32_t)>
void cut_words(const Characters& characters, uint32_t begin, uint32_t end, std::vector<uint32_t>& ends) {
  const Part part(characters, begin, end);
  for (uint32_t position = begin; position < end;) {
    position = word(part, position);
    ends.push_back(position);
  }
}

}  // namespace tidemill::text::scan
