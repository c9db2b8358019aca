// What codes of eight bits and their scales stand for, without the code under test.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tidemill::test {

// As the tables of OFP8 1.0 have it: (-1)^sign * 2^(exponent - bias) * (1 + mantissa / 2^bits).
inline double eight_bit_value(std::string_view dtype, int code) {
  const bool e4m3 = dtype == "F8_E4M3";
  const int bits = e4m3 ? 3 : 2;
  const int bias = e4m3 ? 7 : 15;
  const int exponent = code / (1 << bits) % (1 << (7 - bits));
  const double fraction = static_cast<double>(code % (1 << bits)) / (1 << bits);
  const double sign = code >= 128 ? -1 : 1;
  if (e4m3 && code % 128 == 127) return std::numeric_limits<double>::quiet_NaN();
  if (!e4m3 && exponent == 31) {
    return fraction == 0 ? sign * std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
  }
  if (exponent == 0) return sign * std::pow(2.0, 1 - bias) * fraction;
  return sign * std::pow(2.0, exponent - bias) * (1 + fraction);
}

// Finds the codes whose numbers are nearest.
class NearestCodes {
 public:
  explicit NearestCodes(std::string_view dtype) {
    for (int code = 0; code < 256; ++code) {
      numbers_.push_back(eight_bit_value(dtype, code));
      if (std::isfinite(numbers_.back())) values_.emplace_back(numbers_.back(), code);
    }
    std::sort(values_.begin(), values_.end());
  }

  double largest() const { return values_.back().first; }
  double number(char code) const { return numbers_[static_cast<uint8_t>(code)]; }
  char operator()(double value) const {
    const auto above = std::lower_bound(values_.begin(), values_.end(), std::pair(value, 0));
    if (above == values_.end()) return static_cast<char>(values_.back().second);
    if (above == values_.begin()) return static_cast<char>(above->second);
    const auto below = std::prev(above);
    return static_cast<char>(value - below->first < above->first - value ? below->second : above->second);
  }

 private:
  std::vector<double> numbers_;                 // by code
  std::vector<std::pair<double, int>> values_;  // ascending
};

// Of a finite number, the nearer of the two BF16 numbers around it, the even one in the middle; its bytes.
inline std::string bf16_bytes(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const uint32_t below = bits >> 16;
  const double low = std::bit_cast<float>(below << 16);
  const double high = std::bit_cast<float>((below + 1) << 16);
  const double down = std::abs(static_cast<double>(value) - low);
  const double up = std::abs(high - static_cast<double>(value));
  const uint32_t chosen = down < up || (down == up && below % 2 == 0) ? below : below + 1;
  return {static_cast<char>(chosen & 0xFF), static_cast<char>(chosen >> 8)};
}

}  // namespace tidemill::test
