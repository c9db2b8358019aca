// A TCP connection whose every wait has a deadline, plain or under TLS. hiredis has such waits for single reads only,
// and no TLS in the version that Debian 12 carries, so it is used for the protocol alone.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include <openssl/ssl.h>

#include "base/result.hpp"

namespace tidemill::session {

// By the machine's clock: what a peer does cannot be simulated.
using Deadline = std::chrono::steady_clock::time_point;

// What all TLS connections to one server share. Thread-safe once made.
class TlsContext {
 public:
  // Verifies servers by the PEM file, or the system's authorities if empty. Errors: `io`, naming the file.
  static base::Result<TlsContext> create(const std::string& ca_file);
  SSL_CTX* get() const { return context_.get(); }

 private:
  struct Free {
    void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
  };
  std::unique_ptr<SSL_CTX, Free> context_;
};

// One thread at a time. After an error the connection is of no use. Errors: `unavailable`, saying what happened.
class Socket {
 public:
  // `tls` is nullptr for a plain connection; the server must prove to be `host` otherwise.
  static base::Result<Socket> connect(const std::string& host, uint16_t port, const TlsContext* tls, Deadline deadline);
  Socket(Socket&& other) noexcept;
  Socket& operator=(Socket&&) = delete;
  ~Socket();

  base::Result<void> send(std::string_view bytes, Deadline deadline);
  // At least one byte. The end of the stream is an error.
  base::Result<std::string> receive(Deadline deadline);
  // Whether nothing has arrived and the peer has not hung up: what an idle connection should be.
  bool is_quiet() const;

 private:
  struct FreeSsl {
    void operator()(SSL* ssl) const { SSL_free(ssl); }
  };
  explicit Socket(int file) : file_(file) {}

  base::Result<void> start_tls(const std::string& host, const TlsContext& tls, Deadline deadline);
  base::Result<void> send_raw(std::string_view bytes, Deadline deadline);
  base::Result<std::string> receive_raw(Deadline deadline);
  // Sends what OpenSSL wants sent.
  base::Result<void> flush_tls(Deadline deadline);
  // Feeds OpenSSL with what the peer sent.
  base::Result<void> feed_tls(Deadline deadline);
  // Sends and feeds as the failed call of OpenSSL asks for.
  base::Result<void> serve_tls(int outcome, Deadline deadline);

  int file_ = -1;
  std::unique_ptr<SSL, FreeSsl> ssl_;  // over memory, so that sending raises no SIGPIPE
};

}  // namespace tidemill::session
