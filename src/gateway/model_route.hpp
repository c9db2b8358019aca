// A named route at run time: which of its versions answers a request, and what is learned from the answers.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "gateway/adaptive_choice.hpp"
#include "gateway/route_plan.hpp"
#include "observe/metrics.hpp"
#include "rollout/canary.hpp"
#include "rollout/checks.hpp"
#include "rollout/mirror_gate.hpp"
#include "rollout/mirror_report.hpp"
#include "rollout/quantile_sketch.hpp"
#include "rollout/split.hpp"

namespace tidemill::gateway {

// What a choice depends on.
struct RouteKey {
  std::string_view request_id;
  std::string_view session;  // empty: none
  rollout::HeaderLookup headers;
  const rollout::Features* features = nullptr;  // of requests that an adaptive route can choose a model for
};

// What was chosen for one request. To be handed back once, to `observe` or `abandon`.
struct Chosen {
  size_t target = 0;
  bool by_header = false;
  rollout::Assignment assignment{};             // of a canary
  std::optional<rollout::Decision> decision{};  // of an adaptive route
};

// Thread-safe. Lives as long as anybody uses it, also past a reload that no longer names it.
class ModelRoute {
 public:
  // Errors: those of plan_route.
  static base::Result<std::shared_ptr<ModelRoute>> create(RouteOptions options, observe::Metrics& metrics,
                                                          const base::Clock& clock);

  // Goes on with what `before`, of the same name, has learned, as far as the options for it are the same.
  void inherit(ModelRoute& before);

  const RouteOptions& options() const { return options_; }
  const std::string& name() const { return plan_.name; }
  const TargetOptions& target(size_t index) const { return plan_.targets[index]; }
  const RoutePlan& plan() const { return plan_; }
  // Null where there is none.
  rollout::Canary* canary() { return canary_.get(); }
  AdaptiveChoice* adaptive() { return adaptive_.get(); }

  Chosen choose(const RouteKey& key);
  // The request has ended, well or not; what is not known of it is 0.
  void observe(const Chosen& chosen, const rollout::Observation& seen);
  // It has ended and tells nothing: the client hung up, it was never sent, or the request itself was at fault.
  void abandon(const Chosen& chosen);
  // What a target did of which a rollout is to learn nothing: a request that came to it from another target or by a
  // header, and a mirrored one.
  void note(size_t target, const rollout::Observation& seen);
  // The targets that may answer in place of the chosen one, in order. Of a canary that is compared, the stable version;
  // of an adaptive route, the models that the floor allows; else none.
  std::vector<size_t> substitutes(const Chosen& chosen) const;
  // One of them is asked now.
  void count_handover(size_t from);
  // A shadow that gets copies, and what became of them. Null where there is none.
  struct Mirror {
    std::unique_ptr<rollout::MirrorGate> gate;
    rollout::MirrorReport report;
  };
  Mirror* mirror() { return mirror_.get(); }
  // Which target a copy of this request would go to; nullopt: none.
  std::optional<size_t> shadow_of(const Chosen& chosen, std::string_view request_id) const;
  // Both answers to a copied request. Takes up to a millisecond: not for the threads that relay.
  void compare(const Chosen& chosen, size_t shadow, std::string_view request_id, const rollout::MirroredAnswer& answer,
               const rollout::MirroredAnswer& of_shadow);

  // An operator's word, of a route with a canary, and how the rollout has ended now: what had ended before stays so.
  rollout::Phase end_rollout(rollout::Phase wanted, std::string_view who);
  // What other gateways have seen of the same rollout; see rollout::Canary.
  void set_peers(std::span<const rollout::CanaryRecord> peers);

  // What every target has answered since the route began.
  struct TargetState {
    int64_t requests = 0;
    int64_t failed = 0;
    int64_t handed_over = 0;  // to another target, before the client had got anything
    rollout::QuantileSketch ttft;
    rollout::QuantileSketch itl;
    rollout::QuantileSketch output_tokens;
  };
  std::vector<TargetState> states() const;
  // The share of the traffic that each target gets, by weight or by the rollout; of an adaptive route, has got.
  std::vector<double> shares() const;
  // Sets the gauges of /metrics.
  void set_gauges();

 private:
  struct Instruments {
    observe::Counter& requests;
    observe::Counter& failures;
    observe::Counter& handovers;
    observe::Histogram& ttft;
    observe::Histogram& itl;
    observe::Gauge& share;
  };

  ModelRoute(RouteOptions options, RoutePlan plan, rollout::Split split, observe::Metrics& metrics,
             const base::Clock& clock);
  void tell(rollout::Event event) const;

  const RouteOptions options_;
  const RoutePlan plan_;
  const base::Clock& clock_;
  const rollout::Split split_;
  std::shared_ptr<rollout::Canary> canary_;  // as the next, shared with the route that inherits it
  std::shared_ptr<Mirror> mirror_;
  std::unique_ptr<AdaptiveChoice> adaptive_;
  std::vector<Instruments> instruments_;  // by target
  mutable std::mutex mutex_;
  std::vector<TargetState> states_;  // by target
};

}  // namespace tidemill::gateway
