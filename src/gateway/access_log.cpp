#include "gateway/access_log.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <ctime>
#include <utility>

#include <fmt/format.h>

#include "base/json.hpp"
#include "base/utf8.hpp"

namespace tidemill::gateway {

namespace {

// Appends without fmt, whose formats are read anew for every line: this was a quarter of all that a request cost.
void append_number(std::string& line, int64_t number) {
  std::array<char, 20> digits;
  line.append(digits.data(), std::to_chars(digits.data(), digits.data() + digits.size(), number).ptr);
}

// With its leading zeros.
void append_digits(std::string& line, int64_t number, int64_t highest) {
  for (; highest > 0; highest /= 10)
    line += static_cast<char>('0' + number / highest % 10);
}

// "2026-01-02T03:04:05.678Z"
void append_time(std::string& line, base::WallTime time) {
  const int64_t milliseconds = base::unix_nanos(time) / 1'000'000;
  static thread_local int64_t of = -1;
  static thread_local std::string seconds;  // made once a second and thread
  if (std::exchange(of, milliseconds / 1000) != milliseconds / 1000) {
    std::tm parts{};
    const std::time_t second = of;
    gmtime_r(&second, &parts);
    seconds = fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.", parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday,
                          parts.tm_hour, parts.tm_min, parts.tm_sec);
  }
  line += seconds;
  append_digits(line, milliseconds % 1000, 100);
  line += 'Z';
}

bool is_plain(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c < '\x7f' && c != '"' && c != '\\'; });
}

void append_key(std::string& line, std::string_view key) {
  line.append(",\"").append(key).append("\":");
}

void append_text(std::string& line, std::string_view key, std::string_view value) {
  if (value.empty()) return;
  append_key(line, key);
  if (is_plain(value)) {
    line.append("\"").append(value).append("\"");
  } else {
    line += base::json::serialize(base::json::string(base::utf8::sanitize(value)));
  }
}

void append_count(std::string& line, std::string_view key, int64_t count) {
  if (count < 0) return;
  append_key(line, key);
  append_number(line, count);
}

// To the microsecond.
void append_milliseconds(std::string& line, std::string_view key, base::Duration duration) {
  const int64_t micros = (std::max<int64_t>(duration.count(), 0) + 500) / 1000;
  append_key(line, key);
  append_number(line, micros / 1000);
  line += '.';
  append_digits(line, micros % 1000, 100);
}

void append_line(std::string& line, const AccessRecord& record) {
  line += "{\"time\":\"";
  append_time(line, record.time);
  line += '"';
  append_text(line, "id", record.id);
  append_text(line, "trace_id", record.trace_id);
  append_text(line, "peer", record.peer);
  append_text(line, "tenant", record.tenant);
  append_text(line, "key", record.key);
  append_text(line, "method", record.method);
  append_text(line, "path", record.path);
  append_text(line, "model", record.model);
  append_text(line, "route", record.route);
  append_text(line, "target", record.target);
  append_text(line, "backend", record.backend);
  append_count(line, "status", record.status);
  append_milliseconds(line, "duration_ms", record.duration);
  if (record.first_byte.count() > 0) append_milliseconds(line, "ttfb_ms", record.first_byte);
  append_count(line, "prompt_tokens", record.prompt_tokens);
  append_count(line, "cached_tokens", record.cached_tokens);
  append_count(line, "output_tokens", record.output_tokens);
  append_text(line, "cost", record.cost);
  append_count(line, "bytes_in", static_cast<int64_t>(record.bytes_in));
  append_count(line, "bytes_out", static_cast<int64_t>(record.bytes_out));
  append_count(line, "tries", record.tries);
  append_count(line, "resumed", record.resumed);
  append_text(line, "error", record.error);
  append_text(line, "asked", record.asked);
  line += "}\n";
}

}  // namespace

std::string access_line(const AccessRecord& record) {
  std::string line;
  append_line(line, record);
  return line;
}

base::Result<void> AccessLog::open(const std::string& path) {
  TM_TRY(LineFile file, prepare(path));
  use(std::move(file));
  return {};
}

base::Result<LineFile> AccessLog::prepare(const std::string& path) const {
  auto file = lines_.prepare(path);
  if (!file) return std::move(file).error().with_param("gateway.access_log");
  return file;
}

void AccessLog::write(const AccessRecord& record) {
  if (!enabled()) return;
  lines_.write_with([&record](std::string& lines) { append_line(lines, record); });
}

}  // namespace tidemill::gateway
