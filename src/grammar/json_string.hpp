// Strings as JSON writes them: any characters, characters of a pattern, keys that are none of a list, and values as
// they stand.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/json.hpp"
#include "base/result.hpp"
#include "grammar/builder.hpp"
#include "grammar/regex.hpp"

namespace tidemill::grammar {

// What is made here is the text between the quotation marks, unless it says otherwise.

// One character, raw or escaped in any way that JSON knows: \" \\ \/ \b \f \n \r \t, \uXXXX, and two of those where a
// character is past U+FFFF. Control characters, and those of `escaped`, are always escaped; there are no lone
// surrogates.
Expression json_character(GrammarBuilder& builder, const CodePointSet& escaped = {});

// One character of the set, written in one way alone: raw where JSON allows it, else \" \\ \b \f \n \r \t or \u00XX.
Expression json_character_of(GrammarBuilder& builder, const CodePointSet& set);

// Texts in which the pattern matches, of at least `least` and at most `most` characters; `leaf` says how one character
// of a set is written.
Expression texts_matching(GrammarBuilder& builder, const Regex& regex, size_t least, std::optional<size_t> most,
                          const CharacterLeaf& leaf);

// Texts that are none of `names`, of which there is one at least. Errors: `too_large` where the names are long.
base::Result<Expression> texts_except(GrammarBuilder& builder, std::span<const std::string> names,
                                      const CharacterLeaf& leaf);

// A value in its shortest form, without white space: strings with the escapes that they need, numbers with the digits
// that they need.
std::string compact_json(const base::json::value& value);
// The same for people: what is longer than that many bytes is cut off behind a whole character, and "..." stands there.
std::string brief_json(const base::json::value& value, size_t most_bytes);

}  // namespace tidemill::grammar
