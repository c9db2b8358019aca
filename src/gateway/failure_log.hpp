// Why requests failed, for whoever runs the gateway: what clients are not told.
#pragma once

#include <cstdint>
#include <mutex>
#include <string_view>

#include "base/clock.hpp"
#include "base/result.hpp"

namespace tidemill::gateway {

// Thread-safe.
class FailureLog {
 public:
  // One line, at most one a second; the next says how many were left out. An error that has no cause leaves none: its
  // client was told all of it.
  void note(std::string_view request_id, const base::Error& error, base::SteadyTime now);

 private:
  std::mutex mutex_;
  base::SteadyTime next_{};
  uint64_t left_out_ = 0;
};

}  // namespace tidemill::gateway
