// Named routes: models that clients ask for, and the versions or models that answer. [[gateway.route]] in the file;
// docs/gateway.md tells the users' side.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "base/clock.hpp"
#include "base/config.hpp"
#include "base/units.hpp"

namespace tidemill::gateway {

// One version of a route, or one of the models that it chooses from: [[gateway.route.target]].
struct TargetOptions {
  std::string name{};                   // its model's if empty
  std::string model{};                  // what backends are asked for; the route's if empty
  std::vector<std::string> backends{};  // who may be asked, by name, or "gpu-*"; all that serve the model if empty
  double weight = 1;
  std::vector<std::string> headers{};  // "name: value" or "name": requests with one of them go here

  bool operator==(const TargetOptions&) const = default;
};

// [gateway.route.canary]
struct CanarySection {
  std::string target{};  // the new version; empty: there is no canary
  std::string stable{};  // the other target if empty
  std::vector<std::string> steps = {"1%", "5%", "25%", "50%"};
  int min_requests = 0;  // 0: as many as the room rollout asks for at such a share
  base::Duration pause{};
  double max_error_increase = 0.02;
  double max_ttft_ratio = 1.2;
  double max_itl_ratio = 1.2;
  double max_length_ratio = 1.4;
  std::string revision{};

  bool operator==(const CanarySection&) const = default;
};

// [gateway.route.mirror]
struct MirrorSection {
  std::string target{};  // who gets copies; empty: nobody. In an adaptive route nothing but "reference"
  std::string share = "1%";
  int max_in_flight = 16;
  base::ByteSize max_bytes{uint64_t{64} << 20};
  double max_load = 0.7;

  bool operator==(const MirrorSection&) const = default;
};

// [gateway.route.adaptive]
struct AdaptiveSection {
  std::string reference{};  // the target that is trusted; empty: the route is not adaptive
  std::string method = "thompson";
  double cost_weight = 0.05;
  double cost_scale = 0.01;
  double latency_weight = 0.05;
  base::Duration latency_scale = std::chrono::seconds(30);
  double quality_floor = 0;
  double max_quality_loss = 1;
  double max_average_loss = 1;
  double confidence = 1.645;
  double explore = 0.02;
  double keep = 1;
  std::string decision_log{};

  bool operator==(const AdaptiveSection&) const = default;
};

struct RouteOptions {
  std::string model{};  // its name
  std::string sticky = "none";
  // Where a request says which session it belongs to, the first that does: see session_key.hpp.
  std::vector<std::string> session = {"header:x-session-token", "conversation", "prompt_cache_key", "safety_identifier",
                                      "user"};
  std::vector<TargetOptions> targets{};
  CanarySection canary{};
  MirrorSection mirror{};
  AdaptiveSection adaptive{};

  bool operator==(const RouteOptions&) const = default;
};

void describe_route(base::ConfigSchema& schema, RouteOptions& route);

// Which backends a target asks, by the names that it lists, of which a '*' at the end stands for any ending; an empty
// list is all. However many are listed, asking takes no longer, but for those with a '*'. The list must outlive it.
class AskedBackends {
 public:
  explicit AskedBackends(const std::vector<std::string>& names);
  bool contains(std::string_view backend) const;

 private:
  bool all_;
  std::unordered_set<std::string_view> names_;
  std::vector<std::string_view> beginnings_;
};

}  // namespace tidemill::gateway
