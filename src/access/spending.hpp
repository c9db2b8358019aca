// One tenant's money: what was spent this day and month, and what running requests may yet cost.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "access/money.hpp"
#include "access/policy.hpp"
#include "access/refusal.hpp"
#include "access/state_mirror.hpp"

namespace tidemill::access {

// UTC's.
Money spent_this_day(const StateMirror& mirror, const std::string& tenant, base::WallTime now);
Money spent_this_month(const StateMirror& mirror, const std::string& tenant, base::WallTime now);

// Made for one call, under the limiter's lock. Amounts are never below 0.
class SpendingBooks {
 public:
  SpendingBooks(StateMirror& mirror, const std::string& tenant, const TenantPolicy& policy)
      : mirror_(mirror), tenant_(tenant), policy_(policy) {}

  // Asks the store for what others have spent and hold, and says whether it has told what is spent.
  bool known(base::WallTime now);
  // Why a request of that cost does not fit; nullopt: it does.
  std::optional<Refusal> refuse(Money cost, base::WallTime now) const;
  // Reserves, and returns the window that holds it.
  int64_t hold(Money cost, base::WallTime now);
  // The reservation ends, and `cost` is spent.
  void settle(Money held, int64_t window, Money cost, base::WallTime now);

 private:
  bool has_budget() const { return policy_.budget_per_day.nanos > 0 || policy_.budget_per_month.nanos > 0; }
  Money held(base::WallTime now) const;

  StateMirror& mirror_;
  const std::string& tenant_;
  const TenantPolicy& policy_;
};

}  // namespace tidemill::access
