// A rollout of a new version: its share of the traffic grows step by step while it is shown to be no worse than the
// stable version beside it, and goes to nothing as soon as it is shown to be worse.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "rollout/canary_record.hpp"
#include "rollout/checks.hpp"
#include "rollout/comparison.hpp"
#include "rollout/quantile_sketch.hpp"

namespace tidemill::rollout {

enum class Arm : uint8_t { stable, canary };

// One step of a rollout: how much traffic the canary gets, and what must be seen before it gets more.
struct Step {
  double share = 0;          // of the units, above 0 and below 1
  int64_t min_requests = 0;  // answered by the canary in this step
  base::Duration min_time{};
  // Whether it is enough here to rule out gross regressions (Limits::gross).
  bool gross = false;
};

struct CanaryOptions {
  std::string name = {};  // of the rollout: the salt that decides who tries it, so take another for the next
  std::vector<Step> steps = {{.share = 0.01, .min_requests = 40, .gross = true},
                             {.share = 0.05, .min_requests = 100, .gross = true},
                             {.share = 0.25, .min_requests = 400},
                             {.share = 0.50, .min_requests = 400}};
  CheckLimits limits = {};
  // The probability that a canary which is within every tolerance is ever rolled back, over the whole rollout.
  double wrong_rollback = 0.005;
  // The probability that one with a regression is ever promoted.
  double wrong_promotion = 0.005;
  // Whether units are sessions, whose requests have something in common, rather than single requests. What one session
  // says is then counted once for each of its 1st, 2nd, 4th, 8th and 16th request, in processes of their own that share
  // the probabilities above; the other requests are answered and shown, but prove nothing.
  bool sticky = false;
};

// Which version a request was given to. Hand it back with the observation.
struct Assignment {
  Arm arm = Arm::stable;
  uint32_t epoch = 0;     // of the share that decided; 0: decided otherwise (by a header), which proves nothing
  uint32_t sequence = 0;  // among that epoch's
  uint64_t unit = 0;
};

// What a rollout did in consequence of an observation.
enum class Event : uint8_t { none, advanced, promoted, rolled_back };

struct ArmStatus {
  int64_t requests = 0;
  int64_t failed = 0;
  QuantileSketch ttft;
  QuantileSketch itl;
  QuantileSketch output_tokens;
};

struct CheckStatus {
  Check check;
  bool seen = false;  // whether enough requests have the quantity that it must be cleared in this step
  double harm = 0;    // natural logarithm of the capital; rolled back at `harm_at`
  double harm_at = 0;
  double clearance = 0;  // likewise; cleared at `clearance_at`
  double clearance_at = 0;
  bool cleared = false;  // in this step
};

struct CanaryStatus {
  Phase phase = Phase::running;
  size_t step = 0;
  double share = 0;
  int64_t step_requests = 0;    // the canary's, in this step
  std::optional<Check> reason;  // of a rollback
  std::string message;          // what happened last and why, for people
  std::array<CheckStatus, kChecks.size()> checks;
  ArmStatus stable;
  ArmStatus canary;
};

// Thread-safe. `assign` takes no lock; `observe` takes one for about a microsecond, and for some tens at the end of a
// block of 16 or 32 requests.
class Canary {
 public:
  // Errors: invalid_argument, which names the option at fault. The first step begins at `now`.
  static base::Result<std::unique_ptr<Canary>> create(CanaryOptions options, base::SteadyTime now);

  ~Canary();

  // Whether it is neither promoted nor rolled back. Takes no lock.
  bool running() const;

  // Where a session (or, where nothing is sticky, a request) goes. While the share grows, those that are with the
  // canary stay with it. `key` is hashed with the rollout's name.
  Assignment assign(std::string_view key) const;
  // For a request whose version something else has decided.
  static Assignment forced(Arm arm) { return {.arm = arm}; }

  // A request has ended. Observations of requests that were assigned in an earlier step are shown, but prove nothing.
  // Call it in the order in which requests end, for both arms alike.
  Event observe(const Assignment& assignment, const Observation& observation, base::SteadyTime now);
  // Or it has ended and tells nothing (the client hung up): there will be no observation of it.
  void abandon(const Assignment& assignment, base::SteadyTime now);

  // Ends the rollout at an operator's word; Event::none where it had ended before, on which it has no effect.
  Event roll_back(std::string_view why);
  Event promote(std::string_view why);

  // Several gateways that run the same rollout (same name, same options) decide by what all of them see: each keeps its
  // record in the shared store, under a name of its own that no gateway has had before, and from time to time tells its
  // canary all the others' (replacing what it told before). Whatever one of them has decided, the others follow; where
  // two have decided at the same time, one to promote and one to roll back, all roll back. A gateway that starts anew
  // reads its former self's record as one of the others'.
  CanaryRecord record() const;
  Event set_peers(std::span<const CanaryRecord> peers, base::SteadyTime now);
  // What it has seen so far counts no more, since another's record has it by now. What was decided stays.
  void forget_evidence();

  CanaryStatus status() const;
  const CanaryOptions& options() const { return options_; }

 private:
  struct Turns;  // of sessions

  Canary(CanaryOptions options, base::SteadyTime now);
  void start_step(size_t step, base::SteadyTime now);
  void advance(size_t step, base::SteadyTime now);
  Event follow(std::span<const CanaryRecord> peers, base::SteadyTime now);
  void finish(Phase phase, std::string message);
  void publish(double share);
  void count(Arm arm, const Observation& observation);
  std::optional<size_t> stratum(const Assignment& assignment);
  Event decide(base::SteadyTime now);
  std::optional<Check> harmed() const;
  bool cleared(Check check) const;
  bool seen(Check check) const;
  double log_harm(Check check) const;
  double log_clearance(Check check) const;
  double harm_at(Check check) const;
  double clearance_at() const;

  void settle(const Assignment& assignment, base::SteadyTime now);

  const CanaryOptions options_;
  std::atomic<uint64_t> published_;  // epoch and share, see publish()
  mutable std::atomic<uint32_t> sequence_{0};

  mutable std::mutex mutex_;
  Phase phase_ = Phase::running;
  size_t step_ = 0;
  uint32_t epoch_ = 0;
  base::SteadyTime step_began_;
  int64_t step_canary_ = 0;                              // requests in this step
  int64_t step_stable_ = 0;                              // likewise
  std::array<int64_t, kChecks.size()> step_measured_{};  // of stable's, those that have the quantity
  int64_t cohort_ended_ = 0;                             // of the first requests that were assigned in this step
  // When this step will have settled (Comparison::add), once that is known.
  std::optional<base::SteadyTime> settles_;
  QuantileSketch durations_;  // seconds
  std::optional<Check> reason_;
  std::string message_;
  std::vector<Comparison> strata_;         // one; or by a session's turn
  std::vector<CanaryRecord::Sums> peers_;  // by stratum
  int64_t peers_step_requests_ = 0;
  std::unique_ptr<Turns> turns_;
  std::array<ArmStatus, 2> arms_;
};

}  // namespace tidemill::rollout
