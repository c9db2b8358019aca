// Numbers too small for a type. F16, which also has the scales of most block types, ends at 2^-24: scales near there
// have few bits left, and those below are 0, so that a whole matrix of small numbers would become noise or zeros.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/thread_team.hpp"
#include "tensor/dtype.hpp"

namespace tidemill::model {

// Of one tensor, a slice after the other. Rows whose scales have six bits left, and with them most tensors, are looked
// at for their size alone; of the others is known what rounding has made of them. Not thread-safe.
class SmallNumbers {
 public:
  // Rows of `cols` elements that are rounded to `type`; `one_scale`: with the same scale for all of a row's blocks.
  SmallNumbers(tensor::DType type, int64_t cols, bool one_scale = false);

  // Whether numbers can be too small for the type at all: F32, BF16 and MXFP4 have exponents of eight bits.
  bool can_be() const { return most_loss_ > 0; }

  // Whole rows, and what was made of them. With all threads of `team`, if there is one.
  void add(std::span<const float> values, std::span<const std::byte> rounded, base::ThreadTeam* team);

  // Of all rows so far: the root of the sum of squared errors in those of small scales over that of all squares, where
  // it is more than half of what a type's worst block loses with a scale of all bits (0.011 for Q8_0, and F16 is held
  // to the same). None: the type holds them, or they are all 0. So single rows that are small beside the others, of
  // neurons that have died, are no reason.
  std::optional<double> loss() const;
  // "holds numbers up to 1e-07 in size, which are too small for the scales of Q8_0: they would be 43 % off"; where
  // there is a loss().
  std::string fault() const;

 private:
  struct Row {
    double squares = 0;
    double errors = 0;
    float peak = 0;
  };
  Row look_at(const float* values, const std::byte* rounded, std::vector<float>& decoded) const;

  tensor::DType type_;
  int64_t cols_;
  float least_peak_ = 0;  // of a row that has scales of six bits
  double most_loss_ = 0;
  std::vector<Row> rows_;  // of one slice
  Row sum_;
};

}  // namespace tidemill::model
