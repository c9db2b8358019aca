// How far rounding will move a matrix's outputs, by a sample of its rows and what is known of its input.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.hpp"
#include "model/checkpoint.hpp"
#include "model/tensor_rows.hpp"
#include "quantize/calibration.hpp"
#include "tensor/dtype.hpp"

namespace tidemill::quantize {

// Some rows of a matrix, spread over all.
struct SampledRows {
  int64_t rows = 0;  // of the whole matrix
  size_t cols = 0;
  size_t sampled = 0;          // rows
  std::vector<float> weights;  // [sampled][cols]
};

// Reads a matrix once. The largest magnitudes of its columns go to `peaks`, [cols], where they exceed what is there.
base::Result<SampledRows> sample_rows(model::TensorRows& reader, const model::GgufTensor& tensor,
                                      std::span<float> peaks);

// The error to expect of one output on average, squared, once channels of the input are divided by `factors`, [cols],
// and columns multiplied by them (empty: as they are): what weights rounded to `type` add, and what activations add
// that are rounded to 8 bits in groups for it. Activations of 16 bits add nothing to speak of.
double expected_error(const SampledRows& sample, tensor::DType type, const InputStatistics& input,
                      std::span<const float> factors);

// The square of one output on average, if channels do not go together.
double output_power(const SampledRows& sample, const InputStatistics& input);

}  // namespace tidemill::quantize
