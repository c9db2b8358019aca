// Ctrl-C as an event that a command can wait for beside other things, instead of the end of the process.
#pragma once

#include <sys/types.h>

#include "base/clock.hpp"

namespace tidemill::cli {

// While one exists, SIGINT and SIGTERM are caught: `raised` becomes true and `wait` returns. The signal after the last
// that is `taken` ends the process at once, for people who mean it. One at a time.
class Interrupt {
 public:
  explicit Interrupt(int taken = 1);
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  bool raised() const;
  // Whether a second signal was taken too.
  bool insisted() const;
  // Forgets the signals so far.
  void clear();

  // Returns when `wake` was called since the last wait, or a signal came.
  void wait();
  // Ends the current or the next wait. From any thread.
  void wake();
  // For waiting on this beside other descriptors: readable where `wait` returns at once.
  int descriptor() const;

  // A signal which ends this process is to end that process group too. 0: none.
  void ends_also(pid_t group);
};

// While one exists, SIGHUP wakes the interrupt's `wait` instead of ending the process. One at a time, within the life
// of its interrupt.
class Hangup {
 public:
  explicit Hangup(Interrupt& interrupt);
  ~Hangup();
  Hangup(const Hangup&) = delete;
  Hangup& operator=(const Hangup&) = delete;

  // Whether one has come since the last call.
  bool take() const;
};

}  // namespace tidemill::cli
