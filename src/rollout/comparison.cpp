#include "rollout/comparison.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace tidemill::rollout {
namespace {

constexpr double kKeep = 1 - 1.0 / 4096;  // of a slope's memory, by each observation
constexpr double kEnoughForSlope = 64;    // observations
constexpr double kLeast = 1e-6;           // what is measured as less is taken to be this
// Small enough that a burst lasts longer than a block, large enough that the canary's part has somebody to be compared
// with.
constexpr size_t kSmallBlock = 16;
constexpr double kSmallBlockShare = 0.375;  // of the canary, or of stable, from which on small blocks will do

size_t quantity_of(Check check) {
  switch (check) {
    case Check::ttft:
      return 0;
    case Check::itl:
      return 1;
    default:
      return 2;
  }
}

}  // namespace

void Slope::add(double x, double y) {
  weight_ = weight_ * kKeep + 1;
  const double dx = x - mean_x_;
  mean_x_ += dx / weight_;
  mean_y_ += (y - mean_y_) / weight_;
  xx_ = xx_ * kKeep + dx * (x - mean_x_);
  xy_ = xy_ * kKeep + dx * (y - mean_y_);
}

double Slope::value() const {
  if (weight_ < kEnoughForSlope || !(xx_ > 1e-9 * weight_)) return 0;
  return xy_ / xx_;
}

void Comparison::start_step(double share, bool gross) {
  gross_ = gross;
  block_size_ = std::min(share, 1 - share) >= kSmallBlockShare ? kSmallBlock : kMostInBlock;
  block_.clear();
  block_.reserve(kMostInBlock);
  clearance_.fill({});
}

bool Comparison::add(bool canary, const Observation& observation, bool settled) {
  Row row = {.canary = canary, .failed = observation.failed, .settled = settled, .values = {}};
  const std::array measured = {observation.ttft, observation.itl, observation.output_tokens};
  const double x =
      observation.prompt_tokens > 0 ? std::log1p(observation.prompt_tokens) : std::numeric_limits<double>::quiet_NaN();
  for (size_t q = 0; q < kQuantities; ++q) {
    if (observation.failed || !(measured[q] > 0) || !std::isfinite(measured[q])) {
      row.values[q] = std::numeric_limits<double>::quiet_NaN();
      continue;
    }
    const double y = std::log(std::max(measured[q], kLeast));
    row.values[q] = y;
    if (std::isfinite(x)) {
      // The slope so far: it must not know the value that it is taken from.
      row.values[q] -= slopes_[q].value() * x;
      slopes_[q].add(x, y);
    }
  }
  block_.push_back(row);
  if (block_.size() < block_size_) return false;
  close_block();
  block_.clear();
  return true;
}

void Comparison::close_block() {
  compare_failures();
  for (const Check check : {Check::ttft, Check::itl, Check::longer, Check::shorter})
    compare(check);
}

void Comparison::compare_failures() {
  Failures canary;
  Failures stable;
  for (const Row& row : block_) {
    Failures& side = row.canary ? canary : stable;
    ++side.requests;
    side.failed += row.failed ? 1 : 0;
  }
  if (canary.requests == 0 || stable.requests == 0) return;
  constexpr auto check = static_cast<size_t>(Check::failures);
  const Limits& limits = limits_.failures;
  harm_[check].add(failure_evidence(canary, stable, limits.tolerated, Direction::larger));
  if (clears())
    clearance_[check].add(
        failure_evidence(canary, stable, gross_ ? limits.gross : limits.regression, Direction::smaller));
}

void Comparison::compare(Check check) {
  const size_t q = quantity_of(check);
  bool canary = false;
  bool stable = false;
  for (const Row& row : block_) {
    if (!std::isnan(row.values[q])) (row.canary ? canary : stable) = true;
  }
  if (!canary || !stable) return;
  const bool length = check == Check::longer || check == Check::shorter;
  const Limits& limits = limits_.of(check);
  const auto index = static_cast<size_t>(check);
  if (!length || settled()) harm_[index].add(ranks(check, limits.tolerated, true));
  if (clears()) clearance_[index].add(ranks(check, gross_ ? limits.gross : limits.regression, false));
}

TiltLogs Comparison::ranks(Check check, double ratio, bool harm) const {
  const size_t q = quantity_of(check);
  const bool up = check != Check::shorter;  // whether larger is worse
  const double shift = up ? std::log(ratio) : -std::log(ratio);
  std::array<double, kMostInBlock> values;
  std::array<bool, kMostInBlock> canary;
  size_t n = 0;
  for (const Row& row : block_) {
    if (std::isnan(row.values[q])) continue;
    values[n] = row.values[q] - (row.canary ? shift : 0);
    canary[n++] = row.canary;
  }
  return rank_evidence({values.data(), n}, {canary.data(), n}, up == harm ? Direction::larger : Direction::smaller);
}

}  // namespace tidemill::rollout
