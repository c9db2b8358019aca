// Byte sizes and durations as people write them: "4GiB", "512MB", "250ms", "30s".
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/clock.hpp"
#include "base/result.hpp"

namespace tidemill::base {

struct ByteSize {
  uint64_t bytes = 0;
  friend auto operator<=>(const ByteSize&, const ByteSize&) = default;
};

// A number, fractions allowed, and a unit: B, KB, MB, GB, TB (powers of 1000) or KiB, MiB, GiB, TiB (powers of 1024),
// in any case. A bare number counts bytes. "4G" is refused, because half the world reads it one way and half the other.
Result<ByteSize> parse_bytes(std::string_view text);
// A number, fractions allowed, and a unit: ns, us, ms, s, m, h or d. Only 0 may go without.
Result<Duration> parse_duration(std::string_view text);

// Exact: parsing the text gives the value back. The largest unit that divides it is used.
std::string format_bytes(ByteSize size);
std::string format_duration(Duration duration);

// Three digits at most, for people to read: "1.23 GiB".
std::string human_bytes(double bytes);

}  // namespace tidemill::base
