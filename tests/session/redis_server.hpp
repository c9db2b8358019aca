// A real redis-server of a test's own: on a free port of the loopback, in a folder of its own, ended with the test.
#pragma once

#include <csignal>
#include <cstdint>
#include <optional>
#include <string>
#include <sys/types.h>
#include <vector>

#include "temporary_folder.hpp"

namespace tidemill::test {

class RedisServer {
 public:
  // Whether the program is installed.
  static bool installed();

  // Starts one with further arguments ("--maxmemory", "4mb"), and waits until it listens. Stays on its port over
  // restarts. `tls` makes its port one for TLS, with a certificate for "localhost" that is at certificate().
  explicit RedisServer(std::vector<std::string> arguments = {}, bool tls = false);
  ~RedisServer() { kill(); }
  RedisServer(const RedisServer&) = delete;
  RedisServer& operator=(const RedisServer&) = delete;

  bool running() const { return pid_ > 0; }  // false: it did not start, as a build without TLS does not with it
  uint16_t port() const { return port_; }
  std::string certificate() const { return folder_.path() / "certificate.pem"; }
  // "redis://127.0.0.1:PORT/0", with "user:password@" if given.
  std::string url(const std::string& credentials = "") const;

  void kill();     // at once, with SIGKILL
  void restart();  // on the same port, empty
  void freeze();   // SIGSTOP, and waits until it has stopped
  void thaw();

 private:
  void start();

  TemporaryFolder folder_;
  std::vector<std::string> arguments_;
  bool tls_ = false;
  uint16_t port_ = 0;
  pid_t pid_ = -1;
};

}  // namespace tidemill::test
