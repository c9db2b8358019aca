// llama.cpp's GBNF (its grammars/README.md documents it): rules `name ::= ...`, literals and character classes with
// escapes, `.`, groups, `|`, `* + ? {m} {m,} {m,n}`, comments; a rule goes on over line ends inside parentheses and
// behind `|` and `::=`, and where the next line begins with `|`. The rule `root` is what an output must match. Not
// known are the newer forms that name tokens of a vocabulary (<think>, <[1000]>).
#pragma once

#include <string_view>

#include "base/result.hpp"
#include "grammar/builder.hpp"

namespace tidemill::grammar {

// Errors: `invalid_argument` with line and column and what was expected; `too_large`. Left recursion is found by
// build().
base::Result<Expression> gbnf(GrammarBuilder& builder, std::string_view text);

}  // namespace tidemill::grammar
