#include "cli/interrupt.hpp"

#include <atomic>
#include <cassert>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <sys/eventfd.h>
#include <unistd.h>

namespace tidemill::cli {

namespace {

// What a signal handler may touch: plain atomics, and a descriptor to write to.
std::atomic<int> signals{0};
std::atomic<int> most_taken{1};
std::atomic<int> wake_fd{-1};
std::atomic<pid_t> ended_group{0};
struct sigaction previous_int;
struct sigaction previous_term;
struct sigaction previous_hup;
std::atomic<bool> hung_up{false};

void post(int fd) {
  const uint64_t one = 1;
  // The counter of an eventfd cannot fill up here, and a failed wake-up has no one to be told.
  [[maybe_unused]] const ssize_t written = write(fd, &one, sizeof one);
}

void on_signal(int signal) {
  if (signals.fetch_add(1) >= most_taken.load()) {
    const pid_t group = ended_group.load();
    if (group > 0) kill(-group, SIGKILL);
    ::signal(signal, SIG_DFL);
    raise(signal);
    return;
  }
  const int saved = errno;
  post(wake_fd.load());
  errno = saved;
}

void on_hangup(int) {
  const int saved = errno;
  hung_up.store(true);
  post(wake_fd.load());
  errno = saved;
}

}  // namespace

Interrupt::Interrupt(int taken) {
  assert(wake_fd.load() == -1);
  wake_fd = eventfd(0, EFD_CLOEXEC);
  signals = 0;
  most_taken = taken;
  struct sigaction action {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, &previous_int);
  sigaction(SIGTERM, &action, &previous_term);
}

Interrupt::~Interrupt() {
  sigaction(SIGINT, &previous_int, nullptr);
  sigaction(SIGTERM, &previous_term, nullptr);
  close(wake_fd.exchange(-1));
}

bool Interrupt::raised() const {
  return signals.load() > 0;
}

bool Interrupt::insisted() const {
  return signals.load() > 1;
}

void Interrupt::clear() {
  signals = 0;
}

void Interrupt::wait() {
  uint64_t count = 0;
  while (read(wake_fd.load(), &count, sizeof count) < 0 && errno == EINTR && !raised()) {
  }
}

void Interrupt::wake() {
  post(wake_fd.load());
}

int Interrupt::descriptor() const {
  return wake_fd.load();
}

void Interrupt::ends_also(pid_t group) {
  ended_group = group;
}

Hangup::Hangup(Interrupt&) {
  hung_up = false;
  struct sigaction action {};
  action.sa_handler = on_hangup;
  sigemptyset(&action.sa_mask);
  sigaction(SIGHUP, &action, &previous_hup);
}

Hangup::~Hangup() {
  sigaction(SIGHUP, &previous_hup, nullptr);
}

bool Hangup::take() const {
  return hung_up.exchange(false);
}

}  // namespace tidemill::cli
