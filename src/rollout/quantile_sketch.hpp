// Quantiles of positive values in bounded memory, within 1 % of the value; sketches add up.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/json.hpp"
#include "base/result.hpp"

namespace tidemill::rollout {

// A histogram of logarithms (Masson, Rim and Lee, "DDSketch", VLDB 2019): a value's bucket is wide in proportion to the
// value. Values below 1e-6 count as 1e-6, those above 1e6 as 1e6; what is not a number is left out. At most 11 KiB, and
// only for the range seen. Not thread-safe.
class QuantileSketch {
 public:
  void add(double value);
  void merge(const QuantileSketch& other);

  int64_t count() const { return count_; }
  double sum() const { return sum_; }
  // For 0 <= q <= 1, within 1 % of the value of rank q * (count - 1), rounded down (the least and the most, exactly); 0
  // if there is none.
  double quantile(double q) const;

  base::json::value to_json() const;
  // Errors: invalid_argument.
  static base::Result<QuantileSketch> from_json(const base::json::value& value);

 private:
  void widen(int bucket);

  int64_t count_ = 0;
  double sum_ = 0;
  double least_ = 0;  // of the values; likewise the most
  double most_ = 0;
  int first_ = 0;                // the bucket of counts_[0]
  std::vector<int64_t> counts_;  // the range of buckets that were hit
};

}  // namespace tidemill::rollout
