// A server for what no good server does: each connection follows a script, through POSIX sockets alone.
#pragma once

#include <arpa/inet.h>
#include <atomic>
#include <functional>
#include <netinet/in.h>
#include <poll.h>
#include <string>
#include <string_view>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

#include "wire/raw_client.hpp"

namespace tidemill::test {

// One accepted connection, for its script.
class ScriptedConnection {
 public:
  explicit ScriptedConnection(int fd) : fd_(fd) {}
  ~ScriptedConnection() { close(); }
  ScriptedConnection(const ScriptedConnection&) = delete;
  ScriptedConnection& operator=(const ScriptedConnection&) = delete;

  // One request without a body; what there was of it if the client went.
  std::string read_head() { return read_through("\r\n\r\n"); }
  std::string read_through(std::string_view end) {
    while (pending_.find(end) == std::string::npos && receive()) {
    }
    const size_t found = pending_.find(end);
    const size_t count = found == std::string::npos ? pending_.size() : found + end.size();
    std::string taken = pending_.substr(0, count);
    pending_.erase(0, count);
    return taken;
  }
  // Until the client ends the connection.
  void read_to_end() {
    while (receive()) {
    }
  }
  void send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return;
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
  }
  // Bytes go both ways between the client and another port of this machine, until either ends the connection.
  void relay_to(uint16_t port) {
    const int other = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    bool open = ::connect(other, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
    while (open) {
      pollfd ends[] = {{.fd = fd_, .events = POLLIN, .revents = 0}, {.fd = other, .events = POLLIN, .revents = 0}};
      open = ::poll(ends, 2, -1) > 0;
      for (int i = 0; open && i < 2; ++i) {
        if (ends[i].revents == 0) continue;
        char bytes[65536];
        const ssize_t count = ::recv(ends[i].fd, bytes, sizeof bytes, 0);
        open = count > 0 && ::send(ends[1 - i].fd, bytes, static_cast<size_t>(count), MSG_NOSIGNAL) == count;
      }
    }
    ::close(other);
  }
  void close() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }

 private:
  bool receive() {
    char bytes[65536];
    const ssize_t count = ::recv(fd_, bytes, sizeof bytes, 0);
    if (count <= 0) return false;
    pending_.append(bytes, static_cast<size_t>(count));
    return true;
  }

  int fd_;
  std::string pending_;
};

// The n-th connection follows the n-th script; there are no more.
class ScriptedServer {
 public:
  using Script = std::function<void(ScriptedConnection&)>;

  explicit ScriptedServer(std::vector<Script> scripts) : listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    ::bind(listener_, reinterpret_cast<const sockaddr*>(&address), sizeof address);
    ::listen(listener_, 16);
    ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this, all = std::move(scripts)] {
      for (const Script& script : all) {
        const int fd = ::accept(listener_, nullptr, nullptr);
        if (fd < 0) return;
        ++accepted_;
        ScriptedConnection connection(fd);
        script(connection);
      }
    });
  }
  ~ScriptedServer() { join(); }
  void join() {
    ::shutdown(listener_, SHUT_RDWR);  // ends an accept that still waits
    if (thread_.joinable()) thread_.join();
    if (listener_ >= 0) ::close(std::exchange(listener_, -1));
  }

  uint16_t port() const { return port_; }
  std::string url(std::string_view path = "/") const {
    return "http://127.0.0.1:" + std::to_string(port_) + std::string(path);
  }
  int accepted() const { return accepted_; }

 private:
  int listener_;
  uint16_t port_ = 0;
  std::atomic<int> accepted_ = 0;
  std::thread thread_;
};

}  // namespace tidemill::test
