// The course of a training: which windows come when, and how fast the weights move.
#pragma once

#include <cstdint>
#include <vector>

namespace tidemill::distill {

// All windows in an order of chance, then all again in another. Depends on the seed alone.
class WindowOrder {
 public:
  // count >= 1
  WindowOrder(int64_t count, uint64_t seed) : count_(count), seed_(seed) {}

  // The window at `place` of the course, from 0 on.
  int64_t at(int64_t place);

 private:
  int64_t count_;
  uint64_t seed_;
  int64_t round_ = -1;  // that `order_` is of
  std::vector<int64_t> order_;
};

// The share of the full rate with which step `step` (from 0) of `steps` is made: rises over the first 2 %, holds to 30
// %, and falls in a straight line towards zero, which small models end better with than with a curve.
double rate_at(int64_t step, int64_t steps);

}  // namespace tidemill::distill
