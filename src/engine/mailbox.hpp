// The one way to speak to the engine's thread.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "base/result.hpp"

namespace tidemill::engine {

struct Job;

// Thread-safe. The bound on waiting requests is kept here, because it is refused here.
class Mailbox {
 public:
  explicit Mailbox(int max_waiting);
  ~Mailbox();

  // Hands requests over, which arrive together: the first ones, as many as may wait. Gives how many. `exhausted` if
  // there is room for none, `unavailable` after drain() or close().
  base::Result<size_t> post(std::vector<std::unique_ptr<Job>> jobs);
  // Asks for the job's end. One that has ended, or is unknown, is none of the engine's business any more.
  void cancel(uint64_t job);
  // Says that the job's reader lagged, and does no more.
  void caught_up(uint64_t job);
  // Has the engine's thread do something between two steps. False, and it is not done, after close().
  bool post_errand(std::function<void()> errand);
  // Takes no more requests.
  void drain();
  // Takes nothing more at all and wakes the engine to end.
  void close();

  struct Letters {
    std::vector<std::unique_ptr<Job>> arrivals;
    std::vector<uint64_t> cancelled;
    std::vector<uint64_t> caught_up;
    std::vector<std::function<void()>> errands;
    bool closed = false;
  };
  // What has come since the last call. With `wait`, sleeps until there is something.
  Letters take(bool wait);

  // A request that was posted has begun to run, or has ended without.
  void left_queue();
  // A request that was posted has ended.
  void left();

  // Requests posted that have not begun to run, and how many more of those there may be; those that have not ended.
  int waiting() const;
  size_t room() const;
  int in_flight() const;

 private:
  size_t room_left() const;

  mutable std::mutex mutex_;
  std::condition_variable posted_;
  Letters letters_;
  const int max_waiting_;
  int waiting_ = 0;
  int in_flight_ = 0;
  bool draining_ = false;
};

}  // namespace tidemill::engine
