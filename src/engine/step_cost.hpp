// How long decoding steps take by the number of their rows, learned from the engine's own steps.
#pragma once

#include <array>
#include <cstdint>

#include "base/clock.hpp"

namespace tidemill::engine {

// Where decoding waits for memory, a few more rows cost almost nothing, and where it computes, each costs its share.
// Which it is depends on the machine, the model, the kernels and the context: so it is measured. Each number of rows
// has the median of its last few times, apart for contexts of different magnitude; numbers not seen yet are estimated
// from their neighbours.
class StepCost {
 public:
  static constexpr int64_t kMostRows = 32;

  // A step of `rows` rows, each of about `context` tokens, took `time`. No time at all (a clock that stands still) says
  // nothing.
  void add(int64_t rows, int64_t context, base::Duration time);
  // A step with prefill of `rows` rows in all took `time`: what a row costs where rows are many, which is about the
  // most that one more costs where they are few.
  void add_prefill(int64_t rows, base::Duration time);

  // How many times as long as a step of `plain` rows one of `rows` takes: at least 1, and 1 for equal numbers.
  // 1 <= plain <= rows <= kMostRows.
  double relative(int64_t rows, int64_t plain, int64_t context) const;

  // The same of a step that took `time`; 1 if nothing is known.
  double relative(base::Duration time, int64_t plain, int64_t context) const;

  // The most rows that should be tried: twice as many as have been, so that no estimate reaches far. No more than
  // `plain` until steps of that many have been timed.
  int64_t worth_trying(int64_t plain, int64_t context) const;

 private:
  static constexpr int64_t kTimes = 8;
  static constexpr int64_t kMagnitudes = 9;  // below 1 Ki tokens, 2 Ki, ... below 128 Ki, and above

  class RecentTimes {
   public:
    void add(float seconds);
    bool known() const { return count_ > 0; }
    int64_t count() const { return count_; }
    double median() const { return median_; }

   private:
    std::array<float, kTimes> seconds_{};
    int64_t count_ = 0;
    double median_ = 0;
  };
  using ByRows = std::array<RecentTimes, kMostRows + 1>;

  static size_t magnitude(int64_t context);
  double estimate(const ByRows& times, int64_t rows) const;
  double assumed_slope(double step) const;

  std::array<ByRows, kMagnitudes> times_;
  std::array<float, kTimes> prefill_rows_{};  // seconds for each row of the last steps with prefill; 0: none yet
  int64_t prefills_ = 0;
};

}  // namespace tidemill::engine
