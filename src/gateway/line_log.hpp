// A file that grows by lines.
#pragma once

#include <atomic>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.hpp"

namespace tidemill::gateway {

// What a path opens for lines: a file, which it closes; standard output; or nothing.
class LineFile {
 public:
  LineFile() = default;
  LineFile(LineFile&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  LineFile& operator=(LineFile&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~LineFile();

 private:
  friend class LineLog;
  explicit LineFile(int fd) : fd_(fd) {}

  int fd_ = -1;
};

// Thread-safe. Lines are collected and written together: when there are many, on `flush`, and at the end.
class LineLog {
 public:
  // `name` is what errors call it: "the access log".
  explicit LineLog(std::string name) : name_(std::move(name)) {}
  ~LineLog();
  LineLog(const LineLog&) = delete;
  LineLog& operator=(const LineLog&) = delete;

  // From now on to the file at `path`, which is appended to and made where there is none; "-" is standard output, ""
  // nothing. The same path opens it anew, for after a rotation. io: it cannot be opened, or is a pipe that nobody
  // reads; then everything stays as it was.
  base::Result<void> open(const std::string& path);
  // The same in two steps, of which the first changes nothing and the second cannot fail.
  base::Result<LineFile> prepare(const std::string& path) const;
  void use(LineFile file);
  bool enabled() const { return enabled_; }

  // With its line break. Lost, and that said once, where the file takes nothing: a full disk must not stop the traffic.
  void write(std::string_view line) {
    write_with([line](std::string& lines) { lines += line; });
  }
  // Calls `append` with the text that the line, or lines, are to be appended to: for lines that are made in place.
  template <typename Append>
  void write_with(const Append& append) {
    if (!enabled()) return;
    const std::lock_guard lock(mutex_);
    append(lines_);
    if (lines_.size() >= write_at) flush_locked();
  }
  void flush();

 private:
  static constexpr size_t write_at = size_t{32} << 10;

  // Of a pipe whose reader is slow.
  static constexpr size_t most_kept = size_t{1} << 20;

  void flush_locked();
  void put_off(size_t done, int fault);

  const std::string name_;
  std::atomic<bool> enabled_{false};
  std::mutex mutex_;
  std::string lines_;
  LineFile file_;
  bool failing_ = false;
};

}  // namespace tidemill::gateway
