#include "gateway/retry_plan.hpp"

#include <algorithm>

namespace tidemill::gateway {

void RetryPlan::note_progress() {
  begun_ = true;
  broken_.reset();
  fruitless_ = 0;
  rounds_ = 0;
}

base::Duration RetryPlan::next_pause(double chance) {
  const base::Duration pause =
      std::min(options_.longest_pause, options_.first_pause * (int64_t{1} << std::min(rounds_, 20)));
  ++rounds_;
  return pause - std::chrono::duration_cast<base::Duration>(pause * (chance / 2));
}

std::optional<base::Duration> RetryPlan::after_failure(bool another, base::SteadyTime now, double chance,
                                                       bool fruitless) {
  ++failures_;
  if (fruitless) ++fruitless_;
  nobody_since_.reset();
  if ((begun() ? fruitless_ : failures_) > options_.retries) return std::nullopt;
  const base::Duration pause = another ? base::Duration(0) : next_pause(chance);
  if (!begun()) return pause;
  // Not since it last moved: a backend that hangs is found out only after a time of silence, perhaps a longer one.
  if (!broken_) broken_ = now;
  if (now + pause > *broken_ + options_.resume_window) return std::nullopt;
  return pause;
}

std::optional<base::Duration> RetryPlan::while_nobody(base::SteadyTime now, double chance) {
  if (!nobody_since_) nobody_since_ = now;
  const base::SteadyTime until =
      begun() ? broken_.value_or(*nobody_since_) + options_.resume_window : *nobody_since_ + options_.patience;
  if (now >= until) return std::nullopt;
  return std::min(next_pause(chance), until - now);
}

}  // namespace tidemill::gateway
