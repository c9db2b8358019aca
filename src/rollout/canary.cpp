#include "rollout/canary.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include <fmt/core.h>

#include "rollout/chance.hpp"

namespace tidemill::rollout {
namespace {

// A rollout's alarm is shared out over the checks; each part is of Check's order. Output that is merely longer or
// shorter is seen soon enough with less.
constexpr std::array kHarmShares = {0.3, 0.25, 0.25, 0.1, 0.1};
// Turns of a session that count, each with a comparison of its own.
constexpr size_t kStrata = 5;  // turns 1, 2, 4, 8 and 16
// A check must be cleared if at least this share of the stable version's requests have its quantity.
constexpr double kSeenShare = 0.05;
// A step has settled when so many of the first so many requests that it assigned have ended, and half that time again.
constexpr uint32_t kCohort = 256;
constexpr int64_t kCohortEnded = 249;  // 97 %
// Requests of which nothing is ever heard could keep that from happening: after so many times what 95 % of answers
// take, it has happened all the same.
constexpr double kSettledAnyway = 10;
constexpr int64_t kEnoughDurations = 1000;
constexpr int kShareBits = 32;

base::Error invalid(std::string message) {
  return {base::ErrorCode::invalid_argument, std::move(message)};
}

base::Result<void> check_ratio(std::string_view name, const Limits& limits) {
  if (limits.tolerated >= 1 && limits.regression > limits.tolerated && limits.gross >= limits.regression &&
      std::isfinite(limits.gross))
    return {};
  return invalid(
      fmt::format("the limits of {} are {}, {} and {}: they are ratios from 1 on, the tolerated one below the "
                  "regression, and that no larger than the gross one",
                  name, limits.tolerated, limits.regression, limits.gross));
}

base::Result<void> check_limits(const CheckLimits& limits) {
  const Limits& failures = limits.failures;
  if (!(failures.tolerated >= 0 && failures.regression > failures.tolerated && failures.gross >= failures.regression &&
        failures.gross < 1))
    return invalid(
        fmt::format("the limits of the error rate are {}, {} and {}: they are differences of rates from 0 to "
                    "below 1, the tolerated one below the regression, and that no larger than the gross one",
                    failures.tolerated, failures.regression, failures.gross));
  TM_CHECK(check_ratio("TTFT", limits.ttft));
  TM_CHECK(check_ratio("ITL", limits.itl));
  return check_ratio("the output's length", limits.length);
}

base::Result<void> check_steps(const std::vector<Step>& steps) {
  if (steps.empty() || steps.size() > 64)
    return invalid(fmt::format("a rollout has 1 to 64 steps, not {}", steps.size()));
  double before = 0;
  for (const Step& step : steps) {
    if (!(step.share > before && step.share < 1))
      return invalid(
          fmt::format("a step gives the canary the share {}: shares grow from step to step and lie between 0 "
                      "and 1, since the last step must leave a stable version to compare with",
                      step.share));
    if (step.min_requests < 0 || step.min_time.count() < 0)
      return invalid(
          fmt::format("the step of share {} asks for fewer than 0 requests or less than no time", step.share));
    before = step.share;
  }
  if (steps.back().gross)
    return invalid("the last step rules out gross regressions only: nothing would rule out others");
  return {};
}

base::Result<void> check_probability(std::string_view name, double probability) {
  if (probability > 0 && probability <= 0.5) return {};
  return invalid(fmt::format("{} is {}: it is a probability above 0 and at most 0.5", name, probability));
}

}  // namespace

// How many requests of each session were observed. A fixed table: a session that is pushed out by another begins anew.
struct Canary::Turns {
  struct Entry {
    uint64_t unit = 0;
    uint32_t turns = 0;
  };
  std::vector<Entry> entries = std::vector<Entry>(size_t{1} << 15);

  uint32_t next(uint64_t unit) {
    Entry& entry = entries[mix(unit) % entries.size()];
    if (entry.unit != unit) entry = {.unit = unit};
    return ++entry.turns;
  }
};

base::Result<std::unique_ptr<Canary>> Canary::create(CanaryOptions options, base::SteadyTime now) {
  TM_CHECK(check_steps(options.steps));
  TM_CHECK(check_limits(options.limits));
  TM_CHECK(check_probability("wrong_rollback", options.wrong_rollback));
  TM_CHECK(check_probability("wrong_promotion", options.wrong_promotion));
  return std::unique_ptr<Canary>(new Canary(std::move(options), now));
}

Canary::Canary(CanaryOptions options, base::SteadyTime now) : options_(std::move(options)) {
  strata_.assign(options_.sticky ? kStrata : 1, Comparison(options_.limits));
  peers_.resize(strata_.size());
  if (options_.sticky) turns_ = std::make_unique<Turns>();
  start_step(0, now);
  message_ = fmt::format("began with {:.3g} % of the traffic", options_.steps.front().share * 100);
}

Canary::~Canary() = default;

// One word, so that `assign` never sees one epoch's number with another's share: the epoch above, and below it the
// share in units of 2^-32, of which 2^32 itself, everything, is written as the greatest number below.
void Canary::publish(double share) {
  ++epoch_;
  const double scaled = std::min(share * 0x1p32, 0x1p32 - 1);
  sequence_.store(0, std::memory_order_relaxed);
  published_.store((uint64_t{epoch_} << kShareBits) | static_cast<uint64_t>(scaled), std::memory_order_release);
}

bool Canary::running() const {
  const auto share = static_cast<uint32_t>(published_.load(std::memory_order_acquire));
  return share != 0 && share != UINT32_MAX;
}

Assignment Canary::assign(std::string_view key) const {
  const uint64_t published = published_.load(std::memory_order_acquire);
  const auto share = static_cast<uint32_t>(published);
  const uint64_t unit = unit_of(options_.name, key);
  const bool canary = share == UINT32_MAX || static_cast<uint32_t>(unit >> kShareBits) < share;
  return {.arm = canary ? Arm::canary : Arm::stable,
          .epoch = static_cast<uint32_t>(published >> kShareBits),
          .sequence = sequence_.fetch_add(1, std::memory_order_relaxed),
          .unit = unit};
}

void Canary::start_step(size_t step, base::SteadyTime now) {
  step_ = step;
  step_began_ = now;
  cohort_ended_ = 0;
  settles_.reset();
  step_canary_ = 0;
  step_stable_ = 0;
  peers_step_requests_ = 0;
  for (CanaryRecord::Sums& sums : peers_)
    sums.clearance = {};
  step_measured_.fill(0);
  const Step& options = options_.steps[step];
  for (Comparison& comparison : strata_)
    comparison.start_step(options.share, options.gross);
  publish(options.share);
}

void Canary::advance(size_t step, base::SteadyTime now) {
  start_step(step, now);
  message_ = fmt::format("advanced to {:.3g} % of the traffic", options_.steps[step].share * 100);
}

void Canary::finish(Phase phase, std::string message) {
  phase_ = phase;
  message_ = std::move(message);
  publish(phase == Phase::promoted ? 1 : 0);
}

Event Canary::roll_back(std::string_view why) {
  const std::scoped_lock lock(mutex_);
  if (phase_ != Phase::running) return Event::none;
  finish(Phase::rolled_back, fmt::format("rolled back by hand: {}", why));
  return Event::rolled_back;
}

Event Canary::promote(std::string_view why) {
  const std::scoped_lock lock(mutex_);
  if (phase_ != Phase::running) return Event::none;
  finish(Phase::promoted, fmt::format("promoted by hand: {}", why));
  return Event::promoted;
}

void Canary::count(Arm arm, const Observation& observation) {
  ArmStatus& status = arms_[static_cast<size_t>(arm)];
  ++status.requests;
  if (observation.failed) {
    ++status.failed;
    return;
  }
  if (observation.seconds > 0) durations_.add(observation.seconds);
  if (observation.ttft > 0) status.ttft.add(observation.ttft);
  if (observation.itl > 0) status.itl.add(observation.itl);
  if (observation.output_tokens > 0) status.output_tokens.add(observation.output_tokens);
}

// Which comparison the observation counts in, if any.
std::optional<size_t> Canary::stratum(const Assignment& assignment) {
  if (!turns_) return 0;
  const uint32_t turn = turns_->next(assignment.unit);
  if (!std::has_single_bit(turn) || turn >= (uint32_t{1} << kStrata)) return std::nullopt;
  return static_cast<size_t>(std::countr_zero(turn));
}

Event Canary::observe(const Assignment& assignment, const Observation& observation, base::SteadyTime now) {
  const std::scoped_lock lock(mutex_);
  count(assignment.arm, observation);
  if (phase_ != Phase::running || assignment.epoch != epoch_) return Event::none;
  if (assignment.arm == Arm::canary) {
    ++step_canary_;
  } else {
    ++step_stable_;
    if (!observation.failed) {
      step_measured_[static_cast<size_t>(Check::ttft)] += observation.ttft > 0 ? 1 : 0;
      step_measured_[static_cast<size_t>(Check::itl)] += observation.itl > 0 ? 1 : 0;
      const int length = observation.output_tokens > 0 ? 1 : 0;
      step_measured_[static_cast<size_t>(Check::longer)] += length;
      step_measured_[static_cast<size_t>(Check::shorter)] += length;
    }
  }
  settle(assignment, now);
  const bool settled = settles_ && now >= *settles_;
  const auto index = stratum(assignment);
  if (!index || !strata_[*index].add(assignment.arm == Arm::canary, observation, settled)) return Event::none;
  return decide(now);
}

// Notes that a request has ended.
void Canary::settle(const Assignment& assignment, base::SteadyTime now) {
  if (settles_) return;
  if (assignment.sequence < kCohort && ++cohort_ended_ == kCohortEnded) {
    settles_ = now + (now - step_began_) / 2;
  } else if (assignment.sequence % kCohort == 0 && durations_.count() >= kEnoughDurations &&
             base::seconds(now - step_began_) > kSettledAnyway * durations_.quantile(0.95)) {
    settles_ = now;
  }
}

void Canary::abandon(const Assignment& assignment, base::SteadyTime now) {
  const std::scoped_lock lock(mutex_);
  if (phase_ == Phase::running && assignment.epoch == epoch_) settle(assignment, now);
}

Event Canary::decide(base::SteadyTime now) {
  if (const auto check = harmed()) {
    reason_ = check;
    finish(
        Phase::rolled_back,
        fmt::format("rolled back in step {} of {} ({:.3g} % of the traffic): {} is worse than tolerated, with evidence "
                    "of {:.3g} to 1",
                    step_ + 1, options_.steps.size(), options_.steps[step_].share * 100, to_string(*check),
                    std::exp(std::min(log_harm(*check), 700.0))));
    return Event::rolled_back;
  }
  const Step& step = options_.steps[step_];
  if (step_canary_ + peers_step_requests_ < step.min_requests || now - step_began_ < step.min_time) return Event::none;
  if (!std::ranges::all_of(kChecks, [&](Check check) { return !seen(check) || cleared(check); })) return Event::none;
  if (step_ + 1 == options_.steps.size()) {
    finish(Phase::promoted, "promoted: every check was cleared in every step");
    return Event::promoted;
  }
  advance(step_ + 1, now);
  return Event::advanced;
}

std::optional<Check> Canary::harmed() const {
  for (const Check check : kChecks)
    if (log_harm(check) >= harm_at(check)) return check;
  return std::nullopt;
}

bool Canary::seen(Check check) const {
  if (check == Check::failures) return true;
  const auto measured = static_cast<double>(step_measured_[static_cast<size_t>(check)]);
  return measured > kSeenShare * static_cast<double>(step_stable_);
}

bool Canary::cleared(Check check) const {
  return log_clearance(check) >= clearance_at();
}

// The strata's processes share the probability: any one of them may decide. (They are not multiplied: what a session
// says at its second turn is not independent of what it said at its first.)
double Canary::log_harm(Check check) const {
  double most = 0;
  for (size_t i = 0; i < strata_.size(); ++i) {
    const double capital = strata_[i].harm(check).log_capital(peers_[i].harm[static_cast<size_t>(check)]);
    most = i == 0 ? capital : std::max(most, capital);
  }
  return most;
}

double Canary::log_clearance(Check check) const {
  double most = 0;
  for (size_t i = 0; i < strata_.size(); ++i) {
    const double capital = strata_[i].clearance(check).log_capital(peers_[i].clearance[static_cast<size_t>(check)]);
    most = i == 0 ? capital : std::max(most, capital);
  }
  return most;
}

double Canary::harm_at(Check check) const {
  return std::log(static_cast<double>(strata_.size()) /
                  (options_.wrong_rollback * kHarmShares[static_cast<size_t>(check)]));
}

// Not shared out over the checks: all must be cleared, so a regression in one of them has that one's probability alone.
double Canary::clearance_at() const {
  return std::log(static_cast<double>(strata_.size()) / options_.wrong_promotion);
}

CanaryStatus Canary::status() const {
  const std::scoped_lock lock(mutex_);
  CanaryStatus status;
  status.phase = phase_;
  status.step = step_;
  status.share = phase_ == Phase::running ? options_.steps[step_].share : phase_ == Phase::promoted ? 1 : 0;
  status.step_requests = step_canary_;
  status.reason = reason_;
  status.message = message_;
  for (size_t i = 0; i < kChecks.size(); ++i) {
    const Check check = kChecks[i];
    status.checks[i] = {.check = check,
                        .seen = seen(check),
                        .harm = log_harm(check),
                        .harm_at = harm_at(check),
                        .clearance = log_clearance(check),
                        .clearance_at = clearance_at(),
                        .cleared = cleared(check)};
  }
  status.stable = arms_[0];
  status.canary = arms_[1];
  return status;
}

}  // namespace tidemill::rollout
