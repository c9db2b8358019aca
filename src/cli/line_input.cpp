#include "cli/line_input.hpp"

#include <cerrno>
#include <cstring>
#include <poll.h>
#include <unistd.h>
#include <utility>

#include <fmt/core.h>

namespace tidemill::cli {

using base::Error;
using base::ErrorCode;
using base::Result;

Result<std::optional<std::string>> LineInput::next(Interrupt& interrupt) {
  const auto failed = [] {
    return Error(ErrorCode::io, fmt::format("cannot read standard input: {}", std::strerror(errno)));
  };
  size_t searched = 0;
  while (!interrupt.raised()) {
    const size_t end = received_.find('\n', searched);
    if (end != std::string::npos) {
      std::string line = received_.substr(0, end);
      received_.erase(0, end + 1);
      return std::optional(std::move(line));
    }
    searched = received_.size();
    if (ended_) {
      if (received_.empty()) break;
      return std::optional(std::exchange(received_, {}));
    }
    pollfd ready[2] = {{STDIN_FILENO, POLLIN, 0}, {interrupt.descriptor(), POLLIN, 0}};
    if (poll(ready, 2, -1) < 0) {
      if (errno != EINTR) return failed();
      continue;
    }
    if (ready[1].revents != 0) interrupt.wait();
    if (ready[0].revents == 0) continue;
    char buffer[65536];
    const ssize_t count = read(STDIN_FILENO, buffer, sizeof buffer);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return failed();
    ended_ = count == 0;
    received_.append(buffer, static_cast<size_t>(count));
  }
  return std::optional<std::string>();
}

}  // namespace tidemill::cli
