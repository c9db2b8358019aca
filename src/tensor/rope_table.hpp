// Sines and cosines of rotary position embedding for the rows of one step.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tensor/device.hpp"

namespace tidemill::tensor {

// Angles are computed in double and rounded once. All layers of a step ask for the same positions, so the last answer
// is kept: memory stays bounded by one step's rows, whatever the context length.
class RopeTable {
 public:
  // Makes row(r) valid for positions[r].
  void prepare(const Rope& rope, std::span<const int32_t> positions);

  // cos, sin, cos, sin, ... for each pair: [2 * frequencies]
  const float* row(int64_t r) const { return values_.data() + r * stride_; }

 private:
  std::vector<double> frequencies_;
  std::vector<int32_t> positions_;
  std::vector<float> values_;
  int64_t stride_ = 0;
};

// Turns every head of one row in place. No fused operations: the plain code gives the same bits however it is compiled.
void rotate_row(Rope::Pairing pairing, const float* cos_sin, int64_t pairs, int64_t head_dim, int64_t heads, float* x);

}  // namespace tidemill::tensor
