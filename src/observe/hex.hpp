// Trace and span ids as text: lower-case hexadecimal, as W3C Trace Context and OTLP's JSON write them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace tidemill::observe {

// Writes two digits for each byte, and returns where they end.
inline char* write_hex(char* to, std::span<const uint8_t> bytes) {
  constexpr char digits[] = "0123456789abcdef";
  for (const uint8_t byte : bytes) {
    *to++ = digits[byte >> 4];
    *to++ = digits[byte & 15];
  }
  return to;
}

inline std::string to_hex(std::span<const uint8_t> bytes) {
  std::string text(bytes.size() * 2, '0');
  write_hex(text.data(), bytes);
  return text;
}

// Fills `bytes` from exactly twice as many lower-case digits. False, with `bytes` in an unspecified state, for anything
// else; upper case too, which the specification forbids.
inline bool from_hex(std::string_view text, std::span<uint8_t> bytes) {
  if (text.size() != bytes.size() * 2) return false;
  const auto digit = [](char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; };
  for (size_t i = 0; i < bytes.size(); ++i) {
    const int high = digit(text[2 * i]);
    const int low = digit(text[2 * i + 1]);
    if (high < 0 || low < 0) return false;
    bytes[i] = static_cast<uint8_t>(high * 16 + low);
  }
  return true;
}

}  // namespace tidemill::observe
