// Decimal numbers as JSON writes them, compared and divided exactly.
#pragma once

#include <cstdint>
#include <optional>

#include "base/json.hpp"

namespace tidemill::grammar {

// Integers of 64 bits are what the JSON text says, digit by digit. Other numbers were read as doubles: the whole ones
// below 2^64 are that double's value, the rest has the digits of the shortest text that stands for the double.
struct Decimal {
  bool negative = false;  // never of zero
  uint64_t digits = 0;
  int exponent = 0;      // the magnitude is digits * 10^exponent
  bool rounded = false;  // a whole number of 2^53 or more, read as a double, that may stand for a neighbour

  // `value` must be a number.
  static Decimal of(const base::json::value& value);
  bool is_integer() const;
  bool is_multiple_of(uint64_t factor) const;  // which is above 0
  // Nothing for what is negative, no integer, or past 64 bits.
  std::optional<uint64_t> as_natural() const;
  double as_double() const;
};

// Below zero, zero or above it, as `left` is below `right`, equal to it or above it.
int compare(const Decimal& left, const Decimal& right);

}  // namespace tidemill::grammar
