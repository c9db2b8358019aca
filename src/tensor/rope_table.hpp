// Sines and cosines of rotary position embedding for the rows of one step.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "tensor/device.hpp"

namespace tidemill::tensor {

// Angles are computed in double and rounded once.
class RopeTable {
 public:
  // Whether row(r) is valid for positions[r] of this rotation.
  bool holds(const Rope& rope, std::span<const int32_t> positions) const;
  // Makes it so.
  void make(const Rope& rope, std::span<const int32_t> positions);

  // cos, sin, cos, sin, ... for each pair: [2 * frequencies]
  const float* row(int64_t r) const { return values_.data() + r * stride_; }

 private:
  Rope rope_;
  std::vector<int32_t> positions_;
  std::vector<float> values_;
  int64_t stride_ = 0;
};

// All layers of a step ask for the same positions, and a model turns in two ways at most, so the last two answers are
// kept: memory stays bounded by one step's rows, whatever the context length.
class RopeTables {
 public:
  // Valid until the next but one that is asked for.
  const RopeTable& prepare(const Rope& rope, std::span<const int32_t> positions);

 private:
  std::array<RopeTable, 2> tables_;
  size_t last_ = 0;  // that was asked for
};

// Turns every head of one row in place. No fused operations: the plain code gives the same bits however it is compiled.
void rotate_row(Rope::Pairing pairing, const float* cos_sin, int64_t pairs, int64_t head_dim, int64_t heads, float* x);

}  // namespace tidemill::tensor
