// Numbers as JSON writes them, held between bounds: the bounds become automata over digits, so that they are exact.
//
// What is written is bounded too: a number has at most 17 digits (15 under an exclusive bound), an integer 18, or as
// many as its bounds have, within 64 bits. Numbers of up to 15 digits are told apart by IEEE 754 doubles, and rounding
// keeps their order, so a reader that parses into doubles finds bounds kept; but for exclusive bounds of integers past
// 2^53, whose neighbours it does not tell from them.
#pragma once

#include <cstdint>
#include <optional>

#include "base/json.hpp"
#include "base/result.hpp"
#include "grammar/builder.hpp"
#include "grammar/decimal.hpp"

namespace tidemill::grammar {

struct NumberRange {
  std::optional<Decimal> minimum;
  std::optional<Decimal> maximum;
  bool exclusive_minimum = false;  // whether `minimum` itself is out
  bool exclusive_maximum = false;
  bool integer = false;      // integers only, written as plain digits
  uint64_t multiple_of = 1;  // integers only

  // Narrows the range; of two bounds on one side the tighter one counts. Whether this one does.
  bool raise_minimum(const Decimal& bound, bool exclusive);
  bool lower_maximum(const Decimal& bound, bool exclusive);
  bool contains(const base::json::value& number) const;
  // No number at all can lie in both ranges.
  bool disjoint(const NumberRange& other) const;
};

// The numbers of the range. It may be nothing(): then no number of the written form lies in the range. Numbers without
// bounds may have an exponent of up to two digits. Errors, which name a keyword as their parameter: `unsupported` for
// multiples that take too many states, for integers that are all past 64 bits, and for bounds of integers whose last
// digits are not known.
base::Result<Expression> json_number(GrammarBuilder& builder, const NumberRange& range);

}  // namespace tidemill::grammar
