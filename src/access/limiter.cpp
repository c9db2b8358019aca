#include "access/limiter.hpp"

#include <algorithm>
#include <cmath>
#include <mutex>

#include <fmt/core.h>

#include "access/rate_limits.hpp"
#include "access/spending.hpp"
#include "access/state_mirror.hpp"
#include "base/ids.hpp"
#include "base/log.hpp"

namespace tidemill::access {

using base::Duration;
using base::Result;
using base::WallTime;

struct Limiter::Impl {
  Impl(LimiterOptions limiter_options, const base::Clock& its_clock)
      : options(std::move(limiter_options)),
        clock(its_clock),
        // A gateway that was restarted under its old name must not be taken for a repeating one.
        mirror(options.gateway + "-" + base::random_hex(8), options.store != nullptr) {}

  void settle(const Reservation& held, int64_t requests, int64_t tokens, Money cost) {
    const std::lock_guard lock(mutex);
    const WallTime now = clock.wall_now();
    tokens = std::max<int64_t>(tokens, 0);
    RateLimits(mirror, held.tenant_, held.policy_).take(requests - 1, tokens - held.tokens_, now);
    SpendingBooks(mirror, held.tenant_, held.policy_).settle(held.cost_, held.held_in_, std::max(cost, Money()), now);
  }

  Result<void> exchange();

  const LimiterOptions options;
  const base::Clock& clock;
  std::mutex exchanging;  // held through an exchange; taken before the other
  mutable std::mutex mutex;
  StateMirror mirror;
  std::optional<std::string> apart;
};

Limiter::Limiter(LimiterOptions options, const base::Clock& clock)
    : impl_(std::make_unique<Impl>(std::move(options), clock)) {}

Limiter::~Limiter() = default;

Limiter::Admission Limiter::admit(const std::string& tenant, const TenantPolicy& policy, int64_t tokens, Money cost) {
  tokens = std::max<int64_t>(tokens, 0);
  cost = std::max(cost, Money());
  Admission admission;
  const std::lock_guard lock(impl_->mutex);
  const WallTime now = impl_->clock.wall_now();
  RateLimits rates(impl_->mirror, tenant, policy);
  SpendingBooks books(impl_->mirror, tenant, policy);
  admission.refusal = rates.refuse(tokens, now);
  if (!admission.refusal) admission.refusal = books.refuse(cost, now);
  if (!admission.refusal) {
    rates.take(1, tokens, now);
    Reservation& held = admission.reservation;
    held.held_in_ = books.hold(cost, now);
    held.limiter_ = this;
    held.tenant_ = tenant;
    held.policy_ = policy;
    held.tokens_ = tokens;
    held.cost_ = cost;
  }
  admission.status = rates.status(now);
  return admission;
}

Limiter::Spending Limiter::spending(const std::string& tenant) const {
  const std::lock_guard lock(impl_->mutex);
  const WallTime now = impl_->clock.wall_now();
  return {spent_this_day(impl_->mirror, tenant, now), spent_this_month(impl_->mirror, tenant, now)};
}

bool Limiter::knows(const std::string& tenant, const TenantPolicy& policy) {
  if (impl_->options.store == nullptr || !policy.limits()) return true;
  const std::lock_guard lock(impl_->mutex);
  const WallTime now = impl_->clock.wall_now();
  const bool rates = RateLimits(impl_->mirror, tenant, policy).known(now);
  const bool books = SpendingBooks(impl_->mirror, tenant, policy).known(now);  // asked for in any case
  return (rates && books) || impl_->apart;
}

void Limiter::learn(const std::string& tenant, const TenantPolicy& policy) {
  const std::lock_guard one_at_a_time(impl_->exchanging);
  // The first may be one that was under way before the books were asked for.
  for (int exchanges = 0; exchanges < 2 && !knows(tenant, policy); ++exchanges)
    (void)impl_->exchange();  // logs by itself
}

Result<void> Limiter::exchange() {
  const std::lock_guard one_at_a_time(impl_->exchanging);
  return impl_->exchange();
}

Result<void> Limiter::Impl::exchange() {
  std::optional<session::Exchange> exchange;
  {
    const std::lock_guard lock(mutex);
    if (options.store == nullptr) {
      mirror.forget(clock.wall_now());
      return {};
    }
    exchange = mirror.collect(clock.wall_now());
  }
  if (!exchange) return {};
  auto told = options.store->exchange(*exchange);
  const std::lock_guard lock(mutex);
  if (!told) {
    if (!apart) {
      base::log::warn("limits are kept by this gateway alone until the store is back: {}", told.error().to_string());
    }
    apart = told.error().to_string();
    return std::move(told).error();
  }
  mirror.apply(*told, clock.wall_now());
  if (apart) base::log::info("limits are shared with the other gateways again");
  apart.reset();
  return {};
}

std::optional<std::string> Limiter::apart() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->apart;
}

Reservation& Reservation::operator=(Reservation&& other) noexcept {
  if (this == &other) return *this;
  release();
  limiter_ = std::exchange(other.limiter_, nullptr);
  tenant_ = std::move(other.tenant_);
  policy_ = other.policy_;
  tokens_ = other.tokens_;
  cost_ = other.cost_;
  held_in_ = other.held_in_;
  return *this;
}

RateStatus Reservation::settle(int64_t tokens, Money cost) {
  Limiter* limiter = std::exchange(limiter_, nullptr);
  if (limiter == nullptr) return {};
  limiter->impl_->settle(*this, 1, tokens, cost);
  const std::lock_guard lock(limiter->impl_->mutex);
  return RateLimits(limiter->impl_->mirror, tenant_, policy_).status(limiter->impl_->clock.wall_now());
}

void Reservation::release() {
  if (Limiter* limiter = std::exchange(limiter_, nullptr)) limiter->impl_->settle(*this, 0, 0, Money());
}

}  // namespace tidemill::access
