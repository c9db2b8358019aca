#include "quantize/expected_error.hpp"

#include <algorithm>
#include <cmath>

#include "quantize/round_rows.hpp"
#include "tensor/packed_layout.hpp"

namespace tidemill::quantize {

using base::Result;
using model::GgufTensor;
using tensor::DType;

namespace {

constexpr int64_t kSampledRows = 128;

// Of each channel's activations, squared, where they have 8 bits.
std::vector<double> activation_noise(DType type, const InputStatistics& input, std::span<const float> factors) {
  const size_t cols = input.peak.size();
  std::vector<double> noise(cols, 0);
  const tensor::PanelLayout layout = tensor::panel_layout(type);
  if (!layout.quantized || layout.wide) return noise;
  const auto group = static_cast<size_t>(layout.activation_group);
  for (size_t from = 0; from < cols; from += group) {
    const size_t to = std::min(cols, from + group);
    double peak = 0;
    for (size_t c = from; c < to; ++c)
      peak = std::max<double>(peak, input.peak[c] / (factors.empty() ? 1 : factors[c]));
    const double step = peak / 127;
    std::fill(noise.begin() + static_cast<int64_t>(from), noise.begin() + static_cast<int64_t>(to), step * step / 12);
  }
  return noise;
}

}  // namespace

Result<SampledRows> sample_rows(model::TensorRows& reader, const GgufTensor& tensor, std::span<float> peaks) {
  SampledRows found;
  found.rows = tensor.rows();
  found.cols = static_cast<size_t>(tensor.cols());
  const int64_t every = std::max<int64_t>(1, tensor.rows() / kSampledRows);
  TM_CHECK(reader.read(tensor, [&](const model::RowSlice& slice) -> Result<void> {
    for (int64_t r = 0; r < slice.rows; ++r) {
      const auto row = slice.values.subspan(static_cast<size_t>(r) * found.cols, found.cols);
      for (size_t c = 0; c < found.cols; ++c)
        peaks[c] = std::max(peaks[c], std::fabs(row[c]));
      if ((slice.first + r) % every != 0) continue;
      found.weights.insert(found.weights.end(), row.begin(), row.end());
      ++found.sampled;
    }
    return {};
  }));
  return found;
}

double expected_error(const SampledRows& sample, DType type, const InputStatistics& input,
                      std::span<const float> factors) {
  const size_t cols = sample.cols;
  const std::vector<float> squares = divided_squares(input.mean_square, factors);
  const std::vector<float> importance = damped(squares);
  const std::vector<double> noise = activation_noise(type, input, factors);
  std::vector<float> row(cols);
  std::vector<float> rounded(cols);
  std::vector<std::byte> encoded(static_cast<size_t>(tensor::row_bytes(type, static_cast<int64_t>(cols))));
  double error = 0;
  for (size_t r = 0; r < sample.sampled; ++r) {
    for (size_t c = 0; c < cols; ++c)
      row[c] = sample.weights[r * cols + c] * (factors.empty() ? 1 : factors[c]);
    round_row(type, row, importance, encoded.data());
    tensor::dequantize(type, encoded.data(), static_cast<int64_t>(cols), rounded.data());
    for (size_t c = 0; c < cols; ++c) {
      const double off = static_cast<double>(rounded[c]) - row[c];
      error += off * off * squares[c] + static_cast<double>(row[c]) * row[c] * noise[c];
    }
  }
  return error / static_cast<double>(std::max<size_t>(1, sample.sampled));
}

double output_power(const SampledRows& sample, const InputStatistics& input) {
  double power = 0;
  for (size_t r = 0; r < sample.sampled; ++r) {
    for (size_t c = 0; c < sample.cols; ++c) {
      const double weight = sample.weights[r * sample.cols + c];
      power += weight * weight * input.mean_square[c];
    }
  }
  return power / static_cast<double>(std::max<size_t>(1, sample.sampled));
}

}  // namespace tidemill::quantize
