#include "tensor/encoder_rows.hpp"

#include <cmath>
#include <cstddef>
#include <iterator>

namespace tidemill::tensor {
namespace {

constexpr int64_t kLanes = 16;

// The sum of term(i) over 0 .. n - 1, in the order that the header gives.
template <typename Term>
double sum_of(int64_t n, Term&& term) {
  double lanes[kLanes] = {};
  for (int64_t i = 0; i < n; ++i)
    lanes[i % kLanes] += term(i);
  for (int64_t width = kLanes / 2; width > 0; width /= 2) {
    for (int64_t i = 0; i < width; ++i)
      lanes[i] = lanes[i] + lanes[i + width];
  }
  return lanes[0];
}

// For x >= 0.
double error_function(double x) {
  double p = kErrorFunction[0];
  for (size_t k = 1; k < std::size(kErrorFunction); ++k)
    p = p * x + kErrorFunction[k];
  for (int squarings = 0; squarings < 4; ++squarings)
    p *= p;
  return 1 - 1 / p;
}

// For 0 <= y < 64.
double exponential(double y) {
  constexpr double per_ln2 = 1.4426950408889634;
  // Ln 2 in two parts, the first with so few bits that its products with n are exact.
  constexpr double ln2_high = 0x1.62e42fp-1;
  constexpr double ln2_low = 0x1.df473de6af279p-26;
  const double n = std::nearbyint(y * per_ln2);
  const double r = (y - n * ln2_high) - n * ln2_low;
  double sum = 1;
  for (int k = 12; k > 0; --k)
    sum = sum * r / k + 1;
  return std::ldexp(sum, static_cast<int>(n));
}

}  // namespace

void layer_norm_row(const float* x, const float* weight, const float* bias, float epsilon, int64_t n, float* y) {
  const auto count = static_cast<double>(n);
  const double mean = sum_of(n, [x](int64_t i) { return static_cast<double>(x[i]); }) / count;
  const double squares = sum_of(n, [x, mean](int64_t i) {
    const double off = static_cast<double>(x[i]) - mean;
    return off * off;
  });
  const double inverse = 1 / std::sqrt(squares / count + static_cast<double>(epsilon));
  for (int64_t i = 0; i < n; ++i)
    y[i] = static_cast<float>((static_cast<double>(x[i]) - mean) * inverse) * weight[i] + bias[i];
}

void gelu_row(float* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const auto v = static_cast<double>(x[i]);
    const double half = error_function(std::abs(v) * kHalfRoot) / 2;
    x[i] = static_cast<float>(v * (0.5 + std::copysign(half, v)));
  }
}

void tanh_row(float* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const double size = std::abs(static_cast<double>(x[i]));
    if (std::isnan(size)) continue;
    const double value = size < 20 ? 1 - 2 / (exponential(2 * size) + 1) : 1;
    x[i] = std::copysign(static_cast<float>(value), x[i]);
  }
}

}  // namespace tidemill::tensor
