// The arithmetic of a token bucket, which SQLite's transactions, Redis's script (redis_scripts.cpp) and the limits of
// one process (access/) have in common.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

#include "session/shared_state.hpp"

namespace tidemill::session {

struct Bucket {
  double level = 0;
  int64_t filled = 0;  // when: nanoseconds since the Unix epoch
};

// The bucket at `now`, or as it is where `now` is before its own time.
inline Bucket filled(const Bucket& bucket, double capacity, double per_second, int64_t now) {
  const int64_t passed = std::max(now - bucket.filled, int64_t{0});
  const double gained = static_cast<double>(passed) * 1e-9 * per_second;
  return {std::min(bucket.level + gained, capacity), std::max(bucket.filled, now)};
}

// The bucket without `amount`, within -capacity and capacity.
inline Bucket taken(const Bucket& bucket, double capacity, double amount) {
  return {std::clamp(bucket.level - amount, -capacity, capacity), bucket.filled};
}

// Whether each bucket holds what is to be taken from it. A millionth is allowed for rounding.
inline bool enough(std::span<const Bucket> buckets, std::span<const BucketTake> takes) {
  for (size_t i = 0; i < takes.size(); ++i) {
    if (buckets[i].level + 1e-6 < takes[i].amount) return false;
  }
  return true;
}

// Until the bucket is full, when it may as well be forgotten.
inline int64_t nanos_to_full(const Bucket& bucket, double capacity, double per_second) {
  return static_cast<int64_t>(std::ceil((capacity - bucket.level) / per_second * 1e9)) + 1;
}

}  // namespace tidemill::session
