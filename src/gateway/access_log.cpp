#include "gateway/access_log.hpp"

#include <cerrno>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <unistd.h>
#include <utility>

#include <fmt/format.h>

#include "base/json.hpp"
#include "base/log.hpp"
#include "base/utf8.hpp"

namespace tidemill::gateway {

namespace {

constexpr size_t write_at = size_t{32} << 10;

// "2026-01-02T03:04:05.678Z"
std::string timestamp(base::WallTime time) {
  const int64_t milliseconds = base::unix_nanos(time) / 1'000'000;
  const std::time_t seconds = milliseconds / 1000;
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", parts.tm_year + 1900, parts.tm_mon + 1,
                     parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec, milliseconds % 1000);
}

void append_text(std::string& line, std::string_view key, std::string_view value) {
  if (value.empty()) return;
  line += fmt::format(",\"{}\":", key);
  line += base::json::serialize(base::json::string(base::utf8::sanitize(value)));
}

void append_count(std::string& line, std::string_view key, int64_t count) {
  if (count >= 0) line += fmt::format(",\"{}\":{}", key, count);
}

}  // namespace

std::string access_line(const AccessRecord& record) {
  std::string line = fmt::format("{{\"time\":\"{}\"", timestamp(record.time));
  append_text(line, "id", record.id);
  append_text(line, "trace_id", record.trace_id);
  append_text(line, "peer", record.peer);
  append_text(line, "tenant", record.tenant);
  append_text(line, "key", record.key);
  append_text(line, "method", record.method);
  append_text(line, "path", record.path);
  append_text(line, "model", record.model);
  append_text(line, "backend", record.backend);
  line += fmt::format(",\"status\":{},\"duration_ms\":{:.3f}", record.status, 1e3 * base::seconds(record.duration));
  if (record.first_byte.count() > 0) line += fmt::format(",\"ttfb_ms\":{:.3f}", 1e3 * base::seconds(record.first_byte));
  append_count(line, "prompt_tokens", record.prompt_tokens);
  append_count(line, "cached_tokens", record.cached_tokens);
  append_count(line, "output_tokens", record.output_tokens);
  append_text(line, "cost", record.cost);
  line += fmt::format(",\"bytes_in\":{},\"bytes_out\":{},\"tries\":{},\"resumed\":{}", record.bytes_in,
                      record.bytes_out, record.tries, record.resumed);
  append_text(line, "error", record.error);
  line += "}\n";
  return line;
}

AccessLog::~AccessLog() {
  const std::lock_guard lock(mutex_);
  flush_locked();
  if (fd_ > STDERR_FILENO) close(fd_);
}

base::Result<void> AccessLog::open(const std::string& path) {
  int fd = -1;
  if (path == "-") {
    fd = STDOUT_FILENO;
  } else if (!path.empty()) {
    fd = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
    if (fd < 0) {
      return base::Error(base::ErrorCode::io,
                         fmt::format("cannot open the access log '{}': {}", path, std::strerror(errno)))
          .with_param("gateway.access_log");
    }
  }
  const std::lock_guard lock(mutex_);
  flush_locked();
  if (fd_ > STDERR_FILENO) close(fd_);
  fd_ = fd;
  enabled_ = fd >= 0;
  return {};
}

void AccessLog::write(const AccessRecord& record) {
  if (!enabled()) return;
  const std::string line = access_line(record);
  const std::lock_guard lock(mutex_);
  lines_ += line;
  if (lines_.size() >= write_at) flush_locked();
}

void AccessLog::flush() {
  const std::lock_guard lock(mutex_);
  flush_locked();
}

void AccessLog::flush_locked() {
  std::string_view left = lines_;
  while (!left.empty() && fd_ >= 0) {
    const ssize_t written = ::write(fd_, left.data(), left.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) {
      // A full disk must not stop the traffic: the lines are lost, and that is said once.
      if (!std::exchange(failing_, true)) base::log::error("cannot write the access log: {}", std::strerror(errno));
      lines_.clear();
      return;
    }
    left.remove_prefix(static_cast<size_t>(written));
  }
  failing_ = false;
  lines_.clear();
}

}  // namespace tidemill::gateway
