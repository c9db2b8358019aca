// linear() for instruction sets with vectors, written once over a vector type S of 16 lanes (kernels_avx2.cpp and
// kernels_avx512_vnni.cpp define theirs). Everything here has internal linkage: each including file gets a copy of its
// own, compiled for its own instruction set. kernels.hpp says what must be computed, in which order.
#pragma once

#include "tensor/kernels.hpp"
#include "tensor/packed_layout.hpp"

namespace tidemill::tensor {
namespace {

// Adds the bias and writes the lanes that exist.
template <class S, int R>
[[gnu::always_inline]] inline void finish(const PanelCall& call, int64_t first, const typename S::F (&acc)[R]) {
  for (int r = 0; r < R; ++r) {
    float* y = call.y + (first + r) * call.y_stride;
    if (call.lanes == kPanelRows) {
      S::store(y, call.bias == nullptr ? acc[r] : S::add(acc[r], S::load(call.bias)));
    } else {
      S::store_first(y, call.lanes,
                     call.bias == nullptr ? acc[r] : S::add(acc[r], S::load_first(call.bias, call.lanes)));
    }
  }
}

// R rows of activations, as a kernel walks along K.
template <class S>
struct RowsAt {
  const std::byte* codes;
  int64_t code_stride;
  const float* scales;
  int64_t scale_stride;
  const int32_t* sums;
  int64_t sum_stride;

  RowsAt(const QuantizedRows& x, int64_t first)
      : codes(x.codes + first * x.code_stride),
        code_stride(x.code_stride),
        scales(x.scales + first * x.scale_stride),
        scale_stride(x.scale_stride),
        sums(x.sums + first * x.sum_stride),
        sum_stride(x.sum_stride) {}

  // The four codes of row r at column k.
  [[gnu::always_inline]] const std::byte* at(int r, int64_t k) const {
    return codes + r * code_stride + k * S::kCodeBytes;
  }
  [[gnu::always_inline]] float scale(int r, int64_t group) const { return scales[r * scale_stride + group]; }
  [[gnu::always_inline]] int32_t sum(int r, int64_t group) const { return sums[r * sum_stride + group]; }
};

// The next steps of the panel are wanted soon: the hardware's prefetcher alone stops at page borders. Into L2: on Zen 4
// one row of Q8_0 then streams at 91 to 94 % of the rate of plain reading, against 78 to 92 % with a prefetch into L1
// and 70 to 83 % from twice as far ahead (medians of 40 interleaved rounds, three times; without any it was 91 to 103
// %).
template <class S, int64_t bytes>
[[gnu::always_inline]] inline void prefetch_ahead(const void* step) {
  for (int64_t at = 0; at < bytes; at += kLineBytes) {
    __builtin_prefetch(static_cast<const std::byte*>(step) + S::kPrefetchBytes + at, 0, 2);
  }
}

template <class S>
struct Q8 {
  static constexpr int kMostRows = S::kRowsQ8;

  template <int R>
  static void rows(const PanelCall& call, int64_t first) {
    const RowsAt<S> x(call.x, first);
    const auto* step = reinterpret_cast<const StepQ8*>(call.panel);
    const int64_t groups = (call.cols + 63) / 64 * 2;
    typename S::F acc[R];
    for (int r = 0; r < R; ++r)
      acc[r] = S::zero();
    for (int64_t g0 = 0; g0 < groups; g0 += 2, ++step) {
      prefetch_ahead<S, sizeof(StepQ8)>(step);
      for (int half = 0; half < 2; ++half) {
        const int64_t g = g0 + half;
        typename S::I sums[R];
        for (int r = 0; r < R; ++r)
          sums[r] = S::set1_i(x.sum(r, g));
#pragma GCC unroll 8
        for (int line = 0; line < 8; ++line) {
          const typename S::C w = S::codes(step->codes[half][line]);
#pragma GCC unroll 8
          for (int r = 0; r < R; ++r)
            sums[r] = S::dot(sums[r], w, x.at(r, g * 32 + line * 4));
        }
        const typename S::F w_scale = S::load_f16(step->scale[half]);
        for (int r = 0; r < R; ++r) {
          acc[r] = S::fma(S::to_float(sums[r]), S::mul(w_scale, S::set1(x.scale(r, g))), acc[r]);
        }
      }
    }
    finish<S, R>(call, first, acc);
  }
};

// Both groups of 8 lines with a nibble each: low[r] and high[r] start as given.
template <class S, int R>
[[gnu::always_inline]] inline void dot_nibbles(const uint8_t (*lines)[kLineBytes], const RowsAt<S>& x, int64_t k,
                                               typename S::I (&low)[R], typename S::I (&high)[R]) {
#pragma GCC unroll 8
  for (int line = 0; line < 8; ++line) {
    const typename S::C w_low = S::low_codes(lines[line]);
    const typename S::C w_high = S::high_codes(lines[line]);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      low[r] = S::dot(low[r], w_low, x.at(r, k + line * 4));
      high[r] = S::dot(high[r], w_high, x.at(r, k + 32 + line * 4));
    }
  }
}

template <class S>
struct Q4 {
  static constexpr int kMostRows = S::kRowsQ4;

  template <int R>
  static void rows(const PanelCall& call, int64_t first) {
    const RowsAt<S> x(call.x, first);
    const auto* step = reinterpret_cast<const StepQ4*>(call.panel);
    const int64_t groups = (call.cols + 63) / 64 * 2;
    typename S::F acc[R];
    for (int r = 0; r < R; ++r)
      acc[r] = S::zero();
    for (int64_t g = 0; g < groups; g += 2, ++step) {
      prefetch_ahead<S, sizeof(StepQ4)>(step);
      typename S::I low[R];
      typename S::I high[R];
      for (int r = 0; r < R; ++r) {
        low[r] = S::set1_i(x.sum(r, g));
        high[r] = S::set1_i(x.sum(r, g + 1));
      }
      dot_nibbles<S, R>(step->codes, x, g * 32, low, high);
      const typename S::F scale_low = S::load_f16(step->scale[0]);
      const typename S::F scale_high = S::load_f16(step->scale[1]);
      for (int r = 0; r < R; ++r) {
        acc[r] = S::fma(S::to_float(low[r]), S::mul(scale_low, S::set1(x.scale(r, g))), acc[r]);
        acc[r] = S::fma(S::to_float(high[r]), S::mul(scale_high, S::set1(x.scale(r, g + 1))), acc[r]);
      }
    }
    finish<S, R>(call, first, acc);
  }
};

template <class S>
struct Q4K {
  static constexpr int kMostRows = S::kRowsQ4K;

  template <int R>
  static void rows(const PanelCall& call, int64_t first) {
    const RowsAt<S> x(call.x, first);
    const auto* step = reinterpret_cast<const StepQ4K*>(call.panel);
    const int64_t steps = call.cols / 256;
    typename S::F acc[R];
    for (int r = 0; r < R; ++r)
      acc[r] = S::zero();
    for (int64_t s = 0; s < steps; ++s, ++step) {
      prefetch_ahead<S, sizeof(StepQ4K)>(step);
      typename S::F a[R];
      typename S::F b[R];
      for (int r = 0; r < R; ++r)
        a[r] = b[r] = S::zero();
      for (int pair = 0; pair < 4; ++pair) {
        const int64_t g = s * 8 + pair * 2;
        typename S::I sums[2][R];
        for (int r = 0; r < R; ++r)
          sums[0][r] = sums[1][r] = S::set1_i(0);
        dot_nibbles<S, R>(step->codes[pair], x, g * 32, sums[0], sums[1]);
        for (int half = 0; half < 2; ++half) {
          const typename S::I scale = S::load_u8(step->scale[pair * 2 + half]);
          const typename S::F min = S::to_float(S::load_u8(step->min[pair * 2 + half]));
          for (int r = 0; r < R; ++r) {
            const float x_scale = x.scale(r, g + half);
            a[r] = S::fma(S::to_float(S::mul_i(sums[half][r], scale)), S::set1(x_scale), a[r]);
            b[r] = S::fma(min, S::set1(x_scale * static_cast<float>(x.sum(r, g + half))), b[r]);
          }
        }
      }
      const typename S::F d = S::load_f16(step->d);
      const typename S::F dmin = S::negate(S::load_f16(step->dmin));
      for (int r = 0; r < R; ++r)
        acc[r] = S::fma(dmin, b[r], S::fma(d, a[r], acc[r]));
    }
    finish<S, R>(call, first, acc);
  }
};

template <class S>
struct Q6K {
  static constexpr int kMostRows = S::kRowsQ6K;

  template <int R>
  static void rows(const PanelCall& call, int64_t first) {
    const RowsAt<S> x(call.x, first);
    const auto* step = reinterpret_cast<const StepQ6K*>(call.panel);
    const int64_t steps = call.cols / 256;
    typename S::F acc[R];
    for (int r = 0; r < R; ++r)
      acc[r] = S::zero();
    for (int64_t s = 0; s < steps; ++s, ++step) {
      prefetch_ahead<S, sizeof(StepQ6K)>(step);
      typename S::F a[R];
      for (int r = 0; r < R; ++r)
        a[r] = S::zero();
      for (int g = 0; g < 8; ++g) {
        typename S::I total[R];
        for (int half = 0; half < 2; ++half) {
          const int sixteen = g * 2 + half;
          typename S::I sums[R];
          for (int r = 0; r < R; ++r)
            sums[r] = S::set1_i(x.sum(r, s * 16 + sixteen));
#pragma GCC unroll 4
          for (int line = 0; line < 4; ++line) {
            const typename S::C w = S::codes(step->codes[sixteen][line]);
#pragma GCC unroll 8
            for (int r = 0; r < R; ++r)
              sums[r] = S::dot(sums[r], w, x.at(r, (s * 16 + sixteen) * 16 + line * 4));
          }
          const typename S::I scale = S::load_s8(step->scale[sixteen]);
          for (int r = 0; r < R; ++r) {
            const typename S::I scaled = S::mul_i(sums[r], scale);
            total[r] = half == 0 ? scaled : S::add_i(total[r], scaled);
          }
        }
        for (int r = 0; r < R; ++r)
          a[r] = S::fma(S::to_float(total[r]), S::set1(x.scale(r, s * 8 + g)), a[r]);
      }
      const typename S::F d = S::load_f16(step->d);
      for (int r = 0; r < R; ++r)
        acc[r] = S::fma(d, a[r], acc[r]);
    }
    finish<S, R>(call, first, acc);
  }
};

// F32, F16 and BF16 by the type T of a loader: T::kBytes per 16 values, T::load(p).
template <class S, class T>
struct Plain {
  static constexpr int kMostRows = S::kRowsPlain;

  template <int R>
  static void rows(const PanelCall& call, int64_t first) {
    const float* x = call.x_data + first * call.x_stride;
    const std::byte* w = call.panel;
    typename S::F even[R];
    typename S::F odd[R];
    for (int r = 0; r < R; ++r)
      even[r] = odd[r] = S::zero();
    int64_t k = 0;
    for (; k + 8 <= call.cols; k += 8, w += 8 * T::kBytes) {
      for (int64_t line = 0; line < 8 * T::kBytes; line += kLineBytes) {
        __builtin_prefetch(w + S::kPrefetchBytes + line, 0, 3);
      }
#pragma GCC unroll 4
      for (int i = 0; i < 8; i += 2) {
        const typename S::F w_even = T::load(w + i * T::kBytes);
        const typename S::F w_odd = T::load(w + (i + 1) * T::kBytes);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
          even[r] = S::fma(w_even, S::set1(x[r * call.x_stride + k + i]), even[r]);
          odd[r] = S::fma(w_odd, S::set1(x[r * call.x_stride + k + i + 1]), odd[r]);
        }
      }
    }
    for (; k < call.cols; ++k, w += T::kBytes) {
      const typename S::F value = T::load(w);
      for (int r = 0; r < R; ++r) {
        typename S::F& acc = k % 2 == 0 ? even[r] : odd[r];
        acc = S::fma(value, S::set1(x[r * call.x_stride + k]), acc);
      }
    }
    for (int r = 0; r < R; ++r)
      even[r] = S::add(even[r], odd[r]);
    finish<S, R>(call, first, even);
  }
};

template <class S>
struct LoadF32 {
  static constexpr int64_t kBytes = 64;
  [[gnu::always_inline]] static inline typename S::F load(const std::byte* p) {
    return S::load(reinterpret_cast<const float*>(p));
  }
};
template <class S>
struct LoadF16 {
  static constexpr int64_t kBytes = 32;
  [[gnu::always_inline]] static inline typename S::F load(const std::byte* p) {
    return S::load_f16(reinterpret_cast<const uint16_t*>(p));
  }
};
template <class S>
struct LoadBf16 {
  static constexpr int64_t kBytes = 32;
  [[gnu::always_inline]] static inline typename S::F load(const std::byte* p) {
    return S::load_bf16(reinterpret_cast<const uint16_t*>(p));
  }
};

// All rows of a call, as many at once as the registers hold.
template <class K>
void linear_panel(const PanelCall& call) {
  int64_t r = 0;
  if constexpr (K::kMostRows >= 8) {
    for (; r + 8 <= call.rows; r += 8)
      K::template rows<8>(call, r);
  }
  for (; r + 4 <= call.rows; r += 4)
    K::template rows<4>(call, r);
  for (; r + 2 <= call.rows; r += 2)
    K::template rows<2>(call, r);
  for (; r < call.rows; ++r)
    K::template rows<1>(call, r);
}

}  // namespace
}  // namespace tidemill::tensor
