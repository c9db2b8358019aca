// The HTTP/1.1 client: http and https (certificate and name verified), one connection a request, with limits on time
// and size. For exporters, the gateway and tests.
#pragma once

#include <chrono>
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

namespace tidemill::wire {

namespace asio = boost::asio;

// "https://host:8443/path?query". IPv6 hosts stand in brackets in the text, without them here.
struct Url {
  bool https = false;
  std::string host;
  uint16_t port = 80;
  std::string target = "/";  // path and query, as sent

  static base::Result<Url> parse(std::string_view text);
  // What the Host header says: the port only where it is not the scheme's own.
  std::string authority() const;
};

struct ClientRequest {
  std::string method = "GET";
  std::string url;
  Headers headers;  // Host, Content-Length and Connection are the client's to set
  std::string body;
};

struct HttpClientOptions {
  // Connecting and the TLS handshake. Resolving a name comes before, under the time limits of the system's resolver.
  base::Duration connect_timeout = std::chrono::seconds(10);
  base::Duration idle_timeout = std::chrono::seconds(60);  // without a byte read or written
  size_t max_header_bytes = size_t{64} << 10;
  size_t max_body_bytes = size_t{64} << 20;  // of an answer that is collected whole
  // PEM file of authorities to trust instead of the system's.
  std::string ca_file;
};

// An answer whose headers have come and whose body is read piece by piece. Dropping it hangs up. One coroutine at a
// time, on the executor it was opened on, which must be a strand (an Exchange's is) or run by one thread.
class ClientStream {
 public:
  ClientStream(ClientStream&&) noexcept;
  ClientStream& operator=(ClientStream&&) noexcept;
  ~ClientStream();

  // Status and headers; the body is empty.
  const HttpResponse& head() const;
  // The next piece, as it arrives; nullopt at the end. A connection that ends early is an error: unavailable.
  asio::awaitable<base::Result<std::optional<std::string>>> read();

 private:
  friend class HttpClient;
  struct Impl;
  explicit ClientStream(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Thread-safe. Errors: invalid_argument (URL), unavailable (no such host, refused, broken off, certificate refused),
// timeout, too_large, corrupt (not HTTP). Any status is a success here.
class HttpClient {
 public:
  explicit HttpClient(HttpClientOptions options = {});
  ~HttpClient();

  // On the executor of the calling coroutine. Parameters by value: they live in the coroutine.
  asio::awaitable<base::Result<ClientStream>> open(ClientRequest request);
  asio::awaitable<base::Result<HttpResponse>> send(ClientRequest request);

  // Blocking, on the calling thread. With `on_chunk` the body goes there piece by piece, and stays empty in the
  // response; an error it returns ends the exchange and is handed back.
  using OnChunk = std::function<base::Result<void>(std::string_view)>;
  base::Result<HttpResponse> fetch(ClientRequest request);
  base::Result<HttpResponse> fetch(ClientRequest request, OnChunk on_chunk);

 private:
  friend class ClientStream;
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace tidemill::wire
