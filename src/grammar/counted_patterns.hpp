// Patterns beside bounds of length, where the characters can be counted without an automaton of the product's size.
#pragma once

#include <cstddef>
#include <optional>

#include "grammar/builder.hpp"
#include "grammar/regex.hpp"

namespace tidemill::grammar {

// Texts in which the pattern matches, of at least `least` and at most `most` characters, by counters: where each of its
// alternatives is
// - a head of few lengths, any number of characters of one set, and a tail of few lengths, of which head or tail may be
//   missing: "^https?://", "^\S.*\S$", "[a-z]$"; or
// - one character of a set at any place: "\S", "[0-9]+", ".+". That takes some parts for each character of `most`.
// None for other patterns, and where `most` is missing or too large for the second kind.
std::optional<Expression> counted_texts(GrammarBuilder& builder, const Regex& regex, size_t least,
                                        std::optional<size_t> most, const CharacterLeaf& leaf);

}  // namespace tidemill::grammar
