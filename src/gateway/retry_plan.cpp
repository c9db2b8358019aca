#include "gateway/retry_plan.hpp"

#include <algorithm>

namespace tidemill::gateway {

void RetryPlan::note_progress(base::SteadyTime now) {
  moved_ = now;
  rounds_ = 0;
}

std::optional<base::Duration> RetryPlan::after_failure(bool another, base::SteadyTime now, double chance) {
  ++failures_;
  if (!begun() && failures_ > options_.retries) return std::nullopt;
  base::Duration pause{0};
  if (!another) {
    pause = std::min(options_.longest_pause, options_.first_pause * (int64_t{1} << std::min(rounds_, 20)));
    pause -= std::chrono::duration_cast<base::Duration>(pause * (chance / 2));
    ++rounds_;
  }
  if (begun() && now + pause > *moved_ + options_.resume_window) return std::nullopt;
  return pause;
}

}  // namespace tidemill::gateway
