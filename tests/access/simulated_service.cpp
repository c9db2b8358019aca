#include "access/simulated_service.hpp"

#include <algorithm>
#include <cmath>

namespace tidemill::access::test {

namespace {

base::Duration from_seconds(double seconds) {
  return base::Duration(static_cast<int64_t>(seconds * 1e9));
}

double draw(std::mt19937_64& random, double mean) {
  return std::exponential_distribution<double>(1 / mean)(random);
}

}  // namespace

double TenantOutcome::percentile(double share) const {
  if (ttft.empty()) return 0;
  std::vector<double> sorted = ttft;
  const auto rank = static_cast<size_t>(std::ceil(share * static_cast<double>(sorted.size()))) - 1;
  std::nth_element(sorted.begin(), sorted.begin() + static_cast<std::ptrdiff_t>(rank), sorted.end());
  return sorted[rank];
}

SimulatedService::SimulatedService(AdmissionOptions options, SimulatedBackends backends,
                                   std::vector<SimulatedTenant> tenants, uint64_t seed)
    : backends_(backends), admission_(options) {
  for (SimulatedTenant& tenant : tenants)
    sources_.push_back(std::make_unique<Source>(Source{std::move(tenant), std::mt19937_64(++seed)}));
}

void SimulatedService::arrive(Source& source) {
  const SimulatedTenant& tenant = source.tenant;
  const double prompt = std::ceil(draw(source.random, tenant.prompt_tokens));
  const double output = std::ceil(draw(source.random, tenant.output_tokens));
  at(now_ + from_seconds(draw(source.random, 1 / tenant.per_second)), [this, &source] { arrive(source); });

  TenantOutcome& outcome = outcomes_[tenant.name];
  ++outcome.offered;
  const AdmissionRequest request{
      tenant.account.empty() ? tenant.name : tenant.account, tenant.weight, tenant.priority,
      static_cast<int64_t>(prompt),
      static_cast<int64_t>(tenant.output_tokens)};  // the output's length is not known before
  // A request that starts does so before its number is known.
  auto id = std::make_shared<uint64_t>(0);
  const Time arrived = now_;
  const std::string name = tenant.name;
  *id = admission_.submit(request, now_, [=, this, &outcome](std::optional<Refusal> refusal) {
    if (!refusal) {
      at(now_, [=, this] { serve(name, *id, arrived, prompt, output); });
      return;
    }
    ++(refusal->reason == RefusalReason::waited_too_long ? outcome.refused_later : outcome.refused_at_once);
    if (!refusal->retry_after || *refusal->retry_after <= base::Duration()) ++outcome.without_retry;
  });
}

void SimulatedService::serve(const std::string& tenant, uint64_t id, Time arrived, double prompt, double output) {
  const Time first = now_ + from_seconds(prompt / backends_.prefill_per_second);
  const Time last = first + from_seconds(output / backends_.decode_per_second);
  at(first, [=, this] {
    outcomes_[tenant].ttft.push_back(base::seconds(now_ - arrived));
    admission_.first_token(id, now_);
  });
  at(last, [=, this] {
    outcomes_[tenant].tokens += prompt + output;
    admission_.finish(id, static_cast<int64_t>(prompt + output), now_);
  });
}

std::map<std::string, TenantOutcome> SimulatedService::run(base::Duration length) {
  for (const auto& source : sources_) {
    Source& one = *source;
    at(now_ + from_seconds(draw(one.random, 1 / one.tenant.per_second)), [this, &one] { arrive(one); });
  }
  const Time end = now_ + length;
  constexpr base::Duration tick = std::chrono::milliseconds(50);
  Time next_tick = now_ + tick;
  while (!events_.empty()) {
    const Time next = events_.top().at;
    if (std::min(next, next_tick) > end) break;
    if (next_tick <= next) {
      now_ = next_tick;
      next_tick += tick;
      admission_.expire(now_);
      continue;
    }
    const Event event = events_.top();
    events_.pop();
    now_ = event.at;
    event.happen();
  }
  return std::move(outcomes_);
}

}  // namespace tidemill::access::test
