#include "route/health.hpp"

#include <algorithm>
#include <cassert>
#include <cmath>

namespace tidemill::route {

std::string_view to_string(HealthState state) {
  switch (state) {
    case HealthState::up:
      return "up";
    case HealthState::down:
      return "down";
    case HealthState::ejected:
      return "ejected";
    case HealthState::probing:
      return "probing";
    case HealthState::loading:
      return "loading";
    case HealthState::draining:
      return "draining";
  }
  return "unknown";
}

Health::Health(const HealthOptions& options) : options_(options) {}

void Health::add(Backend backend, bool ramping, base::SteadyTime now) {
  if (backend >= entries_.size()) entries_.resize(backend + size_t{1});
  Entry& entry = entries_[backend];
  entry = Entry{.present = true, .forgive_at = now};
  if (ramping) entry.ramp_from = now;
  refresh();
}

void Health::remove(Backend backend) {
  entries_[backend] = Entry{};
  refresh();
}

void Health::restart(Backend backend, base::SteadyTime now) {
  Entry& entry = entries_[backend];
  // Requests to the instance before are still counted out one by one.
  const int64_t open = entry.open;
  std::vector<std::string> models = std::move(entry.models);
  entry = Entry{.present = true, .forgive_at = now, .ramp_from = now, .open = open, .models = std::move(models)};
  refresh();
}

void Health::check(Backend backend, bool passed, base::SteadyTime now) {
  advance(now);
  Entry& entry = entries_[backend];
  entry.passed = passed ? entry.passed + 1 : 0;
  entry.failed = passed ? 0 : entry.failed + 1;
  if (!entry.down && entry.failed >= options_.fall) {
    entry.down = true;
  } else if (entry.down && entry.passed >= options_.rise) {
    entry.down = false;
    entry.consecutive_failures = 0;
    entry.ramp_from = now;
  }
  refresh();
}

void Health::drain(Backend backend, std::optional<base::SteadyTime> until, base::SteadyTime now, Unready why) {
  advance(now);
  Entry& entry = entries_[backend];
  entry.draining = true;
  entry.drained_for = why;
  entry.drained_until = until;
  next_event_ = now;
  refresh();
}

void Health::undrain(Backend backend) {
  entries_[backend].draining = false;
  entries_[backend].drained_until.reset();
  refresh();
}

bool Health::begin(Backend backend, base::SteadyTime now) {
  advance(now);
  Entry& entry = entries_[backend];
  ++entry.open;
  if (!entry.probing) return false;
  ++entry.probes_open;
  entry.probed_at = now;
  return true;
}

void Health::finish(Backend backend, Outcome outcome, bool probe, base::SteadyTime now) {
  advance(now);
  Entry& entry = entries_[backend];
  entry.open = std::max<int64_t>(entry.open - 1, 0);
  if (probe) entry.probes_open = std::max(entry.probes_open - 1, 0);
  if (outcome == Outcome::cancelled || entry.ejected || entry.probing != probe) return;
  ++entry.requests;
  if (outcome != Outcome::failure) {
    entry.consecutive_failures = 0;
    if (!probe || ++entry.probe_successes < options_.probe_successes) return;
    entry.probing = false;
    entry.ramp_from = now;
    entry.forgive_at = now + 2 * options_.ejection;
  } else {
    ++entry.failures;
    ++entry.consecutive_failures;
    if (!probe && entry.consecutive_failures < options_.consecutive_failures) return;
    if (may_eject(backend)) {
      eject(entry, now);
    } else {
      entry.probing = false;  // its peers have gone meanwhile
    }
  }
  refresh();
}

void Health::eject(Entry& entry, base::SteadyTime now) {
  base::Duration length = options_.ejection;
  for (int i = 0; i < entry.ejections && length < options_.longest_ejection; ++i)
    length *= 2;
  length = std::min(length, options_.longest_ejection);
  ++entry.ejections;
  entry.ejected = true;
  entry.probing = false;
  entry.eject_until = now + length;
  entry.consecutive_failures = 0;
  entry.requests = entry.failures = 0;
  next_event_ = std::min(next_event_, entry.eject_until);
}

// Those that serve a model of its own lose nothing if another model's fail, and could not do without it.
bool Health::may_eject(Backend backend) const {
  const std::vector<std::string>& models = entries_[backend].models;
  if (models.empty()) return may_eject(backend, {});
  return std::ranges::all_of(models, [&](const std::string& model) { return may_eject(backend, model); });
}

// Empty: whatever they serve.
bool Health::may_eject(Backend backend, std::string_view model) const {
  int64_t peers = 1;
  int64_t out = 1;
  for (Backend other = 0; other < entries_.size(); ++other) {
    const Entry& entry = entries_[other];
    if (other == backend || !entry.present || entry.down || entry.draining) continue;
    if (!model.empty() && std::ranges::find(entry.models, model) == entry.models.end()) continue;
    ++peers;
    out += entry.ejected || entry.probing ? 1 : 0;
  }
  return static_cast<double>(out) <= options_.most_ejected * static_cast<double>(peers);
}

void Health::advance(base::SteadyTime now) {
  if (!started_) {
    started_ = true;
    interval_end_ = now + options_.interval;
    next_event_ = interval_end_;
  }
  if (now < next_event_) return;
  if (now >= interval_end_) {
    weigh_interval(now);
    interval_end_ = now + options_.interval;
  }
  next_event_ = interval_end_;
  for (Entry& entry : entries_) {
    if (!entry.present) continue;
    if (entry.ejected && now >= entry.eject_until) {
      entry.ejected = false;
      entry.probing = true;
      entry.probe_successes = 0;
      entry.probes_open = 0;
      entry.probed_at = now - options_.probe_interval;
    }
    if (entry.draining && entry.drained_until && now >= *entry.drained_until) {
      entry.draining = false;
      entry.drained_until.reset();
    }
    // As long as all is well, an ejection is forgotten in twice the time of the shortest.
    if (entry.ejections > 0 && !entry.ejected && !entry.probing && now >= entry.forgive_at) {
      --entry.ejections;
      entry.forgive_at = now + 2 * options_.ejection;
    }
    if (entry.ejected) next_event_ = std::min(next_event_, entry.eject_until);
    if (entry.drained_until) next_event_ = std::min(next_event_, *entry.drained_until);
  }
  refresh();
}

// Ejects whoever failed more than its peers can explain. Where all fail alike it is not the backends' fault, or nobody
// would serve better.
void Health::weigh_interval(base::SteadyTime now) {
  int64_t requests = 0;
  int64_t failures = 0;
  for (const Entry& entry : entries_) {
    requests += entry.requests;
    failures += entry.failures;
  }
  // The worst first, as not all of them may be ejected.
  std::vector<std::pair<double, Backend>> outliers;
  for (Backend backend = 0; backend < entries_.size(); ++backend) {
    const Entry& entry = entries_[backend];
    if (!entry.present || entry.ejected || entry.probing || entry.requests < options_.interval_requests) continue;
    const int64_t others = requests - entry.requests;
    if (others == 0) continue;
    const double peers = static_cast<double>(failures - entry.failures) / static_cast<double>(others);
    const auto own_requests = static_cast<double>(entry.requests);
    const double share = static_cast<double>(entry.failures) / own_requests;
    // One failure and one success more keep the peers' share from being certain.
    const double likely = (peers * static_cast<double>(others) + 1) / static_cast<double>(others + 2);
    const double chance = 3 * std::sqrt(likely * (1 - likely) / own_requests);
    if (share - peers > std::max(options_.worse_by, chance)) outliers.emplace_back(share, backend);
  }
  std::ranges::sort(outliers, [](const auto& a, const auto& b) { return a.first > b.first; });
  for (const auto& [share, backend] : outliers) {
    if (may_eject(backend)) eject(entries_[backend], now);
  }
  for (Entry& entry : entries_)
    entry.requests = entry.failures = 0;
}

void Health::refresh() {
  int64_t present = 0;
  int64_t available = 0;
  for (Entry& entry : entries_) {
    const HealthState drained = entry.drained_for == Unready::loading ? HealthState::loading : HealthState::draining;
    entry.state = entry.draining  ? drained
                  : entry.down    ? HealthState::down
                  : entry.ejected ? HealthState::ejected
                  : entry.probing ? HealthState::probing
                                  : HealthState::up;
    if (!entry.present || entry.draining) continue;
    ++present;
    available += entry.state == HealthState::up ? 1 : 0;
  }
  panicking_ = present > 0 && static_cast<double>(available) < options_.panic * static_cast<double>(present);
}

double Health::ramp(Backend backend, base::SteadyTime now) const {
  const Entry& entry = entries_[backend];
  if (!entry.ramp_from) return 1;
  const double passed = base::seconds(now - *entry.ramp_from) / base::seconds(options_.ramp);
  return std::clamp(passed, options_.least_ramp, 1.0);
}

bool Health::admits(Backend backend) const {
  const Entry& entry = entries_[backend];
  if (!entry.present || entry.draining || entry.open >= options_.most_open) return false;
  if (panicking_ || entry.state == HealthState::up) return true;
  return entry.state == HealthState::probing && entry.probes_open < options_.probes;
}

base::Duration Health::ejected_for(Backend backend, base::SteadyTime now) const {
  const Entry& entry = entries_[backend];
  if (!entry.ejected || panicking_) return {};
  return std::max<base::Duration>(entry.eject_until - now, base::Duration());
}

int Health::checks_to_go(Backend backend) const {
  const Entry& entry = entries_[backend];
  return entry.down && !panicking_ ? std::max(options_.rise - entry.passed, 1) : 0;
}

std::optional<Backend> Health::probe_due(base::SteadyTime now) const {
  for (Backend backend = 0; backend < entries_.size(); ++backend) {
    const Entry& entry = entries_[backend];
    if (entry.state != HealthState::probing || !entry.present || entry.draining) continue;
    if (entry.probes_open < options_.probes && entry.open < options_.most_open &&
        now - entry.probed_at >= options_.probe_interval) {
      return backend;
    }
  }
  return std::nullopt;
}

}  // namespace tidemill::route
