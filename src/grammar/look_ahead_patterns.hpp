// Patterns that look ahead, in terms of patterns that do not: no automaton here looks ahead.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "grammar/grammar.hpp"

namespace tidemill::grammar {

// Each text that `pattern` matches is matched by the pattern replaced. `format` is the one whose form `pattern` is, if
// any: it has simpler ones for bounded lengths (format_pattern_within).
struct PlainPattern {
  std::string pattern;
  std::string format;
};

// For patterns as zod writes them beside formats, and pydantic for a Decimal of so many digits; none for others. Equal
// to the pattern replaced, but for names of hosts, which have no more labels than the format's, emoji, which are whole
// ones, and decimals, which end where their pattern leaves the end open and have 38 places at most where it bounds only
// the digits.
std::optional<PlainPattern> without_look_ahead(std::string_view pattern);

// The pattern matches where all of `required` and none of `excluded` do.
struct LookAheads {
  std::vector<std::string> required;  // at least one; the last is what remains of the pattern
  std::vector<std::string> excluded;
};

// Of "^(?=A)(?!B)C" without a | outside of all groups: "^A" and "^C" are required, "^B" is excluded. Of any other
// pattern, the pattern itself. The parts may be no regular expressions. `anchored`: the pattern needs its ^ for that,
// as it may match anywhere in a text.
LookAheads split_look_aheads(std::string_view pattern, bool anchored = true);

// Whether there are several parts, all of them regular expressions; where not, the pattern is to be read as a whole,
// and its error told.
bool can_be_split(const LookAheads& parts, const GrammarLimits& limits);

// The error of a pattern that can not be split: where it looks ahead as it may, what is wrong with the first part that
// is no regular expression, at its position in the pattern; otherwise that of the pattern as a whole.
base::Error told_of_part(std::string_view pattern, bool anchored, base::Error whole, const GrammarLimits& limits);

}  // namespace tidemill::grammar
