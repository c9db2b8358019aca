// A client that sends exactly the bytes it is told, through POSIX sockets alone: independent of the code under test.
#pragma once

#include <arpa/inet.h>
#include <cerrno>
#include <chrono>
#include <netinet/in.h>
#include <poll.h>
#include <string>
#include <string_view>
#include <sys/socket.h>
#include <unistd.h>
#include <utility>

#include <gtest/gtest.h>

namespace tidemill::test {

// Long enough for the slowest machine; waits end as soon as what they wait for is there.
inline constexpr auto patience = std::chrono::seconds(60);

// A request with a body, as bytes. `fields`: further ones, each with its line break.
inline std::string raw_post(const std::string& path, const std::string& body, const std::string& fields = {}) {
  return "POST " + path + " HTTP/1.1\r\nHost: x\r\n" + fields + "Content-Length: " + std::to_string(body.size()) +
         "\r\n\r\n" + body;
}

class RawClient {
 public:
  explicit RawClient(uint16_t port, int receive_buffer = 0) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    if (receive_buffer != 0) ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = ::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  }
  ~RawClient() { close(); }
  RawClient(RawClient&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)), connected_(other.connected_), pending_(std::move(other.pending_)) {}
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;
  RawClient& operator=(RawClient&&) = delete;

  bool connected() const { return connected_; }

  // False if the server has closed the connection.
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent < 0) return false;
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
    return true;
  }
  // One byte of urgent data, which the peer does not see in its place.
  bool send_urgent(char byte) { return ::send(fd_, &byte, 1, MSG_OOB | MSG_NOSIGNAL) == 1; }
  void finish_sending() { ::shutdown(fd_, SHUT_WR); }
  void close() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }
  // Closes with a reset.
  void reset() {
    const linger hard{1, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close();
  }

  // Everything up to and with `end`; what was there instead if the connection ended before.
  std::string read_through(std::string_view end) {
    size_t found = std::string::npos;
    while ((found = pending_.find(end)) == std::string::npos && receive()) {
    }
    return take(found == std::string::npos ? pending_.size() : found + end.size());
  }
  std::string read_exactly(size_t count) {
    while (pending_.size() < count && receive()) {
    }
    return take(std::min(count, pending_.size()));
  }
  // Everything until the server ends the connection.
  std::string read_all() {
    while (receive()) {
    }
    return take(pending_.size());
  }
  // One answer with a Content-Length: head and body together.
  std::string read_answer() {
    std::string head = read_through("\r\n\r\n");
    const size_t field = head.find("Content-Length: ");
    const size_t length = field == std::string::npos ? 0 : std::stoul(head.substr(field + 16));
    return head + read_exactly(length);
  }
  // Whether the server has ended the connection, with nothing left to read.
  bool at_end() { return pending_.empty() && !receive() && ended_; }
  bool was_reset() const { return reset_; }
  // Whether there is something to read now, or the end.
  bool has_input() const {
    pollfd poll{fd_, POLLIN, 0};
    return ::poll(&poll, 1, 0) > 0;
  }

 private:
  bool receive() {
    pollfd poll{fd_, POLLIN, 0};
    const auto limit = std::chrono::duration_cast<std::chrono::milliseconds>(patience).count();
    if (::poll(&poll, 1, static_cast<int>(limit)) <= 0) {
      ADD_FAILURE() << "the server sent nothing for " << limit << " ms; so far: " << pending_;
      return false;
    }
    char bytes[65536];
    const ssize_t count = ::recv(fd_, bytes, sizeof bytes, 0);
    if (count <= 0) {
      ended_ = true;
      reset_ = count < 0;
      return false;
    }
    pending_.append(bytes, static_cast<size_t>(count));
    return true;
  }
  std::string take(size_t count) {
    std::string taken = pending_.substr(0, count);
    pending_.erase(0, count);
    return taken;
  }

  int fd_;
  bool connected_ = false;
  bool ended_ = false;
  bool reset_ = false;
  std::string pending_;
};

}  // namespace tidemill::test
