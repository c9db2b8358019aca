// Which backends may be given requests: what active checks say, and how requests went.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.hpp"
#include "route/prefix_index.hpp"

namespace tidemill::route {

struct HealthOptions {
  // Active checks: so many failures in a row take a backend down, so many successes bring it up.
  int fall = 2;
  int rise = 2;
  // Passive: so many failures in a row eject it,
  int consecutive_failures = 5;
  // or a share of failures over an interval that is worse than its peers' by this much, and by three standard
  // deviations of what chance would make of the peers' share, seen on so many requests.
  base::Duration interval = std::chrono::seconds(10);
  double worse_by = 0.1;
  int64_t interval_requests = 20;
  // How long: the base, doubled with each ejection that follows soon, up to the most.
  base::Duration ejection = std::chrono::seconds(5);
  base::Duration longest_ejection = std::chrono::seconds(120);
  // At most this share is ejected at a time of the backends that serve a model, for each model that they serve. What
  // checks have found down, or asks for no requests, is none of them.
  double most_ejected = 0.5;
  // After an ejection: so many requests at a time until so many have succeeded in a row.
  int probes = 1;
  int probe_successes = 2;
  base::Duration probe_interval = std::chrono::seconds(1);  // a probe is due when none began for so long
  // Back from down or ejected, a backend's share grows from the least to all of it over the ramp.
  base::Duration ramp = std::chrono::seconds(20);
  double least_ramp = 0.1;
  // With less than this share of the backends available the signs are not believed: all get requests again, but for
  // those that ask for none.
  double panic = 0.3;
  // Open requests a backend; beyond it, it is full.
  int64_t most_open = 1024;
};

enum class HealthState {
  up,
  down,      // active checks fail
  ejected,   // requests failed
  probing,   // ejected before, and tried again with a few requests
  loading,   // asks for no requests yet
  draining,  // asks for no new requests
};
std::string_view to_string(HealthState state);

// Why a backend asks for no requests.
enum class Unready : uint8_t { loading, draining };

// How a request went, as far as it tells of the backend's health.
enum class Outcome {
  success,
  declined,   // as good, but no work was done: the answer is that the client is at fault
  failure,    // refused, reset, timed out, or an answer of 500, 502, 504
  cancelled,  // the client left, or it was not tried: tells nothing
};

// Not thread-safe: the owner locks. Times never run backwards.
class Health {
 public:
  explicit Health(const HealthOptions& options = {});

  // A backend appears in this place: up, and with its whole share (`ramping` false) or starting slowly.
  void add(Backend backend, bool ramping, base::SteadyTime now);
  void remove(Backend backend);
  // Another instance answers there: what the one before did is forgotten, and it starts slowly.
  void restart(Backend backend, base::SteadyTime now);

  // The models that it serves. Of one of which nothing is known all others are taken for its peers.
  void set_models(Backend backend, std::vector<std::string> models) { entries_[backend].models = std::move(models); }

  void check(Backend backend, bool passed, base::SteadyTime now);
  void set_most_open(int64_t requests) { options_.most_open = requests; }
  // Asks for no new requests, until `until` or until undrain().
  void drain(Backend backend, std::optional<base::SteadyTime> until, base::SteadyTime now,
             Unready why = Unready::draining);
  void undrain(Backend backend);

  // A request goes there; true if it is a probe, which finish() wants to know again: what began before an ejection says
  // nothing about the time after it.
  bool begin(Backend backend, base::SteadyTime now);
  void finish(Backend backend, Outcome outcome, bool probe, base::SteadyTime now);

  // Brings all states up to `now`: ends ejections, weighs intervals. Called by the others as need be; cheap.
  void advance(base::SteadyTime now);

  HealthState state(Backend backend) const { return entries_[backend].state; }
  // The share of its capacity that it should get, (0, 1].
  double ramp(Backend backend, base::SteadyTime now) const;
  int64_t open(Backend backend) const { return entries_[backend].open; }
  // May it be given one more request? Takes account of the panic, the limit on open requests and of probes.
  bool admits(Backend backend) const;
  // A probing backend that has waited for its next request: it should get the next one, whatever it costs.
  std::optional<Backend> probe_due(base::SteadyTime now) const;
  // What keeps requests from a backend, as far as it is a matter of time or of checks: how long its ejection lasts, and
  // how many checks in a row it has to pass before it is no longer down. 0 for others, and in a panic.
  base::Duration ejected_for(Backend backend, base::SteadyTime now) const;
  int checks_to_go(Backend backend) const;
  // True while too few are available for the signs to be believed.
  bool panicking() const { return panicking_; }

 private:
  struct Entry {
    bool present = false;
    HealthState state = HealthState::up;  // as shown: derived from what follows
    bool down = false;
    bool ejected = false;
    bool probing = false;
    bool draining = false;
    Unready drained_for = Unready::draining;
    std::optional<base::SteadyTime> drained_until = {};
    int passed = 0;  // checks in a row
    int failed = 0;
    int consecutive_failures = 0;
    int64_t requests = 0;  // in this interval
    int64_t failures = 0;
    int ejections = 0;  // lately: each doubles the next
    base::SteadyTime eject_until{};
    base::SteadyTime forgive_at{};  // when one of the ejections is forgotten
    int probe_successes = 0;
    int probes_open = 0;
    base::SteadyTime probed_at{};
    std::optional<base::SteadyTime> ramp_from = {};
    int64_t open = 0;
    std::vector<std::string> models = {};
  };

  void eject(Entry& entry, base::SteadyTime now);
  bool may_eject(Backend backend) const;
  bool may_eject(Backend backend, std::string_view model) const;
  void weigh_interval(base::SteadyTime now);
  void refresh();

  HealthOptions options_;
  std::vector<Entry> entries_;  // by backend
  base::SteadyTime interval_end_{};
  base::SteadyTime next_event_{};
  bool started_ = false;
  bool panicking_ = false;
};

}  // namespace tidemill::route
