// Threads for work that a coroutine needs and that would hold its own thread up: a disk, the network, much computing.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "base/result.hpp"

namespace tidemill::wire {

namespace asio = boost::asio;

// Thread-safe.
class BlockingPool {
 public:
  // `closed` is what work is told that comes after `close`.
  BlockingPool(size_t threads, std::string closed) : closed_message_(std::move(closed)), pool_(threads) {}
  ~BlockingPool() { close(); }
  BlockingPool(const BlockingPool&) = delete;
  BlockingPool& operator=(const BlockingPool&) = delete;

  // Runs `work`, which returns a Result, on a thread of the pool, and goes on with it on the caller's. Error
  // `unavailable` after `close`.
  template <typename Work>
  asio::awaitable<std::invoke_result_t<Work&>> run(Work work) {
    if (!begin()) co_return base::Error(base::ErrorCode::unavailable, closed_message_);
    const struct Ended {
      BlockingPool& pool;
      ~Ended() { pool.end(); }
    } ended{*this};
    std::optional<std::invoke_result_t<Work&>> result;
    auto job = [&result, &work]() -> asio::awaitable<void> {
      result.emplace(work());
      co_return;
    };
    co_await asio::co_spawn(pool_.get_executor(), job, asio::use_awaitable);
    co_return std::move(*result);
  }

  // Takes no further work, and waits for what runs and for its coroutines to have gone on, so that nothing refers to
  // coroutines that are about to be destroyed: the threads on which these run must not have ended. Idempotent.
  void close();

 private:
  bool begin();
  void end();

  const std::string closed_message_;
  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  int jobs_ = 0;
  bool closed_ = false;
  asio::thread_pool pool_;
};

}  // namespace tidemill::wire
