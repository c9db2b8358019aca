// A server with a few handlers that tests can steer.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include <gtest/gtest.h>

#include "wire/http_server.hpp"
#include "wire/raw_client.hpp"

namespace tidemill::test {

inline constexpr std::string_view get_hello = "GET /hello HTTP/1.1\r\nHost: h\r\n\r\n";

// Something that happens once, on another thread.
class Flag {
 public:
  void set() {
    const std::lock_guard lock(mutex_);
    set_ = true;
    changed_.notify_all();
  }
  bool is_set() {
    const std::lock_guard lock(mutex_);
    return set_;
  }
  // False if it did not happen in a very long time.
  bool wait() {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, patience, [this] { return set_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool set_ = false;
};

// Handed between the test and a handler: the handler publishes its waker, the test calls it.
class Waker {
 public:
  void publish(std::function<void()> wake) {
    const std::lock_guard lock(mutex_);
    wake_ = std::move(wake);
    published_.notify_all();
  }
  // Waits until a handler has published one.
  std::function<void()> get() {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(published_.wait_for(lock, patience, [this] { return static_cast<bool>(wake_); }));
    return wake_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable published_;
  std::function<void()> wake_;
};

class ServerTest : public ::testing::Test {
 protected:
  using Exchange = wire::Exchange;
  using HttpResponse = wire::HttpResponse;
  template <typename T>
  using awaitable = boost::asio::awaitable<T>;

  ServerTest() {
    router_.add("GET", "/hello", [](Exchange& exchange) -> awaitable<void> {
      HttpResponse response = HttpResponse::text(200, "hello");
      (void)co_await exchange.respond(std::move(response));
    });
    router_.add("POST", "/echo", [](Exchange& exchange) -> awaitable<void> {
      HttpResponse response = HttpResponse::text(200, std::move(exchange.request().body));
      (void)co_await exchange.respond(std::move(response));
    });
    // Answers when the test says so.
    router_.add("GET", "/when-told", [this](Exchange& exchange) -> awaitable<void> {
      exchange.on_disconnect([this] { client_gone_.set(); });
      waker_.publish(exchange.waker());
      const wire::Wake wake = co_await exchange.wait();
      HttpResponse response = HttpResponse::text(200, wake == wire::Wake::woken ? "woken" : "not woken");
      (void)co_await exchange.respond(std::move(response));
    });
  }
  ~ServerTest() override { stop(); }

  void start() {
    options_.on_exchange = [this](const wire::ExchangeSummary& summary) {
      const std::lock_guard lock(mutex_);
      last_status_ = summary.status;
      last_route_ = summary.route;
      last_unfinished_ = summary.unfinished;
    };
    auto server = wire::HttpServer::start(options_, router_);
    ASSERT_TRUE(server) << server.error().to_string();
    server_ = *std::move(server);
  }
  void stop() {
    if (server_) server_->stop(base::Duration(0));
  }
  RawClient connect() { return RawClient(server_->port()); }
  // Sends, and reads all there is until the server closes.
  std::string exchange_and_close(std::string_view bytes) {
    RawClient client = connect();
    client.send(bytes);
    return client.read_all();
  }
  void wait_for_connections(size_t count) {
    const auto deadline = std::chrono::steady_clock::now() + patience;
    while (server_->connections() != count && std::chrono::steady_clock::now() < deadline)
      std::this_thread::yield();
    ASSERT_EQ(server_->connections(), count);
  }

  wire::HttpServerOptions options_;
  wire::Router router_;
  std::unique_ptr<wire::HttpServer> server_;
  Flag client_gone_;
  Waker waker_;
  std::mutex mutex_;
  int last_status_ = -1;
  std::string last_route_;
  bool last_unfinished_ = false;
};

}  // namespace tidemill::test
