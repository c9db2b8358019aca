#include "gateway/failure_log.hpp"

#include <chrono>
#include <utility>

#include "base/log.hpp"

namespace tidemill::gateway {

namespace {

constexpr auto interval = std::chrono::seconds(1);

}  // namespace

void FailureLog::note(std::string_view request_id, const base::Error& error, base::SteadyTime now) {
  if (error.cause() == nullptr) return;
  uint64_t left_out = 0;
  {
    const std::lock_guard lock(mutex_);
    if (now < next_) {
      ++left_out_;
      return;
    }
    next_ = now + interval;
    left_out = std::exchange(left_out_, 0);
  }
  if (left_out == 0) {
    base::log::warn("{}: {}", request_id, error.to_string());
  } else {
    base::log::warn("{}: {} ({} more requests failed since the last line like this)", request_id, error.to_string(),
                    left_out);
  }
}

}  // namespace tidemill::gateway
