// Leveled logging to standard error, one line a message. Thread-safe. Levels follow spdlog's: trace, debug, info, warn,
// error, off. Prompts and generated text are never logged.
#pragma once

#include <string_view>

#include <fmt/core.h>

#include "base/result.hpp"

namespace tidemill::base::log {

enum class Level { trace, debug, info, warn, error, off };

// Below `level`, messages are dropped before they are formatted. The default is info.
void set_level(Level level);
bool enabled(Level level);
// "warn" -> Level::warn; an unknown word is an error that lists the known ones.
Result<Level> parse_level(std::string_view word);

void write(Level level, std::string_view message);

template <typename... Args>
void debug(fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::debug)) write(Level::debug, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void info(fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::info)) write(Level::info, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void warn(fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::warn)) write(Level::warn, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void error(fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::error)) write(Level::error, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace tidemill::base::log
