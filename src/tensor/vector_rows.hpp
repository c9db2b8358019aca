// The row-wise operations (activation quantisation, norms, gates, exp, conversions), written
// once over a vector type S of 16 lanes; see vector_linear.hpp for why all of it has internal linkage.
#pragma once

#include "tensor/exp_constants.hpp"
#include "tensor/kernels.hpp"
#include "tensor/packed_layout.hpp"
#include "tensor/vector_bit_sums.hpp"

namespace tidemill::tensor {
namespace {

constexpr int64_t kLanes = 16;

// body(i, n) for each stretch of n <= 16 elements.
template <class Body>
[[gnu::always_inline]] inline void for_vectors(int64_t count, Body body) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes)
    body(i, kLanes);
  if (i < count) body(i, count - i);
}

template <class S>
[[gnu::always_inline]] inline typename S::F load_up_to(const float* p, int64_t n) {
  return n == kLanes ? S::load(p) : S::load_first(p, n);
}
template <class S>
[[gnu::always_inline]] inline void store_up_to(float* p, int64_t n, typename S::F v) {
  if (n == kLanes) {
    S::store(p, v);
  } else {
    S::store_first(p, n, v);
  }
}

template <class S>
inline float sum_lanes(typename S::F v) {
  float lanes[kLanes];
  S::store(lanes, v);
  for (int64_t width = kLanes / 2; width > 0; width /= 2) {
    for (int64_t i = 0; i < width; ++i)
      lanes[i] = lanes[i] + lanes[i + width];
  }
  return lanes[0];
}

template <class S>
[[gnu::always_inline]] inline typename S::F exp_of(typename S::F x) {
  using F = typename S::F;
  const F clamped = S::min(S::set1(kExpHighest), x);
  const typename S::I n = S::round_to_int(S::mul(clamped, S::set1(kLog2E)));
  const F n_float = S::to_float(n);
  F r = S::fma(n_float, S::set1(-kLn2High), clamped);
  r = S::fma(n_float, S::set1(-kLn2Low), r);
  F p = S::set1(kExpPolynomial[0]);
#pragma GCC unroll 8
  for (int i = 1; i < 7; ++i)
    p = S::fma(p, r, S::set1(kExpPolynomial[i]));
  return S::zero_where_less(x, kExpLowest, S::add_exponent(p, n));
}

// tanh(x / 2)
template <class S>
[[gnu::always_inline]] inline typename S::F tanh_of_half(typename S::F x) {
  using F = typename S::F;
  const F y = S::max(S::set1(-kTanhRange), S::min(S::set1(kTanhRange), x));
  const typename S::I n = S::round_to_int(S::mul(y, S::set1(kLog2E)));
  const F n_float = S::to_float(n);
  F r = S::fma(n_float, S::set1(-kLn2High), y);
  r = S::fma(n_float, S::set1(-kLn2Low), r);
  F p = S::set1(kExpm1Polynomial[0]);
#pragma GCC unroll 8
  for (int i = 1; i < 7; ++i)
    p = S::fma(p, r, S::set1(kExpm1Polynomial[i]));
  const F power = S::add_exponent(S::set1(1.0F), n);
  const F t = S::fma(S::mul(p, r), power, S::sub(power, S::set1(1.0F)));
  return S::div(t, S::add(t, S::set1(2.0F)));
}

template <class S>
void soft_cap_row(const float* x, float cap, int64_t n, float* out) {
  const float factor = 2.0F / cap;
  for_vectors(n, [&](int64_t i, int64_t m) {
    const typename S::F half = S::mul(load_up_to<S>(x + i, m), S::set1(factor));
    store_up_to<S>(out + i, m, S::mul(tanh_of_half<S>(half), S::set1(cap)));
  });
}

template <class S>
void exp_row(const float* x, int64_t n, float* out) {
  for_vectors(n, [&](int64_t i, int64_t m) { store_up_to<S>(out + i, m, exp_of<S>(load_up_to<S>(x + i, m))); });
}

template <class S>
void silu_multiply(const float* gate, const float* up, int64_t n, float* out) {
  for_vectors(n, [&](int64_t i, int64_t m) {
    const typename S::F g = load_up_to<S>(gate + i, m);
    const typename S::F denominator = S::add(S::set1(1.0F), exp_of<S>(S::negate(g)));
    store_up_to<S>(out + i, m, S::mul(S::div(g, denominator), load_up_to<S>(up + i, m)));
  });
}

template <class S>
void gelu_multiply(const float* gate, const float* up, int64_t n, float* out) {
  for_vectors(n, [&](int64_t i, int64_t m) {
    const typename S::F g = load_up_to<S>(gate + i, m);
    const typename S::F slope = S::fma(S::mul(g, g), S::set1(kGeluCubic), S::set1(kGeluLinear));
    const typename S::F denominator = S::add(S::set1(1.0F), exp_of<S>(S::negate(S::mul(g, slope))));
    store_up_to<S>(out + i, m, S::mul(S::div(g, denominator), load_up_to<S>(up + i, m)));
  });
}

template <class S>
void clamped_silu_multiply(const float* gate, const float* up, int64_t n, float* out) {
  using F = typename S::F;
  for_vectors(n, [&](int64_t i, int64_t m) {
    const F limit = S::set1(kClampedSiluLimit);
    const F g = S::min(limit, load_up_to<S>(gate + i, m));
    const F u = S::max(S::set1(-kClampedSiluLimit), S::min(limit, load_up_to<S>(up + i, m)));
    const F denominator = S::add(S::set1(1.0F), exp_of<S>(S::negate(S::mul(g, S::set1(kClampedSiluSlope)))));
    store_up_to<S>(out + i, m, S::mul(S::div(g, denominator), S::add(u, S::set1(1.0F))));
  });
}

template <class S>
float inverse_rms(const float* x, float epsilon, int64_t n) {
  typename S::F sum = S::zero();
  for_vectors(n, [&](int64_t i, int64_t m) {
    const typename S::F v = load_up_to<S>(x + i, m);
    sum = S::fma(v, v, sum);
  });
  return 1.0F / __builtin_sqrtf(sum_lanes<S>(sum) / static_cast<float>(n) + epsilon);
}

template <class S>
void normalize(const float* x, float inverse, const float* weight, int64_t n, float* y) {
  for_vectors(n, [&](int64_t i, int64_t m) {
    const typename S::F v = S::mul(load_up_to<S>(x + i, m), S::set1(inverse));
    store_up_to<S>(y + i, m, S::mul(v, load_up_to<S>(weight + i, m)));
  });
}

template <class S>
void convert_to_f16(const float* x, int64_t n, uint16_t* out) {
  for_vectors(n, [&](int64_t i, int64_t m) {
    uint16_t half[kLanes];
    S::store_f16(half, load_up_to<S>(x + i, m));
    __builtin_memcpy(out + i, half, static_cast<size_t>(m) * sizeof(uint16_t));
  });
}

// The scale and its inverse of a group of n activations, a multiple of 32 (see QuantizedRows); the inverse is 0 where
// all codes are.
template <class S>
[[gnu::always_inline]] inline float group_scale(const float* x, int64_t n, float limit, float& inverse) {
  typename S::I bits = S::set1_i(0);
  for (int64_t i = 0; i < n; i += kLanes)
    bits = S::max_i(bits, S::magnitude_bits(S::load(x + i)));
  const int32_t largest_bits = S::largest_i(bits);
  float largest;
  __builtin_memcpy(&largest, &largest_bits, sizeof largest);
  inverse = 0;
  if (largest_bits >= 0x7f800000) return __builtin_nanf("");
  if (largest < 0x1p-100F) return 0;
  inverse = limit / largest;
  return largest / limit;
}

// Codes of one group, from x at column k on, of which `filled` exist; both n and filled are multiples of 32.
template <class S, bool wide>
[[gnu::always_inline]] inline void quantize_group(const float* x, int64_t k, int64_t n, int64_t filled, float inverse,
                                                  const PanelLayout& layout, int64_t row, const QuantizedRows& out) {
  constexpr int64_t bytes = wide ? S::kCodeBytes : 1;
  constexpr int64_t unit = kCodeBlock * bytes * (wide ? S::kWidePlanes : 1);
  for (int64_t end = k + n; k < end; k += 2 * kLanes, filled -= 2 * kLanes) {
    typename S::I a = S::set1_i(0);
    typename S::I b = a;
    if (filled > 0 && inverse != 0) {  // infinity * 0 is not 0
      a = S::round_to_int(S::mul(S::load(x + k), S::set1(inverse)));
      b = S::round_to_int(S::mul(S::load(x + k + kLanes), S::set1(inverse)));
    }
    std::byte* codes = out.codes + (k / kCodeBlock * out.rows + row) * unit + k % kCodeBlock * bytes;
    if constexpr (wide) {
      S::store_wide_codes(codes, a);
      S::store_wide_codes(codes + kLanes * bytes, b);
    } else {
      S::store_s8(reinterpret_cast<int8_t*>(codes), a);
      S::store_s8(reinterpret_cast<int8_t*>(codes) + kLanes, b);
    }
    if (layout.sum_group == kLanes) {
      out.sums[k / kLanes * out.rows + row] = S::sum_i(a) * layout.sum_factor;
      out.sums[(k / kLanes + 1) * out.rows + row] = S::sum_i(b) * layout.sum_factor;
    } else {
      const int64_t block = k / (2 * kLanes);
      out.sums[block * out.rows + row] = start_of_sum<S>(layout, block, S::sum_i(S::add_i(a, b)) * layout.sum_factor);
    }
  }
}

// cols and padded_cols are multiples of 32.
template <class S>
void quantize_row(const float* x, int64_t cols, int64_t padded_cols, const PanelLayout& layout, int64_t row,
                  const QuantizedRows& out) {
  const int64_t group = layout.activation_group;
  for (int64_t k = 0; k < padded_cols; k += group) {
    const int64_t n = padded_cols - k < group ? padded_cols - k : group;
    const int64_t filled = cols - k < 0 ? 0 : (cols - k < n ? cols - k : n);
    float inverse = 0;
    out.scales[k / group * out.rows + row] = group_scale<S>(x + k, filled, layout.wide ? 127 * 256 : 127, inverse);
    if (layout.wide) {
      quantize_group<S, true>(x, k, n, filled, inverse, layout, row, out);
    } else {
      quantize_group<S, false>(x, k, n, filled, inverse, layout, row, out);
    }
  }
}

}  // namespace
}  // namespace tidemill::tensor
