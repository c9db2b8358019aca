// Patterns beside bounds of length whose characters can be counted without any automaton.
#pragma once

#include <cstddef>
#include <optional>

#include "grammar/builder.hpp"
#include "grammar/regex.hpp"

namespace tidemill::grammar {

// Texts in which the pattern matches, of at least `least` and at most `most` characters, by counters: where each of its
// alternatives is a head of few lengths, any number of characters of one set, and a tail of few lengths, of which head
// or tail may be missing: "^https?://", "^\S.*\S$", "[a-z]$". The tail may have any number of states ("a.{30}$"). None
// for other patterns, which GrammarBuilder::counted() is for.
std::optional<Expression> counted_texts(GrammarBuilder& builder, const Regex& regex, size_t least,
                                        std::optional<size_t> most, const CharacterLeaf& leaf);

}  // namespace tidemill::grammar
