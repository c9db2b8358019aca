// Rounding of rows to a type, with what is known of their inputs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/thread_team.hpp"
#include "quantize/error_compensation.hpp"
#include "tensor/dtype.hpp"

namespace tidemill::quantize {

// Mean squares of inputs that are divided by `factors`, as their columns are multiplied; none: they stay as they are.
std::vector<float> divided_squares(std::span<const float> mean_squares, std::span<const float> factors);

// How much the squared errors of columns count whose inputs' mean squares these are: the same, with a share of their
// mean added, so that a channel that the text did not use still counts.
std::vector<float> damped(std::span<const float> mean_squares);

// Rounds one row. `importance` is damped(), or empty where nothing is known. Plain types are rounded to nearest, and so
// is Q8_0 where nothing is known; scales of all others are searched for.
void round_row(tensor::DType type, std::span<const float> row, std::span<const float> importance, std::byte* out);

// Rounds one row to Q8_0 with the same scale in all of its blocks: the one by which the largest number is 127.
void round_channel(std::span<const float> row, std::byte* out);

// The same of `rows` rows of `cols` floats.
void round_channels(std::span<const float> values, int64_t rows, int64_t cols, std::span<std::byte> out,
                    base::ThreadTeam& team);

// Rounds `rows` rows of `cols` floats, which are changed where there is a compensation. It and `importance` may be null
// or empty.
void round_rows(tensor::DType type, std::span<float> values, int64_t rows, int64_t cols,
                std::span<const float> importance, const Compensation* compensation, std::span<std::byte> out,
                base::ThreadTeam& team);

}  // namespace tidemill::quantize
