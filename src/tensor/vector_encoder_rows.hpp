// The row operations of encoder_rows.hpp over a vector type S of 16 lanes, in two halves or four quarters of double
// precision; see vector_linear.hpp for why all of it has internal linkage.
#pragma once

#include "tensor/encoder_rows.hpp"
#include "tensor/kernels.hpp"
#include "tensor/vector_rows.hpp"

namespace tidemill::tensor {
namespace {

// The sum of lanes that lack the last n % 16 elements, and of those, which term(i) gives.
template <class S, class Term>
[[gnu::always_inline]] inline double sum_with_rest(typename S::D sums, int64_t n, Term term) {
  double lanes[kLanes];
  S::store(lanes, sums);
  for (int64_t i = n / kLanes * kLanes; i < n; ++i)
    lanes[i % kLanes] += term(i);
  for (int64_t width = kLanes / 2; width > 0; width /= 2) {
    for (int64_t i = 0; i < width; ++i)
      lanes[i] = lanes[i] + lanes[i + width];
  }
  return lanes[0];
}

template <class S>
void layer_norm(const float* x, const float* weight, const float* bias, float epsilon, int64_t n, float* y) {
  using D = typename S::D;
  const int64_t whole = n / kLanes * kLanes;
  D sums = S::set1_d(0);
  for (int64_t i = 0; i < whole; i += kLanes)
    sums = S::add(sums, S::widen(S::load(x + i)));
  const auto count = static_cast<double>(n);
  const double mean = sum_with_rest<S>(sums, n, [x](int64_t i) { return static_cast<double>(x[i]); }) / count;
  D squares = S::set1_d(0);
  for (int64_t i = 0; i < whole; i += kLanes) {
    const D off = S::sub(S::widen(S::load(x + i)), S::set1_d(mean));
    squares = S::add(squares, S::mul(off, off));
  }
  const double sum_of_squares = sum_with_rest<S>(squares, n, [x, mean](int64_t i) {
    const double off = static_cast<double>(x[i]) - mean;
    return off * off;
  });
  const double inverse = 1 / __builtin_sqrt(sum_of_squares / count + static_cast<double>(epsilon));
  for_vectors(n, [&](int64_t i, int64_t m) {
    const D off = S::sub(S::widen(load_up_to<S>(x + i, m)), S::set1_d(mean));
    const typename S::F normed = S::narrow(S::mul(off, S::set1_d(inverse)));
    const typename S::F scaled = S::mul(normed, load_up_to<S>(weight + i, m));
    store_up_to<S>(y + i, m, S::add(scaled, load_up_to<S>(bias + i, m)));
  });
}

template <class S>
void gelu(float* x, int64_t n) {
  using D = typename S::D;
  for_vectors(n, [&](int64_t i, int64_t m) {
    const D v = S::widen(load_up_to<S>(x + i, m));
    const D size = S::mul(S::magnitude(v), S::set1_d(kHalfRoot));
    D p = S::set1_d(kErrorFunction[0]);
#pragma GCC unroll 8
    for (int k = 1; k < 7; ++k)
      p = S::add(S::mul(p, size), S::set1_d(kErrorFunction[k]));
#pragma GCC unroll 4
    for (int squarings = 0; squarings < 4; ++squarings)
      p = S::mul(p, p);
    const D half = S::mul(S::sub(S::set1_d(1), S::div(S::set1_d(1), p)), S::set1_d(0.5));
    const D share = S::add(S::set1_d(0.5), S::with_sign_of(half, v));
    store_up_to<S>(x + i, m, S::narrow(S::mul(v, share)));
  });
}

}  // namespace
}  // namespace tidemill::tensor
