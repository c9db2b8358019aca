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
  // A pipe must hold up nobody, neither without a reader nor with a slow one. With files it makes no difference.
  const int fd = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0640);
  if (fd >= 0) return LineFile(fd);
  const char* why = errno == ENXIO ? "it is a pipe or a device that nobody reads" : std::strerror(errno);
  return base::Error(base::ErrorCode::io, fmt::format("cannot open {} '{}': {}", name_, path, why));
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
  size_t done = 0;
  while (done < lines_.size() && file_.fd_ >= 0) {
    const ssize_t written = ::write(file_.fd_, lines_.data() + done, lines_.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) {
      put_off(done, errno);
      return;
    }
    done += static_cast<size_t>(written);
  }
  failing_ = false;
  lines_.clear();
}

// What the file has not taken, behind what it has. A pipe that is full is only slow, until too much waits for it.
void LineLog::put_off(size_t done, int fault) {
  lines_.erase(0, done);
  const bool slow = fault == EAGAIN;
  if (slow && lines_.size() <= most_kept) return;
  if (!std::exchange(failing_, true)) {
    base::log::error("cannot write {}: {}", name_, slow ? "nobody reads the pipe fast enough" : std::strerror(fault));
  }
  // The line of which a pipe has the beginning comes to its end.
  lines_.resize(slow ? lines_.find('\n') + 1 : 0);
}

}  // namespace tidemill::gateway
