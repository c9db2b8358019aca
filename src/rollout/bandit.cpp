#include "rollout/bandit.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include <fmt/core.h>

#include "rollout/choice_probability.hpp"

namespace tidemill::rollout {
namespace {

// What a quality is taken to be before anything is known. Part of what states mean: see kFeatureVersion.
constexpr double kQualityAtFirst = 0.5;
constexpr double kMostCost = 10;  // in cost scales: one absurd bill must not bend the line

base::Error invalid(std::string message) {
  return {base::ErrorCode::invalid_argument, std::move(message)};
}

base::Result<void> check_models(const BanditOptions& options) {
  if (options.models.empty() || options.models.size() > kMostModels)
    return invalid(fmt::format("a choice of models wants 1 to {} models, not {}", kMostModels, options.models.size()));
  for (const std::string& model : options.models) {
    if (model.empty()) return invalid("a choice of models has a model without a name");
    if (std::ranges::count(options.models, model) > 1)
      return invalid(fmt::format("a choice of models names '{}' twice", model));
  }
  if (std::ranges::find(options.models, options.reference) == options.models.end())
    return invalid(fmt::format("the reference model '{}' is not one of the models to choose from", options.reference));
  return {};
}

base::Result<void> check_number(std::string_view name, double value, double least, double most) {
  if (value >= least && value <= most) return {};
  return invalid(fmt::format("{} is {}: it is a number from {} to {}", name, value, least, most));
}

base::Result<void> check_numbers(const BanditOptions& options) {
  constexpr double kHuge = 1e12;
  TM_CHECK(check_number("cost_weight", options.trade.cost_weight, 0, kHuge));
  TM_CHECK(check_number("cost_scale", options.trade.cost_scale, 1e-12, kHuge));
  TM_CHECK(check_number("latency_weight", options.trade.latency_weight, 0, kHuge));
  TM_CHECK(check_number("latency_scale", options.trade.latency_scale, 1e-6, kHuge));
  TM_CHECK(check_number("quality_floor", options.quality_floor, 0, 1));
  TM_CHECK(check_number("max_quality_loss", options.max_quality_loss, 0, kHuge));
  TM_CHECK(check_number("max_average_loss", options.max_average_loss, 0, 1));
  TM_CHECK(check_number("confidence", options.confidence, 0, 10));
  TM_CHECK(check_number("explore", options.explore, 0, 1));
  TM_CHECK(check_number("optimism", options.optimism, 0, 100));
  TM_CHECK(check_number("keep", options.keep, 0.5, 1));
  TM_CHECK(check_number("ridge", options.ridge, 1e-3, kHuge));
  return check_number("noise", options.noise, 1e-6, kHuge);
}

double bounded_cost(const Trade& trade, double cost) {
  return std::clamp(cost / trade.cost_scale, 0.0, kMostCost);
}

double bounded_latency(const Trade& trade, double seconds) {
  return std::clamp(seconds / trade.latency_scale, 0.0, 1.0);
}

bool is_in(uint32_t set, size_t i) {
  return (set >> i & 1) != 0;
}

}  // namespace

double Trade::reward(double quality, double cost, double seconds) const {
  return quality - cost_weight * bounded_cost(*this, cost) - latency_weight * bounded_latency(*this, seconds);
}

struct Bandit::Views {
  struct View {
    double quality;
    double quality_deviation;
    double reward;
    double reward_deviation;
  };
  std::array<View, kMostModels> of{};
};

base::Result<std::unique_ptr<Bandit>> Bandit::create(BanditOptions options) {
  TM_CHECK(check_models(options));
  TM_CHECK(check_numbers(options));
  return std::unique_ptr<Bandit>(new Bandit(std::move(options)));
}

Bandit::Bandit(BanditOptions options) : options_(std::move(options)), arms_(options_.models.size()) {
  const auto reference = std::ranges::find(options_.models, options_.reference);
  reference_ = static_cast<size_t>(reference - options_.models.begin());
  for (size_t i = 0; i < arms_.size(); ++i) {
    arms_[i].own.name = options_.models[i];
    fit_quality(arms_[i]);
    fit_spending(arms_[i]);
  }
}

void Bandit::fit_quality(Arm& arm) {
  RidgeSums sums = arm.own.quality;
  sums.merge(arm.peers.quality);
  arm.quality.emplace(sums, options_.ridge, options_.noise);
}

void Bandit::fit_spending(Arm& arm) {
  RidgeSums sums = arm.own.spending;
  sums.merge(arm.peers.spending);
  arm.spending.emplace(sums, options_.ridge, options_.noise);
}

void Bandit::view(const Features& features, Views& views) const {
  for (size_t i = 0; i < arms_.size(); ++i) {
    const Arm& arm = arms_[i];
    const Trade& trade = options_.trade;
    const double spread = std::sqrt(arm.spending->leverage(features));
    const double cost_deviation = trade.cost_weight * spread * arm.spending->noise(0);
    const double latency_deviation = trade.latency_weight * spread * arm.spending->noise(1);
    Views::View& view = views.of[i];
    view.quality = kQualityAtFirst + arm.quality->mean(features);
    view.quality_deviation = arm.quality->deviation(features);
    view.reward = view.quality - trade.cost_weight * arm.spending->mean(features, 0) -
                  trade.latency_weight * arm.spending->mean(features, 1);
    view.reward_deviation = std::hypot(view.quality_deviation, cost_deviation, latency_deviation);
  }
}

// The models whose quality is within the floor even if it is less than estimated (sign -1), or may be if it is more
// (1).
uint32_t Bandit::within_floor(const Views& views, double sign) const {
  const Views::View& reference = views.of[reference_];
  uint32_t within = uint32_t{1} << reference_;
  for (size_t i = 0; i < arms_.size(); ++i) {
    const Views::View& view = views.of[i];
    const double bound = view.quality + sign * options_.confidence * view.quality_deviation;
    const double both = std::hypot(view.quality_deviation, reference.quality_deviation);
    const double loss = reference.quality - view.quality - sign * options_.confidence * both;
    const bool reaches = options_.quality_floor <= 0 || bound >= options_.quality_floor;
    if (reaches && loss <= options_.max_quality_loss) within |= uint32_t{1} << i;
  }
  return within;
}

// What all requests so far have lost against the reference, together with this one if `model` answers it (none: the
// reference). The regressions at the sums of the features say it; those of different models are independent.
Bandit::Loss Bandit::total_loss(const Features& features, size_t model) const {
  const Ridge& reference = *arms_[reference_].quality;
  Features elsewhere{};  // of all that the reference is not to answer
  Loss loss;
  double variance = 0;
  for (size_t i = 0; i < arms_.size(); ++i) {
    if (i == reference_) continue;
    Features given = arms_[i].given;
    for (size_t k = 0; k < kFeatures; ++k) {
      if (i == model) given[k] += features[k];
      elsewhere[k] += given[k];
    }
    loss.estimate += reference.mean(given) - arms_[i].quality->mean(given);
    const double deviation = arms_[i].quality->deviation(given);
    variance += deviation * deviation;
  }
  loss.at_most = loss.estimate + options_.confidence * std::hypot(std::sqrt(variance), reference.deviation(elsewhere));
  return loss;
}

// The models with which the mean loss, this request's included, is within its limit.
uint32_t Bandit::within_average(const Features& features) const {
  constexpr uint32_t all = ~uint32_t{0};
  if (options_.max_average_loss >= 1) return all;
  uint32_t within = uint32_t{1} << reference_;
  for (size_t i = 0; i < arms_.size(); ++i) {
    const bool fits = total_loss(features, i).at_most <= options_.max_average_loss * (decided_ + 1);
    if (i != reference_ && fits) within |= uint32_t{1} << i;
  }
  return within;
}

Bandit::Loss Bandit::average_loss() const {
  const std::scoped_lock lock(mutex_);
  if (decided_ <= 0) return {};
  const Loss total = total_loss({}, reference_);
  return {.estimate = total.estimate / decided_, .at_most = total.at_most / decided_};
}

// The method's own probabilities, before exploration.
void Bandit::choose(const Views& views, uint32_t allowed, std::span<double> probabilities) const {
  std::array<double, kMostModels> means;
  std::array<double, kMostModels> deviations;
  std::array<double, kMostModels> chances;
  std::array<size_t, kMostModels> models;
  size_t n = 0;
  for (size_t i = 0; i < arms_.size(); ++i) {
    if (!is_in(allowed, i)) continue;
    means[n] = views.of[i].reward;
    deviations[n] = options_.optimism * views.of[i].reward_deviation;
    models[n++] = i;
  }
  if (options_.method == Method::thompson) {
    largest_probabilities({means.data(), n}, {deviations.data(), n}, {chances.data(), n});
    for (size_t k = 0; k < n; ++k)
      probabilities[models[k]] = chances[k];
    return;
  }
  size_t best = 0;
  for (size_t k = 1; k < n; ++k)
    if (means[k] + deviations[k] > means[best] + deviations[best]) best = k;
  probabilities[models[best]] = 1;
}

Decision Bandit::decide(const Features& features, double uniform, std::span<const double> available) {
  const std::scoped_lock lock(mutex_);
  const Decision decision = decision_for(features, uniform, available);
  decided_ = decided_ * options_.keep + 1;
  for (size_t i = 0; i < arms_.size(); ++i) {
    for (size_t k = 0; k < kFeatures; ++k)
      arms_[i].given[k] = arms_[i].given[k] * options_.keep + (i == decision.model ? features[k] : 0);
  }
  return decision;
}

Decision Bandit::would_decide(const Features& features, double uniform, std::span<const double> available) const {
  const std::scoped_lock lock(mutex_);
  return decision_for(features, uniform, available);
}

Decision Bandit::decision_for(const Features& features, double uniform, std::span<const double> available) const {
  Decision decision;
  decision.features = features;
  Views views;
  view(features, views);
  for (size_t i = 0; i < std::min(available.size(), arms_.size()); ++i)
    views.of[i].reward -= (1 - available[i]) * std::clamp(views.of[i].quality, 0.0, 1.0);
  const uint32_t within = within_average(features);
  decision.allowed = within_floor(views, -1) & within;
  const uint32_t candidates = decision.allowed | (within_floor(views, 1) & within);
  choose(views, decision.allowed, decision.propensities);
  draw(views, candidates, uniform, decision);
  return decision;
}

// Mixes what is drawn evenly from `candidates` into the propensities, and draws by them.
void Bandit::draw(const Views& views, uint32_t candidates, double uniform, Decision& decision) const {
  const double even = options_.explore / std::popcount(candidates);
  for (size_t i = 0; i < arms_.size(); ++i)
    decision.propensities[i] = (1 - options_.explore) * decision.propensities[i] + (is_in(candidates, i) ? even : 0);
  // The last model that can be chosen takes what rounding leaves over.
  double left = uniform;
  size_t best = reference_;
  for (size_t i = 0; i < arms_.size(); ++i) {
    if (is_in(decision.allowed, i) && views.of[i].reward > views.of[best].reward) best = i;
    if (!(decision.propensities[i] > 0) || left < 0) continue;
    decision.model = i;
    left -= decision.propensities[i];
  }
  decision.explored = decision.model != best;
}

void Bandit::learn_quality(const Features& features, size_t model, double quality) {
  if (std::isnan(quality) || model >= arms_.size()) return;
  const std::scoped_lock lock(mutex_);
  const std::array target = {std::clamp(quality, 0.0, 1.0) - kQualityAtFirst};
  arms_[model].own.quality.add(features, target, options_.keep);
  fit_quality(arms_[model]);
}

void Bandit::learn_spending(const Features& features, size_t model, double cost, double seconds) {
  if (std::isnan(cost) || std::isnan(seconds) || model >= arms_.size()) return;
  const std::scoped_lock lock(mutex_);
  const std::array targets = {bounded_cost(options_.trade, cost), bounded_latency(options_.trade, seconds)};
  arms_[model].own.spending.add(features, targets, options_.keep);
  fit_spending(arms_[model]);
}

Bandit::Belief Bandit::belief(const Features& features, size_t model) const {
  Views views;
  const std::scoped_lock lock(mutex_);
  view(features, views);
  const Views::View& of = views.of[std::min(model, arms_.size() - 1)];
  return {.quality = of.quality, .deviation = of.quality_deviation, .reward = of.reward};
}

BanditState Bandit::state() const {
  const std::scoped_lock lock(mutex_);
  BanditState state;
  for (const Arm& arm : arms_)
    state.models.push_back(arm.own);
  return state;
}

BanditState Bandit::known() const {
  BanditState known = state();
  const std::scoped_lock lock(mutex_);
  for (size_t i = 0; i < arms_.size(); ++i) {
    known.models[i].quality.merge(arms_[i].peers.quality);
    known.models[i].spending.merge(arms_[i].peers.spending);
  }
  return known;
}

void Bandit::restore(const BanditState& own) {
  const std::scoped_lock lock(mutex_);
  for (Arm& arm : arms_) {
    const auto model = std::ranges::find(own.models, arm.own.name, &BanditState::Model::name);
    const std::string name = arm.own.name;
    arm.own = model == own.models.end() ? BanditState::Model{.name = name} : *model;
    fit_quality(arm);
    fit_spending(arm);
  }
}

void Bandit::set_peers(const BanditState& peers) {
  const std::scoped_lock lock(mutex_);
  for (Arm& arm : arms_) {
    const auto model = std::ranges::find(peers.models, arm.own.name, &BanditState::Model::name);
    arm.peers = model == peers.models.end() ? BanditState::Model{} : *model;
    fit_quality(arm);
    fit_spending(arm);
  }
}

}  // namespace tidemill::rollout
