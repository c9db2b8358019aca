// How a try at a backend is ended from outside: by a client that goes, or by a backend that is found to be frozen.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include <boost/asio/any_io_executor.hpp>

#include "base/clock.hpp"
#include "wire/client_pool.hpp"

namespace tidemill::gateway {

// One try. On the thread of its exchange, but for what says otherwise.
class HangUp {
 public:
  HangUp(boost::asio::any_io_executor executor, base::SteadyTime now)
      : executor_(std::move(executor)), heard_(now.time_since_epoch().count()) {}

  wire::Cancellation& cancellation() { return cancellation_; }
  void note_heard(base::SteadyTime now) { heard_.store(now.time_since_epoch().count(), std::memory_order_relaxed); }
  // From any thread: cancels, soon and on the exchange's thread, if the backend has said nothing since `then`.
  static void if_silent_since(const std::shared_ptr<HangUp>& self, base::SteadyTime then);
  // From any thread: cancels, soon and on the exchange's thread.
  static void now(const std::shared_ptr<HangUp>& self);

 private:
  friend class HangUps;
  boost::asio::any_io_executor executor_;
  std::atomic<int64_t> heard_;  // steady nanoseconds
  wire::Cancellation cancellation_;
  size_t place_ = 0;  // among the backend's, under their mutex
};

// The tries that are under way at one backend. Thread-safe.
class HangUps {
 public:
  void add(const std::shared_ptr<HangUp>& one);
  void remove(const HangUp* one);
  // Ends those that have heard nothing since `then`.
  void end_silent(base::SteadyTime then);
  // Ends all.
  void end_all();

 private:
  std::mutex mutex_;
  std::vector<std::shared_ptr<HangUp>> all_;
};

}  // namespace tidemill::gateway
