// Money, exact: whole billionths of the price table's currency, whichever that is.
#pragma once

#include <compare>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace tidemill::access {

// A token of a cheap model costs some tens of billionths, and 64 bits hold nine thousand million units.
struct Money {
  int64_t nanos = 0;

  // What is too large to be held is as large as can be.
  friend Money operator+(Money a, Money b) {
    int64_t sum = 0;
    if (!__builtin_add_overflow(a.nanos, b.nanos, &sum)) return {sum};
    return {b.nanos > 0 ? std::numeric_limits<int64_t>::max() : std::numeric_limits<int64_t>::min()};
  }
  friend Money operator-(Money a, Money b) { return {a.nanos - b.nanos}; }
  friend auto operator<=>(const Money&, const Money&) = default;
};

// "12", "0.25": a decimal number from 0 to a thousand million, to nine places. Errors: `invalid_argument`.
base::Result<Money> parse_money(std::string_view text);

// "12.50", "0.000045": at least two places, as many as there are.
std::string to_string(Money money);

}  // namespace tidemill::access
