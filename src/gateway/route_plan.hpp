// What the options of a route come to, checked.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "gateway/route_options.hpp"
#include "gateway/session_key.hpp"
#include "rollout/bandit.hpp"
#include "rollout/canary.hpp"
#include "rollout/mirror_gate.hpp"
#include "rollout/split.hpp"

namespace tidemill::gateway {

// A route as the room rollout wants its parts. Names are filled in.
struct RoutePlan {
  std::string name;
  bool sticky = false;
  std::vector<SessionSource> session_sources;
  std::vector<TargetOptions> targets;
  rollout::SplitOptions split;  // of all targets; weight 0 for those that get no traffic by weight
  // Of a canary; its name changes with all that makes it another rollout.
  std::optional<rollout::CanaryOptions> canary;
  size_t stable_target = 0;
  size_t canary_target = 0;
  std::optional<rollout::MirrorOptions> mirror;
  size_t mirror_target = 0;
  std::optional<rollout::BanditOptions> adaptive;  // its models are the targets' names
  std::string decision_log;
};

// invalid_argument: what is wrong, the key as `param`, and what would be right.
base::Result<RoutePlan> plan_route(const RouteOptions& options);

// What adaptive routes cost is read from the policy's price table. invalid_argument, param "gateway.policy": a model
// has no price.
base::Result<void> check_prices(const std::vector<RouteOptions>& routes, const std::string& policy);

}  // namespace tidemill::gateway
