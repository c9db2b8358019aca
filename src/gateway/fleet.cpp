#include "gateway/fleet.hpp"

#include <algorithm>
#include <unordered_set>
#include <utility>

#include <fmt/core.h>

#include "base/log.hpp"
#include "base/utf8.hpp"
#include "gateway/route_options.hpp"

namespace tidemill::gateway {

namespace {

route::Outcome to_route(Outcome outcome) {
  switch (outcome) {
    case Outcome::answered:
      return route::Outcome::success;
    case Outcome::declined:
      return route::Outcome::declined;
    case Outcome::faulty:
    case Outcome::failed:
      return route::Outcome::failure;
    case Outcome::refused:  // it is well, and told why
    case Outcome::unready:
    case Outcome::abandoned:
      break;
  }
  return route::Outcome::cancelled;
}

// Clients that wait for longer miss what nobody could foresee.
constexpr base::Duration longest_wait_told = std::chrono::minutes(1);

// Which backends may answer a request.
class Suited {
 public:
  Suited(const Fleet::Backends& backends, const Wanted& wanted) : wanted_(wanted) {
    if (wanted.backends != nullptr) asked_.emplace(*wanted.backends);
    named_ = std::any_of(backends.begin(), backends.end(), [&](const auto& backend) { return meant(*backend); });
    served_ = std::any_of(backends.begin(), backends.end(),
                          [&](const auto& backend) { return meant(*backend) && backend->serves(wanted.model); });
  }

  // There are backends of the names that are wanted.
  bool named() const { return named_; }
  // Somebody is known to serve the model.
  bool served() const { return served_; }
  // One that has not told its models yet is asked only where nobody is known to serve this one.
  bool operator()(const Backend& backend) const {
    return meant(backend) && (backend.serves(wanted_.model) || (!served_ && !backend.models_known()));
  }

 private:
  bool meant(const Backend& backend) const { return !asked_ || asked_->contains(backend.name()); }

  const Wanted& wanted_;
  std::optional<AskedBackends> asked_;  // none: all
  bool named_ = false;
  bool served_ = false;
};

base::Duration time_until_asked(const route::Hindrance& hindrance, base::Duration poll_interval) {
  if (hindrance.asks_for_none) return poll_interval / looks_while_unready;
  return std::max(hindrance.ejected_for, hindrance.checks_to_go * poll_interval);
}

}  // namespace

Lease& Lease::operator=(Lease&& other) noexcept {
  if (this == &other) return *this;
  end(Outcome::abandoned);
  fleet_ = std::exchange(other.fleet_, nullptr);
  backend_ = std::move(other.backend_);
  ticket_ = std::exchange(other.ticket_, 0);
  return *this;
}

void Lease::begin_answer() {
  if (fleet_ != nullptr) fleet_->router_.first_token(ticket_, fleet_->clock_.now());
}

void Lease::end(Outcome outcome, const TokenUsage& usage) {
  const auto backend = std::exchange(backend_, nullptr);
  if (!backend) return;
  backend->finish(outcome);
  const route::Finish finish{.outcome = to_route(outcome),
                             .prompt_tokens = usage.prompt_tokens,
                             .cached_tokens = usage.cached_tokens,
                             .output_tokens = usage.output_tokens};
  fleet_->router_.finish(ticket_, finish, fleet_->clock_.now());
}

void Fleet::replace(Backends backends, const std::set<std::string>& unready) {
  std::vector<route::Endpoint> endpoints;
  for (const auto& backend : backends) {
    endpoints.push_back({.address = backend->name(),
                         .ready = !unready.contains(backend->name()),
                         .instance = backend->options().instance});
  }
  std::sort(endpoints.begin(), endpoints.end(), [](const auto& a, const auto& b) { return a.address < b.address; });
  auto next = std::make_shared<const Backends>(std::move(backends));
  const std::lock_guard noting(noting_);  // what is noted of one that goes is not noted of another that comes
  const std::lock_guard lock(mutex_);
  backends_ = std::move(next);
  router_.set_backends(endpoints, clock_.now());
  for (const auto& backend : *backends_)
    router_.set_models(backend->name(), backend->models());
}

std::shared_ptr<const Fleet::Backends> Fleet::all() const {
  const std::lock_guard lock(mutex_);
  return backends_;
}

Fleet::Backends Fleet::backends() const {
  return *all();
}

bool Fleet::contains(const Backend& backend) const {
  const auto backends = all();
  return std::any_of(backends->begin(), backends->end(), [&](const auto& other) { return other.get() == &backend; });
}

base::Result<Lease> Fleet::pick(const Wanted& wanted, const std::vector<const Backend*>& tried) {
  const auto backends = all();
  const Suited suited(*backends, wanted);
  bool all_known = true;
  std::vector<std::string_view> able;  // by name, those that were tried included
  std::vector<std::string> exclude;
  for (const auto& backend : *backends) {
    all_known = all_known && backend->models_known();
    const bool cannot_resume = wanted.marking && backend->sends_marks() == false;
    if (!suited(*backend) || cannot_resume) continue;
    able.push_back(backend->name());
    const bool was_tried = std::find(tried.begin(), tried.end(), backend.get()) != tried.end();
    if (was_tried) exclude.push_back(backend->name());
  }
  if (!suited.named() && !backends->empty()) {
    return base::Error(base::ErrorCode::not_found,
                       "there is no backend of the names that the chosen target of the route has as its backends")
        .with_param("model");
  }
  if (!suited.served() && all_known && !backends->empty()) {
    return base::Error(base::ErrorCode::not_found,
                       fmt::format("no backend serves the model '{}'", base::utf8::prefix(wanted.model, 100)))
        .with_param("model");
  }
  if (exclude.size() == able.size()) {
    return base::Error(base::ErrorCode::unavailable,
                       backends->empty() ? "the gateway has no backends" : "no further backend can be asked");
  }
  route::RouteRequest request{.blocks = wanted.blocks,
                              .prompt_bytes = wanted.prompt_bytes,
                              .prompt_tokens = wanted.prompt_tokens,
                              .output_tokens = wanted.output_tokens,
                              .session = wanted.session,
                              .exclude = exclude};
  const bool all_able = able.size() == backends->size();
  const auto names = all_able ? std::unordered_set<std::string_view>()
                              : std::unordered_set<std::string_view>(able.begin(), able.end());
  if (!all_able) request.eligible = [&names](std::string_view name) { return names.contains(name); };
  TM_TRY(const route::Route chosen, router_.route(request, clock_.now()));
  Lease lease;
  lease.fleet_ = this;
  lease.ticket_ = chosen.ticket;
  const auto is_it = [&](const auto& backend) { return backend->name() == chosen.address; };
  const auto found = std::find_if(backends->begin(), backends->end(), is_it);
  if (found == backends->end()) {  // a reload came between
    router_.finish(chosen.ticket, {.outcome = route::Outcome::cancelled}, clock_.now());
    return base::Error(base::ErrorCode::unavailable, "the backends are being replaced");
  }
  lease.backend_ = *found;
  lease.backend_->begin();
  return lease;
}

base::Duration Fleet::next_chance(const Wanted& wanted, base::Duration poll_interval) const {
  const auto backends = all();
  const Suited suited(*backends, wanted);
  std::vector<std::string_view> names;
  for (const auto& backend : *backends) {
    if (suited(*backend)) names.emplace_back(backend->name());
  }
  base::Duration soonest = longest_wait_told;
  if (names.empty()) return std::min(soonest, poll_interval);
  for (const route::Hindrance& hindrance : router_.hindrances(names, clock_.now()))
    soonest = std::min(soonest, time_until_asked(hindrance, poll_interval));
  return soonest;
}

void Fleet::note_poll(Backend& backend, const route::BackendReport& report, base::SteadyTime begun) {
  const std::lock_guard lock(noting_);
  if (!contains(backend) || backend.asked_for_none_after(begun)) return;
  const base::SteadyTime now = clock_.now();
  router_.check(backend.name(), true, now);
  router_.ready(backend.name(), now);
  router_.report(backend.name(), report, now);
  backend.note_ready(report);
}

void Fleet::note_models(const Backend& backend) {
  const std::lock_guard lock(noting_);
  if (contains(backend)) router_.set_models(backend.name(), backend.models());
}

void Fleet::note_failed_poll(Backend& backend, std::string_view why) {
  const std::lock_guard lock(noting_);
  if (!contains(backend)) return;
  const base::SteadyTime now = clock_.now();
  router_.check(backend.name(), false, now);
  backend.note_unready(why, false, now);
}

void Fleet::note_unready(Backend& backend, route::Unready why, base::SteadyTime asked) {
  const std::lock_guard lock(noting_);
  if (!contains(backend)) return;
  router_.drain(backend.name(), std::nullopt, clock_.now(), why);
  backend.note_unready(why == route::Unready::loading ? "it loads its model" : "it takes no new requests", true, asked);
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

PromptBlocks prompt_blocks(std::string_view salt, std::string_view tools, std::string_view system,
                           std::string_view prompt) {
  route::BlockHasher hasher(salt);
  hasher.add(tools);
  hasher.add(system);
  // The next turn goes on where the array ends now.
  if (prompt.ends_with(']') || prompt.ends_with('"')) prompt.remove_suffix(1);
  hasher.add(prompt);
  const auto blocks = hasher.blocks();
  return {.blocks = {blocks.begin(), blocks.end()}, .bytes = hasher.bytes()};
}

}  // namespace tidemill::gateway
