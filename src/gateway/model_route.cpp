#include "gateway/model_route.hpp"

#include <utility>

#include "base/log.hpp"
#include "observe/semantic_conventions.hpp"

namespace tidemill::gateway {

using base::Result;

Result<std::shared_ptr<ModelRoute>> ModelRoute::create(RouteOptions options, observe::Metrics& metrics,
                                                       const base::Clock& clock) {
  TM_TRY(RoutePlan plan, plan_route(options));
  TM_TRY(rollout::Split split, rollout::Split::create(plan.split));
  std::shared_ptr<ModelRoute> route(
      new ModelRoute(std::move(options), std::move(plan), std::move(split), metrics, clock));
  if (route->plan_.canary) {
    TM_TRY(route->canary_, rollout::Canary::create(*route->plan_.canary, clock.now()));
  }
  if (route->plan_.adaptive) {
    TM_TRY(route->adaptive_, AdaptiveChoice::create(route->plan_, clock));
  }
  if (route->plan_.mirror) {
    route->mirror_ = std::make_shared<Mirror>();
    TM_TRY(route->mirror_->gate, rollout::MirrorGate::create(*route->plan_.mirror));
  }
  return route;
}

ModelRoute::ModelRoute(RouteOptions options, RoutePlan plan, rollout::Split split, observe::Metrics& metrics,
                       const base::Clock& clock)
    : options_(std::move(options)),
      plan_(std::move(plan)),
      clock_(clock),
      split_(std::move(split)),
      states_(plan_.targets.size()) {
  namespace bounds = observe::semconv::bounds;
  for (const TargetOptions& target : plan_.targets) {
    const observe::Labels labels = {{"route", plan_.name}, {"target", target.name}};
    instruments_.push_back(
        {.requests = metrics.counter({"tidemill_gateway_route_requests_total"},
                                     "Requests of a route that a target has answered, or failed to", labels),
         .failures = metrics.counter({"tidemill_gateway_route_failures_total"},
                                     "Those of which a try failed there, or that got no answer", labels),
         .handovers = metrics.counter({"tidemill_gateway_route_handovers_total"},
                                      "Those that another target was asked to answer", labels),
         .ttft = metrics.histogram({"tidemill_gateway_route_ttft_seconds"},
                                   "Time to the first token, as clients see it", bounds::time_to_first_token, labels),
         .itl = metrics.histogram({"tidemill_gateway_route_itl_seconds"}, "Mean time between an answer's tokens",
                                  bounds::time_per_output_token, labels),
         .share = metrics.gauge({"tidemill_gateway_route_share"}, "Share of a route's traffic that a target gets now",
                                labels)});
  }
}

void ModelRoute::inherit(ModelRoute& before) {
  if (canary_ && before.canary_ && canary_->options().name == before.canary_->options().name) canary_ = before.canary_;
  if (mirror_ && before.mirror_ && options_.mirror == before.options_.mirror &&
      target(plan_.mirror_target) == before.target(before.plan_.mirror_target)) {
    mirror_ = before.mirror_;
  }
  if (adaptive_ && before.adaptive_ && adaptive_->state_key() == before.adaptive_->state_key()) {
    adaptive_->inherit(*before.adaptive_);
  }
}

Chosen ModelRoute::choose(const RouteKey& key) {
  Chosen chosen;
  if (const auto forced = split_.by_header(key.headers)) {
    chosen.target = *forced;
    chosen.by_header = true;
    return chosen;
  }
  if (adaptive_) {
    if (key.features != nullptr) chosen.decision = adaptive_->decide(key.request_id, *key.features);
    chosen.target = chosen.decision ? chosen.decision->model : adaptive_->reference();
    return chosen;
  }
  const std::string_view unit = plan_.sticky && !key.session.empty() ? key.session : key.request_id;
  if (!canary_) {
    chosen.target = split_.choose(unit);
    return chosen;
  }
  chosen.assignment = canary_->assign(unit);
  chosen.target = chosen.assignment.arm == rollout::Arm::canary ? plan_.canary_target : plan_.stable_target;
  return chosen;
}

void ModelRoute::observe(const Chosen& chosen, const rollout::Observation& seen) {
  note(chosen.target, seen);
  if (canary_ && !chosen.by_header) tell(canary_->observe(chosen.assignment, seen, clock_.now()));
}

void ModelRoute::note(size_t target, const rollout::Observation& seen) {
  const Instruments& instruments = instruments_[target];
  instruments.requests.add();
  if (seen.failed) instruments.failures.add();
  if (seen.ttft > 0) instruments.ttft.observe(seen.ttft);
  if (seen.itl > 0) instruments.itl.observe(seen.itl);
  const std::lock_guard lock(mutex_);
  TargetState& state = states_[target];
  ++state.requests;
  state.failed += seen.failed ? 1 : 0;
  if (seen.ttft > 0) state.ttft.add(seen.ttft);
  if (seen.itl > 0) state.itl.add(seen.itl);
  if (seen.output_tokens > 0) state.output_tokens.add(seen.output_tokens);
}

std::vector<size_t> ModelRoute::substitutes(const Chosen& chosen) const {
  if (chosen.by_header) return {};  // it was this version that was asked for
  if (canary_) {
    const bool compared = chosen.target == plan_.canary_target && canary_->running();
    return compared ? std::vector{plan_.stable_target} : std::vector<size_t>();
  }
  return chosen.decision ? adaptive_->others(*chosen.decision) : std::vector<size_t>();
}

void ModelRoute::count_handover(size_t from) {
  instruments_[from].handovers.add();
  const std::lock_guard lock(mutex_);
  ++states_[from].handed_over;
}

void ModelRoute::abandon(const Chosen& chosen) {
  if (canary_ && !chosen.by_header) canary_->abandon(chosen.assignment, clock_.now());
}

std::optional<size_t> ModelRoute::shadow_of(const Chosen& chosen, std::string_view request_id) const {
  if (mirror_ && adaptive_) {
    if (!chosen.decision) return std::nullopt;
    return adaptive_->shadow_of(chosen.target, request_id);
  }
  if (!mirror_ || chosen.target == plan_.mirror_target) return std::nullopt;
  return plan_.mirror_target;
}

void ModelRoute::compare(const Chosen& chosen, size_t shadow, std::string_view request_id,
                         const rollout::MirroredAnswer& answer, const rollout::MirroredAnswer& of_shadow) {
  const rollout::Agreement agreement = mirror_->report.add(request_id, answer, of_shadow);
  if (adaptive_ && chosen.decision && !answer.failed && !of_shadow.failed)
    adaptive_->agreed(request_id, *chosen.decision, shadow, agreement.edit_similarity);
}

rollout::Phase ModelRoute::end_rollout(rollout::Phase wanted, std::string_view who) {
  tell(wanted == rollout::Phase::promoted ? canary_->promote(who) : canary_->roll_back(who));
  return canary_->status().phase;
}

void ModelRoute::set_peers(std::span<const rollout::CanaryRecord> peers) {
  if (canary_) tell(canary_->set_peers(peers, clock_.now()));
}

void ModelRoute::tell(rollout::Event event) const {
  if (event == rollout::Event::none) return;
  const std::string message = canary_->status().message;
  if (event == rollout::Event::rolled_back) {
    base::log::warn("route {}: {} {}", name(), plan_.targets[plan_.canary_target].name, message);
  } else {
    base::log::info("route {}: {} {}", name(), plan_.targets[plan_.canary_target].name, message);
  }
}

std::vector<ModelRoute::TargetState> ModelRoute::states() const {
  const std::lock_guard lock(mutex_);
  return states_;
}

std::vector<double> ModelRoute::shares() const {
  std::vector<double> shares(plan_.targets.size());
  if (canary_) {
    shares[plan_.canary_target] = canary_->status().share;
    shares[plan_.stable_target] = 1 - shares[plan_.canary_target];
    return shares;
  }
  if (adaptive_) {
    const std::lock_guard lock(mutex_);
    int64_t all = 0;
    for (const TargetState& state : states_)
      all += state.requests;
    for (size_t i = 0; i < shares.size(); ++i)
      shares[i] = all == 0 ? 0 : static_cast<double>(states_[i].requests) / static_cast<double>(all);
    return shares;
  }
  double sum = 0;
  for (const rollout::WeightedVersion& version : split_.versions())
    sum += version.weight;
  for (size_t i = 0; i < shares.size(); ++i)
    shares[i] = split_.versions()[i].weight / sum;
  return shares;
}

void ModelRoute::set_gauges() {
  const std::vector<double> now = shares();
  for (size_t i = 0; i < now.size(); ++i)
    instruments_[i].share.set(now[i]);
}

}  // namespace tidemill::gateway
