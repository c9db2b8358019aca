// Compares a canary with the stable version that runs beside it, block by block.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "rollout/checks.hpp"
#include "rollout/evidence.hpp"

namespace tidemill::rollout {

// What a quantity's logarithm is expected to change by when a request's prompt is longer: a running least-squares line
// through both versions' values, in which the last few thousand count.
class Slope {
 public:
  void add(double x, double y);
  // 0 until enough is known.
  double value() const;

 private:
  double weight_ = 0;
  double mean_x_ = 0;
  double mean_y_ = 0;
  double xx_ = 0;  // weighted sums of products of the deviations
  double xy_ = 0;
};

// Two processes for every check:
//   harm       against "the canary is worse by `tolerated` at most": large capital speaks for going back;
//   clearance  against "the canary is worse by `regression` at least" (or `gross`): large capital speaks for going on.
//
// The canary's values are divided by the limit, so that at the limit the two versions' values are exchangeable, and
// blocks of consecutive observations are compared by rank (block_evidence.hpp). Not thread-safe.
class Comparison {
 public:
  explicit Comparison(const CheckLimits& limits) : limits_(limits) {}

  // Starts a step: the canary's share is `share` from now on, clearance starts anew, and the block begun is dropped.
  void start_step(double share, bool gross);
  // Whether a block was completed, and so the evidence changed. All observations since start_step must have been
  // assigned with its share, each by a coin of its own. `settled`: enough of the step is past that what ends now may
  // have begun at any time before. Until then only what was answered fast has been observed, the least of what a slower
  // or a longer-winded canary is about to answer: the canary looks better than it is, so nothing but a
  // gross regression is ruled out, and no harm is seen in lengths.
  bool add(bool canary, const Observation& observation, bool settled);

  const Evidence& harm(Check check) const { return harm_[static_cast<size_t>(check)]; }
  const Evidence& clearance(Check check) const { return clearance_[static_cast<size_t>(check)]; }

 private:
  static constexpr size_t kQuantities = 3;  // TTFT, ITL, length

  // One observation as the checks see it: logarithms, less what the prompt's length explains; NaN if not measured.
  struct Row {
    bool canary;
    bool failed;
    bool settled;
    std::array<double, kQuantities> values;
  };

  void close_block();
  void compare_failures();
  void compare(Check check);
  bool settled() const { return block_.front().settled; }
  bool clears() const { return gross_ || settled(); }
  TiltLogs ranks(Check check, double ratio, bool harm) const;

  CheckLimits limits_;
  bool gross_ = false;
  size_t block_size_ = kMostInBlock;
  std::vector<Row> block_;
  std::array<Slope, kQuantities> slopes_;
  std::array<Evidence, kChecks.size()> harm_;
  std::array<Evidence, kChecks.size()> clearance_;
};

}  // namespace tidemill::rollout
