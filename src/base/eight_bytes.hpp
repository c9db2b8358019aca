// Looking through text eight bytes at a time, in a register of 64 bits (Warren, Hacker's Delight, 2nd edition, 6-1).
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>

namespace tidemill::base {

namespace eight_bytes {

inline constexpr uint64_t ones = 0x0101010101010101;
inline constexpr uint64_t tops = 0x80 * ones;

// Not zero if one of the eight is `byte`.
constexpr uint64_t equal(uint64_t eight, uint8_t byte) {
  const uint64_t differing = eight ^ (byte * ones);
  return (differing - ones) & ~differing & tops;
}
// Not zero if one of the eight is below `bound`, of at most 128.
constexpr uint64_t below(uint64_t eight, uint8_t bound) {
  return (eight - bound * ones) & ~eight & tops;
}
// Not zero if one of the eight is no ASCII.
constexpr uint64_t beyond_ascii(uint64_t eight) {
  return eight & tops;
}

}  // namespace eight_bytes

// Whether `found`, which is given eight bytes, is not zero anywhere in `text`. It sees some bytes more than once, and
// besides them at most blanks.
template <typename Found>
bool any_of_bytes(std::string_view text, const Found& found) {
  uint64_t eight = ' ' * eight_bytes::ones;
  if (text.size() < 8) {
    for (const char c : text)
      eight = eight << 8 | static_cast<uint8_t>(c);
    return found(eight) != 0;
  }
  const char* const last = text.data() + text.size() - 8;
  for (const char* at = text.data(); at < last; at += 8) {
    std::memcpy(&eight, at, 8);
    if (found(eight) != 0) return true;
  }
  std::memcpy(&eight, last, 8);
  return found(eight) != 0;
}

}  // namespace tidemill::base
