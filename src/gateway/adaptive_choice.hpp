// The choice of an adaptive route: a bandit, the decisions that may still be rated, and their log.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "gateway/line_log.hpp"
#include "gateway/route_plan.hpp"
#include "rollout/availability.hpp"
#include "rollout/bandit.hpp"
#include "rollout/decision_log.hpp"
#include "rollout/pending_decisions.hpp"

namespace tidemill::gateway {

// A request as feedback names it. Tenants rate their own requests alone.
struct RatedId {
  std::string_view tenant;
  std::string_view id;  // of the request or of the response

  // Both as one: no tenant's name holds a line break.
  std::string key() const { return std::string(tenant).append("\n").append(id); }
};

// Thread-safe. Models are the route's targets, by index.
class AdaptiveChoice {
 public:
  // Errors: io, param "gateway.route.adaptive.decision_log".
  static base::Result<std::unique_ptr<AdaptiveChoice>> create(const RoutePlan& plan, const base::Clock& clock);

  // Goes on with what `before`, of the same state_key(), has learned, and with what may still be rated there.
  void inherit(AdaptiveChoice& before);

  // `request_id` is what the log calls the decision. Models that have not answered of late are chosen less.
  rollout::Decision decide(std::string_view request_id, const rollout::Features& features);
  // The others that may answer in place of the decision's model: those that the floor allows, the likeliest first.
  std::vector<size_t> others(const rollout::Decision& decision) const;

  // The model did not answer: its server's fault, or there is none. Nothing is learned of its quality.
  void failed(std::string_view request_id, const rollout::Decision& decision, double seconds);
  // It said that the request is at fault, and the reference took it: for such requests it is worth nothing.
  void declined(std::string_view request_id, const rollout::Decision& decision, double seconds);
  // The request may be rated from now on, under either of its ids.
  void await_rating(std::string_view tenant, std::string_view request_id, std::string_view response_id,
                    const rollout::Decision& decision);
  // It was answered. `cost` in the policy's currency.
  void answered(std::string_view request_id, const rollout::Decision& decision, double cost, double seconds);

  struct Rated {
    std::string request_id;
    size_t model = 0;
  };
  // Learns what the answer to a request was worth, 0 to 1. Errors: not_found, invalid_argument (it was rated before).
  base::Result<Rated> rate(const RatedId& id, double score);
  // The same of a decision that another gateway has made, of whose being rated once it has been taken care of.
  void rate(std::string_view request_id, const rollout::Decision& decision, double score);

  // A copy of a request with these features went to the reference, or from it to another model, and the answers agree
  // so far, 0 to 1: the reference's is what is right.
  void agreed(std::string_view request_id, const rollout::Decision& decision, size_t shadow, double agreement);

  size_t reference() const { return reference_; }
  // The model that a copy of a request goes to: the reference, or, where that has answered, one of the others.
  size_t shadow_of(size_t answered_by, std::string_view request_id) const;

  rollout::Bandit& bandit() { return *bandit_; }
  // Under which gateways share what they have learned; changes with all that it depends on.
  const std::string& state_key() const { return state_key_; }
  void flush() { log_.flush(); }
  // Its log anew, for after a rotation. Errors: those of create; nothing is changed before use_log().
  base::Result<LineFile> open_log() const;
  void use_log(LineFile file) { log_.use(std::move(file)); }

  // How likely each model is to answer at all.
  std::vector<double> available() const;

  struct Counts {
    int64_t decisions = 0;
    int64_t explored = 0;
    int64_t ratings = 0;
    int64_t comparisons = 0;
  };
  Counts counts() const;

 private:
  AdaptiveChoice(const RoutePlan& plan, const base::Clock& clock);
  void log_worthless(std::string_view request_id, const rollout::Decision& decision, double seconds);
  void learn(std::string_view request_id, const rollout::Features& features, size_t model, double quality, bool log);

  const base::Clock& clock_;
  const std::string name_;
  const std::string log_path_;
  size_t reference_ = 0;
  std::string state_key_;
  std::unique_ptr<rollout::Bandit> bandit_;
  std::shared_ptr<rollout::PendingDecisions> pending_ = std::make_shared<rollout::PendingDecisions>();
  LineLog log_{"the decision log"};
  mutable std::mutex mutex_;
  std::vector<rollout::Availability> available_;  // by model
  std::atomic<int64_t> decisions_{0};
  std::atomic<int64_t> explored_{0};
  std::atomic<int64_t> ratings_{0};
  std::atomic<int64_t> comparisons_{0};
};

}  // namespace tidemill::gateway
