// A backend that answers each request when it is told to, for what happens while it is busy.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "wire/http_server.hpp"
#include "wire/raw_client.hpp"

namespace tidemill::test {

class HeldBackend {
 public:
  explicit HeldBackend(std::string answer) : answer_(std::move(answer)) {
    wire::Router router;
    const auto say = [](std::string text) {
      return [text](wire::Exchange& exchange) -> boost::asio::awaitable<void> {
        wire::HttpResponse response = wire::HttpResponse::json(200, text);
        (void)co_await exchange.respond(std::move(response));
      };
    };
    router.add("GET", "/ready", say("{}"));
    router.add("GET", "/metrics", say(""));
    router.add("GET", "/v1/models", say(R"({"data":[{"id":"m"}]})"));
    router.add("POST", "/v1/chat/completions", [this](wire::Exchange& exchange) { return hold(exchange); });
    wire::HttpServerOptions options;
    options.io_threads = 1;
    auto started = wire::HttpServer::start(options, std::move(router));
    EXPECT_TRUE(started);
    server_ = std::move(*started);
  }

  std::string url() const { return server_->url(); }

  // Waits until so many requests are held, and gives the x-tenant fields of all that have come, in order.
  std::vector<std::string> wait_for(size_t held) {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, patience, [&] { return held_.size() >= held; })) << held_.size();
    return tenants_;
  }
  // Answers the one that has waited for longest.
  void release() {
    const std::lock_guard lock(mutex_);
    ASSERT_FALSE(held_.empty());
    *held_.front().released = true;
    held_.front().wake();
    held_.erase(held_.begin());
  }
  size_t most_at_once() {
    const std::lock_guard lock(mutex_);
    return most_;
  }

 private:
  struct Held {
    std::shared_ptr<std::atomic<bool>> released;
    std::function<void()> wake;
  };

  boost::asio::awaitable<void> hold(wire::Exchange& exchange) {
    const auto released = std::make_shared<std::atomic<bool>>(false);
    {
      const std::lock_guard lock(mutex_);
      tenants_.emplace_back(exchange.request().headers.find("x-tenant").value_or(""));
      held_.push_back({released, exchange.waker()});
      most_ = std::max(most_, held_.size());
      changed_.notify_all();
    }
    while (!*released) {
      if (co_await exchange.wait() == wire::Wake::disconnected) co_return;
    }
    wire::HttpResponse response = wire::HttpResponse::json(200, answer_);
    (void)co_await exchange.respond(std::move(response));
  }

  const std::string answer_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Held> held_;
  std::vector<std::string> tenants_;
  size_t most_ = 0;
  std::unique_ptr<wire::HttpServer> server_;  // ends before what its handlers use
};

}  // namespace tidemill::test
