#include "access/rate_limits.hpp"

#include <algorithm>
#include <cmath>

#include <fmt/core.h>

namespace tidemill::access {

using base::Duration;
using base::WallTime;

namespace {

constexpr double rounding = 1e-6;

Duration from_seconds(double seconds) {
  return Duration(static_cast<int64_t>(std::ceil(seconds * 1e9)));
}

// As Go writes durations, which OpenAI's headers show: "120ms", "7.66s", "6m0s".
std::string go_duration(Duration duration) {
  const int64_t millis = (duration.count() + 999'999) / 1'000'000;
  if (millis < 1000) return fmt::format("{}ms", millis);
  const int64_t minutes = millis / 60'000;
  const int64_t rest = millis % 60'000;
  std::string seconds = fmt::format("{}", rest / 1000);
  if (rest % 1000 != 0) {
    seconds += fmt::format(".{:03}", rest % 1000);
    seconds.erase(seconds.find_last_not_of('0') + 1);
  }
  return minutes > 0 ? fmt::format("{}m{}s", minutes, seconds) : seconds + "s";
}

void append(std::vector<std::pair<std::string, std::string>>& headers, const char* kind,
            const std::optional<LimitStatus>& status) {
  if (!status) return;
  headers.emplace_back(fmt::format("x-ratelimit-limit-{}", kind), std::to_string(status->limit));
  headers.emplace_back(fmt::format("x-ratelimit-remaining-{}", kind), std::to_string(status->remaining));
  headers.emplace_back(fmt::format("x-ratelimit-reset-{}", kind), go_duration(status->reset));
}

}  // namespace

std::vector<std::pair<std::string, std::string>> rate_headers(const RateStatus& status) {
  std::vector<std::pair<std::string, std::string>> headers;
  append(headers, "requests", status.requests);
  append(headers, "tokens", status.tokens);
  return headers;
}

RateLimits::Limit RateLimits::limit(const char* kind, const std::string& tenant, int64_t per_minute) {
  if (per_minute == 0) return {};
  const auto size = static_cast<double>(per_minute);
  return {fmt::format("access/{}/{}", kind, tenant), per_minute, {size, size / 60}};
}

RateLimits::RateLimits(StateMirror& mirror, const std::string& tenant, const TenantPolicy& policy)
    : mirror_(mirror),
      tenant_(tenant),
      requests_(limit("requests", tenant, policy.requests_per_minute)),
      tokens_(limit("tokens", tenant, policy.tokens_per_minute)) {}

Duration RateLimits::wait(const Limit& limit, double amount, WallTime now) {
  if (limit.per_minute == 0) return {};
  const double missing = amount - mirror_.level(limit.key, limit.shape, now);
  return missing <= rounding ? Duration() : from_seconds(missing / limit.shape.per_second);
}

bool RateLimits::known(WallTime now) {
  const auto is_known = [&](const Limit& limit) {
    return limit.per_minute == 0 || mirror_.knows(limit.key, limit.shape, now);
  };
  const bool requests = is_known(requests_);
  const bool tokens = is_known(tokens_);  // asked for in any case
  return requests && tokens;
}

std::optional<Refusal> RateLimits::refuse(int64_t tokens, WallTime now) {
  if (tokens_.per_minute > 0 && tokens > tokens_.per_minute) {
    return Refusal{RefusalReason::larger_than_limit,
                   fmt::format("the request may take {} tokens (its prompt and max_tokens), the limit of {} is {} per "
                               "minute: shorten it, or lower max_tokens",
                               tokens, named(tenant_), tokens_.per_minute),
                   std::nullopt};
  }
  const Duration for_request = wait(requests_, 1, now);
  const Duration for_tokens = wait(tokens_, static_cast<double>(tokens), now);
  const Duration longest = std::max(for_request, for_tokens);
  if (longest == Duration()) return std::nullopt;
  if (for_request >= for_tokens) {
    return Refusal{RefusalReason::requests_per_minute,
                   fmt::format("{} has reached its limit of {} requests per minute; try again in {}", named(tenant_),
                               requests_.per_minute, go_duration(longest)),
                   longest};
  }
  return Refusal{RefusalReason::tokens_per_minute,
                 fmt::format("{} has reached its limit of {} tokens per minute, and this request may take {}; try "
                             "again in {}",
                             named(tenant_), tokens_.per_minute, tokens, go_duration(longest)),
                 longest};
}

void RateLimits::take(int64_t requests, int64_t tokens, WallTime now) {
  if (requests_.per_minute > 0) mirror_.take(requests_.key, static_cast<double>(requests), requests_.shape, now);
  if (tokens_.per_minute > 0) mirror_.take(tokens_.key, static_cast<double>(tokens), tokens_.shape, now);
}

std::optional<LimitStatus> RateLimits::status_of(const Limit& limit, WallTime now) {
  if (limit.per_minute == 0) return std::nullopt;
  const double level = mirror_.level(limit.key, limit.shape, now);
  return LimitStatus{limit.per_minute, static_cast<int64_t>(std::floor(std::max(level, 0.0) + rounding)),
                     from_seconds(std::max(limit.shape.capacity - level, 0.0) / limit.shape.per_second)};
}

RateStatus RateLimits::status(WallTime now) {
  return {status_of(requests_, now), status_of(tokens_, now)};
}

}  // namespace tidemill::access
