// A disk that is full, for tests of what is left behind then.
#pragma once

#include <csignal>
#include <sys/resource.h>

namespace tidemill::test {

// As long as this lives, files of this process end where end_at() says. That goes for logs too, so that nothing is
// expected meanwhile.
class SmallDisk {
 public:
  SmallDisk() : signal_(std::signal(SIGXFSZ, SIG_IGN)) { getrlimit(RLIMIT_FSIZE, &before_); }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;
  ~SmallDisk() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, signal_);
  }

  void end_at(rlim_t bytes) const {
    const rlimit small{bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &small);
  }

 private:
  rlimit before_{};
  void (*signal_)(int);
};

}  // namespace tidemill::test
