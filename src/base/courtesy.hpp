// When a member of a thread team should rest, so that a process it shares a processor with does not stop the team.
#pragma once

#include <chrono>

namespace tidemill::base {

// Left alone, a thread that competes with another process for a processor computes until its time slice ends in the
// middle of a piece of work, and everybody who waits for that piece waits for as long as the other process's slice
// lasts (3 to 10 ms), again and again. A thread that has been waited for too much therefore rests between pieces,
// before the system makes it: for a share of its time that grows by how long it is waited for, and fades as long as it
// is not. Having rested, it is owed its time and gets it undisturbed when it comes back. Beside one busy process the
// share settles near one half.
//
// One object per thread; not thread-safe. Times are those of a steady clock.
class Courtesy {
 public:
  using Time = std::chrono::steady_clock::time_point;
  using Seconds = std::chrono::duration<double>;

  // Others have waited `late` for a piece of this thread's work, beyond what such a piece takes.
  void waited_for(Seconds late, Time now);

  // Whether `due` has to be asked at all.
  bool active() const { return share_ > 0; }

  // Between two pieces of work: how long to rest now. Zero most of the time.
  Seconds due(Time now);

  // The thread has just slept, out of courtesy or for want of work.
  void rested(Time now) { back_since_ = now; }

 private:
  void fade(Time now);

  Seconds waited_{0};  // while inactive: how long others have waited, less what is borne
  double share_ = 0;   // of the time that is to be rested
  Time faded_;
  Time back_since_;
};

}  // namespace tidemill::base
