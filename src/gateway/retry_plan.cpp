#include "gateway/retry_plan.hpp"

#include <algorithm>

namespace tidemill::gateway {

void RetryPlan::note_progress() {
  begun_ = true;
  broken_.reset();
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
  if (!begun()) return pause;
  // Not since it last moved: a backend that hangs is found out only after a time of silence, perhaps a longer one.
  if (!broken_) broken_ = now;
  if (now + pause > *broken_ + options_.resume_window) return std::nullopt;
  return pause;
}

}  // namespace tidemill::gateway
