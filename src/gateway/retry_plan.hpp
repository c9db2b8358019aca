// Whether and when a request that failed at one backend is tried at another. Pure: time and randomness are passed in.
#pragma once

#include <chrono>
#include <optional>

#include "base/clock.hpp"

namespace tidemill::gateway {

struct RetryOptions {
  int retries = 3;  // of a request that backends took, in a row without a word of the answer
  base::Duration resume_window =
      std::chrono::seconds(30);                       // in which a stream must go on, once it is known to be broken
  base::Duration patience = std::chrono::seconds(2);  // with backends of which none can be asked at the moment
  base::Duration first_pause = std::chrono::milliseconds(20);
  base::Duration longest_pause = std::chrono::seconds(1);
};

// One request. Backends that have not been tried yet are asked at once. When none is left, the round begins anew after
// a pause that doubles each time, less up to a half by chance, so that requests that failed together do not return
// together.
//
// As long as the client has got nothing of the answer, the number of tries that failed is bounded, and so is the time
// in which nobody can be asked. Once it has, giving up would lose what it was promised: then the time since the stream
// was first found broken where it stands is bounded instead, and the number of only those tries that backends took and
// had nothing to say in. A request that ends whoever takes it shall not end all of them.
class RetryPlan {
 public:
  explicit RetryPlan(const RetryOptions& options) : options_(options) {}

  // The client is sent something of the answer: the stream moves.
  void note_progress();
  // A backend works at what it was asked for, but has nothing to say yet: should it fail, the window begins then.
  void note_work() { broken_.reset(); }
  bool begun() const { return begun_; }

  // After a failure: how long to wait before the next try (0 where `another` backend has not been tried in this round;
  // otherwise the caller shall forget which were), or nullopt to give up. `chance` is from 0 to 1. `fruitless`: a
  // backend took the request, and failed before it said anything; counts of a stream that has begun.
  std::optional<base::Duration> after_failure(bool another, base::SteadyTime now, double chance, bool fruitless = true);

  // Nobody can be asked at `now`, as when all that are left are loading: how long to wait before looking again, or
  // nullopt to give up. The last look is at the very end of the patience, or of the window.
  std::optional<base::Duration> while_nobody(base::SteadyTime now, double chance);

  // Tries that have failed.
  int failures() const { return failures_; }

 private:
  base::Duration next_pause(double chance);

  RetryOptions options_;
  bool begun_ = false;
  std::optional<base::SteadyTime> broken_;  // since when the stream stands where it does, as far as failures tell
  std::optional<base::SteadyTime> nobody_since_;
  int failures_ = 0;
  int fruitless_ = 0;  // of them, without progress since
  int rounds_ = 0;     // likewise
};

}  // namespace tidemill::gateway
