// linear() of F32, F16 and BF16 weights for several rows on AVX2; see vector_linear.hpp for why all of this has
// internal linkage.
//
// A row has an accumulator for even columns and one for odd ones (kernels.hpp), of two registers each: both of four
// rows would take all sixteen. So a stretch of even columns is followed by the same stretch of odd ones, and twelve
// registers hold the sums of six rows. A stretch is opened into floats in L1 once for all rows, and its activations are
// copied beside it: rows that are a power of two apart would fight for the same places of the cache.
#pragma once

#include <immintrin.h>

#include "tensor/kernels.hpp"
#include "tensor/packed_layout.hpp"
#include "tensor/vector_linear.hpp"
#include "tensor/vector_tiles.hpp"

namespace tidemill::tensor {
namespace {

constexpr int64_t kPlainStretch = 128;  // of K
constexpr int kPlainTileRows = 6;

struct OpenPlain {
  alignas(64) float columns[2][kPlainStretch / 2][kPanelRows];  // even ones and odd ones
};

// Of a row: the sums of each panel over even columns and over odd ones.
using PlainSums = float[kLinearPanels][2][kPanelRows];

// Columns k .. k + n - 1 of a panel, k a multiple of kPlainStretch.
template <class S, class T>
[[gnu::always_inline]] inline void open_plain(const std::byte* panel, int64_t k, int64_t n, OpenPlain& out) {
  const std::byte* w = panel + k * T::kBytes;
  int64_t i = 0;
  for (; i + 1 < n; i += 2, w += 2 * T::kBytes) {
    __builtin_prefetch(w + S::kPrefetchBytes, 0, 2);
    if constexpr (T::kBytes == kLineBytes) __builtin_prefetch(w + S::kPrefetchBytes + kLineBytes, 0, 2);
    typename S::F even;
    typename S::F odd;
    T::load_two(w, even, odd);
    S::store(out.columns[0][i / 2], even);
    S::store(out.columns[1][i / 2], odd);
  }
  if (i < n) S::store(out.columns[0][i / 2], T::load_even(w));
}

// sums[r][panel][odd] += `n` columns of one parity against those of R rows, which begin at x.
template <class S, int R>
[[gnu::always_inline]] inline void add_columns(const float (*columns)[kPanelRows], int64_t n, const float* x,
                                               PlainSums* sums, int panel, int odd) {
  __m256 low[R];
  __m256 high[R];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    low[r] = _mm256_load_ps(sums[r][panel][odd]);
    high[r] = _mm256_load_ps(sums[r][panel][odd] + 8);
  }
#pragma GCC unroll 4
  for (int64_t i = 0; i < n; ++i) {
    const __m256 w_low = _mm256_load_ps(columns[i]);
    const __m256 w_high = _mm256_load_ps(columns[i] + 8);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const __m256 value = _mm256_set1_ps(x[r * kPlainStretch + 2 * i]);
      low[r] = _mm256_fmadd_ps(w_low, value, low[r]);
      high[r] = _mm256_fmadd_ps(w_high, value, high[r]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    _mm256_store_ps(sums[r][panel][odd], low[r]);
    _mm256_store_ps(sums[r][panel][odd] + 8, high[r]);
  }
}

// One stretch of P panels against R rows.
template <class S, int P, int R>
inline void plain_tile(const OpenPlain (&open)[P], int64_t n, const float* x, int64_t stride, PlainSums* sums) {
  alignas(64) float near[R][kPlainStretch];
  for (int r = 0; r < R; ++r)
    __builtin_memcpy(near[r], x + r * stride, static_cast<size_t>(n) * sizeof(float));
  for (int p = 0; p < P; ++p) {
    add_columns<S, R>(open[p].columns[0], (n + 1) / 2, near[0], sums, p, 0);
    add_columns<S, R>(open[p].columns[1], n / 2, near[0] + 1, sums, p, 1);
  }
}

// All rows of a call of P panels.
template <class S, class T, int P>
inline void plain_panels(const LinearCall& call) {
  alignas(64) PlainSums sums[kMostLinearRows];
  for (int64_t r = 0; r < call.rows; ++r) {
    for (int p = 0; p < P; ++p) {
      S::store(sums[r][p][0], S::zero());
      S::store(sums[r][p][1], S::zero());
    }
  }
  OpenPlain open[P];
  for (int64_t k = 0; k < call.cols; k += kPlainStretch) {
    const int64_t n = call.cols - k < kPlainStretch ? call.cols - k : kPlainStretch;
    for (int p = 0; p < P; ++p)
      open_plain<S, T>(call.panels + p * call.panel_stride, k, n, open[p]);
    int64_t r = 0;
    const auto tiles_of = [&](auto rows) __attribute__((always_inline)) {
      for (; r + rows.value <= call.rows; r += rows.value)
        plain_tile<S, P, rows.value>(open, n, call.x_data + r * call.x_stride + k, call.x_stride, sums + r);
    };
    tiles_of(RowCount<kPlainTileRows>{});
    tiles_of(RowCount<4>{});
    tiles_of(RowCount<2>{});
    tiles_of(RowCount<1>{});
  }
  for (int64_t r = 0; r < call.rows; ++r) {
    for (int p = 0; p < P; ++p) {
      const int64_t lanes = call.outputs - p * kPanelRows;
      finish<S>(S::add(S::load(sums[r][p][0]), S::load(sums[r][p][1])),
                call.bias == nullptr ? nullptr : call.bias + p * kPanelRows, lanes < kPanelRows ? lanes : kPanelRows,
                call.y + r * call.y_stride + p * kPanelRows);
    }
  }
}

template <class S, class T>
inline void avx2_plain(LinearCall call) {
  while (call.outputs > kPanelRows) {
    constexpr int64_t most = kLinearPanels * kPanelRows;
    plain_panels<S, T, kLinearPanels>(take_panels(call, call.outputs < most ? call.outputs : most));
  }
  if (call.outputs > 0) plain_panels<S, T, 1>(call);
}

}  // namespace
}  // namespace tidemill::tensor
