#include "cli/output.hpp"

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include <fmt/core.h>

namespace tidemill::cli {

namespace {

// The first failure's errno: stdio remembers only that there was one.
std::atomic<int> failure{0};

void note_failure() {
  int none = 0;
  failure.compare_exchange_strong(none, errno == 0 ? EIO : errno);
}

}  // namespace

bool print_now(std::string_view text) {
  if (failure.load() != 0) return false;
  errno = 0;
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0) note_failure();
  return failure.load() == 0;
}

base::Result<void> finish_output() {
  errno = 0;
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) note_failure();
  const int reason = failure.load();
  if (reason == 0 || reason == EPIPE) return {};
  return base::Error(base::ErrorCode::io, fmt::format("cannot write to standard output: {}", std::strerror(reason)));
}

}  // namespace tidemill::cli
