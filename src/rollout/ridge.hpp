// Linear regression that is regularised, forgets, and adds up.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <vector>

#include "base/json.hpp"
#include "base/result.hpp"
#include "rollout/traits.hpp"

namespace tidemill::rollout {

// Sufficient statistics of a regression of one or several targets on the same features: sums, so that those of separate
// data add up. An observation's weight is multiplied by `keep` with each further observation.
class RidgeSums {
 public:
  static constexpr size_t kPairs = kFeatures * (kFeatures + 1) / 2;

  explicit RidgeSums(size_t targets = 1);

  void add(const Features& x, std::span<const double> targets, double keep = 1);
  void merge(const RidgeSums& other);  // of as many targets

  size_t targets() const { return moments_.size(); }
  double weight() const { return weight_; }  // of all observations

  base::json::value to_json() const;
  // Errors: invalid_argument.
  static base::Result<RidgeSums> from_json(const base::json::value& value, size_t targets);

 private:
  friend class Ridge;
  double weight_ = 0;
  std::array<double, kPairs> gram_{};  // sum of x x', the lower triangle by rows
  std::vector<Features> moments_;      // sum of x y, by target
  std::vector<double> squares_;        // sum of y^2, by target
};

// What the sums say: theta = (gram + ridge I)^-1 moment.
class Ridge {
 public:
  // `ridge` > 0. `noise`: the standard deviation of a target about its line as it is taken to be before anything is
  // known, for as much as 10 observations count.
  Ridge(const RidgeSums& sums, double ridge, double noise);

  double mean(const Features& x, size_t target = 0) const;
  // x' (gram + ridge I)^-1 x: the posterior variance of the mean at x, in units of noise^2.
  double leverage(const Features& x) const;
  double noise(size_t target = 0) const { return noise_[target]; }
  // The standard deviation of the mean at x.
  double deviation(const Features& x, size_t target = 0) const;

 private:
  std::array<double, kFeatures * kFeatures> lower_{};  // Cholesky's factor, by rows
  std::vector<Features> theta_;
  std::vector<double> noise_;
};

}  // namespace tidemill::rollout
