// The HTTP/1.1 client for many requests to few servers: kept connections, bodies read where they were received, exact
// knowledge of what reached the peer. For the gateway; HttpClient sits on it.
//
// Connections belong to the io_context of the coroutine that opened them, which must be run by one thread at a time (a
// server's are): nothing is shared between threads while requests run. So the limits of PoolOptions hold per thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <boost/asio/awaitable.hpp>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "wire/http_message.hpp"
#include "wire/proxy.hpp"
#include "wire/tls_context.hpp"
#include "wire/url.hpp"

namespace tidemill::wire {

namespace asio = boost::asio;

struct PoolOptions {
  // To one origin (scheme, host, port), in use and idle. At the limit a request waits for one to become free.
  size_t max_connections = 1024;
  size_t max_idle = 256;  // to one origin; 0: every request has a connection of its own, and says so to the server
  // How long an unused connection is kept. Servers close theirs after 5 s (uvicorn) to 75 s (nginx, Tidemill).
  base::Duration max_idle_time = std::chrono::seconds(30);
  base::Duration name_lifetime = std::chrono::seconds(10);  // how long the addresses of a name are believed
  size_t max_header_bytes = size_t{64} << 10;
  TlsClientFiles tls;
  ProxyRules proxies;  // none by default, whatever the environment says
};

// Each starts anew with its phase.
struct RequestTimeouts {
  // A free place in the pool, the name, TCP and TLS, all together.
  base::Duration connect = std::chrono::seconds(10);
  // From the request's last byte to the end of the answer's head.
  base::Duration first_byte = std::chrono::seconds(60);
  base::Duration idle = std::chrono::seconds(60);  // without a byte written, or read of the body
};

// Ends a request from outside its coroutine, but on its thread: `cancel` hangs up, and what the coroutine waits for
// fails with `cancelled`. Outlives the request and its stream; for one request at a time.
class Cancellation {
 public:
  void cancel();
  bool cancelled() const { return cancelled_; }

 private:
  friend class ClientPool;
  friend class ClientShard;
  friend class ClientStream;
  // What `cancel` does now; at once, if it was called already.
  void set(std::function<void()> hang_up);
  bool cancelled_ = false;
  std::function<void()> hang_up_;
};

// Everything it points to must stay as it is until `open` has returned.
struct OutgoingRequest {
  const Url* to = nullptr;
  std::string_view method = "GET";
  std::string_view target;  // empty: that of `to`
  // Content-Length, Transfer-Encoding and Connection are the client's to set; Host too unless it is given here.
  const Headers* headers = nullptr;
  std::string_view body;
  // The server may be told twice: a kept connection that turns out to have been closed is replaced by a fresh one,
  // once, even after the request went out on it (as long as no byte of an answer came). Otherwise that is done only if
  // no byte of the request went out.
  bool repeatable = false;
  RequestTimeouts timeouts;
  Cancellation* cancellation = nullptr;
};

// What is known of a request that failed (or not): whether to try elsewhere is the caller's to decide.
struct SendReport {
  bool reused = false;        // the last try was on a kept connection
  bool repeated = false;      // there was a second try, on a fresh one
  bool connected = false;     // the last try had a connection: a fresh one was made, or there was a kept one
  int sends = 0;              // tries in which a byte of the request was handed to the network
  bool request_sent = false;  // in any try: a byte of the request was handed to the network, and may have arrived
  bool answer_began = false;  // a byte of an answer came
};

// An answer whose head has come and whose body is read piece by piece. Once it has been read to its end the connection
// goes back to the pool; dropping the stream before hangs up. One coroutine at a time, on the thread it was opened on.
class ClientStream {
 public:
  ClientStream(ClientStream&&) noexcept;
  ClientStream& operator=(ClientStream&&) noexcept;
  ~ClientStream();

  // Status and headers; the body is empty.
  const HttpResponse& head() const;
  // The next piece, all that has arrived, without a copy: good until the next call or the stream's end. Empty: the body
  // is complete. A connection that ends early is an error: unavailable.
  asio::awaitable<base::Result<std::string_view>> next();
  // A copy of the next piece, chunk by chunk where the answer is chunked; nullopt at the end.
  asio::awaitable<base::Result<std::optional<std::string>>> read();
  // The body is known to be complete: `next` will say so without waiting. True from the start for an empty one.
  bool complete() const;

 private:
  friend class ClientPool;
  struct Impl;
  explicit ClientStream(std::unique_ptr<Impl> impl);
  asio::awaitable<base::Result<std::string_view>> next_piece(bool join);
  std::unique_ptr<Impl> impl_;
};

// Thread-safe; copies are the same pool. May be destroyed before or after the io_contexts that it was used on, but not
// while one of them is being destroyed, and not while requests run. Errors: invalid_argument (what cannot be sent, or
// TLS files, or a proxy that is none or wants another password), not_found (a proxy has no way there), exhausted (no
// free place in time), unavailable (no such host, refused, broken off, certificate refused, a proxy that cannot now),
// timeout, too_large (a head over its limit), corrupt (not HTTP/1.1), cancelled. Any status of a server is a success.
class ClientPool {
 public:
  explicit ClientPool(PoolOptions options = {});

  // On the thread of the calling coroutine. `report`, if given, is filled in step by step, success or not.
  asio::awaitable<base::Result<ClientStream>> open(const OutgoingRequest& request, SendReport* report = nullptr);

  // Connections that wait for a request, over all threads.
  size_t idle_connections() const;

 private:
  friend class ClientStream;
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace tidemill::wire
