#include "access/money.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>

#include <fmt/core.h>

namespace tidemill::access {

namespace {

constexpr int64_t nanos_per_unit = 1'000'000'000;
constexpr size_t places = 9;

bool is_digits(std::string_view text) {
  return text.find_first_not_of("0123456789") == std::string_view::npos;
}

}  // namespace

base::Result<Money> parse_money(std::string_view text) {
  const size_t point = std::min(text.find('.'), text.size());
  const std::string_view whole = text.substr(0, point);
  std::string part(point < text.size() ? text.substr(point + 1) : std::string_view());
  const bool sound = !whole.empty() && whole.size() <= 10 && is_digits(whole) && is_digits(part) &&
                     part.size() <= places && (point == text.size() || !part.empty());
  int64_t units = 0;
  int64_t nanos = 0;
  part.resize(places, '0');
  if (sound) {
    std::from_chars(whole.data(), whole.data() + whole.size(), units);
    std::from_chars(part.data(), part.data() + part.size(), nanos);
  }
  if (!sound || units > nanos_per_unit) {
    return base::Error(base::ErrorCode::invalid_argument,
                       fmt::format("'{}' is no amount of money: write a number from 0 to 1000000000 with up to nine "
                                   "decimal places, such as 12.50",
                                   text.substr(0, 40)));
  }
  return Money{units * nanos_per_unit + nanos};
}

std::string to_string(Money money) {
  const bool negative = money.nanos < 0;
  const int64_t size = negative ? -money.nanos : money.nanos;
  std::string text = fmt::format("{}{}.{:09}", negative ? "-" : "", size / nanos_per_unit, size % nanos_per_unit);
  while (text.ends_with('0') && text[text.size() - 3] != '.')
    text.pop_back();
  return text;
}

}  // namespace tidemill::access
