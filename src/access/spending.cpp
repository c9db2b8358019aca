#include "access/spending.hpp"

#include <chrono>

#include <fmt/core.h>

namespace tidemill::access {

using base::Duration;
using base::WallTime;

namespace {

using std::chrono::days;
using std::chrono::hours;

// Holds are counted by the window that they began in; this one's and the last one's count.
constexpr Duration window_length = std::chrono::minutes(15);
constexpr Duration day_lives = hours(24 * 3);
constexpr Duration month_lives = hours(24 * 40);

std::chrono::year_month_day date(WallTime now) {
  return std::chrono::floor<days>(now);
}

int64_t window_of(WallTime now) {
  return now.time_since_epoch() / window_length;
}

std::string day_key(const std::string& tenant, WallTime now) {
  const auto ymd = date(now);
  return fmt::format("access/spent/{:04}-{:02}-{:02}/{}", int(ymd.year()), unsigned(ymd.month()), unsigned(ymd.day()),
                     tenant);
}

std::string month_key(const std::string& tenant, WallTime now) {
  const auto ymd = date(now);
  return fmt::format("access/spent/{:04}-{:02}/{}", int(ymd.year()), unsigned(ymd.month()), tenant);
}

std::string held_key(const std::string& tenant, int64_t window) {
  return fmt::format("access/held/{}/{}", window, tenant);
}

Duration to_next_day(WallTime now) {
  return std::chrono::floor<days>(now) + days(1) - now;
}

Duration to_next_month(WallTime now) {
  const auto ymd = date(now);
  const std::chrono::sys_days next = (ymd.year() / ymd.month() + std::chrono::months(1)) / std::chrono::day(1);
  return next - now;
}

}  // namespace

Money spent_this_day(const StateMirror& mirror, const std::string& tenant, WallTime now) {
  return {mirror.counter(day_key(tenant, now))};
}

Money spent_this_month(const StateMirror& mirror, const std::string& tenant, WallTime now) {
  return {mirror.counter(month_key(tenant, now))};
}

Money SpendingBooks::held(WallTime now) const {
  const int64_t window = window_of(now);
  return {mirror_.counter(held_key(tenant_, window)) + mirror_.counter(held_key(tenant_, window - 1))};
}

bool SpendingBooks::known(WallTime now) {
  if (!has_budget()) return true;
  const bool day = mirror_.knows(day_key(tenant_, now), day_lives, now);
  const bool month = mirror_.knows(month_key(tenant_, now), month_lives, now);
  if (day && month) return true;
  const int64_t window = window_of(now);
  mirror_.add(held_key(tenant_, window), 0, window_length * 2, now);
  mirror_.add(held_key(tenant_, window - 1), 0, window_length * 2, now);
  return false;
}

std::optional<Refusal> SpendingBooks::refuse(Money cost, WallTime now) const {
  if (!has_budget()) return std::nullopt;
  const Money wanted = held(now) + cost;
  const auto over = [&](const char* period, Money spent, Money budget, Duration wait) -> std::optional<Refusal> {
    if (budget.nanos == 0 || spent + wanted <= budget) return std::nullopt;
    return Refusal{RefusalReason::budget,
                   fmt::format("the budget of {} for this {} is {}: {} is spent, and this request with those that run "
                               "may cost {}",
                               named(tenant_), period, to_string(budget), to_string(spent), to_string(wanted)),
                   wait};
  };
  if (auto refusal =
          over("month", spent_this_month(mirror_, tenant_, now), policy_.budget_per_month, to_next_month(now))) {
    return refusal;
  }
  return over("day", spent_this_day(mirror_, tenant_, now), policy_.budget_per_day, to_next_day(now));
}

int64_t SpendingBooks::hold(Money cost, WallTime now) {
  const int64_t window = window_of(now);
  if (!has_budget()) return window;
  mirror_.add(held_key(tenant_, window), cost.nanos, window_length * 2, now);
  // So that what others spend and hold is asked for.
  mirror_.add(held_key(tenant_, window - 1), 0, window_length * 2, now);
  mirror_.add(day_key(tenant_, now), 0, day_lives, now);
  mirror_.add(month_key(tenant_, now), 0, month_lives, now);
  return window;
}

void SpendingBooks::settle(Money held, int64_t window, Money cost, WallTime now) {
  if (has_budget() && window >= window_of(now) - 1) {
    mirror_.add(held_key(tenant_, window), -held.nanos, window_length * 2, now);
  }
  if (cost.nanos == 0) return;
  mirror_.add(day_key(tenant_, now), cost.nanos, day_lives, now);
  mirror_.add(month_key(tenant_, now), cost.nanos, month_lives, now);
}

}  // namespace tidemill::access
