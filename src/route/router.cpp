#include "route/router.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <functional>
#include <mutex>
#include <string_view>
#include <unordered_map>
#include <utility>

#include <fmt/format.h>
#include <xxhash.h>

#include "route/session_homes.hpp"

namespace tidemill::route {

namespace {

constexpr double kRatioLearning = 0.02;    // of a prompt's bytes a token into the average
constexpr double kLeastScale = 0.02;       // of what a backend is believed to hold against its nominal capacity
constexpr double kMostScale = 16;          // some spill to host memory
constexpr double kShortfall = 0.25;        // a belief is wrong when so much of it was not there,
constexpr int64_t kShortfallTokens = 512;  // and so many tokens
constexpr int kShortfallsToShrink = 2;     // in a row
constexpr size_t kAlternatives = 3;

using Tick = PrefixIndex::Tick;

struct Slot {
  bool present = false;
  bool ready = true;  // as discovery says
  std::string address;
  std::string instance;
  uint64_t name_hash = 0;
  uint32_t epoch = 0;       // counts who had this place
  uint32_t generation = 0;  // counts instances, over all who had this place
  std::optional<double> started_at;
  std::optional<BackendLoad> load;
  double scale = 1;              // believed capacity against the nominal one
  int shortfalls = 0;            // in a row
  std::vector<Tick> unproven;    // recorded for prompts whose first token has not come, oldest first
  std::array<Tick, 8> broken{};  // recorded for prompts that never were computed whole
  size_t next_broken = 0;
};

struct OpenRequest {
  Backend backend = 0;
  uint32_t epoch = 0;
  uint32_t generation = 0;
  BackendLoad::Open load = {};
  Tick recorded = 0;        // when its own blocks were recorded
  Tick deepest = 0;         // when the deepest block that it was believed to find was last used
  bool optimistic = false;  // that block was not proven to be there yet
  bool probe = false;
  uint64_t prompt_bytes = 0;
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;
};

struct AddressHash {
  using is_transparent = void;
  size_t operator()(std::string_view address) const { return std::hash<std::string_view>{}(address); }
};

}  // namespace

struct Router::State {
  explicit State(const RouterOptions& given)
      : options(given), health(given.health), homes(given.most_sessions), bytes_per_token(given.bytes_per_token) {}

  std::optional<Backend> find(std::string_view address) const {
    const auto found = by_address.find(address);
    if (found == by_address.end()) return std::nullopt;
    return found->second;
  }

  void add(const Endpoint& endpoint, bool joining, base::SteadyTime now);
  void remove(Backend backend);
  void restart(Backend backend, base::SteadyTime now);
  LoadOptions newcomer() const;
  double mean_recent(base::SteadyTime now) const;
  void size_index();
  void size_index(Backend backend);

  bool excluded(const Slot& slot, const RouteRequest& request) const {
    return std::ranges::find(request.exclude, slot.address) != request.exclude.end();
  }
  uint64_t spread_key(const RouteRequest& request);
  int64_t cached_tokens(const RouteRequest& request, int64_t prompt_tokens, uint32_t blocks) const;
  void gather(const RouteRequest& request, int64_t prompt_tokens, base::SteadyTime now);
  base::Error none(const RouteRequest& request) const;
  Route open(const RouteRequest& request, const Demand& demand, const Ranked& chosen, uint64_t session,
             base::SteadyTime now);
  void correct(Slot& slot, const OpenRequest& open, const Finish& finish);
  void first_token(OpenRequest& open, base::SteadyTime now, std::optional<int64_t> cached_tokens);

  RouterOptions options;
  mutable std::mutex mutex;
  std::vector<Slot> slots;  // by Backend
  std::unordered_map<std::string, Backend, AddressHash, std::equal_to<>> by_address;
  PrefixIndex index;
  Health health;
  SessionHomes homes;
  std::unordered_map<Ticket, OpenRequest> requests;
  Ticket next_ticket = 1;
  double bytes_per_token;
  // Of the choice under way.
  std::vector<uint32_t> matched;
  std::vector<Candidate> candidates;
  std::vector<Ranked> ranked;
};

Router::Router(const RouterOptions& options) : state_(std::make_unique<State>(options)) {}
Router::~Router() = default;

// ---- Backends

void Router::set_backends(std::span<const Endpoint> endpoints, base::SteadyTime now) {
  State& s = *state_;
  const std::lock_guard lock(s.mutex);
  for (Backend backend = 0; backend < s.slots.size(); ++backend) {
    const Slot& slot = s.slots[backend];
    if (slot.present && std::ranges::find(endpoints, slot.address, &Endpoint::address) == endpoints.end()) {
      s.remove(backend);
    }
  }
  const bool joining = !s.by_address.empty();
  for (const Endpoint& endpoint : endpoints) {
    const std::optional<Backend> known = s.find(endpoint.address);
    if (!known) {
      s.add(endpoint, joining, now);
    } else if (s.slots[*known].instance != endpoint.instance) {
      s.slots[*known].instance = endpoint.instance;
      s.restart(*known, now);
    }
  }
  for (const Endpoint& endpoint : endpoints) {
    const Backend backend = s.by_address.at(endpoint.address);
    if (endpoint.ready == s.slots[backend].ready) continue;
    s.slots[backend].ready = endpoint.ready;
    if (endpoint.ready) {
      s.health.undrain(backend);
    } else {
      s.health.drain(backend, std::nullopt, now);
    }
  }
  s.size_index();
}

void Router::State::add(const Endpoint& endpoint, bool joining, base::SteadyTime now) {
  const auto free = std::ranges::find(slots, false, &Slot::present);
  const auto backend = static_cast<Backend>(free - slots.begin());
  if (free == slots.end()) slots.emplace_back();
  Slot& slot = slots[backend];
  const uint32_t epoch = slot.epoch + 1;
  const uint32_t generation = slot.generation + 1;
  const LoadOptions load = newcomer();
  const double recent = mean_recent(now);
  slot = Slot{};
  slot.present = true;
  slot.address = endpoint.address;
  slot.instance = endpoint.instance;
  slot.name_hash = XXH3_64bits(endpoint.address.data(), endpoint.address.size());
  slot.epoch = epoch;
  slot.generation = generation;
  slot.load.emplace(load, now);
  slot.load->set_recent(recent, now);
  by_address.emplace(endpoint.address, backend);
  health.add(backend, joining, now);
}

void Router::State::remove(Backend backend) {
  Slot& slot = slots[backend];
  by_address.erase(slot.address);
  health.remove(backend);
  index.forget(backend);
  index.set_capacity(backend, 0);
  slot.present = false;
  ++slot.generation;  // requests that are open there belong to nobody now
  slot.load.reset();
}

void Router::State::restart(Backend backend, base::SteadyTime now) {
  Slot& slot = slots[backend];
  ++slot.generation;
  slot.load->restart(now);
  slot.load->set_recent(mean_recent(now), now);
  slot.scale = 1;
  slot.shortfalls = 0;
  slot.unproven.clear();
  index.forget(backend);
  health.restart(backend, now);
  if (!slot.ready) health.drain(backend, std::nullopt, now);
  size_index(backend);
}

// What a backend that nothing is known of is taken for: the median of those that were measured.
LoadOptions Router::State::newcomer() const {
  LoadOptions load = options.load;
  std::vector<double> rates;
  for (const Slot& slot : slots) {
    if (slot.present && slot.load->speed().observed() >= 8) rates.push_back(slot.load->speed().tokens_per_second());
  }
  if (rates.empty()) return load;
  const auto middle = rates.begin() + static_cast<ptrdiff_t>(rates.size() / 2);
  std::ranges::nth_element(rates, middle);
  load.tokens_per_second = *middle;
  return load;
}

double Router::State::mean_recent(base::SteadyTime now) const {
  double sum = 0;
  int count = 0;
  for (const Slot& slot : slots) {
    if (!slot.present) continue;
    sum += slot.load->recent_seconds(now);
    ++count;
  }
  return count == 0 ? 0 : sum / count;
}

void Router::State::size_index() {
  for (Backend backend = 0; backend < slots.size(); ++backend) {
    if (slots[backend].present) size_index(backend);
  }
}

void Router::State::size_index(Backend backend) {
  const Slot& slot = slots[backend];
  const double nominal =
      static_cast<double>(slot.load->kv_capacity_tokens()) * bytes_per_token / static_cast<double>(options.block_bytes);
  const double share = static_cast<double>(options.most_blocks) / static_cast<double>(by_address.size());
  index.set_capacity(backend, static_cast<size_t>(std::min(nominal * slot.scale, share)));
}

// ---- The choice

// Requests of one session meet, and else those whose prompts begin alike. How much of a prompt is its beginning is
// counted in powers of two, so that a conversation keeps its key while it grows to twice its length.
uint64_t Router::State::spread_key(const RouteRequest& request) {
  if (!request.session.empty()) return XXH3_64bits(request.session.data(), request.session.size());
  if (!request.blocks.empty()) return request.blocks[std::bit_floor(request.blocks.size()) - 1];
  return spread_score(next_ticket, 0);
}

int64_t Router::State::cached_tokens(const RouteRequest& request, int64_t prompt_tokens, uint32_t blocks) const {
  if (blocks == 0 || request.prompt_bytes == 0) return 0;
  const double share = static_cast<double>(blocks * options.block_bytes) / static_cast<double>(request.prompt_bytes);
  // The last token is always computed.
  return std::clamp<int64_t>(static_cast<int64_t>(share * static_cast<double>(prompt_tokens)), 0,
                             std::max<int64_t>(prompt_tokens - 1, 0));
}

void Router::State::gather(const RouteRequest& request, int64_t prompt_tokens, base::SteadyTime now) {
  matched.resize(slots.size());
  index.match(request.blocks, matched);
  candidates.clear();
  for (Backend backend = 0; backend < slots.size(); ++backend) {
    const Slot& slot = slots[backend];
    if (!slot.present || !health.admits(backend) || excluded(slot, request)) continue;
    if (request.eligible && !request.eligible(slot.address)) continue;
    const BackendLoad& load = *slot.load;
    const double recent = load.recent_seconds(now);
    candidates.push_back({.backend = backend,
                          .name_hash = slot.name_hash,
                          .cached_tokens = cached_tokens(request, prompt_tokens, matched[backend]),
                          .tokens_per_second = load.speed().tokens_per_second(),
                          .overhead_seconds = load.speed().overhead_seconds(),
                          .backlog_seconds = load.backlog_seconds(now),
                          .decode_share = load.decode_share(),
                          .recent_seconds = recent,
                          .utilisation = load.utilisation(now),
                          .arrivals_per_second = load.arrivals_per_second(now),
                          .kv_free_tokens = load.kv_free_tokens(),
                          .ramp = health.state(backend) == HealthState::probing ? options.health.least_ramp
                                                                                : health.ramp(backend, now)});
  }
}

base::Error Router::State::none(const RouteRequest& request) const {
  int tried = 0;
  int loading = 0;
  int draining = 0;
  int full = 0;
  int unhealthy = 0;
  int others = 0;
  for (Backend backend = 0; backend < slots.size(); ++backend) {
    const Slot& slot = slots[backend];
    if (!slot.present) continue;
    if (request.eligible && !request.eligible(slot.address)) {
      ++others;
    } else if (excluded(slot, request)) {
      ++tried;
    } else if (health.state(backend) == HealthState::loading) {
      ++loading;
    } else if (health.state(backend) == HealthState::draining) {
      ++draining;
    } else if (health.open(backend) >= options.health.most_open) {
      ++full;
    } else {
      ++unhealthy;
    }
  }
  const auto suited = static_cast<int>(by_address.size()) - others;
  if (suited == 0) return {base::ErrorCode::unavailable, "no backend can be used: none is known that serves this"};
  return {base::ErrorCode::unavailable,
          fmt::format("no backend can be used: of {}, {} tried already, {} loading, {} draining, {} full, {} failing",
                      suited, tried, loading, draining, full, unhealthy)};
}

base::Result<Route> Router::route(const RouteRequest& request, base::SteadyTime now) {
  State& s = *state_;
  const std::lock_guard lock(s.mutex);
  s.health.advance(now);
  const int64_t prompt_tokens = request.prompt_tokens.value_or(
      static_cast<int64_t>(static_cast<double>(request.prompt_bytes) / s.bytes_per_token));
  s.gather(request, prompt_tokens, now);
  if (s.candidates.empty()) return s.none(request);

  const uint64_t session = request.session.empty() ? 0 : XXH3_64bits(request.session.data(), request.session.size());
  Demand demand{.prompt_tokens = prompt_tokens, .spread_key = s.spread_key(request)};
  double expected = 0;
  for (const Candidate& candidate : s.candidates)
    expected += s.slots[candidate.backend].load->expected_output_tokens();
  expected /= static_cast<double>(s.candidates.size());
  // A limit is an upper bound, and mostly far from it.
  demand.output_tokens = static_cast<int64_t>(
      request.output_tokens ? std::min(static_cast<double>(*request.output_tokens), expected) : expected);
  if (session != 0) demand.home = s.homes.find(session);
  rank(demand, s.candidates, s.options.choice, s.ranked);

  if (const std::optional<Backend> due = s.health.probe_due(now)) {
    const auto probe = std::ranges::find(s.ranked, *due, &Ranked::backend);
    if (probe != s.ranked.end()) std::rotate(s.ranked.begin(), probe, probe + 1);
  }
  return s.open(request, demand, s.ranked.front(), session, now);
}

Route Router::State::open(const RouteRequest& request, const Demand& demand, const Ranked& chosen, uint64_t session,
                          base::SteadyTime now) {
  const Backend backend = chosen.backend;
  Slot& slot = slots[backend];
  OpenRequest open{.backend = backend,
                   .epoch = slot.epoch,
                   .generation = slot.generation,
                   .prompt_bytes = request.prompt_bytes,
                   .prompt_tokens = demand.prompt_tokens,
                   .cached_tokens = chosen.cached_tokens};
  open.load =
      slot.load->begin(demand.prompt_tokens - chosen.cached_tokens, demand.prompt_tokens, demand.output_tokens, now);
  open.deepest = index.record(backend, request.blocks);
  open.recorded = index.now();
  open.optimistic = std::ranges::binary_search(slot.unproven, open.deepest) ||
                    std::ranges::find(slot.broken, open.deepest) != slot.broken.end();
  slot.unproven.push_back(open.recorded);
  open.probe = health.begin(backend, now);
  if (session != 0) homes.set(session, backend);

  Route route{.ticket = next_ticket++,
              .address = slot.address,
              .prompt_tokens = demand.prompt_tokens,
              .cached_tokens = chosen.cached_tokens,
              .ttft_seconds = chosen.ttft_seconds,
              .probe = open.probe};
  for (size_t i = 1; i < ranked.size() && i <= kAlternatives; ++i) {
    route.alternatives.push_back({slots[ranked[i].backend].address, ranked[i].ttft_seconds});
  }
  requests.emplace(route.ticket, open);
  return route;
}

// ---- What came of it

void Router::State::first_token(OpenRequest& open, base::SteadyTime now, std::optional<int64_t> cached) {
  Slot& slot = slots[open.backend];
  if (slot.generation != open.generation || open.load.id == 0) return;
  std::erase(slot.unproven, open.recorded);
  slot.load->first_token(open.load, cached ? std::optional(open.prompt_tokens - *cached) : std::nullopt, now);
}

void Router::first_token(Ticket ticket, base::SteadyTime now, std::optional<int64_t> cached_tokens) {
  State& s = *state_;
  const std::lock_guard lock(s.mutex);
  const auto found = s.requests.find(ticket);
  if (found != s.requests.end()) s.first_token(found->second, now, cached_tokens);
}

void Router::finish(Ticket ticket, const Finish& finish, base::SteadyTime now) {
  State& s = *state_;
  const std::lock_guard lock(s.mutex);
  const auto found = s.requests.find(ticket);
  if (found == s.requests.end()) return;
  OpenRequest open = found->second;
  s.requests.erase(found);
  Slot& slot = s.slots[open.backend];
  if (!slot.present || slot.epoch != open.epoch) return;  // the backend left
  const bool same_instance = slot.generation == open.generation;
  s.health.finish(open.backend, same_instance ? finish.outcome : Outcome::cancelled, open.probe, now);
  if (!same_instance) return;

  const bool success = finish.outcome == Outcome::success;
  if (success) s.first_token(open, now, finish.cached_tokens);  // if the caller has not said so
  if (open.load.id != 0) {
    // Nobody knows how much of the prompt was computed.
    std::erase(slot.unproven, open.recorded);
    slot.broken[slot.next_broken++ % slot.broken.size()] = open.recorded;
  }
  slot.load->finish(open.load, finish.output_tokens, now);
  if (!success) return;
  if (finish.prompt_tokens && *finish.prompt_tokens > 0 && open.prompt_bytes > 0) {
    const double ratio = static_cast<double>(open.prompt_bytes) / static_cast<double>(*finish.prompt_tokens);
    s.bytes_per_token += kRatioLearning * (ratio - s.bytes_per_token);
  }
  s.correct(slot, open, finish);
  if (!finish.blocks.empty()) s.index.record(open.backend, finish.blocks);
}

// Compares what the backend found in its cache with what it was believed to find.
void Router::State::correct(Slot& slot, const OpenRequest& open, const Finish& finish) {
  if (!finish.cached_tokens) return;
  const auto off = static_cast<double>(open.cached_tokens - *finish.cached_tokens);
  const double tolerated =
      std::max(kShortfall * static_cast<double>(open.cached_tokens), static_cast<double>(kShortfallTokens));
  if (off > tolerated && !open.optimistic && open.deepest != 0) {
    index.forget_until(open.backend, open.deepest);
    if (++slot.shortfalls < kShortfallsToShrink) return;
    slot.shortfalls = 0;
    const double nominal = static_cast<double>(slot.load->kv_capacity_tokens()) * bytes_per_token /
                           static_cast<double>(options.block_bytes);
    slot.scale = std::clamp(static_cast<double>(index.held(open.backend)) / nominal, kLeastScale, slot.scale);
    size_index(open.backend);
  } else if (off < -tolerated) {
    // It holds more than was believed: that much more, a little at a time.
    slot.scale = std::min(slot.scale * 1.05, kMostScale);
    slot.shortfalls = 0;
    size_index(open.backend);
  } else if (open.cached_tokens > kShortfallTokens) {
    slot.shortfalls = 0;
  }
}

void Router::set_most_open(int64_t requests) {
  const std::lock_guard lock(state_->mutex);
  state_->options.health.most_open = requests;
  state_->health.set_most_open(requests);
}

// ---- What else is heard of backends

void Router::set_models(std::string_view address, std::vector<std::string> models) {
  State& s = *state_;
  const std::lock_guard lock(s.mutex);
  if (const auto backend = s.find(address)) s.health.set_models(*backend, std::move(models));
}

void Router::check(std::string_view address, bool passed, base::SteadyTime now) {
  State& s = *state_;
  const std::lock_guard lock(s.mutex);
  const auto backend = s.find(address);
  if (!backend) return;
  const bool was_down = s.health.state(*backend) == HealthState::down;
  s.health.check(*backend, passed, now);
  // It did nothing while it was down, which must not look like room for everything.
  if (was_down && s.health.state(*backend) == HealthState::up)
    s.slots[*backend].load->set_recent(s.mean_recent(now), now);
}

void Router::report(std::string_view address, const BackendReport& report, base::SteadyTime now) {
  State& s = *state_;
  const std::lock_guard lock(s.mutex);
  const auto backend = s.find(address);
  if (!backend) return;
  Slot& slot = s.slots[*backend];
  if (report.started_at) {
    // The same instance may round its start differently.
    if (slot.started_at && std::abs(*slot.started_at - *report.started_at) >= 1) s.restart(*backend, now);
    slot.started_at = report.started_at;
  }
  slot.load->observe(report, now);
  s.size_index(*backend);
}

void Router::drain(std::string_view address, std::optional<base::Duration> retry_after, base::SteadyTime now,
                   Unready why) {
  State& s = *state_;
  const std::lock_guard lock(s.mutex);
  const auto backend = s.find(address);
  if (!backend) return;
  s.health.drain(*backend, retry_after ? std::optional(now + *retry_after) : std::nullopt, now, why);
}

void Router::ready(std::string_view address, base::SteadyTime now) {
  State& s = *state_;
  const std::lock_guard lock(s.mutex);
  const auto backend = s.find(address);
  if (!backend) return;
  s.health.advance(now);
  if (s.slots[*backend].ready) s.health.undrain(*backend);  // discovery may know that it is about to end
}

void Router::forget(std::string_view address, base::SteadyTime now) {
  State& s = *state_;
  const std::lock_guard lock(s.mutex);
  const auto backend = s.find(address);
  if (!backend) return;
  s.health.advance(now);
  s.index.forget(*backend);
}

std::vector<BackendView> Router::view(base::SteadyTime now) const {
  const State& s = *state_;
  const std::lock_guard lock(s.mutex);
  std::vector<BackendView> all;
  for (Backend backend = 0; backend < s.slots.size(); ++backend) {
    const Slot& slot = s.slots[backend];
    if (!slot.present) continue;
    all.push_back({.address = slot.address,
                   .health = s.health.state(backend),
                   .ramp = s.health.ramp(backend, now),
                   .open = slot.load->open(),
                   .prefilling = slot.load->prefilling(),
                   .backlog_seconds = slot.load->backlog_seconds(now),
                   .tokens_per_second = slot.load->speed().tokens_per_second(),
                   .utilisation = slot.load->utilisation(now),
                   .believed_blocks = s.index.held(backend),
                   .believed_capacity = s.index.capacity(backend)});
  }
  return all;
}

std::vector<Hindrance> Router::hindrances(std::span<const std::string_view> addresses, base::SteadyTime now) const {
  std::vector<Hindrance> all(addresses.size());
  const State& s = *state_;
  const std::lock_guard lock(s.mutex);
  for (size_t i = 0; i < addresses.size(); ++i) {
    const auto backend = s.find(addresses[i]);
    if (!backend) continue;
    const HealthState health = s.health.state(*backend);
    all[i] = {.asks_for_none = health == HealthState::loading || health == HealthState::draining,
              .ejected_for = s.health.ejected_for(*backend, now),
              .checks_to_go = s.health.checks_to_go(*backend)};
  }
  return all;
}

double Router::bytes_per_token() const {
  const std::lock_guard lock(state_->mutex);
  return state_->bytes_per_token;
}

}  // namespace tidemill::route
