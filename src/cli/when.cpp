#include "cli/when.hpp"

#include <charconv>
#include <ctime>
#include <optional>
#include <string>

#include <fmt/core.h>

namespace tidemill::cli {

namespace {

// About what nanoseconds since 1970 hold: to the year 2255.
constexpr int64_t most_seconds = 9'000'000'000;

std::optional<base::WallTime> at_second(int64_t seconds) {
  if (seconds < -most_seconds || seconds > most_seconds) return std::nullopt;
  return base::WallTime(std::chrono::seconds(seconds));
}

// What strptime() makes of any day up to the 31st of a month, and of a 60th second, timegm() moves to where it would
// be.
std::optional<base::WallTime> read_date(const std::string& text, const char* format) {
  std::tm parts{};
  const char* rest = strptime(text.c_str(), format, &parts);
  if (rest == nullptr || *rest != '\0') return std::nullopt;
  std::tm moved = parts;
  const int64_t seconds = timegm(&moved);
  if (moved.tm_mday != parts.tm_mday || moved.tm_sec != parts.tm_sec) return std::nullopt;
  return at_second(seconds);
}

}  // namespace

base::Result<base::WallTime> parse_when(std::string_view text) {
  if (text.empty()) return base::SystemClock::instance().wall_now();
  int64_t seconds = 0;
  const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (fault == std::errc() && end == text.data() + text.size()) {
    if (const auto time = at_second(seconds)) return *time;
  }
  const std::string copy(text);
  for (const char* format : {"%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d"}) {
    if (const auto time = read_date(copy, format)) return *time;
  }
  return base::Error(base::ErrorCode::invalid_argument,
                     fmt::format("'{}' is no time: use 2026-01-15T12:30:00 (UTC) or seconds since 1970", text))
      .with_param("--now");
}

}  // namespace tidemill::cli
