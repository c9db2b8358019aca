#include "session/shared_state.hpp"

#include <cmath>

#include <fmt/core.h>

#include "session/state_checks.hpp"

namespace tidemill::session {

using base::Error;
using base::ErrorCode;
using base::Result;

Result<void> check_blob(std::string_view key, std::string_view value) {
  if (value.size() <= SharedState::max_blob_bytes) return {};
  return Error(ErrorCode::too_large, fmt::format("the blob '{}' takes {} bytes, of {} at most", key, value.size(),
                                                 SharedState::max_blob_bytes));
}

Result<void> check_takes(std::span<const BucketTake> takes) {
  for (const BucketTake& take : takes) {
    const bool sound = std::isfinite(take.capacity) && take.capacity > 0 && std::isfinite(take.per_second) &&
                       take.per_second > 0 && std::isfinite(take.amount);
    if (sound) continue;
    return Error(ErrorCode::invalid_argument,
                 fmt::format("the bucket '{}' must have a capacity and a rate over 0, not {} and {} per second",
                             take.key, take.capacity, take.per_second));
  }
  return {};
}

Result<uint64_t> check_size(std::span<const Record> records, uint64_t beside, uint64_t most, Keeps keeps) {
  uint64_t bytes = 0;
  for (const Record& record : records)
    bytes += record.value.size() + beside;
  if (bytes <= most) return bytes;
  const bool response = keeps == Keeps::response;
  return Error(ErrorCode::too_large,
               fmt::format("the {} {} bytes, the session store {} at most: set session.max_size{}",
                           response ? "conversation takes" : "records take", bytes, most,
                           response ? ", or send 'store': false" : ""));
}

}  // namespace tidemill::session
