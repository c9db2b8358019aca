// What another policy would have earned, from the log of one that drew at random.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "rollout/decision_log.hpp"

namespace tidemill::rollout {

// Writes the probability with which a policy chooses each model for a request; they add up to 1.
using Policy = std::function<void(const Features& features, std::span<double> probabilities)>;

Policy always(size_t model);
// What `bandit`, as it is now, would do: with its exploration, and learning nothing.
Policy policy_of(const Bandit& bandit);

// A mean reward, and an interval that holds the true one in about 95 of 100 cases.
struct Estimate {
  double value = 0;
  double low = 0;
  double high = 0;
};

struct OfflineEstimates {
  // Inverse propensity scoring: the mean of w * reward, w being the policy's probability of what was chosen over the
  // logged one. Without bias, whatever the rewards are (Horvitz and Thompson, 1952).
  Estimate ips;
  // The same over the mean of w: a little bias, less spread (Swaminathan and Joachims, NeurIPS 2015). The interval is
  // the delta method's.
  Estimate snips;
  // The prediction of a linear model of reward, for all that the policy might choose, with the residuals of what was
  // chosen by IPS: without bias, and with less spread the better the model predicts (Dudik, Langford and Li, ICML
  // 2011). Each half of the log is predicted by a model of the other half.
  Estimate doubly_robust;
  int64_t choices = 0;
  // (sum w)^2 / sum w^2: as many choices of the policy's own would say as much. With fewer than about 50 the intervals,
  // which are normal approximations, hold less than they promise.
  double effective_choices = 0;
  double largest_weight = 0;
};

// `models`: how many there are; every choice's is below. All zeros for an empty log. The intervals take the log's
// propensities to be true and its requests to be independent draws; a bandit that learned meanwhile is no trouble.
OfflineEstimates evaluate_offline(std::span<const LoggedChoice> log, size_t models, const Policy& policy);

}  // namespace tidemill::rollout
