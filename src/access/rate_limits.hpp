// One tenant's requests and tokens per minute, in the buckets of a mirror.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "access/limiter.hpp"
#include "access/policy.hpp"
#include "access/refusal.hpp"
#include "access/state_mirror.hpp"

namespace tidemill::access {

// Made for one call, under the limiter's lock.
class RateLimits {
 public:
  RateLimits(StateMirror& mirror, const std::string& tenant, const TenantPolicy& policy);

  // Asks the store for the buckets, and says whether it has told of them.
  bool known(base::WallTime now);
  // Why one more request of `tokens` does not fit; nullopt: it does.
  std::optional<Refusal> refuse(int64_t tokens, base::WallTime now);
  // Negative amounts give back.
  void take(int64_t requests, int64_t tokens, base::WallTime now);
  RateStatus status(base::WallTime now);

 private:
  struct Limit {
    std::string key;
    int64_t per_minute = 0;  // 0: none
    BucketShape shape;
  };
  static Limit limit(const char* kind, const std::string& tenant, int64_t per_minute);
  // Until the bucket holds `amount`; 0 if it does.
  base::Duration wait(const Limit& limit, double amount, base::WallTime now);
  std::optional<LimitStatus> status_of(const Limit& limit, base::WallTime now);

  StateMirror& mirror_;
  const std::string& tenant_;
  Limit requests_;
  Limit tokens_;
};

}  // namespace tidemill::access
