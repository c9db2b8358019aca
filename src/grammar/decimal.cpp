#include "grammar/decimal.hpp"

#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <string>
#include <string_view>

#include <fmt/core.h>

namespace tidemill::grammar {

namespace {

__extension__ using Wide = unsigned __int128;

constexpr double two_to_53 = 9007199254740992.0;
constexpr double two_to_64 = 18446744073709551616.0;
constexpr uint64_t fifteen_digits = 1'000'000'000'000'000;

void strip_zeros(Decimal& decimal) {
  while (decimal.digits != 0 && decimal.digits % 10 == 0) {
    decimal.digits /= 10;
    ++decimal.exponent;
  }
}

// The digits and the exponent of the shortest text that stands for it.
Decimal shortest(double number) {
  Decimal decimal;
  std::array<char, 40> text{};
  const auto written = std::to_chars(text.data(), text.data() + text.size(), number, std::chars_format::scientific);
  bool behind_point = false;
  for (const char* at = text.data(); at != written.ptr; ++at) {
    if (*at == 'e') {
      int exponent = 0;
      const char* digits = at + 1;
      if (*digits == '+') ++digits;
      std::from_chars(digits, written.ptr, exponent);
      decimal.exponent += exponent;
      break;
    }
    if (*at == '.') behind_point = true;
    if (*at < '0' || *at > '9') continue;
    decimal.digits = decimal.digits * 10 + static_cast<uint64_t>(*at - '0');
    if (behind_point) --decimal.exponent;
  }
  return decimal;
}

int width(uint64_t digits) {
  int count = 1;
  for (; digits >= 10; digits /= 10)
    ++count;
  return count;
}

int compare_magnitudes(const Decimal& left, const Decimal& right) {
  if (left.digits == 0 || right.digits == 0)
    return static_cast<int>(left.digits != 0) - static_cast<int>(right.digits != 0);
  const int order = left.exponent + width(left.digits) - right.exponent - width(right.digits);
  if (order != 0) return order;
  // As many digits before the point, so that those of one scaled to the other's exponent are twenty at most.
  Wide a = left.digits;
  Wide b = right.digits;
  for (int i = right.exponent; i < left.exponent; ++i)
    a *= 10;
  for (int i = left.exponent; i < right.exponent; ++i)
    b *= 10;
  return a < b ? -1 : static_cast<int>(a > b);
}

}  // namespace

Decimal Decimal::of(const base::json::value& value) {
  Decimal decimal;
  if (const auto* integer = value.if_int64()) {
    decimal.negative = *integer < 0;
    decimal.digits = decimal.negative ? 0 - static_cast<uint64_t>(*integer) : static_cast<uint64_t>(*integer);
    return decimal;
  }
  if (const auto* natural = value.if_uint64()) {
    decimal.digits = *natural;
    return decimal;
  }
  const double number = value.get_double();
  const double magnitude = std::fabs(number);
  const bool whole = magnitude < two_to_64 && magnitude == std::floor(magnitude);
  if (whole) {
    decimal.digits = static_cast<uint64_t>(magnitude);
  } else {
    decimal = shortest(magnitude);
  }
  strip_zeros(decimal);
  if (decimal.digits == 0) return {};
  decimal.negative = number < 0;
  // What has fifteen digits or fewer is told apart from its neighbours by them.
  decimal.rounded = magnitude >= two_to_53 && decimal.digits >= fifteen_digits;
  return decimal;
}

bool Decimal::is_integer() const {
  uint64_t rest = digits;
  for (int at = exponent; at < 0 && rest != 0; ++at) {
    if (rest % 10 != 0) return false;
    rest /= 10;
  }
  return true;
}

bool Decimal::is_multiple_of(uint64_t factor) const {
  if (!is_integer()) return false;
  uint64_t whole = digits;
  for (int at = exponent; at < 0; ++at)
    whole /= 10;
  Wide rest = whole % factor;
  for (int at = 0; at < exponent; ++at)
    rest = rest * 10 % factor;
  return rest == 0;
}

std::optional<uint64_t> Decimal::as_natural() const {
  if (negative || !is_integer()) return std::nullopt;
  uint64_t value = digits;
  for (int at = exponent; at < 0; ++at)
    value /= 10;
  for (int at = 0; at < exponent && value != 0; ++at) {
    if (value > std::numeric_limits<uint64_t>::max() / 10) return std::nullopt;
    value *= 10;
  }
  return value;
}

double Decimal::as_double() const {
  const std::string text = fmt::format("{}{}e{}", negative ? "-" : "", digits, exponent);
  double value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (parsed.ec == std::errc::result_out_of_range) value = exponent < 0 ? 0.0 : (negative ? -HUGE_VAL : HUGE_VAL);
  return value;
}

int compare(const Decimal& left, const Decimal& right) {
  if (left.negative != right.negative) return left.negative ? -1 : 1;
  const int order = compare_magnitudes(left, right);
  return left.negative ? -order : order;
}

}  // namespace tidemill::grammar
