#include "access/admission.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <mutex>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

#include <fmt/core.h>

#include "access/drain_rate.hpp"
#include "access/fair_queue.hpp"

namespace tidemill::access {

using base::Duration;
using base::SteadyTime;

namespace {

using Turn = FairQueue::Turn;

Duration from_seconds(double seconds) {
  return Duration(static_cast<int64_t>(seconds * 1e9));
}

constexpr std::array priorities = {Priority::low, Priority::normal, Priority::high};

// What a tenant has at the backends, and in the queue.
struct Holding {
  double slots = 0;
  double prompt_tokens = 0;
  size_t queued = 0;
  double own_weight = 1;
  std::array<size_t, priorities.size()> requests{};  // of each priority, here and there
  double weight = 0;                                 // of all priorities of which there are requests, together

  size_t& of(Priority priority) { return requests[static_cast<size_t>(priority)]; }
  double weight_now() const {
    double sum = 0;
    for (const Priority priority : priorities)
      if (requests[static_cast<size_t>(priority)] > 0) sum += effective_weight(own_weight, priority);
    return sum;
  }
  bool idle() const { return slots <= 0 && queued == 0; }
};

// One of the two things that requests take up there.
struct Capacity {
  double Holding::*held;  // which it is
  double total = 0;       // 0: no bound
  double used = 0;
  bool in_places = false;             // a share of it is as many whole places as it begins
  double spare = 0;                   // of the total
  std::multiset<double> by_weight{};  // what each tenant holds, over its weight

  // `share` is the tenant's fair share of the whole, 0 to 1.
  Turn turn(double amount, const Holding& holding, double share) const {
    if (total <= 0 || used <= 0) return Turn::start;  // one that is larger than all of it goes alone
    const double left = total - used - amount;
    if (left >= spare) return Turn::start;
    // Nobody has more than a fair share who has less than another: shares that others leave are theirs to take.
    const double most = by_weight.empty() ? 0 : *by_weight.rbegin() * holding.weight;
    const bool within_share = holding.*held + amount <= std::max(in_places ? places(share) : share * total, most);
    if (within_share && left >= 0) return Turn::start;
    return within_share || holding.*held <= 0 ? Turn::hold : Turn::pass_over;
  }
  // Rounded down they would be fewer than there are, and what is left would go to whoever has least, whatever the
  // queue says.
  double places(double share) const {
    constexpr double rounding = 1e-9;
    return std::ceil(share * total - rounding);
  }
  void change(Holding& holding, double amount) {
    leave(holding);
    used += amount;
    holding.*held += amount;
    enter(holding);
  }
  // Around a change of its weight.
  void leave(const Holding& holding) {
    if (holding.*held <= 0) return;
    if (const auto old = by_weight.find(holding.*held / holding.weight); old != by_weight.end()) by_weight.erase(old);
  }
  void enter(const Holding& holding) {
    if (holding.*held > 0) by_weight.insert(holding.*held / holding.weight);
  }
};

}  // namespace

struct Admission::Impl {
  explicit Impl(const AdmissionOptions& wanted) : options(wanted) {
    set_slots(wanted.slots);
    prompts.total = static_cast<double>(wanted.max_prompt_tokens);
    prompts.spare = spare() * prompts.total;
  }

  double spare() const { return std::clamp(options.spare, 0.0, 0.5); }
  void set_slots(int count) {
    slots.total = std::max(count, 1);
    slots.spare = std::floor(spare() * slots.total);  // none of a few
  }

  struct Waiting {
    Decided decided;
    SteadyTime until;
  };
  struct Running {
    QueueEntry entry;
    bool awaits_first_token = true;
  };
  // To be called once the lock is left.
  using Decisions = std::vector<std::pair<Decided, std::optional<Refusal>>>;

  // An expectation is wrong by its own size now and then: what is let in by it should not have to be refused later.
  Duration hopeful_wait() const { return options.longest_wait / 3; }
  std::optional<Refusal> refuse(const AdmissionRequest& request, const Holding& holding) const;
  Turn turn_of(const QueueEntry& entry) const;
  void start_what_may(Decisions& decisions);
  void dequeued(const QueueEntry& entry);
  void came(Holding& holding, Priority priority);
  void went(const QueueEntry& entry);
  void weigh(Holding& holding);
  void prompt_done(Running& request);
  void forget_if_idle(std::map<std::string, Holding>::iterator tenant);
  void pass(SteadyTime now) { drain.pass(now, queue.size() > 0); }

  AdmissionOptions options;
  mutable std::mutex mutex;
  FairQueue queue;
  DrainRate drain;
  Capacity slots{.held = &Holding::slots, .in_places = true};
  Capacity prompts{.held = &Holding::prompt_tokens};
  std::map<std::string, Holding> tenants;
  double weights = 0;  // of those that hold or wait for anything
  std::unordered_map<uint64_t, Waiting> waiting;
  std::map<std::pair<SteadyTime, uint64_t>, uint64_t> deadlines;
  std::unordered_map<uint64_t, Running> running;
  uint64_t last_id = 0;
};

std::optional<Refusal> Admission::Impl::refuse(const AdmissionRequest& request, const Holding& holding) const {
  const auto rate = drain.per_second();
  const double ahead = queue.cost_ahead(request.tenant, request.priority, request.weight);
  const Duration wait = rate ? from_seconds(ahead / *rate) : Duration();
  const auto full = [&](std::string_view what) {
    const Duration room = std::max<Duration>(wait - hopeful_wait(), std::chrono::seconds(1));
    return Refusal{RefusalReason::queue_full, fmt::format("{}; try again in {} s", what, retry_after_seconds(room)),
                   room};
  };
  if (holding.queued >= options.max_queued_of_one) {
    return full(fmt::format("too many requests of {} are waiting", named(request.tenant)));
  }
  if (queue.size() >= options.max_queued) return full("too many requests are waiting");
  if (queue.size() > 0 && wait > hopeful_wait()) return full("the request would have to wait for too long");
  return std::nullopt;
}

Turn Admission::Impl::turn_of(const QueueEntry& entry) const {
  const Holding& holding = tenants.at(entry.tenant);
  // A lone tenant leaves the spare places too.
  const double share = tenants.size() == 1 ? 0.5 : holding.weight / weights;
  const Turn by_slots = slots.turn(1, holding, share);
  if (by_slots != Turn::start) return by_slots;
  return prompts.turn(entry.prompt_tokens, holding, share);
}

void Admission::Impl::dequeued(const QueueEntry& entry) {
  const auto found = waiting.find(entry.id);
  deadlines.erase({found->second.until, entry.id});
  waiting.erase(found);
  --tenants.at(entry.tenant).queued;
}

// A tenant's share follows the priorities of what it asks for at present, as its turns in the queue do.
void Admission::Impl::weigh(Holding& holding) {
  const double weight = holding.weight_now();
  if (weight == holding.weight) return;
  slots.leave(holding);
  prompts.leave(holding);
  weights += weight - holding.weight;
  holding.weight = weight;
  slots.enter(holding);
  prompts.enter(holding);
}

void Admission::Impl::came(Holding& holding, Priority priority) {
  ++holding.of(priority);
  weigh(holding);
}

// It neither runs nor waits any more.
void Admission::Impl::went(const QueueEntry& entry) {
  const auto place = tenants.find(entry.tenant);
  --place->second.of(entry.priority);
  if (place->second.idle()) {
    forget_if_idle(place);
  } else {
    weigh(place->second);
  }
}

void Admission::Impl::prompt_done(Running& request) {
  if (!std::exchange(request.awaits_first_token, false)) return;
  prompts.change(tenants.at(request.entry.tenant), -request.entry.prompt_tokens);
}

void Admission::Impl::forget_if_idle(std::map<std::string, Holding>::iterator tenant) {
  if (!tenant->second.idle()) return;
  weights -= tenant->second.weight;
  tenants.erase(tenant);
  if (tenants.empty()) weights = 0;  // no rest of rounding is carried on
}

void Admission::Impl::start_what_may(Decisions& decisions) {
  while (auto entry = queue.pop([&](const QueueEntry& next) { return turn_of(next); })) {
    decisions.emplace_back(std::move(waiting.at(entry->id).decided), std::nullopt);
    dequeued(*entry);
    drain.drained(entry->cost);
    Holding& holding = tenants.at(entry->tenant);
    slots.change(holding, 1);
    prompts.change(holding, entry->prompt_tokens);
    const uint64_t id = entry->id;
    running.emplace(id, Running{std::move(*entry)});
  }
}

Admission::Admission(const AdmissionOptions& options) : impl_(std::make_unique<Impl>(options)) {}
Admission::~Admission() = default;

namespace {

template <typename Decisions>
void announce(Decisions& decisions) {
  for (auto& [decided, refusal] : decisions)
    decided(std::move(refusal));
}

}  // namespace

uint64_t Admission::submit(const AdmissionRequest& request, SteadyTime now, Decided decided) {
  Impl::Decisions decisions;
  uint64_t id = 0;
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->pass(now);
    id = ++impl_->last_id;
    const auto [place, fresh] = impl_->tenants.try_emplace(request.tenant);
    Holding& holding = place->second;
    if (fresh) holding.own_weight = request.weight;
    if (auto refusal = impl_->refuse(request, holding)) {
      impl_->forget_if_idle(place);
      decisions.emplace_back(std::move(decided), std::move(refusal));
    } else {
      const SteadyTime until = now + impl_->options.longest_wait;
      impl_->waiting.emplace(id, Impl::Waiting{std::move(decided), until});
      impl_->deadlines.emplace(std::pair(until, id), id);
      ++holding.queued;
      impl_->came(holding, request.priority);
      const auto prompt = static_cast<double>(std::max<int64_t>(request.prompt_tokens, 0));
      const auto output = static_cast<double>(std::max<int64_t>(request.output_tokens, 0));
      impl_->queue.push({id, request.tenant, request.priority, request.weight, std::max(prompt + output, 1.0), prompt});
      impl_->start_what_may(decisions);
    }
  }
  announce(decisions);
  return id;
}

void Admission::first_token(uint64_t id, SteadyTime now) {
  Impl::Decisions decisions;
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->pass(now);
    const auto found = impl_->running.find(id);
    if (found == impl_->running.end()) return;
    impl_->prompt_done(found->second);
    impl_->start_what_may(decisions);
  }
  announce(decisions);
}

void Admission::finish(uint64_t id, int64_t tokens, SteadyTime now) {
  Impl::Decisions decisions;
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->pass(now);
    if (const auto found = impl_->running.find(id); found != impl_->running.end()) {
      impl_->prompt_done(found->second);
      const QueueEntry entry = std::move(found->second.entry);
      impl_->running.erase(found);
      impl_->queue.correct(entry, static_cast<double>(std::max<int64_t>(tokens, 1)));
      impl_->slots.change(impl_->tenants.at(entry.tenant), -1);
      impl_->went(entry);
    } else if (const auto entry = impl_->queue.remove(id)) {
      impl_->dequeued(*entry);
      impl_->went(*entry);
    }
    impl_->start_what_may(decisions);
  }
  announce(decisions);
}

void Admission::expire(SteadyTime now) {
  Impl::Decisions decisions;
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->pass(now);
    while (!impl_->deadlines.empty() && impl_->deadlines.begin()->first.first <= now) {
      const auto entry = impl_->queue.remove(impl_->deadlines.begin()->second);
      const auto rate = impl_->drain.per_second();
      const Duration room = rate ? from_seconds(impl_->queue.cost() / *rate) : Duration();
      decisions.emplace_back(std::move(impl_->waiting.at(entry->id).decided),
                             Refusal{RefusalReason::waited_too_long, "the request waited for too long in the queue",
                                     std::max<Duration>(room, std::chrono::seconds(1))});
      impl_->dequeued(*entry);
      impl_->went(*entry);
    }
    impl_->start_what_may(decisions);
  }
  announce(decisions);
}

void Admission::set_slots(int slots, SteadyTime now) {
  Impl::Decisions decisions;
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->pass(now);
    impl_->set_slots(slots);
    impl_->start_what_may(decisions);
  }
  announce(decisions);
}

void Admission::set_queue(size_t max_queued, Duration longest_wait) {
  const std::lock_guard lock(impl_->mutex);
  impl_->options.max_queued = max_queued;
  impl_->options.longest_wait = longest_wait;
}

Admission::State Admission::state() const {
  const std::lock_guard lock(impl_->mutex);
  return {impl_->running.size(), impl_->queue.size(), std::max(impl_->queue.cost(), 0.0), impl_->drain.per_second()};
}

}  // namespace tidemill::access
