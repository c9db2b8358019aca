#include "access/refusal.hpp"

#include <algorithm>
#include <cmath>

namespace tidemill::access {

std::string_view error_type(RefusalReason reason) {
  switch (reason) {
    case RefusalReason::requests_per_minute:
      return "requests";
    case RefusalReason::tokens_per_minute:
    case RefusalReason::larger_than_limit:
      return "tokens";
    case RefusalReason::budget:
      return "insufficient_quota";
    case RefusalReason::queue_full:
    case RefusalReason::waited_too_long:
      break;
  }
  return "rate_limit_error";
}

std::string_view error_code(RefusalReason reason) {
  return reason == RefusalReason::budget ? "insufficient_quota" : "rate_limit_exceeded";
}

std::string named(std::string_view tenant) {
  return tenant.empty() ? "this gateway" : '\'' + std::string(tenant) + '\'';
}

std::string retry_after_seconds(base::Duration wait) {
  return std::to_string(std::max<int64_t>(1, static_cast<int64_t>(std::ceil(base::seconds(wait)))));
}

}  // namespace tidemill::access
