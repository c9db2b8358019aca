#include "gateway/line_log.hpp"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>
#include <utility>

#include <fmt/core.h>

#include "base/log.hpp"

namespace tidemill::gateway {

LineFile::~LineFile() {
  if (fd_ > STDERR_FILENO) close(fd_);
}

LineLog::~LineLog() {
  const std::lock_guard lock(mutex_);
  flush_locked();
}

base::Result<LineFile> LineLog::prepare(const std::string& path) const {
  if (path.empty()) return LineFile();
  if (path == "-") return LineFile(STDOUT_FILENO);
  const int fd = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
  if (fd >= 0) return LineFile(fd);
  return base::Error(base::ErrorCode::io, fmt::format("cannot open {} '{}': {}", name_, path, std::strerror(errno)));
}

void LineLog::use(LineFile file) {
  const std::lock_guard lock(mutex_);
  flush_locked();
  file_ = std::move(file);
  enabled_ = file_.fd_ >= 0;
}

base::Result<void> LineLog::open(const std::string& path) {
  TM_TRY(LineFile file, prepare(path));
  use(std::move(file));
  return {};
}

void LineLog::flush() {
  const std::lock_guard lock(mutex_);
  flush_locked();
}

void LineLog::flush_locked() {
  std::string_view left = lines_;
  while (!left.empty() && file_.fd_ >= 0) {
    const ssize_t written = ::write(file_.fd_, left.data(), left.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) {
      if (!std::exchange(failing_, true)) base::log::error("cannot write {}: {}", name_, std::strerror(errno));
      lines_.clear();
      return;
    }
    left.remove_prefix(static_cast<size_t>(written));
  }
  failing_ = false;
  lines_.clear();
}

}  // namespace tidemill::gateway
