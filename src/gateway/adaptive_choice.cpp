#include "gateway/adaptive_choice.hpp"

#include <algorithm>
#include <functional>
#include <utility>

#include <fmt/format.h>

#include "base/ids.hpp"
#include "rollout/chance.hpp"

namespace tidemill::gateway {

using base::Result;

namespace {

// What was learned is worth nothing once the models, or the units of cost and time, are others.
std::string state_key_of(const RoutePlan& plan) {
  std::string text;
  for (const TargetOptions& target : plan.targets)
    text += fmt::format("{}\n{}\n{}\n", target.name, target.model, fmt::join(target.backends, ","));
  text += fmt::format("{}\n{}\n{}", plan.adaptive->reference, plan.adaptive->trade.cost_scale,
                      plan.adaptive->trade.latency_scale);
  return fmt::format("adaptive/{}/{:016x}", plan.name, rollout::unit_of("adaptive", text));
}

}  // namespace

AdaptiveChoice::AdaptiveChoice(const RoutePlan& plan, const base::Clock& clock)
    : clock_(clock),
      name_(plan.name),
      log_path_(plan.decision_log),
      state_key_(state_key_of(plan)),
      available_(plan.targets.size()) {
  const auto& models = plan.adaptive->models;
  reference_ = static_cast<size_t>(std::ranges::find(models, plan.adaptive->reference) - models.begin());
}

Result<std::unique_ptr<AdaptiveChoice>> AdaptiveChoice::create(const RoutePlan& plan, const base::Clock& clock) {
  std::unique_ptr<AdaptiveChoice> choice(new AdaptiveChoice(plan, clock));
  TM_TRY(choice->bandit_, rollout::Bandit::create(*plan.adaptive));
  TM_TRY(LineFile log, choice->open_log());
  choice->use_log(std::move(log));
  return choice;
}

Result<LineFile> AdaptiveChoice::open_log() const {
  auto file = log_.prepare(log_path_);
  if (!file) return std::move(file).error().with_param("gateway.route.adaptive.decision_log");
  return file;
}

void AdaptiveChoice::inherit(AdaptiveChoice& before) {
  bandit_->restore(before.bandit_->state());
  pending_ = before.pending_;
  const std::scoped_lock locks(mutex_, before.mutex_);
  available_ = before.available_;
}

std::vector<double> AdaptiveChoice::available() const {
  const base::SteadyTime now = clock_.now();
  std::vector<double> chances;
  const std::lock_guard lock(mutex_);
  chances.reserve(available_.size());
  for (const rollout::Availability& of : available_)
    chances.push_back(of.at(now));
  return chances;
}

rollout::Decision AdaptiveChoice::decide(std::string_view request_id, const rollout::Features& features) {
  const double uniform = rollout::fraction(base::random_u64());
  const rollout::Decision decision = bandit_->decide(features, uniform, available());
  decisions_.fetch_add(1, std::memory_order_relaxed);
  if (decision.explored) explored_.fetch_add(1, std::memory_order_relaxed);
  if (log_.enabled())
    log_.write(rollout::decision_line(request_id, decision, bandit_->options(), clock_.wall_now()) + "\n");
  return decision;
}

std::vector<size_t> AdaptiveChoice::others(const rollout::Decision& decision) const {
  std::vector<size_t> others;
  for (size_t i = 0; i < bandit_->options().models.size(); ++i) {
    if (i != decision.model && (decision.allowed >> i & 1) != 0) others.push_back(i);
  }
  // Of those that would hardly have been chosen, the reference.
  std::ranges::stable_sort(others, std::greater(), [&](size_t model) {
    return std::pair(std::max(decision.propensities[model], 0.01), model == reference_);
  });
  return others;
}

void AdaptiveChoice::failed(std::string_view request_id, const rollout::Decision& decision, double seconds) {
  {
    const std::lock_guard lock(mutex_);
    available_[decision.model].note(false, clock_.now());
  }
  log_worthless(request_id, decision, seconds);
}

void AdaptiveChoice::declined(std::string_view request_id, const rollout::Decision& decision, double seconds) {
  bandit_->learn_quality(decision.features, decision.model, 0);
  log_worthless(request_id, decision, seconds);
}

void AdaptiveChoice::log_worthless(std::string_view request_id, const rollout::Decision& decision, double seconds) {
  if (!log_.enabled() || decision.substitute) return;
  log_.write(rollout::outcome_line(request_id, {.quality = 0, .cost = 0, .seconds = seconds}) + "\n");
}

void AdaptiveChoice::await_rating(std::string_view tenant, std::string_view request_id, std::string_view response_id,
                                  const rollout::Decision& decision) {
  pending_->put(RatedId{tenant, request_id}.key(), decision,
                response_id.empty() ? "" : RatedId{tenant, response_id}.key());
}

void AdaptiveChoice::answered(std::string_view request_id, const rollout::Decision& decision, double cost,
                              double seconds) {
  {
    const std::lock_guard lock(mutex_);
    available_[decision.model].note(true, clock_.now());
  }
  bandit_->learn_spending(decision.features, decision.model, cost, seconds);
  if (log_.enabled() && !decision.substitute)
    log_.write(rollout::outcome_line(request_id, {.cost = cost, .seconds = seconds}) + "\n");
}

Result<AdaptiveChoice::Rated> AdaptiveChoice::rate(const RatedId& id, double score) {
  TM_TRY(const rollout::PendingDecisions::Taken taken, pending_->take_for_feedback(id.key()));
  const std::string request_id = taken.id.substr(id.tenant.size() + 1);
  rate(request_id, taken.decision, score);
  return Rated{.request_id = request_id, .model = taken.decision.model};
}

void AdaptiveChoice::rate(std::string_view request_id, const rollout::Decision& decision, double score) {
  ratings_.fetch_add(1, std::memory_order_relaxed);
  learn(request_id, decision.features, decision.model, score, !decision.substitute);
}

void AdaptiveChoice::agreed(std::string_view request_id, const rollout::Decision& decision, size_t shadow,
                            double agreement) {
  comparisons_.fetch_add(1, std::memory_order_relaxed);
  const bool by_reference = decision.model == reference_;
  learn(request_id, decision.features, by_reference ? shadow : decision.model, agreement, !by_reference);
  learn(request_id, decision.features, reference_, 1, by_reference);
}

// `log`: it is the quality of the answer that the client got.
void AdaptiveChoice::learn(std::string_view request_id, const rollout::Features& features, size_t model, double quality,
                           bool log) {
  bandit_->learn_quality(features, model, quality);
  if (log && log_.enabled()) log_.write(rollout::outcome_line(request_id, {.quality = quality}) + "\n");
}

size_t AdaptiveChoice::shadow_of(size_t answered_by, std::string_view request_id) const {
  const size_t models = bandit_->options().models.size();
  if (answered_by != reference_ || models < 2) return reference_;
  const size_t other = rollout::unit_of(name_, request_id) % (models - 1);
  return other < reference_ ? other : other + 1;
}

AdaptiveChoice::Counts AdaptiveChoice::counts() const {
  return {.decisions = decisions_.load(std::memory_order_relaxed),
          .explored = explored_.load(std::memory_order_relaxed),
          .ratings = ratings_.load(std::memory_order_relaxed),
          .comparisons = comparisons_.load(std::memory_order_relaxed)};
}

}  // namespace tidemill::gateway
