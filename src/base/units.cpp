#include "base/units.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>
#include <span>

#include <fmt/format.h>

#include "base/lower_case.hpp"

namespace tidemill::base {
namespace {

struct Unit {
  std::string_view name;
  uint64_t factor;
};

constexpr uint64_t kib = 1024;
constexpr std::array<Unit, 9> byte_units = {{{"TiB", kib* kib* kib* kib},
                                             {"GiB", kib* kib* kib},
                                             {"MiB", kib* kib},
                                             {"KiB", kib},
                                             {"TB", 1'000'000'000'000},
                                             {"GB", 1'000'000'000},
                                             {"MB", 1'000'000},
                                             {"KB", 1'000},
                                             {"B", 1}}};
constexpr std::array<Unit, 7> duration_units = {{{"d", 86'400'000'000'000},
                                                 {"h", 3'600'000'000'000},
                                                 {"m", 60'000'000'000},
                                                 {"s", 1'000'000'000},
                                                 {"ms", 1'000'000},
                                                 {"us", 1'000},
                                                 {"ns", 1}}};

// number * factor, where the text is a plain decimal number and the product at most `most`.
std::optional<uint64_t> scaled(std::string_view number, uint64_t factor, uint64_t most) {
  const char* end = number.data() + number.size();
  uint64_t whole = 0;
  if (const auto parsed = std::from_chars(number.data(), end, whole); parsed.ec == std::errc() && parsed.ptr == end) {
    return whole <= most / factor ? std::optional(whole * factor) : std::nullopt;
  }
  double fraction = 0;
  const auto parsed = std::from_chars(number.data(), end, fraction, std::chars_format::fixed);
  if (parsed.ec != std::errc() || parsed.ptr != end) return std::nullopt;
  const double product = std::round(fraction * static_cast<double>(factor));
  // 2^63 and 2^64 are doubles, the largest integers below them are not: compare so that the conversion is in range.
  if (!(product >= 0) || product >= static_cast<double>(most)) return std::nullopt;
  return static_cast<uint64_t>(product);
}

// `bare_factor` is for a number without a unit; 0 allows only zero there.
std::optional<uint64_t> parse_quantity(std::string_view text, std::span<const Unit> units, uint64_t bare_factor,
                                       uint64_t most) {
  const size_t digits = std::min(text.size(), text.find_first_not_of("0123456789."));
  const std::string_view number = text.substr(0, digits);
  std::string_view unit = text.substr(digits);
  if (!unit.empty() && unit.front() == ' ') unit.remove_prefix(1);
  if (number.empty() || number.front() == '.') return std::nullopt;
  if (unit.empty()) {
    const auto value = scaled(number, std::max<uint64_t>(bare_factor, 1), most);
    return bare_factor == 0 && value != 0 ? std::nullopt : value;
  }
  for (const Unit& known : units) {
    if (equal_ignoring_case(unit, known.name)) return scaled(number, known.factor, most);
  }
  return std::nullopt;
}

std::string format_quantity(uint64_t value, std::span<const Unit> units) {
  for (const Unit& unit : units) {
    if (value >= unit.factor && value % unit.factor == 0) return fmt::format("{}{}", value / unit.factor, unit.name);
  }
  return "0";
}

}  // namespace

Result<ByteSize> parse_bytes(std::string_view text) {
  const auto bytes = parse_quantity(text, byte_units, 1, std::numeric_limits<int64_t>::max());
  if (bytes) return ByteSize{*bytes};
  return Error(ErrorCode::invalid_argument,
               fmt::format("'{}' is not a size: write a number and B, KB, MB, GB, TB, KiB, MiB, GiB or TiB, as in 4GiB",
                           text.substr(0, 64)));
}

Result<Duration> parse_duration(std::string_view text) {
  const auto nanoseconds = parse_quantity(text, duration_units, 0, std::numeric_limits<int64_t>::max());
  if (nanoseconds) return Duration(static_cast<int64_t>(*nanoseconds));
  return Error(ErrorCode::invalid_argument,
               fmt::format("'{}' is not a duration: write a number and ns, us, ms, s, m, h or d, as in 30s",
                           text.substr(0, 64)));
}

std::string format_bytes(ByteSize size) {
  return format_quantity(size.bytes, byte_units);
}

std::string format_duration(Duration duration) {
  const int64_t count = duration.count();
  const auto magnitude = count < 0 ? ~static_cast<uint64_t>(count) + 1 : static_cast<uint64_t>(count);
  return (count < 0 ? "-" : "") + format_quantity(magnitude, duration_units);
}

std::string human_bytes(double bytes) {
  constexpr std::array<std::string_view, 6> names = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  size_t unit = 0;
  // 999.5 would already print as four digits.
  while (unit + 1 < names.size() && bytes >= 999.5) {
    bytes /= 1024;
    ++unit;
  }
  const int decimals = unit == 0 || bytes >= 99.95 ? 0 : bytes >= 9.995 ? 1 : 2;
  return fmt::format("{:.{}f} {}", bytes, decimals, names[unit]);
}

}  // namespace tidemill::base
