#include <algorithm>

#include "rollout/canary.hpp"

namespace tidemill::rollout {

CanaryRecord Canary::record() const {
  const std::scoped_lock lock(mutex_);
  CanaryRecord record = {
      .rollout = options_.name, .phase = phase_, .step = step_, .step_requests = step_canary_, .strata = {}};
  for (const Comparison& comparison : strata_) {
    CanaryRecord::Sums& sums = record.strata.emplace_back();
    for (size_t i = 0; i < kChecks.size(); ++i) {
      sums.harm[i] = comparison.harm(kChecks[i]).logs();
      sums.clearance[i] = comparison.clearance(kChecks[i]).logs();
    }
  }
  return record;
}

// The furthest that any gateway is, this one included: whoever decided it, it is decided for all. Going back wins over
// going on, also where going on was decided here.
Event Canary::follow(std::span<const CanaryRecord> peers, base::SteadyTime now) {
  size_t furthest = step_;
  bool promoted = false;
  for (const CanaryRecord& peer : peers) {
    if (peer.rollout != options_.name) continue;
    if (peer.phase == Phase::rolled_back) {
      finish(Phase::rolled_back, phase_ == Phase::promoted ? "rolled back after all: another gateway has"
                                                           : "rolled back: another gateway has");
      return Event::rolled_back;
    }
    promoted = promoted || peer.phase == Phase::promoted;
    furthest = std::max(furthest, std::min(peer.step, options_.steps.size() - 1));
  }
  if (phase_ == Phase::promoted) return Event::none;
  if (promoted) {
    finish(Phase::promoted, "promoted: another gateway has");
    return Event::promoted;
  }
  if (furthest == step_) return Event::none;
  advance(furthest, now);
  return Event::advanced;
}

void Canary::forget_evidence() {
  const std::scoped_lock lock(mutex_);
  const Step& step = options_.steps[step_];
  strata_.assign(strata_.size(), Comparison(options_.limits));
  for (Comparison& comparison : strata_)
    comparison.start_step(step.share, step.gross);
  step_canary_ = 0;
}

Event Canary::set_peers(std::span<const CanaryRecord> peers, base::SteadyTime now) {
  const std::scoped_lock lock(mutex_);
  if (phase_ == Phase::rolled_back) return Event::none;
  const Event followed = follow(peers, now);
  if (phase_ != Phase::running) return followed;
  std::ranges::fill(peers_, CanaryRecord::Sums{});
  peers_step_requests_ = 0;
  for (const CanaryRecord& peer : peers) {
    if (peer.rollout != options_.name || peer.strata.size() != peers_.size()) continue;
    const bool same_step = peer.step == step_;
    for (size_t i = 0; i < peers_.size(); ++i)
      peers_[i].add(peer.strata[i], same_step);
    if (same_step) peers_step_requests_ += peer.step_requests;
  }
  const Event decided = decide(now);
  return decided == Event::none ? followed : decided;
}

}  // namespace tidemill::rollout
