#include "gateway/fleet.hpp"

#include <algorithm>
#include <tuple>
#include <utility>

#include <fmt/core.h>

#include "base/utf8.hpp"

namespace tidemill::gateway {

namespace {

// SplitMix64's finish: spreads the bits of a hash that is combined from others.
uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
  return x ^ (x >> 31);
}

// Rendezvous hashing: who wins among any set stays the same when others come and go.
uint64_t draw(uint64_t affinity, const Backend& backend) {
  return mix(affinity ^ mix(std::hash<std::string>()(backend.name())));
}

// In requests. Those that the gateway has under way are known now, those of others as of the last poll.
double load_of(const Backend& backend) {
  const BackendLoad polled = backend.load();
  const double here = backend.in_flight();
  return std::max(here, polled.running + polled.waiting) / backend.options().weight;
}

// Loads that differ by less are as good as equal.
constexpr double load_step = 2;

}  // namespace

void Fleet::replace(Backends backends) {
  auto next = std::make_shared<const Backends>(std::move(backends));
  const std::lock_guard lock(mutex_);
  backends_ = std::move(next);
}

Fleet::Backends Fleet::backends() const {
  const std::lock_guard lock(mutex_);
  return *backends_;
}

bool Fleet::contains(const Backend& backend) const {
  const Backends all = backends();
  return std::any_of(all.begin(), all.end(), [&](const auto& other) { return other.get() == &backend; });
}

base::Result<Backend::Lease> Fleet::pick(const Wanted& wanted, const std::vector<const Backend*>& tried) const {
  std::shared_ptr<const Backends> all;
  {
    const std::lock_guard lock(mutex_);
    all = backends_;
  }
  const std::shared_ptr<Backend>* best = nullptr;
  std::tuple<bool, double, uint64_t> best_rank;
  bool served = false;
  bool all_known = true;
  for (const auto& backend : *all) {
    all_known = all_known && backend->models_known();
    // One that has not told its models yet is asked only where there is no other way.
    const bool serves = backend->serves(wanted.model);
    if (!serves && backend->models_known()) continue;
    served = served || serves;
    if (wanted.marking && backend->sends_marks() == false) continue;
    if (std::find(tried.begin(), tried.end(), backend.get()) != tried.end()) continue;
    const double step = static_cast<double>(static_cast<int64_t>(load_of(*backend) / load_step));
    const std::tuple rank(!(serves && backend->available()), step, draw(wanted.affinity, *backend));
    if (best != nullptr && best_rank <= rank) continue;
    best = &backend;
    best_rank = rank;
  }
  if (best != nullptr) return Backend::Lease(*best);
  if (!served && all_known && !all->empty()) {
    return base::Error(base::ErrorCode::not_found,
                       fmt::format("no backend serves the model '{}'", base::utf8::prefix(wanted.model, 100)))
        .with_param("model");
  }
  return base::Error(base::ErrorCode::unavailable,
                     all->empty() ? "the gateway has no backends" : "no further backend can be asked");
}

std::vector<std::string> Fleet::models() const {
  std::vector<std::string> names;
  for (const auto& backend : backends()) {
    for (std::string& name : backend->models())
      names.push_back(std::move(name));
  }
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

}  // namespace tidemill::gateway
