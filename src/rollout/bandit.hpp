// Which of several models answers a request: learned from what answers were worth, took and cost.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/json.hpp"
#include "base/result.hpp"
#include "rollout/ridge.hpp"
#include "rollout/traits.hpp"

namespace tidemill::rollout {

inline constexpr size_t kMostModels = 8;

enum class Method : uint8_t { thompson, lin_ucb };

// What a request is worth: quality - cost_weight * cost / cost_scale - latency_weight * min(1, seconds /
// latency_scale).
struct Trade {
  double cost_weight = 0.2;
  double cost_scale = 0.01;  // money, of one request; what the dearest model asks, say
  double latency_weight = 0.05;
  double latency_scale = 30;  // seconds

  double reward(double quality, double cost, double seconds) const;
};

struct BanditOptions {
  std::string name = {};
  std::vector<std::string> models = {};  // 1 to kMostModels, unique
  std::string reference = {};            // the big one: always allowed
  Method method = Method::thompson;
  Trade trade = {};
  // A model other than the reference is allowed for a request only if it is known, at `confidence`, that
  //   its quality there is `quality_floor` at least, and
  //   it falls short of the reference's by `max_quality_loss` at most (infinity: no such limit).
  // Quality is 0 to 1.
  double quality_floor = 0;  // none
  double max_quality_loss = 1e9;
  // Over all requests that this gateway has decided, the mean of what answers fall short of the reference's is known,
  // at `confidence`, to be so much at most (1: no such limit). That is proven far sooner than a bound of each request,
  // as the errors of single estimates even out, and while nothing is known, it allows as many tries as it could bear if
  // they all failed (the conservative bandits of Wu et al., ICML 2016, and Kazerouni et al., NeurIPS 2017). Exploring
  // keeps to it too.
  double max_average_loss = 1;
  double confidence = 1.645;  // standard deviations below the estimate: 95 %, one-sided
  // The share of requests for which a model is drawn evenly from all that may be allowed, for all that is known. It
  // bounds the weights of offline estimates, and is how a model that is not allowed yet is learned about; without it,
  // `learn_quality` must hear of such models otherwise (from a mirror).
  double explore = 0.02;
  double optimism = 1;  // of Thompson's deviations, or of the upper confidence bounds
  double keep = 1;  // of an observation's weight, with every further one of its model: 0.999 forgets after a thousand
  double ridge = 1;
  double noise = 0.3;  // of one quality, as it is taken to be at first
};

struct Decision {
  Features features{};
  size_t model = 0;                                // an index into BanditOptions::models
  std::array<double, kMostModels> propensities{};  // the probability with which each was chosen; the others' are 0
  uint32_t allowed = 1;                            // bit i: model i was allowed
  bool explored = false;                           // the model is not the one that is thought best, or was not allowed
  // The model was not drawn: it answered in place of the one that was, which did not. What is heard of its answer is
  // learned, and tells nothing of the policy that made the choice.
  bool substitute = false;

  double propensity() const { return propensities[model]; }
};

// What one gateway has learned: sums, which add up over gateways. Versioned by kFeatureVersion.
struct BanditState {
  struct Model {
    std::string name = {};
    RidgeSums quality{1};   // less 0.5
    RidgeSums spending{2};  // cost / cost_scale and min(1, seconds / latency_scale)
  };
  std::vector<Model> models;

  void merge(const BanditState& other);  // models by name
  base::json::value to_json() const;
  // Errors: invalid_argument; unsupported for another version's.
  static base::Result<BanditState> from_json(const base::json::value& value);
};

// A contextual bandit with one linear model of quality and one of spending for each model: linear Thompson sampling
// (Agrawal and Goyal, ICML 2013) or LinUCB with disjoint models (Li, Chu, Langford and Schapire, WWW 2010). Since the
// models' parameters are independent, the rewards that Thompson sampling would draw are independent normal variables,
// so that its probabilities can be computed; the draw is made by them, and they are the logged propensities.
//
// Thread-safe; a decision or an observation takes a few microseconds.
class Bandit {
 public:
  // Errors: invalid_argument, which names the option at fault.
  static base::Result<std::unique_ptr<Bandit>> create(BanditOptions options);

  // `uniform`: a random number in [0, 1). `available`: for each model how likely it is to answer at all
  // (availability.hpp), 1 if there are none; no answer is one of the quality 0. It is weighed and forbids nothing.
  Decision decide(const Features& features, double uniform, std::span<const double> available = {});
  // The same of a request that nobody is to answer: nothing is counted.
  Decision would_decide(const Features& features, double uniform, std::span<const double> available = {}) const;

  // An answer of `model` to a request with these features had this quality (0 to 1; others are clamped): from a user's
  // feedback, or from how far a mirrored answer agrees with the reference's. May come at any time after the decision.
  void learn_quality(const Features& features, size_t model, double quality);
  void learn_spending(const Features& features, size_t model, double cost, double seconds);

  // What `model`'s quality is thought to be for a request: the estimate, and its standard deviation.
  struct Belief {
    double quality;
    double deviation;
    double reward;
  };
  Belief belief(const Features& features, size_t model) const;

  // How much, on average, the answers to all requests that were decided here fall short of the reference's: as it is
  // thought, and at most, at `confidence`.
  struct Loss {
    double estimate = 0;
    double at_most = 0;
  };
  Loss average_loss() const;

  // What this gateway has learned itself, to be kept under its name in the shared store.
  BanditState state() const;
  // The same with what it was told of the others'.
  BanditState known() const;
  // Continues from what this gateway had learned (state()), or adds to it what all others have, replacing what they
  // were said to have before. Models that are not options' are left out.
  void restore(const BanditState& own);
  void set_peers(const BanditState& peers);

  const BanditOptions& options() const { return options_; }

 private:
  struct Arm {
    BanditState::Model own;
    BanditState::Model peers;
    std::optional<Ridge> quality;
    std::optional<Ridge> spending;
    Features given{};  // the sum of the features of all requests that it was to answer
  };
  struct Views;  // of all models, for one request

  explicit Bandit(BanditOptions options);
  void fit_quality(Arm& arm);
  void fit_spending(Arm& arm);
  void view(const Features& features, Views& views) const;
  uint32_t within_floor(const Views& views, double sign) const;
  Loss total_loss(const Features& features, size_t model) const;
  uint32_t within_average(const Features& features) const;
  Decision decision_for(const Features& features, double uniform, std::span<const double> available) const;
  void choose(const Views& views, uint32_t allowed, std::span<double> probabilities) const;
  void draw(const Views& views, uint32_t candidates, double uniform, Decision& decision) const;

  const BanditOptions options_;
  size_t reference_ = 0;
  mutable std::mutex mutex_;
  std::vector<Arm> arms_;
  double decided_ = 0;  // requests, of the weight that their features have in the sums
};

}  // namespace tidemill::rollout
