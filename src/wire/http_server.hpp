// The HTTP/1.1 server: Asio coroutines behind a small interface, with TLS or without.
//
// A connection stays on one thread, that which had the fewest when it came. Its requests are answered one after the
// other, in order; pipelined requests wait in a bounded buffer. While a handler runs the server keeps watching the
// socket, so a client that hangs up is noticed at once, whether the answer is a stream or not.
//
// What counts as hung up: a reset, or the end of the client's bytes. TCP cannot tell a client that has gone from one
// that only shut down its sending half, and the second kind hardly exists (curl, browsers and the OpenAI clients never
// do it), so both fire `on_disconnect`; net/http and nginx decide alike. A plain `respond` is still attempted after
// that, so `printf ... | nc -N` gets an answer from quick handlers; a stream's `write` fails with `cancelled`.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "wire/http_message.hpp"
#include "wire/tls_context.hpp"

namespace tidemill::wire {

namespace asio = boost::asio;

class Connection;

// Why `Exchange::wait` came back.
enum class Wake : uint8_t {
  woken,         // someone called the waker
  timed_out,     // `at_most` has passed (time for a keep-alive comment)
  disconnected,  // the client has gone, or the server is being stopped
};

// One request and its answer. Lives as long as its handler runs. Only for the handler's own coroutine, save for the
// function that `waker` returns.
class Exchange {
 public:
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;

  // Mutable, so that a handler can move the body out.
  HttpRequest& request();

  // Answers whole. Exactly one of `respond` and `begin_stream` is called, once; a handler that returns without either
  // has answered 500. Fails with `cancelled` if the client has gone or took nothing for the write stall limit.
  asio::awaitable<base::Result<void>> respond(HttpResponse response);

  // Answers in pieces: chunked for HTTP/1.1, until the end of the connection for 1.0.
  asio::awaitable<base::Result<void>> begin_stream(int status, Headers headers);
  // Returns when the kernel has taken every byte, so a slow reader slows its producer. `chunk` must stay alive until
  // then. Fails with `cancelled` once the client has gone or took nothing for the write stall limit. Empty: does
  // nothing.
  asio::awaitable<base::Result<void>> write(std::string_view chunk);
  // The same as far as it goes without waiting, which is nearly always to the end: it costs no coroutine. nullopt: the
  // client takes no more at the moment, and `write_rest` goes on until the kernel has taken every byte of `chunk`,
  // which must stay as it is until then.
  std::optional<base::Result<void>> write_now(std::string_view chunk);
  asio::awaitable<base::Result<void>> write_rest();
  // Completes the stream. A handler that returns (or throws) without it has failed in mid-answer: the connection is cut
  // so that the client sees a broken answer rather than a short one.
  asio::awaitable<base::Result<void>> end();

  // Whether `respond` or `begin_stream` was called.
  bool answered() const;
  bool disconnected() const;
  // Whether the client is disconnected because it was cut: it took nothing for the write stall limit.
  bool stalled() const;
  // `callback` runs on the connection's thread when the client goes (now, if it has gone already) and is forgotten when
  // the handler returns. Must not block. Replaces the previous one.
  void on_disconnect(std::function<void()> callback);

  // For producers on other threads, such as the engine's: the function may be called from any thread, at any time, even
  // after the exchange has ended (then it does nothing), and wakes `wait`. A call before `wait` is kept: none is lost,
  // several count as one.
  //
  //   stream->on_ready(exchange.waker());
  //   while (true) {
  //     while (auto event = stream->try_next()) { ... co_await exchange.write(...) ... }
  //     if (stream->ended()) break;
  //     if (co_await exchange.wait() == Wake::disconnected) { stream->cancel(); co_return; }
  //   }
  std::function<void()> waker();
  asio::awaitable<Wake> wait(std::optional<base::Duration> at_most = std::nullopt);

  // The connection's io_context, which one thread runs: the handler's thread.
  asio::any_io_executor executor();

 private:
  friend class Connection;
  explicit Exchange(Connection& connection) : connection_(connection) {}
  Connection& connection_;
};

// A coroutine; on the thread of its connection. It must not block the thread for long: other connections share it. An
// exception that leaves it is logged and answered with 500.
using Handler = std::function<asio::awaitable<void>(Exchange&)>;

// Which handler answers what. Built before the server starts, fixed after. A path is exact ("/v1/models") or ends in
// "/*" and matches everything below it ("/v1/models/*"); exact wins, then the longest. HEAD goes to GET's handler, its
// body left out. Unknown paths get 404, known ones with another method 405 with Allow, OPTIONS 204 with Allow.
class Router {
 public:
  void add(std::string method, std::string path, Handler handler);

  struct Match {
    const Handler* handler = nullptr;  // null: none for this method
    std::string_view route;            // empty: no such path
    std::string_view rest;             // what `*` stands for
    // "GET, HEAD, OPTIONS", where the path is known.
    std::string allow() const;

   private:
    friend class Router;
    const std::vector<std::pair<std::string, Handler>>* methods_ = nullptr;
  };
  // `path` must outlive the match.
  Match find(std::string_view method, std::string_view path) const;

 private:
  struct Route {
    std::string path;  // as registered
    std::vector<std::pair<std::string, Handler>> methods;
  };
  std::vector<Route> routes_;
};

// One exchange that has ended, for access logs and metrics.
struct ExchangeSummary {
  std::string_view method;
  std::string_view route;   // as registered, or "" (so that metrics have bounded labels)
  int status = 0;           // 0: the client went before an answer began
  uint64_t body_bytes = 0;  // of the answer
  base::Duration duration{};
  bool unfinished = false;  // the client went, or was cut for taking nothing, before it had the whole answer
  // A handler was called, which knows what else there is to know. Of what the server has answered by itself (no such
  // path or method, preflights, requests that could not be read) the rest is told here.
  bool handled = false;
  std::string_view request_id;  // of an answer that no handler gave; else ""
  std::string_view path;        // as it came, without the query; "" where that is not known
  std::string_view error;       // what the answer says is wrong; "": nothing
  std::string_view peer;
  base::WallTime received{};   // its first byte
  uint64_t request_bytes = 0;  // of the body, as far as it came
};

struct HttpServerOptions {
  std::string address = "127.0.0.1";  // an IPv4 or IPv6 address, or "localhost" for 127.0.0.1
  uint16_t port = 0;                  // 0: any free one, see HttpServer::port
  int io_threads = 2;

  size_t max_header_bytes = size_t{64} << 10;  // request line and headers; over: 431
  size_t max_body_bytes = size_t{32} << 20;    // declared or received; over: 413, the rest is not read
  // Beyond this many, a connection is told 503 and closed.
  size_t max_connections = 4096;

  base::Duration header_timeout = std::chrono::seconds(15);  // from the first byte to the end of the headers; then 408
  base::Duration body_timeout = std::chrono::seconds(30);    // without a byte of the body; then 408
  // Bytes a second at which a body must come, counted from its head; what it is behind may be body_timeout at most,
  // then 408. So a body that drips on and on, a byte before each timeout, holds no connection for longer. 0: any.
  uint64_t min_body_rate = 1024;
  base::Duration idle_timeout = std::chrono::seconds(75);   // before the first byte of a next request; then closed
  base::Duration write_timeout = std::chrono::seconds(30);  // a reader that takes no byte; then cut
  // After an answer that closes the connection with input unread: how long to let the client read it before the reset.
  base::Duration linger_timeout = std::chrono::seconds(2);

  // TLS 1.2 and newer, instead of plain HTTP. Plain requests are told so with 400.
  std::optional<TlsServerFiles> tls;

  // Origins that browsers may call from; "*" means any. Empty: no CORS headers.
  std::vector<std::string> cors_origins;

  const base::Clock* clock = nullptr;  // for the timestamps of requests; the system's if null
  // Bytes of an answer that were given to a socket and that its client has not taken; the kernel is asked if null.
  std::function<std::optional<int64_t>(int socket)> untaken;
  // Called after each exchange on its thread; from several threads at a time.
  std::function<void(const ExchangeSummary&)> on_exchange;
};

// Thread-safe.
class HttpServer {
 public:
  // Binds, listens and starts serving. An address in use, or not of this machine, is an error that says so.
  static base::Result<std::unique_ptr<HttpServer>> start(HttpServerOptions options, Router router);
  // Stops at once.
  ~HttpServer();

  uint16_t port() const;
  // "http://127.0.0.1:8080"
  std::string url() const;
  // Open connections, idle ones included.
  size_t connections() const;
  // Where other coroutines of the process may run (outgoing requests, periodic work), until `stop`.
  asio::any_io_executor executor();

  // Reads the files of the certificate again, for connections made from now on; those that exist go on with what they
  // have. An error (see load_server_tls) leaves all as it was. Without TLS: nothing.
  base::Result<void> reload_tls();
  // The same in two steps, of which the first changes nothing and the second cannot fail. Null without TLS.
  base::Result<TlsContext> read_tls() const;
  void use_tls(TlsContext context);

  // Stops accepting, closes idle connections, lets running exchanges finish and says "Connection: close" in their
  // answers. Returns at once. Idempotent.
  void drain();
  // Drains, and waits for nobody who has not sent the whole of a request: what has come of one is answered with 503,
  // and counts as cut. Returns at once. Idempotent.
  void hurry();
  // Drains, waits up to `limit` for the running exchanges, cuts those that are left (their handlers see the client
  // gone), and ends the threads. True if nothing had to be cut. Not from a handler. Idempotent.
  bool stop(base::Duration limit);

 private:
  struct Impl;
  explicit HttpServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tidemill::wire
