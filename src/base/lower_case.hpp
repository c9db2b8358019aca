// Case as protocols and file formats mean it: ASCII's letters alone, whatever the locale is.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>

namespace tidemill::base {

// A capital of ASCII becomes its small letter; every other byte stays.
constexpr char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

inline std::string lower(std::string_view text) {
  std::string lowered(text);
  for (char& c : lowered)
    c = lower(c);
  return lowered;
}

constexpr bool equal_ignoring_case(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) { return lower(x) == lower(y); });
}

}  // namespace tidemill::base
