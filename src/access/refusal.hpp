// A request that is refused because of how much is asked of the gateway: by limits, budgets or the queue.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/clock.hpp"

namespace tidemill::access {

enum class RefusalReason {
  requests_per_minute,  // the tenant's
  tokens_per_minute,
  larger_than_limit,  // one request takes more tokens than the tenant has in a minute: it never fits
  budget,             // the tenant's money for the day or the month is spent
  queue_full,         // too much waits already, so this request would wait too long
  waited_too_long,    // it stood in the queue for as long as it may
};

// All of them are answered with 429.
struct Refusal {
  RefusalReason reason = RefusalReason::queue_full;
  std::string message;
  std::optional<base::Duration> retry_after;  // after which the same request may pass; nullopt: never
};

// OpenAI's words: `type` is "requests", "tokens", "insufficient_quota" or "rate_limit_error"; `code` is
// "rate_limit_exceeded" or "insufficient_quota".
std::string_view error_type(RefusalReason reason);
std::string_view error_code(RefusalReason reason);

// Whose limit it is, in a message; "this gateway" where callers are not told apart.
std::string named(std::string_view tenant);

// The value of a Retry-After header: whole seconds, rounded up, at least 1.
std::string retry_after_seconds(base::Duration wait);

}  // namespace tidemill::access
