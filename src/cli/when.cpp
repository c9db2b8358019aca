#include "cli/when.hpp"

#include <charconv>
#include <ctime>
#include <string>

#include <fmt/core.h>

namespace tidemill::cli {

base::Result<base::WallTime> parse_when(std::string_view text) {
  if (text.empty()) return base::SystemClock::instance().wall_now();
  int64_t seconds = 0;
  const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (fault == std::errc() && end == text.data() + text.size()) return base::WallTime(std::chrono::seconds(seconds));
  const std::string copy(text);
  for (const char* format : {"%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d"}) {
    std::tm parts{};
    const char* rest = strptime(copy.c_str(), format, &parts);
    if (rest != nullptr && *rest == '\0') return base::WallTime(std::chrono::seconds(timegm(&parts)));
  }
  return base::Error(base::ErrorCode::invalid_argument,
                     fmt::format("'{}' is no time: use 2026-01-15T12:30:00 (UTC) or seconds since 1970", text))
      .with_param("--now");
}

}  // namespace tidemill::cli
