#include "base/log.hpp"

#include <atomic>
#include <string>

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

namespace tidemill::base::log {
namespace {

std::atomic<Level> threshold{Level::info};

spdlog::logger& logger() {
  static const auto instance = [] {
    auto sink = std::make_shared<spdlog::sinks::stderr_color_sink_mt>();
    auto made = std::make_shared<spdlog::logger>("tidemill", std::move(sink));
    made->set_pattern("%Y-%m-%dT%H:%M:%S.%e %^%l%$ %v");
    made->set_level(spdlog::level::trace);  // `threshold` filters
    return made;
  }();
  return *instance;
}

spdlog::level::level_enum to_spdlog(Level level) {
  switch (level) {
    case Level::trace:
      return spdlog::level::trace;
    case Level::debug:
      return spdlog::level::debug;
    case Level::info:
      return spdlog::level::info;
    case Level::warn:
      return spdlog::level::warn;
    case Level::error:
      return spdlog::level::err;
    case Level::off:
      return spdlog::level::off;
  }
  return spdlog::level::info;
}

}  // namespace

void set_level(Level level) {
  threshold.store(level, std::memory_order_relaxed);
}

bool enabled(Level level) {
  return level >= threshold.load(std::memory_order_relaxed) && level != Level::off;
}

Result<Level> parse_level(std::string_view word) {
  constexpr std::pair<std::string_view, Level> names[] = {{"trace", Level::trace}, {"debug", Level::debug},
                                                          {"info", Level::info},   {"warn", Level::warn},
                                                          {"error", Level::error}, {"off", Level::off}};
  for (const auto& [name, level] : names) {
    if (name == word) return level;
  }
  return Error(ErrorCode::invalid_argument,
               fmt::format("unknown log level '{}': use trace, debug, info, warn, error or off", word));
}

void write(Level level, std::string_view message) {
  logger().log(to_spdlog(level), message);
}

}  // namespace tidemill::base::log
