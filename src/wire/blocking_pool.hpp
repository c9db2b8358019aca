// Threads for work that a coroutine needs and that would hold its own thread up: a disk, the network, much computing.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <exception>
#include <mutex>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
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
    std::exception_ptr thrown;
    // Not by co_spawn, which has what comes of a job go through the pool's queue again, behind all jobs that wait.
    const auto start = [&](auto caller) {
      auto executor = asio::make_work_guard(asio::get_associated_executor(caller));
      asio::post(pool_, [&, caller = std::move(caller), executor = std::move(executor)]() mutable {
        try {
          result.emplace(work());
        } catch (...) {
          thrown = std::current_exception();
        }
        asio::post(executor.get_executor(), std::move(caller));
      });
    };
    co_await asio::async_initiate<const asio::use_awaitable_t<>, void()>(start, asio::use_awaitable);
    if (thrown) std::rethrow_exception(thrown);
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
