#include "gateway/route_options.hpp"

#include <algorithm>
#include <chrono>

namespace tidemill::gateway {

using base::Duration;
using std::chrono::hours;
using std::chrono::milliseconds;

namespace {

void describe_target(base::ConfigSchema& schema, TargetOptions& o) {
  schema.add("gateway.route.target.name", &o.name, "name of the version; its model's if empty");
  schema.add("gateway.route.target.model", &o.model, "model that backends are asked for; the route's if empty");
  schema.add("gateway.route.target.backends", &o.backends,
             "names of the backends that may be asked, gpu-* for those that begin so; all that serve the model if "
             "empty");
  schema.add("gateway.route.target.weight", &o.weight, "share of the traffic, relative to the other targets'")
      .between(0.0, 1e9);
  schema.add("gateway.route.target.headers", &o.headers,
             "requests with one of these go here whatever the weights: \"name: value\", or \"name\" for any value");
}

void describe_canary(base::ConfigSchema& schema, CanarySection& o) {
  schema.add("gateway.route.canary.target", &o.target, "the new version").required_in_table();
  schema.add("gateway.route.canary.stable", &o.stable, "the version that it is compared with; the other one if empty");
  schema.add("gateway.route.canary.steps", &o.steps, "shares of the traffic that it gets, one after the other");
  schema
      .add("gateway.route.canary.min_requests", &o.min_requests,
           "requests that it must answer in each step; 0: 40 to 400")
      .between(0, 1'000'000'000);
  schema.add("gateway.route.canary.pause", &o.pause, "how long each step lasts at least")
      .between(Duration(0), hours(24 * 365));
  schema
      .add("gateway.route.canary.max_error_increase", &o.max_error_increase,
           "a rate of failures that is higher by so much must not be promoted")
      .between(0.001, 0.5);
  schema
      .add("gateway.route.canary.max_ttft_ratio", &o.max_ttft_ratio,
           "nor a time to the first token of so many times stable's")
      .between(1.01, 100.0);
  schema.add("gateway.route.canary.max_itl_ratio", &o.max_itl_ratio, "nor such a time between tokens")
      .between(1.01, 100.0);
  schema
      .add("gateway.route.canary.max_length_ratio", &o.max_length_ratio,
           "nor outputs so many times as long, or as short")
      .between(1.01, 100.0);
  schema.add("gateway.route.canary.revision", &o.revision, "any word; another one begins the rollout anew");
}

void describe_mirror(base::ConfigSchema& schema, MirrorSection& o) {
  schema
      .add("gateway.route.mirror.target", &o.target,
           "the shadow, which gets copies and no other traffic; in an adaptive route: reference")
      .required_in_table();
  schema.add("gateway.route.mirror.share", &o.share, "share of the requests that are copied");
  schema.add("gateway.route.mirror.max_in_flight", &o.max_in_flight, "copies at one time; further ones are dropped")
      .between(0, 1'000'000);
  schema.add("gateway.route.mirror.max_bytes", &o.max_bytes, "of copies and their answers at one time");
  schema.add("gateway.route.mirror.max_load", &o.max_load, "of gateway.slots, from which on nothing is copied")
      .between(0.0, 1.0);
}

void describe_adaptive(base::ConfigSchema& schema, AdaptiveSection& o) {
  schema.add("gateway.route.adaptive.reference", &o.reference, "the target that may answer anything: the big model")
      .required_in_table();
  schema.add("gateway.route.adaptive.method", &o.method, "how the choice is learned").words({"thompson", "linucb"});
  schema
      .add("gateway.route.adaptive.cost_weight", &o.cost_weight,
           "what a request's cost of cost_scale weighs against quality")
      .between(0.0, 1e6);
  schema
      .add("gateway.route.adaptive.cost_scale", &o.cost_scale,
           "in the policy's currency: what the dearest model asks, say")
      .between(1e-9, 1e9);
  schema.add("gateway.route.adaptive.latency_weight", &o.latency_weight, "what latency_scale weighs against quality")
      .between(0.0, 1e6);
  schema.add("gateway.route.adaptive.latency_scale", &o.latency_scale, "of a whole answer")
      .between(milliseconds(1), hours(24));
  schema
      .add("gateway.route.adaptive.quality_floor", &o.quality_floor,
           "a model answers only where its quality is known to be at least this, of 0 to 1")
      .between(0.0, 1.0);
  schema
      .add("gateway.route.adaptive.max_quality_loss", &o.max_quality_loss,
           "and at most so much below the reference's; 1: no such limit")
      .between(0.0, 1.0);
  schema
      .add("gateway.route.adaptive.max_average_loss", &o.max_average_loss,
           "what all answers together may fall short of the reference's, on average; 1: no such limit")
      .between(0.0, 1.0);
  schema
      .add("gateway.route.adaptive.confidence", &o.confidence,
           "how sure that must be, in standard deviations: 1.645 is 95 %, 1.28 is 90 %")
      .between(0.0, 10.0);
  schema.add("gateway.route.adaptive.explore", &o.explore, "share of requests for which a model is drawn evenly")
      .between(0.0, 1.0);
  schema
      .add("gateway.route.adaptive.keep", &o.keep, "of an observation's weight, with each further one; below 1 forgets")
      .between(0.5, 1.0);
  schema.add("gateway.route.adaptive.decision_log", &o.decision_log,
             "file for a line of JSON for each choice, and for each thing heard of its outcome");
}

}  // namespace

void describe_route(base::ConfigSchema& schema, RouteOptions& o) {
  schema.add("gateway.route.model", &o.model, "the model that clients ask for").required();
  schema
      .add("gateway.route.sticky", &o.sticky, "whether all requests of a session go to one version, or each by itself")
      .words({"none", "session"});
  schema.add("gateway.route.session", &o.session,
             "where a request says which session it is of; the first that does counts: header:NAME, conversation "
             "(Responses), prompt_cache_key, safety_identifier or user of the body");
  describe_canary(schema, o.canary);
  describe_mirror(schema, o.mirror);
  describe_adaptive(schema, o.adaptive);
  schema.add_rows("gateway.route.target", &o.targets, describe_target);
}

AskedBackends::AskedBackends(const std::vector<std::string>& names) : all_(names.empty()) {
  for (std::string_view name : names) {
    if (!name.ends_with('*')) {
      names_.insert(name);
      continue;
    }
    name.remove_suffix(1);
    beginnings_.push_back(name);
  }
}

bool AskedBackends::contains(std::string_view backend) const {
  if (all_ || names_.contains(backend)) return true;
  return std::ranges::any_of(beginnings_, [&](std::string_view begins) { return backend.starts_with(begins); });
}

}  // namespace tidemill::gateway
