// Patterns applied to texts that are known: names of properties, values of an enum. And their sizes.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

#include "grammar/regex.hpp"

namespace tidemill::grammar {

// Whether the pattern matches somewhere in `text` (UTF-8), as ECMA-262's `test` says. `work` is how much may be done
// (about the pattern's size times the square of the text's at worst), and what is done is taken off it; nothing where
// it does not suffice.
std::optional<bool> matches(const Regex& regex, std::string_view text, size_t& work);

// How many characters a text has in which the pattern matches.
struct LengthRange {
  size_t least = 0;
  std::optional<size_t> most;  // none: without bound
};
LengthRange lengths_of(const Regex& regex);
// The same of what a part of a pattern matches.
LengthRange lengths_of(const RegexNode& node);

// About how many states it takes to search a text for it, to tell what is small from what is large. One for each place
// of a character, those of counted repetitions as often as they are counted; and for each of those twice as many where
// it stands behind what may come at any place, since attempts without number may be under way then (a.{4}b). Saturates.
size_t likely_states(const Regex& regex);

}  // namespace tidemill::grammar
