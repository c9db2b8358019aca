// What every kind of store refuses.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "session/shared_state.hpp"

namespace tidemill::session {

// `too_large` for a blob over the limit.
base::Result<void> check_blob(std::string_view key, std::string_view value);
// `invalid_argument` for a bucket that could never be reckoned with.
base::Result<void> check_takes(std::span<const BucketTake> takes);
// `too_large`: records that take `bytes`, of which so many are kept at most.
base::Error over_size(uint64_t bytes, uint64_t most);
// The same of a response that need not be kept.
base::Error conversation_over_size(uint64_t bytes, uint64_t most);

}  // namespace tidemill::session
