// Wakes one coroutine of the same thread, or lets it give up at a deadline. Private to the room.
#pragma once

#include <cstdint>
#include <memory>

#include <boost/asio/awaitable.hpp>

#include "base/clock.hpp"
#include "wire/deadlines.hpp"

namespace tidemill::wire {

// A waiter checks its condition first; since nothing else runs on the thread between that check and the wait, no
// notification is lost. One waiter at a time.
class WaitPoint final : private Deadlines::Wait {
 public:
  explicit WaitPoint(Deadlines& deadlines);
  ~WaitPoint() override;

  // Notified: true. Past the deadline, or the coroutine was cancelled: false.
  asio::awaitable<bool> wait_until(base::SteadyTime deadline);
  // The waiter goes on after what runs now. Without one: nothing.
  void notify() { resume(true, When::later); }
  // It goes on before this returns, which saves a turn of the event loop. For the last act of what the loop called: the
  // waiter may destroy whatever owns this.
  void notify_now() { resume(true, When::now); }

 private:
  struct Waiter;
  enum class When : uint8_t { now, later };
  void resume(bool notified, When when);
  void drop() override;

  Deadlines& deadlines_;
  Deadlines::Entry deadline_;
  std::unique_ptr<Waiter> waiter_;
};

}  // namespace tidemill::wire
