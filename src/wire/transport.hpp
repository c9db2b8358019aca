// The bytes of one TCP connection, plain or under TLS, without waiting: every call takes what is there and says what to
// wait for. Private to the room.
//
// OpenSSL works on the socket itself (through a BIO of ours, so that a peer that has gone is an error and not a
// signal); an idle TLS connection holds no buffers.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <boost/asio/buffer.hpp>

#include "base/result.hpp"
#include "wire/socket_events.hpp"

using SSL = struct ssl_st;
using SSL_CTX = struct ssl_ctx_st;

namespace tidemill::wire {

namespace asio = boost::asio;

// The pieces of one write, in order; unused ones are empty.
using Pieces = std::array<asio::const_buffer, 3>;

// What came of a try to read, write or shake hands.
struct Progress {
  enum class Kind : uint8_t {
    done,        // `bytes` were moved
    want_read,   // again when the socket can be read
    want_write,  // again when it can be written
    ended,       // the peer's bytes are at their end, in order
    failed,      // `error`
  };
  Kind kind = Kind::done;
  size_t bytes = 0;
  boost::system::error_code error;
};

// Not thread-safe.
class Transport {
 public:
  // `tell`, `owner` and `descriptor` as those of Socket.
  Transport(SocketEvents& events, Socket::Tell tell, void* owner) : socket_(events, tell, owner) {}
  Transport(SocketEvents& events, Socket::Tell tell, void* owner, int descriptor)
      : socket_(events, tell, owner, descriptor) {}
  ~Transport();
  Transport(const Transport&) = delete;
  Transport& operator=(const Transport&) = delete;

  // Once the socket is connected: makes it non-blocking and turns Nagle's algorithm off.
  void prepare() const;
  // From here on the bytes are those within TLS, once `handshake` is done. A client checks the peer's certificate
  // against `host` (a name or an address), which a server leaves empty. False: OpenSSL refused.
  bool start_tls(SSL_CTX* context, const std::string& host);
  bool tls() const { return ssl_ != nullptr; }
  Progress handshake();
  // Why the handshake failed, in words: "certificate verify failed: unable to get local issuer certificate".
  const std::string& tls_failure() const { return tls_failure_; }

  Progress read(char* to, size_t size);
  // The first byte that waits below TLS, which stays there.
  Progress peek(char* byte);
  // Takes pieces off the front as they are written.
  Progress write(Pieces& pieces);
  // Tells a TLS peer that no more bytes will follow; without waiting.
  void finish_tls();

  // Bytes that were written and that the peer has not acknowledged; nullopt where the system does not say.
  std::optional<int64_t> unacknowledged() const;

  // Whether a connection that should be silent still is: no bytes, end or error have come.
  bool silent();

  Socket& socket() { return socket_; }

 private:
  struct SslFree {
    void operator()(SSL* ssl) const;
  };
  Progress of_tls(int result);
  Progress receive(char* to, size_t size, int flags);

  Socket socket_;
  std::unique_ptr<SSL, SslFree> ssl_;
  std::string tls_failure_;
};

}  // namespace tidemill::wire
