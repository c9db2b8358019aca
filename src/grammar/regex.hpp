// Regular expressions in the dialect of ECMA-262 (with the u flag), as JSON Schema's `pattern` uses them and as people
// write them: what is regular of it.
//
// Supported: literals and their escapes (\n \t \r \f \v \0 \cX \xHH \uHHHH, pairs of surrogates, \u{...}), `.` (not
// line ends), classes with ranges and negation, \d \D \w \W \s \S, \p{...} and \P{...} with general categories (L, Lu,
// ..., by their long names too), Any and ASCII, groups (capturing, named, (?:...)), alternation, greedy and lazy
// quantifiers (the same language), {m} {m,} {m,n}, ^ in front of an outermost alternative and $ behind one. Not
// supported, and refused by name with the position: \b \B, lookaround (but see look_ahead_patterns.hpp),
// back-references, anchors elsewhere, groups with flags, \p{...} of scripts and other properties.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "grammar/builder.hpp"
#include "grammar/code_points.hpp"

namespace tidemill::grammar {

// A parsed pattern: a tree over sets of code points.
struct RegexNode {
  enum class Kind : uint8_t {
    characters,  // one character of `set`
    sequence,    // of `parts`; without parts, the empty string
    choice,      // one of `parts`
    repeat,      // of parts[0], `least` to `most` times
  };

  Kind kind = Kind::sequence;
  CodePointSet set;
  std::vector<RegexNode> parts;
  size_t least = 0;
  std::optional<size_t> most;  // none: without bound
};

struct Regex {
  struct Alternative {
    RegexNode root;
    bool anchored_start = false;  // ^ in front
    bool anchored_end = false;    // $ behind
  };
  std::vector<Alternative> alternatives;  // at least one
};

// Errors: `invalid_argument` for what is no regular expression, `unsupported` for what is not a regular one or not
// known here, `too_large` past the limits; messages name the construct and its position (characters, from 1), in front
// of which `before` more characters stand.
base::Result<Regex> parse_regex(std::string_view pattern, const GrammarLimits& limits = {}, size_t before = 0);

// Translates a tree; `leaf` says what one character of a set is (in a JSON string it may be escaped).
using CharacterLeaf = std::function<Expression(const CodePointSet&)>;
Expression translate_regex(GrammarBuilder& builder, const RegexNode& node, const CharacterLeaf& leaf);

// The texts that belong to all of `required`, of which there is one at least, and to none of `excluded`.
struct Conditions {
  struct Required {
    Expression texts;
    size_t states;  // likely_states() of the pattern, or how far the texts are counted
  };
  std::vector<Required> required;
  std::vector<Expression> excluded;
};
// Puts them together from the smallest on, whatever order they come in: what searches a text has few states mostly,
// where its length is counted there are many.
Expression under_conditions(GrammarBuilder& builder, Conditions conditions);

// Texts that match the pattern as a whole, anchors or not. At its beginning it may look ahead, as far as
// split_look_aheads() goes.
base::Result<Expression> regular_expression(GrammarBuilder& builder, std::string_view pattern);
// Texts in which the pattern matches somewhere, as ECMA-262's `test` and JSON Schema's `pattern` read it: unless it is
// anchored there, any text may stand before and behind. `leaf` translates characters, those around it too.
base::Result<Expression> regular_expression_search(GrammarBuilder& builder, std::string_view pattern,
                                                   const CharacterLeaf& leaf);

}  // namespace tidemill::grammar
