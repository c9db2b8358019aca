// The HTTP/1.1 client for single requests: http and https (certificate and name verified), a connection for each by
// default, with limits on time and size. For exporters and tests; what makes many requests to few servers uses a
// ClientPool.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <string_view>

#include <boost/asio/awaitable.hpp>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "wire/client_pool.hpp"
#include "wire/http_message.hpp"

namespace tidemill::wire {

struct ClientRequest {
  std::string method = "GET";
  std::string url;
  Headers headers;  // Host, Content-Length and Connection are the client's to set
  std::string body;
  bool repeatable = false;               // as OutgoingRequest's: matters where connections are kept
  Cancellation* cancellation = nullptr;  // as OutgoingRequest's
};

struct HttpClientOptions {
  base::Duration connect_timeout = std::chrono::seconds(10);  // the name, TCP and the TLS handshake together
  base::Duration idle_timeout = std::chrono::seconds(60);     // without a byte read or written
  base::Duration first_byte_timeout{};  // from the request's last byte to the answer's head; 0: the idle timeout
  // Connections kept for later requests of `open` and `send`, to each origin and on each thread (see PoolOptions).
  size_t max_idle = 0;
  size_t max_header_bytes = size_t{64} << 10;
  size_t max_body_bytes = size_t{64} << 20;  // of an answer that is collected whole
  // PEM file of authorities to trust instead of the system's.
  std::string ca_file;
  ProxyRules proxies;  // none by default
};

// Thread-safe. Errors: invalid_argument (URL), unavailable (no such host, refused, broken off, certificate refused),
// timeout, too_large, corrupt (not HTTP), and what a proxy refuses (see ClientPool). Any status of a server is a
// success here.
class HttpClient {
 public:
  explicit HttpClient(HttpClientOptions options = {});

  // On the thread of the calling coroutine. Parameters by value: they live in the coroutine.
  asio::awaitable<base::Result<ClientStream>> open(ClientRequest request);
  asio::awaitable<base::Result<HttpResponse>> send(ClientRequest request);

  // Blocking, on the calling thread. With `on_chunk` the body goes there piece by piece, and stays empty in the
  // response; an error it returns ends the exchange and is handed back.
  using OnChunk = std::function<base::Result<void>(std::string_view)>;
  base::Result<HttpResponse> fetch(ClientRequest request);
  base::Result<HttpResponse> fetch(ClientRequest request, OnChunk on_chunk);

  // For a body that takes long, or that not every head is to be followed by.
  struct Receiver {
    // Before the body; an error ends the exchange and is handed back. May be empty.
    std::function<base::Result<void>(const HttpResponse& head)> on_head;
    OnChunk on_chunk;
    // A descriptor that stays the caller's: from when it is readable, whatever is waited for ends with `cancelled`.
    // -1: none.
    int stop = -1;
  };
  // The same, with all of that. The request's own cancellation is not looked at.
  base::Result<HttpResponse> fetch(ClientRequest request, const Receiver& receiver);

 private:
  HttpClientOptions options_;
  ClientPool pool_;
};

}  // namespace tidemill::wire
