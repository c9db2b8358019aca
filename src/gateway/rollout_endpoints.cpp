// How the named routes stand, for administrators, and an operator's word on a rollout.
#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/core.h>

#include "base/json.hpp"
#include "base/utf8.hpp"
#include "gateway/call.hpp"
#include "gateway/endpoints.hpp"
#include "gateway/model_route.hpp"

namespace tidemill::gateway {

namespace json = base::json;

namespace {

json::value quantiles(const rollout::QuantileSketch& sketch) {
  if (sketch.count() == 0) return nullptr;
  return {{"p50", sketch.quantile(0.5)}, {"p95", sketch.quantile(0.95)}, {"p99", sketch.quantile(0.99)}};
}

json::object target_state(const TargetOptions& options, const ModelRoute::TargetState& state, double share) {
  json::array backends;
  for (const std::string& name : options.backends)
    backends.emplace_back(json::string(name));
  return {{"name", options.name},
          {"model", options.model},
          {"backends", std::move(backends)},
          {"share", share},
          {"requests", state.requests},
          {"failed", state.failed},
          {"handed_over", state.handed_over},
          {"ttft_seconds", quantiles(state.ttft)},
          {"itl_seconds", quantiles(state.itl)},
          {"output_tokens", quantiles(state.output_tokens)}};
}

json::object canary_state(const RoutePlan& plan, const rollout::CanaryStatus& status) {
  json::array checks;
  for (const rollout::CheckStatus& check : status.checks) {
    checks.push_back({{"check", rollout::to_string(check.check)},
                      {"seen", check.seen},
                      {"cleared", check.cleared},
                      {"log_harm", check.harm},
                      {"rolled_back_at", check.harm_at},
                      {"log_clearance", check.clearance},
                      {"cleared_at", check.clearance_at}});
  }
  json::array steps;
  for (const rollout::Step& step : plan.canary->steps)
    steps.emplace_back(step.share);
  return {{"rollout", plan.canary->name},
          {"target", plan.targets[plan.canary_target].name},
          {"stable", plan.targets[plan.stable_target].name},
          {"phase", rollout::to_string(status.phase)},
          {"step", status.step + 1},
          {"steps", std::move(steps)},
          {"share", status.share},
          {"requests_in_step", status.step_requests},
          {"reason", status.reason ? json::value(rollout::to_string(*status.reason)) : json::value(nullptr)},
          {"message", status.message},
          {"checks", std::move(checks)}};
}

json::object mirror_state(ModelRoute& route) {
  const rollout::MirrorCounts counts = route.mirror()->gate->counts();
  return {{"share", route.plan().mirror->share},         {"mirrored", counts.mirrored},
          {"not_sampled", counts.not_sampled},           {"dropped_busy", counts.dropped_busy},
          {"dropped_pressure", counts.dropped_pressure}, {"in_flight", counts.in_flight},
          {"report", route.mirror()->report.to_json()}};
}

json::object adaptive_state(ModelRoute& route) {
  const AdaptiveChoice::Counts counts = route.adaptive()->counts();
  const rollout::BanditOptions& options = route.adaptive()->bandit().options();
  const rollout::BanditState state = route.adaptive()->bandit().known();
  const rollout::Bandit::Loss loss = route.adaptive()->bandit().average_loss();
  const std::vector<double> available = route.adaptive()->available();
  json::array models;
  for (const rollout::BanditState::Model& model : state.models)
    models.push_back({{"name", model.name},
                      {"ratings", model.quality.weight()},
                      {"answers", model.spending.weight()},
                      {"available", available[models.size()]}});
  return {{"reference", options.reference},
          {"method", options.method == rollout::Method::thompson ? "thompson" : "linucb"},
          {"quality_floor", options.quality_floor},
          {"average_loss", {{"estimate", loss.estimate}, {"at_most", loss.at_most}}},
          {"decisions", counts.decisions},
          {"explored", counts.explored},
          {"ratings", counts.ratings},
          {"comparisons", counts.comparisons},
          {"models", std::move(models)}};
}

json::object route_state(ModelRoute& route) {
  const RoutePlan& plan = route.plan();
  const std::vector<ModelRoute::TargetState> states = route.states();
  const std::vector<double> shares = route.shares();
  json::array targets;
  for (size_t i = 0; i < states.size(); ++i)
    targets.push_back(target_state(plan.targets[i], states[i], shares[i]));
  json::object state{
      {"route", route.name()}, {"sticky", plan.sticky ? "session" : "none"}, {"targets", std::move(targets)}};
  if (route.canary() != nullptr) state["canary"] = canary_state(plan, route.canary()->status());
  if (route.adaptive() != nullptr) state["adaptive"] = adaptive_state(route);
  if (route.mirror() != nullptr) state["mirror"] = mirror_state(route);
  return state;
}

asio::awaitable<void> list_rollouts(Service& service, Call& call, const Caller&) {
  json::array routes;
  const auto table = service.routes();
  for (const auto& route : table->routes())
    routes.push_back(route_state(*route));
  const json::object body{{"routes", std::move(routes)}};
  (void)co_await call.respond(wire::HttpResponse::json(200, json::serialize(body)));
}

asio::awaitable<void> refuse(Call& call, std::string what) {
  const base::Error error(base::ErrorCode::not_found, std::move(what));
  (void)co_await call.refuse(error);
}

// GET /rollouts/{route}
asio::awaitable<void> get_rollout(Service& service, Call& call, const Caller&) {
  const std::string& name = call.request().path_rest;
  const auto route = service.routes()->find(name);
  if (!route) {
    co_await refuse(call,
                    fmt::format("there is no route '{}'; GET /rollouts lists them", base::utf8::prefix(name, 100)));
    co_return;
  }
  (void)co_await call.respond(wire::HttpResponse::json(200, json::serialize(route_state(*route))));
}

// POST /rollouts/{route}/promote and /rollouts/{route}/rollback
asio::awaitable<void> decide_rollout(Service& service, Call& call, const Caller& caller) {
  const std::string& rest = call.request().path_rest;
  const size_t slash = std::min(rest.rfind('/'), rest.size());
  const std::string name = rest.substr(0, slash);
  const std::string verb = rest.substr(std::min(slash + 1, rest.size()));
  const auto route = service.routes()->find(name);
  if (!route || route->canary() == nullptr || (verb != "promote" && verb != "rollback")) {
    co_await refuse(call, fmt::format("'{}' is no POST for a rollout; write /rollouts/ROUTE/promote or "
                                      "/rollouts/ROUTE/rollback, of a route with a canary",
                                      base::utf8::prefix(rest, 100)));
    co_return;
  }
  const std::string who = caller.key_id.empty() ? "asked for" : "asked for with the key " + caller.key_id;
  const rollout::Phase wanted = verb == "promote" ? rollout::Phase::promoted : rollout::Phase::rolled_back;
  if (route->end_rollout(wanted, who) != wanted) {
    const Refused ended{.status = 409,
                        .message = fmt::format("the rollout has ended the other way, and stays so ({}); another "
                                               "gateway.route.canary.revision begins it anew",
                                               route->canary()->status().message),
                        .type = "invalid_request_error",
                        .code = "rollout_ended",
                        .retry_after = std::nullopt};
    (void)co_await call.refuse(ended);
    co_return;
  }
  (void)co_await call.respond(wire::HttpResponse::json(200, json::serialize(route_state(*route))));
}

}  // namespace

void add_rollout_endpoints(wire::Router& router, Service& service) {
  router.add("GET", "/rollouts", for_callers(service, list_rollouts, "admin"));
  router.add("GET", "/rollouts/*", for_callers(service, get_rollout, "admin"));
  router.add("POST", "/rollouts/*", for_callers(service, decide_rollout, "admin"));
}

}  // namespace tidemill::gateway
