#include "gateway/route_plan.hpp"

#include <algorithm>
#include <charconv>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "access/policy.hpp"
#include "rollout/chance.hpp"

namespace tidemill::gateway {

using base::Error;
using base::ErrorCode;
using base::Result;

namespace {

Error wrong(const RouteOptions& route, std::string_view key, std::string what) {
  std::string param = fmt::format("gateway.route.{}", key);
  std::string message = fmt::format("{} of the route '{}': {}", param, route.model, what);
  return Error(ErrorCode::invalid_argument, std::move(message)).with_param(std::move(param));
}

// "5%" -> 0.05
std::optional<double> parse_share(std::string_view text) {
  if (!text.ends_with('%')) return std::nullopt;
  text.remove_suffix(1);
  double percent = 0;
  const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), percent);
  if (fault != std::errc() || end != text.data() + text.size() || !(percent >= 0 && percent <= 100))
    return std::nullopt;
  return percent / 100;
}

// A section of which nothing counts without what it is about, and that says something else.
template <typename Section>
Result<void> refuse_headless(const RouteOptions& route, const Section& section, std::string_view key,
                             std::string_view wanted) {
  if (section == Section()) return {};
  return wrong(route, key,
               fmt::format("it is empty, and what else the section says counts for nothing; name {}", wanted));
}

std::string names_of(const std::vector<TargetOptions>& targets) {
  std::vector<std::string_view> names;
  names.reserve(targets.size());
  for (const TargetOptions& target : targets)
    names.push_back(target.name);
  return fmt::format("{}", fmt::join(names, ", "));
}

Result<size_t> find_target(const RouteOptions& route, const RoutePlan& plan, std::string_view key,
                           std::string_view name) {
  const auto found = std::ranges::find(plan.targets, name, &TargetOptions::name);
  if (found != plan.targets.end()) return static_cast<size_t>(found - plan.targets.begin());
  return wrong(route, key, fmt::format("'{}' is none of its targets; they are {}", name, names_of(plan.targets)));
}

Result<void> plan_sessions(const RouteOptions& route, RoutePlan& plan) {
  plan.sticky = route.sticky == "session";
  if (plan.sticky && route.session.empty())
    return wrong(route, "session", R"(it is empty, and sticky is "session"; name what makes requests one session)");
  for (const std::string& text : route.session) {
    auto source = parse_session_source(text);
    if (!source) return wrong(route, "session", source.error().message());
    plan.session_sources.push_back(*std::move(source));
  }
  return {};
}

Result<void> plan_targets(const RouteOptions& route, RoutePlan& plan) {
  if (route.targets.empty())
    return wrong(route, "target", "it has none; add a [[gateway.route.target]] for each version");
  plan.split.salt = route.model;
  for (TargetOptions target : route.targets) {
    if (target.model.empty()) target.model = route.model;
    if (target.name.empty()) target.name = target.model;
    if (std::ranges::find(plan.targets, target.name, &TargetOptions::name) != plan.targets.end()) {
      return wrong(route, "target.name",
                   fmt::format("two targets are named '{}': give each a name of its own", target.name));
    }
    for (const std::string& name : target.backends) {
      const size_t star = name.find('*');
      if (star != std::string::npos && star + 1 != name.size()) {
        return wrong(route, "target.backends",
                     fmt::format("'{}' has a * before its end; write a name, or gpu-* for those that begin so", name));
      }
    }
    plan.split.versions.push_back({.name = target.name, .weight = target.weight});
    for (const std::string& rule : target.headers) {
      const size_t colon = rule.find(':');
      const std::string name = rule.substr(0, colon);
      if (name.empty() || name.find(' ') != std::string::npos) {
        return wrong(route, "target.headers", fmt::format("'{}' names no header; write \"x-version: beta\"", rule));
      }
      std::optional<std::string> value;
      if (colon != std::string::npos)
        value = rule.substr(std::min(rule.size(), rule.find_first_not_of(' ', colon + 1)));
      plan.split.headers.push_back({.header = name, .value = std::move(value), .version = target.name});
    }
    plan.targets.push_back(std::move(target));
  }
  return {};
}

Result<void> plan_mirror(const RouteOptions& route, RoutePlan& plan) {
  const MirrorSection& o = route.mirror;
  if (o.target.empty()) return refuse_headless(route, o, "mirror.target", "the target that gets the copies");
  const auto share = parse_share(o.share);
  if (!share)
    return wrong(route, "mirror.share", fmt::format("'{}' is no share; write one from \"0%\" to \"100%\"", o.share));
  if (!route.adaptive.reference.empty()) {
    if (o.target != "reference") {
      return wrong(route, "mirror.target",
                   "in an adaptive route, answers are compared with the reference's; write \"reference\"");
    }
  } else {
    TM_TRY(plan.mirror_target, find_target(route, plan, "mirror.target", o.target));
    plan.split.versions[plan.mirror_target].weight = 0;
    const bool answers = std::ranges::any_of(plan.split.versions, [](const auto& each) { return each.weight > 0; });
    if (!answers) {
      return wrong(route, "mirror.target",
                   fmt::format("'{}' gets copies and no other traffic, and no other target has a weight above 0; add "
                               "the one that answers",
                               o.target));
    }
  }
  plan.mirror = rollout::MirrorOptions{.name = route.model,
                                       .share = *share,
                                       .max_in_flight = o.max_in_flight,
                                       .max_bytes = static_cast<int64_t>(o.max_bytes.bytes),
                                       .max_pressure = o.max_load};
  return {};
}

// What a change of makes it another rollout, in a few digits.
std::string fingerprint(const RouteOptions& route, const RoutePlan& plan) {
  std::string text = fmt::format("{}\n{}\n{}\n{}\n{}\n{}\n{}\n{}\n{}", route.sticky, fmt::join(route.canary.steps, ","),
                                 route.canary.min_requests, route.canary.pause.count(), route.canary.max_error_increase,
                                 route.canary.max_ttft_ratio, route.canary.max_itl_ratio, route.canary.max_length_ratio,
                                 route.canary.revision);
  for (const size_t at : {plan.stable_target, plan.canary_target}) {
    const TargetOptions& target = plan.targets[at];
    text += fmt::format("\n{}\n{}\n{}", target.name, target.model, fmt::join(target.backends, ","));
  }
  return fmt::format("{:016x}", rollout::unit_of("rollout", text));
}

// What the room tolerates and calls gross, in proportion to what must not be promoted.
rollout::Limits ratio_limits(const rollout::Limits& usual, double regression) {
  const double part = (usual.tolerated - 1) / (usual.regression - 1);
  return {
      .tolerated = 1 + part * (regression - 1), .regression = regression, .gross = std::max(usual.gross, regression)};
}

Result<std::vector<rollout::Step>> plan_steps(const RouteOptions& route) {
  const CanarySection& o = route.canary;
  std::vector<rollout::Step> steps;
  for (const std::string& text : o.steps) {
    const auto share = parse_share(text);
    if (!share || *share <= 0 || *share >= 1) {
      return wrong(
          route, "canary.steps",
          fmt::format("'{}' is no step; write shares that grow, as in [\"5%\", \"50%\"], each above 0% and below "
                      "100%, since the last one must leave a stable version to compare with",
                      text));
    }
    const bool small = *share < 0.1;  // to rule out more than gross regressions would take too long
    const int64_t usual = *share < 0.02 ? 40 : small ? 100 : 400;
    steps.push_back({.share = *share,
                     .min_requests = o.min_requests > 0 ? o.min_requests : usual,
                     .min_time = o.pause,
                     .gross = small});
  }
  if (!steps.empty()) steps.back().gross = false;
  return steps;
}

Result<void> plan_canary(const RouteOptions& route, RoutePlan& plan) {
  const CanarySection& o = route.canary;
  if (o.target.empty()) return refuse_headless(route, o, "canary.target", "the target that is new");
  TM_TRY(plan.canary_target, find_target(route, plan, "canary.target", o.target));
  std::vector<size_t> others;
  for (size_t i = 0; i < plan.targets.size(); ++i) {
    if (i != plan.canary_target && !(plan.mirror && i == plan.mirror_target)) others.push_back(i);
  }
  if (plan.mirror && plan.mirror_target == plan.canary_target) {
    return wrong(route, "canary.target", "it is the mirror's target, which gets no traffic; take another");
  }
  if (others.size() != 1) {
    return wrong(route, "canary.target",
                 fmt::format("a canary is compared with one stable version, and there are {} other targets; leave two, "
                             "beside the mirror's",
                             others.size()));
  }
  plan.stable_target = others.front();
  if (!o.stable.empty() && o.stable != plan.targets[plan.stable_target].name) {
    return wrong(
        route, "canary.stable",
        fmt::format("'{}' is not the other target, which is '{}'", o.stable, plan.targets[plan.stable_target].name));
  }
  rollout::CanaryOptions canary;
  canary.name = fmt::format("{}/{}/{}", route.model, o.target, fingerprint(route, plan));
  TM_TRY(canary.steps, plan_steps(route));
  canary.sticky = plan.sticky;
  const rollout::CheckLimits usual;
  const double failures = o.max_error_increase;
  canary.limits.failures = {.tolerated = failures * usual.failures.tolerated / usual.failures.regression,
                            .regression = failures,
                            .gross = std::max(usual.failures.gross, failures)};
  canary.limits.ttft = ratio_limits(usual.ttft, o.max_ttft_ratio);
  canary.limits.itl = ratio_limits(usual.itl, o.max_itl_ratio);
  canary.limits.length = ratio_limits(usual.length, o.max_length_ratio);
  auto made = rollout::Canary::create(canary, base::SteadyTime());
  if (!made) return wrong(route, "canary.steps", made.error().message());
  plan.canary = std::move(canary);
  return {};
}

Result<void> plan_adaptive(const RouteOptions& route, RoutePlan& plan) {
  const AdaptiveSection& o = route.adaptive;
  if (o.reference.empty()) return refuse_headless(route, o, "adaptive.reference", "the target that is trusted");
  if (!route.canary.target.empty()) {
    return wrong(route, "adaptive.reference", "the route has a canary too; give each a route of its own");
  }
  TM_CHECK(find_target(route, plan, "adaptive.reference", o.reference));
  rollout::BanditOptions bandit{.name = route.model,
                                .models = {},
                                .reference = o.reference,
                                .method = o.method == "linucb" ? rollout::Method::lin_ucb : rollout::Method::thompson,
                                .trade = {.cost_weight = o.cost_weight,
                                          .cost_scale = o.cost_scale,
                                          .latency_weight = o.latency_weight,
                                          .latency_scale = base::seconds(o.latency_scale)},
                                .quality_floor = o.quality_floor,
                                .max_average_loss = o.max_average_loss,
                                .confidence = o.confidence,
                                .explore = o.explore,
                                .keep = o.keep};
  if (o.max_quality_loss < 1) bandit.max_quality_loss = o.max_quality_loss;
  for (const TargetOptions& target : plan.targets)
    bandit.models.push_back(target.name);
  auto made = rollout::Bandit::create(bandit);
  if (!made) return wrong(route, "adaptive", made.error().message());
  plan.adaptive = std::move(bandit);
  plan.decision_log = o.decision_log;
  return {};
}

}  // namespace

Result<RoutePlan> plan_route(const RouteOptions& route) {
  if (route.model.empty()) return wrong(route, "model", "it is empty; name the model that clients ask for");
  RoutePlan plan;
  plan.name = route.model;
  TM_CHECK(plan_sessions(route, plan));
  TM_CHECK(plan_targets(route, plan));
  TM_CHECK(plan_mirror(route, plan));
  TM_CHECK(plan_canary(route, plan));
  TM_CHECK(plan_adaptive(route, plan));
  auto split = rollout::Split::create(plan.split);
  if (!split) return wrong(route, "target.weight", split.error().message());
  return plan;
}

Result<void> check_prices(const std::vector<RouteOptions>& routes, const std::string& path) {
  for (const RouteOptions& route : routes) {
    if (route.adaptive.reference.empty() || route.adaptive.cost_weight <= 0) continue;
    TM_TRY(const RoutePlan plan, plan_route(route));
    access::Policy policy;
    if (!path.empty()) {
      auto read = access::read_policy(path);
      if (!read) return std::move(read).error().wrap("the policy").with_param("gateway.policy");
      policy = std::move(*read);
    }
    for (const TargetOptions& target : plan.targets) {
      if (policy.prices.find(target.model)) continue;
      return Error(ErrorCode::invalid_argument,
                   fmt::format("gateway.policy: the adaptive route '{}' weighs what its models cost, and '{}' has no "
                               "price: add [prices.\"{}\"] to the policy, or set gateway.route.adaptive.cost_weight "
                               "to 0",
                               route.model, target.model, target.model))
          .with_param("gateway.policy");
    }
  }
  return {};
}

}  // namespace tidemill::gateway
