// What every kind of store refuses.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "base/result.hpp"
#include "session/session_store.hpp"
#include "session/shared_state.hpp"

namespace tidemill::session {

// `too_large` for a blob over the limit.
base::Result<void> check_blob(std::string_view key, std::string_view value);
// `invalid_argument` for a bucket that could never be reckoned with.
base::Result<void> check_takes(std::span<const BucketTake> takes);
// What records are for, which decides what helps where they are too large.
enum class Keeps : uint8_t {
  response,      // which need not be kept
  conversation,  // a change of one, which has to be
};
// The bytes that records take, each `beside` beside its value. `too_large` where that is over `most`.
base::Result<uint64_t> check_size(std::span<const Record> records, uint64_t beside, uint64_t most, Keeps keeps);

}  // namespace tidemill::session
