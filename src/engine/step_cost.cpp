#include "engine/step_cost.hpp"

#include <algorithm>
#include <bit>
#include <cassert>

namespace tidemill::engine {
namespace {

// Of the step's time, for each further row, where prefill has not told more.
constexpr double kAssumedShare = 0.1;
constexpr int64_t kTimesToKnow = 2;

}  // namespace

void StepCost::RecentTimes::add(float seconds) {
  seconds_[static_cast<size_t>(count_++ % kTimes)] = seconds;
  std::array<float, kTimes> sorted = seconds_;
  const int64_t known = std::min(count_, kTimes);
  std::nth_element(sorted.begin(), sorted.begin() + (known - 1) / 2, sorted.begin() + known);
  median_ = static_cast<double>(sorted[static_cast<size_t>((known - 1) / 2)]);
}

size_t StepCost::magnitude(int64_t context) {
  const auto thousands = static_cast<uint64_t>(std::max<int64_t>(context, 0)) / 1024;
  return std::min<size_t>(static_cast<size_t>(std::bit_width(thousands)), kMagnitudes - 1);
}

void StepCost::add(int64_t rows, int64_t context, base::Duration time) {
  if (rows < 1 || rows > kMostRows || time.count() <= 0) return;
  times_[magnitude(context)][static_cast<size_t>(rows)].add(static_cast<float>(base::seconds(time)));
}

void StepCost::add_prefill(int64_t rows, base::Duration time) {
  if (rows < 1 || time.count() <= 0) return;
  prefill_rows_[static_cast<size_t>(prefills_++ % kTimes)] =
      static_cast<float>(base::seconds(time)) / static_cast<float>(rows);
}

// For each further row, in seconds if `step` is: what a step takes of few rows. The least of the last prefills counts:
// in a short one each row carries more of what a step takes anyway.
double StepCost::assumed_slope(double step) const {
  const double share = kAssumedShare * step;
  if (prefills_ == 0) return share;
  const int64_t known = std::min(prefills_, kTimes);
  return std::max(share, static_cast<double>(*std::min_element(prefill_rows_.begin(), prefill_rows_.begin() + known)));
}

// Between two known numbers of rows on the line through both; beyond them from the last one by the slope of all that is
// known or the assumed one, whichever is steeper: where memory ceases to be the bound, it gets steeper. In seconds; in
// units of nothing in particular if no number is known.
double StepCost::estimate(const ByRows& times, int64_t rows) const {
  const auto at = [&](int64_t r) -> const RecentTimes& { return times[static_cast<size_t>(r)]; };
  if (at(rows).known()) return at(rows).median();
  int64_t below = rows;
  while (below > 0 && !at(below).known())
    --below;
  int64_t above = rows;
  while (above <= kMostRows && !at(above).known())
    ++above;
  if (below == 0 && above > kMostRows) return 1 + kAssumedShare * static_cast<double>(rows - 1);
  if (below == 0) return at(above).median() / (1 + kAssumedShare * static_cast<double>(above - rows));
  const double from = at(below).median();
  if (above <= kMostRows) {
    return from + (at(above).median() - from) * static_cast<double>(rows - below) / static_cast<double>(above - below);
  }
  int64_t first = 1;
  while (!at(first).known())
    ++first;
  const double measured = first == below ? 0 : (from - at(first).median()) / static_cast<double>(below - first);
  const double slope = std::max(measured, assumed_slope(from));
  return from + slope * static_cast<double>(rows - below);
}

double StepCost::relative(int64_t rows, int64_t plain, int64_t context) const {
  assert(1 <= plain && plain <= rows && rows <= kMostRows);
  const ByRows& times = times_[magnitude(context)];
  return std::max(1.0, estimate(times, rows) / estimate(times, plain));
}

double StepCost::relative(base::Duration time, int64_t plain, int64_t context) const {
  assert(1 <= plain && plain <= kMostRows);
  const ByRows& times = times_[magnitude(context)];
  if (time.count() <= 0 || std::ranges::none_of(times, &RecentTimes::known)) return 1;
  return std::max(1.0, base::seconds(time) / estimate(times, plain));
}

int64_t StepCost::worth_trying(int64_t plain, int64_t context) const {
  const ByRows& times = times_[magnitude(context)];
  if (times[static_cast<size_t>(plain)].count() < kTimesToKnow) return plain;
  int64_t most = kMostRows;
  while (most > plain && !times[static_cast<size_t>(most)].known())
    --most;
  return std::min(2 * most, kMostRows);
}

}  // namespace tidemill::engine
