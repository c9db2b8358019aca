#include "quantize/round_rows.hpp"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <numeric>

#include "tensor/block_encoders.hpp"

namespace tidemill::quantize {

using tensor::DType;

std::vector<float> divided_squares(std::span<const float> mean_squares, std::span<const float> factors) {
  std::vector<float> squares(mean_squares.begin(), mean_squares.end());
  for (size_t c = 0; c < factors.size(); ++c)
    squares[c] /= factors[c] * factors[c];
  return squares;
}

std::vector<float> damped(std::span<const float> mean_squares) {
  const double mean = std::accumulate(mean_squares.begin(), mean_squares.end(), 0.0) /
                      static_cast<double>(mean_squares.empty() ? 1 : mean_squares.size());
  std::vector<float> importance(mean_squares.begin(), mean_squares.end());
  for (float& value : importance)
    value += mean > 0 ? static_cast<float>(0.01 * mean) : 1;
  return importance;
}

void round_row(DType type, std::span<const float> row, std::span<const float> importance, std::byte* out) {
  const auto cols = static_cast<int64_t>(row.size());
  const tensor::DTypeInfo& info = tensor::info(type);
  if (info.block_elements == 1 || (importance.empty() && type == DType::q8_0)) {
    tensor::quantize(type, row.data(), cols, out);
    return;
  }
  for (int64_t at = 0; at < cols; at += info.block_elements) {
    std::byte* block = out + at / info.block_elements * info.block_bytes;
    if (importance.empty()) {
      tensor::encode_block(type, row.data() + at, block);
    } else {
      tensor::encode_block(type, row.data() + at, importance.data() + at, block);
    }
  }
}

void round_channel(std::span<const float> row, std::byte* out) {
  float largest = 0;
  for (const float value : row)
    largest = std::max(largest, std::fabs(value));
  const float scale = largest / 127;
  const float inverse = tensor::inverse(scale);
  const tensor::DTypeInfo& info = tensor::info(DType::q8_0);
  for (size_t at = 0; at < row.size(); at += static_cast<size_t>(info.block_elements), out += info.block_bytes) {
    tensor::store_u16(out, tensor::f16_of_scale(scale));
    for (size_t i = 0; i < static_cast<size_t>(info.block_elements); ++i)
      out[2 + i] = static_cast<std::byte>(tensor::to_code(row[at + i] * inverse, -127, 127));
  }
}

void round_channels(std::span<const float> values, int64_t rows, int64_t cols, std::span<std::byte> out,
                    base::ThreadTeam& team) {
  const int64_t row_bytes = tensor::row_bytes(DType::q8_0, cols);
  assert(static_cast<int64_t>(out.size()) == rows * row_bytes);
  team.parallel_for(rows, 16, [&](int64_t begin, int64_t end, int /*member*/) {
    for (int64_t r = begin; r < end; ++r)
      round_channel(values.subspan(static_cast<size_t>(r * cols), static_cast<size_t>(cols)),
                    out.data() + r * row_bytes);
  });
}

void round_rows(DType type, std::span<float> values, int64_t rows, int64_t cols, std::span<const float> importance,
                const Compensation* compensation, std::span<std::byte> out, base::ThreadTeam& team) {
  const int64_t row_bytes = tensor::row_bytes(type, cols);
  assert(static_cast<int64_t>(out.size()) == rows * row_bytes);
  // So many rows at a time share what they read of the compensation.
  team.parallel_for(rows, 16, [&](int64_t begin, int64_t end, int /*member*/) {
    if (compensation != nullptr && tensor::info(type).block_elements > 1) {
      compensation->round(type, values.data() + begin * cols, end - begin, out.data() + begin * row_bytes);
      return;
    }
    for (int64_t r = begin; r < end; ++r)
      round_row(type, values.subspan(static_cast<size_t>(r * cols), static_cast<size_t>(cols)), importance,
                out.data() + r * row_bytes);
  });
}

}  // namespace tidemill::quantize
