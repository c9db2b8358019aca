#include "wire/http_server.hpp"

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <utility>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>

#include "base/log.hpp"
#include "wire/as_result.hpp"
#include "wire/connection.hpp"
#include "wire/socket_events.hpp"

namespace tidemill::wire {

namespace {

using asio::ip::tcp;
using boost::system::error_code;

// How long a failed accept (usually: out of file descriptors) waits before the next try.
constexpr auto accept_backoff = std::chrono::milliseconds(20);
// Connections over the limit that may be told 503 at one time; further ones are closed without a word.
constexpr size_t max_refusals = 64;
// What handlers get to return after their connections were cut.
constexpr auto unwind_limit = std::chrono::seconds(2);

std::string format_endpoint(const tcp::endpoint& endpoint) {
  const std::string address = endpoint.address().to_string();
  return endpoint.address().is_v6() ? fmt::format("[{}]:{}", address, endpoint.port())
                                    : fmt::format("{}:{}", address, endpoint.port());
}

}  // namespace

// One thread and what it alone runs: connections never change threads, so that nothing of theirs needs a lock.
struct IoThread {
  asio::io_context io{1};
  asio::executor_work_guard<asio::io_context::executor_type> work = asio::make_work_guard(io);
  size_t connections = 0;  // guarded by Impl::mutex
};

struct HttpServer::Impl {
  Impl(HttpServerOptions options, Router router) : context(std::move(options), std::move(router)) {
    for (int i = 0; i < std::max(1, context.options.io_threads); ++i)
      io.push_back(std::make_unique<IoThread>());
    acceptor.emplace(io.front()->io);
  }
  ~Impl() { (void)stop(base::Duration(0)); }

  base::Result<void> listen();
  void run_threads();
  asio::awaitable<void> accept_loop();
  void admit(tcp::socket socket, IoThread& thread);
  IoThread& least_busy();
  void remove(Connection* connection);
  // Calls `act` on the thread of every connection; with `mutex` held.
  void for_each_connection(void (Connection::*act)());
  void drain();
  void hurry();
  bool stop(base::Duration limit);

  ServerContext context;
  tcp::endpoint bound;

  std::mutex stop_mutex;  // held by the one `stop` that does the work
  std::mutex mutex;       // guards `open`, and the end of `io` and `acceptor`
  std::condition_variable closed;
  struct Open {
    std::weak_ptr<Connection> connection;
    IoThread* thread;
  };
  std::unordered_map<Connection*, Open> open;

  std::vector<std::unique_ptr<IoThread>> io;  // empty once stopped
  std::optional<tcp::acceptor> acceptor;      // on the first
  std::vector<std::thread> threads;
};

base::Result<void> HttpServer::Impl::listen() {
  const auto& options = context.options;
  error_code error;
  const std::string numeric = options.address == "localhost" ? "127.0.0.1" : options.address;
  const asio::ip::address address = asio::ip::make_address(numeric, error);
  if (error) {
    return base::Error(
               base::ErrorCode::invalid_argument,
               fmt::format("'{}' is not an IP address; use for example 127.0.0.1, 0.0.0.0 or ::1", options.address))
        .with_param("address");
  }
  const tcp::endpoint endpoint(address, options.port);
  const auto failed = [&](std::string_view what) {
    const bool busy = error == asio::error::address_in_use;
    return base::Error(busy ? base::ErrorCode::unavailable : base::ErrorCode::io,
                       fmt::format("cannot {} {}: {}{}", what, format_endpoint(endpoint), error.message(),
                                   busy ? " (another program listens there; choose another port)" : ""));
  };
  for (const auto& thread : io) {
    error = SocketEvents::prepare(thread->io);
    if (error) return failed("watch connections to");
  }
  acceptor->open(endpoint.protocol(), error);
  if (error) return failed("open a socket for");
  acceptor->set_option(tcp::acceptor::reuse_address(true), error);
  if (error) return failed("prepare the socket for");
  acceptor->bind(endpoint, error);
  if (error) return failed("bind to");
  acceptor->listen(asio::socket_base::max_listen_connections, error);
  if (error) return failed("listen on");
  bound = acceptor->local_endpoint(error);
  if (error) return failed("listen on");
  return {};
}

void HttpServer::Impl::run_threads() {
  asio::co_spawn(acceptor->get_executor(), accept_loop(), [](std::exception_ptr failure) {
    if (failure) base::log::error("the accept loop ended unexpectedly: no new connections are served");
  });
  for (const auto& thread : io)
    threads.emplace_back([raw = thread.get()] { raw->io.run(); });
}

asio::awaitable<void> HttpServer::Impl::accept_loop() {
  asio::steady_timer backoff(acceptor->get_executor());
  bool failing = false;
  while (acceptor->is_open()) {
    IoThread& thread = least_busy();
    auto [error, socket] = co_await acceptor->async_accept(thread.io, as_result);
    if (!acceptor->is_open()) co_return;
    if (error) {
      // Typically EMFILE. The pending connection stays in the backlog, so trying again at once would spin.
      if (!std::exchange(failing, true)) base::log::warn("cannot accept connections for now: {}", error.message());
      backoff.expires_after(accept_backoff);
      (void)co_await backoff.async_wait(as_result);
      continue;
    }
    if (std::exchange(failing, false)) base::log::info("accepting connections again");
    admit(std::move(socket), thread);
  }
}

IoThread& HttpServer::Impl::least_busy() {
  const std::lock_guard lock(mutex);
  const auto fewer = [](const auto& a, const auto& b) { return a->connections < b->connections; };
  return **std::min_element(io.begin(), io.end(), fewer);
}

void HttpServer::Impl::admit(tcp::socket socket, IoThread& thread) {
  const size_t limit = context.options.max_connections;
  std::shared_ptr<Connection> connection;
  bool over = false;
  {
    const std::lock_guard lock(mutex);
    over = open.size() >= limit;
    if (open.size() >= limit + max_refusals) return;  // closes the socket
    connection = std::make_shared<Connection>(std::move(socket), thread.io, context);
    open.emplace(connection.get(), Open{connection, &thread});
    ++thread.connections;
  }
  // From here on it is its thread's alone, which may end it before this one is out of here: so nothing here holds it.
  Connection& accepted = *connection;
  asio::co_spawn(accepted.executor(), over ? accepted.refuse_for_load() : accepted.run(),
                 [this, connection = std::move(connection)](std::exception_ptr failure) {
                   if (failure) {
                     base::log::error("a connection ended by an exception");
                     connection->cut();
                   }
                   remove(connection.get());
                 });
}

void HttpServer::Impl::remove(Connection* connection) {
  const std::lock_guard lock(mutex);
  if (const auto found = open.find(connection); found != open.end()) {
    --found->second.thread->connections;
    open.erase(found);
  }
  if (open.empty()) closed.notify_all();
}

void HttpServer::Impl::for_each_connection(void (Connection::*act)()) {
  for (const auto& [key, held] : open) {
    if (auto connection = held.connection.lock()) {
      const auto executor = connection->executor();
      asio::post(executor, [connection = std::move(connection), act] { ((*connection).*act)(); });
    }
  }
}

void HttpServer::Impl::drain() {
  const std::lock_guard lock(mutex);
  if (context.draining.exchange(true) || !acceptor) return;
  asio::post(acceptor->get_executor(), [this] {
    error_code ignored;
    acceptor->close(ignored);
  });
  for_each_connection(&Connection::notice_drain);
}

void HttpServer::Impl::hurry() {
  drain();
  const std::lock_guard lock(mutex);
  if (context.hurrying.exchange(true)) return;
  for_each_connection(&Connection::notice_drain);
}

bool HttpServer::Impl::stop(base::Duration limit) {
  const std::lock_guard only_one(stop_mutex);
  if (io.empty()) return true;
  drain();
  bool orderly = true;
  {
    std::unique_lock lock(mutex);
    orderly = closed.wait_for(lock, limit, [this] { return open.empty(); });
  }
  if (!orderly) {
    std::unique_lock lock(mutex);
    for_each_connection(&Connection::cut);
    if (!closed.wait_for(lock, unwind_limit, [this] { return open.empty(); })) {
      base::log::warn("{} handlers did not return after their clients were cut off", open.size());
    }
  }
  for (const auto& thread : io) {
    thread->work.reset();
    thread->io.stop();
  }
  for (std::thread& thread : threads)
    thread.join();
  threads.clear();
  std::vector<std::unique_ptr<IoThread>> ended;
  {
    const std::lock_guard lock(mutex);
    acceptor.reset();
    // Other threads may call the wakers of handlers that have not returned, and must not post to what is destroyed.
    for (const auto& [key, held] : open) {
      if (const auto connection = held.connection.lock()) connection->detach_waker();
    }
    open.clear();
    ended = std::exchange(io, {});
  }
  ended.clear();  // with the frames of coroutines that still wait
  return orderly && !context.hurry_cut_some;
}

base::Result<std::unique_ptr<HttpServer>> HttpServer::start(HttpServerOptions options, Router router) {
  auto impl = std::make_unique<Impl>(std::move(options), std::move(router));
  if (impl->context.options.tls) {
    TM_TRY(TlsContext tls, load_server_tls(*impl->context.options.tls));
    impl->context.set_tls(std::move(tls));
  }
  TM_CHECK(impl->listen());
  impl->run_threads();
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
HttpServer::~HttpServer() = default;

uint16_t HttpServer::port() const {
  return impl_->bound.port();
}
std::string HttpServer::url() const {
  return (impl_->context.options.tls ? "https://" : "http://") + format_endpoint(impl_->bound);
}

size_t HttpServer::connections() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->open.size();
}

asio::any_io_executor HttpServer::executor() {
  return impl_->io.front()->io.get_executor();
}
base::Result<void> HttpServer::reload_tls() {
  TM_TRY(TlsContext tls, read_tls());
  use_tls(std::move(tls));
  return {};
}
base::Result<TlsContext> HttpServer::read_tls() const {
  if (!impl_->context.options.tls) return TlsContext();
  return load_server_tls(*impl_->context.options.tls);
}
void HttpServer::use_tls(TlsContext context) {
  if (context) impl_->context.set_tls(std::move(context));
}
void HttpServer::drain() {
  impl_->drain();
}
void HttpServer::hurry() {
  impl_->hurry();
}
bool HttpServer::stop(base::Duration limit) {
  return impl_->stop(limit);
}

}  // namespace tidemill::wire
