// What the services of all roles have in common: their requests are counted, so that a stop can wait for them.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>

#include "base/clock.hpp"

namespace tidemill::wire {

// Thread-safe.
class Drainable {
 public:
  // For clients whose requests have run past the limit of a stop to be told so, and for the last bytes of answers.
  static constexpr base::Duration parting = std::chrono::seconds(1);

  Drainable(const Drainable&) = delete;
  Drainable& operator=(const Drainable&) = delete;

  // No new work is to be taken from now on. Returns at once. Idempotent.
  void start_draining();
  bool draining() const { return draining_.load(std::memory_order_acquire); }

  // Counts the requests that are being answered. One that entered after start_draining() finds draining() true.
  void enter();
  void leave();
  // Returns when none is being answered, or at `limit`. True for the former.
  bool wait_until_unused(base::Duration limit);
  // The same for what is given time to finish: returns after hurry() too.
  bool wait_for_requests(base::Duration limit);

  // Whoever stops this is not to wait for requests any longer. Returns at once. Idempotent.
  void hurry();
  bool hurried() const { return hurried_.load(std::memory_order_acquire); }

 protected:
  Drainable() = default;
  ~Drainable() = default;

 private:
  std::atomic<bool> draining_{false};
  std::atomic<bool> hurried_{false};
  std::mutex mutex_;                // guards what follows
  std::condition_variable unused_;  // or hurried
  int active_ = 0;
};

}  // namespace tidemill::wire
