// linear() of quantised weights for many rows on AVX2; see vector_linear.hpp for why all of this has internal linkage.
//
// Sixteen registers hold the integer sums of six rows and one panel (twelve), half a line of codes each, and four codes
// of activations: a broadcast serves two multiplications, a load of weights six. All else lies in memory, which has the
// room: two products and two additions fill the four vector ports of a Zen 3, its loads and stores are half idle.
//
// Codes of eight bits are multiplied by VPMADDUBSW and added up in 16 bits as long as no sum can leave them: eight
// lines of codes of four bits, four of five, two of six. Wide activations are multiplied by VPMADDWD, with weights
// that were widened when the stretch was opened.
//
// A call's panels of narrow codes are opened side by side and meet a tile of activations one after the other, while it
// is in L1.
#pragma once

#include <immintrin.h>

#include "tensor/kernels.hpp"
#include "tensor/packed_layout.hpp"
#include "tensor/vector_linear.hpp"
#include "tensor/vector_tiles.hpp"

namespace tidemill::tensor {
namespace {

constexpr int kAvx2TileRows = 6;
constexpr int64_t kSumStride = kLinearPanels * kPanelRows;  // from row to row

// Sums of R rows, lanes 0 .. 7 and 8 .. 15.
template <int R>
struct HalfSums {
  __m256i low[R];
  __m256i high[R];
};

// GCC 12 would make all products of an unrolled loop before it adds any, and spill them.
[[gnu::always_inline]] inline void keep_order(__m256i& a, __m256i& b) {
  asm volatile("" : "+x"(a), "+x"(b));
}

[[gnu::always_inline]] inline __m256i load_half(const uint8_t* p) {
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(p));
}
[[gnu::always_inline]] inline __m256i broadcast_four(const void* p) {
  int32_t four;
  __builtin_memcpy(&four, p, sizeof four);
  return _mm256_set1_epi32(four);
}

// How `lines` lines of weights meet R rows, whose codes are `stride` bytes apart: sums of 16 bits, two to an output.
template <int R, int lines>
[[gnu::always_inline]] inline void add_narrow(const uint8_t* w, const std::byte* x, HalfSums<R>& sums) {
#pragma GCC unroll 8
  for (int line = 0; line < lines; ++line) {
    __m256i low = load_half(w + line * kLineBytes);
    __m256i high = load_half(w + line * kLineBytes + 32);
    keep_order(low, high);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const __m256i four = broadcast_four(x + r * kCodeBlock + line * 4);
      const __m256i l = _mm256_maddubs_epi16(low, four);
      const __m256i h = _mm256_maddubs_epi16(high, four);
      sums.low[r] = line == 0 ? l : _mm256_add_epi16(sums.low[r], l);
      sums.high[r] = line == 0 ? h : _mm256_add_epi16(sums.high[r], h);
      keep_order(sums.low[r], sums.high[r]);
    }
  }
}

// Sums of 16 bits become sums of 32.
template <int R>
[[gnu::always_inline]] inline void widen(HalfSums<R>& sums) {
  const __m256i ones = _mm256_set1_epi16(1);
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    sums.low[r] = _mm256_madd_epi16(sums.low[r], ones);
    sums.high[r] = _mm256_madd_epi16(sums.high[r], ones);
  }
}

// The integer sums of a block of T.
template <class T, int R>
[[gnu::always_inline]] inline void multiply_narrow(const uint8_t* w, const std::byte* x, HalfSums<R>& sums) {
  constexpr int lines = T::kBlock / 4;
  constexpr int most = 32767 / (2 * 127 * T::kMostCode);
  constexpr int at_once = most < lines ? most : lines;
  static_assert(at_once >= 1 && lines % at_once == 0);
  add_narrow<R, at_once>(w, x, sums);
  widen<R>(sums);
  if constexpr (at_once < lines) {
    // Those of the lines before.
    alignas(32) __m256i before[R][2];
#pragma GCC unroll 4
    for (int line = at_once; line < lines; line += at_once) {
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        before[r][0] = sums.low[r];
        before[r][1] = sums.high[r];
      }
      add_narrow<R, at_once>(w + line * kLineBytes, x + line * 4, sums);
      widen<R>(sums);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        sums.low[r] = _mm256_add_epi32(sums.low[r], before[r][0]);
        sums.high[r] = _mm256_add_epi32(sums.high[r], before[r][1]);
      }
    }
  }
}

// Codes with signs, whose magnitudes take the activations' place: the activations take the signs.
template <class T, int R>
[[gnu::always_inline]] inline void multiply_signed(const uint8_t* w, const std::byte* x, HalfSums<R>& sums) {
  const __m256i ones = _mm256_set1_epi16(1);
  const auto product = [&](__m256i codes, __m256i four) __attribute__((always_inline)) {
    return _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(four, codes)), ones);
  };
#pragma GCC unroll 8
  for (int line = 0; line < T::kBlock / 4; ++line) {
    __m256i low = load_half(w + line * kLineBytes);
    __m256i high = load_half(w + line * kLineBytes + 32);
    keep_order(low, high);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const __m256i four = broadcast_four(x + r * kCodeBlock + line * 4);
      const __m256i l = product(low, four);
      const __m256i h = product(high, four);
      sums.low[r] = line == 0 ? l : _mm256_add_epi32(sums.low[r], l);
      sums.high[r] = line == 0 ? h : _mm256_add_epi32(sums.high[r], h);
      keep_order(sums.low[r], sums.high[r]);
    }
  }
}

// Words: pairs of columns, even ones and odd ones in turn (S::store_words_less_128).
template <class T, int R>
[[gnu::always_inline]] inline void multiply_wide(const uint8_t* w, const std::byte* x, HalfSums<R>& sums) {
#pragma GCC unroll 16
  for (int pair = 0; pair < T::kBlock / 2; ++pair) {
    __m256i low = load_half(w + pair * kLineBytes);
    __m256i high = load_half(w + pair * kLineBytes + 32);
    keep_order(low, high);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const __m256i two = broadcast_four(x + r * kCodeBlock * 2 + pair * 4);
      const __m256i l = _mm256_madd_epi16(low, two);
      const __m256i h = _mm256_madd_epi16(high, two);
      sums.low[r] = pair == 0 ? l : _mm256_add_epi32(sums.low[r], l);
      sums.high[r] = pair == 0 ? h : _mm256_add_epi32(sums.high[r], h);
      keep_order(sums.low[r], sums.high[r]);
    }
  }
}

// to[r * kSumStride + lane] += one stretch of a panel against R rows; k is where the stretch begins.
template <class S, class T, int R>
inline void avx2_tile(const OpenStretch& open, const typename T::Rows::Rows& x, int64_t k, float* to) {
  using F = typename S::F;
  using I = typename S::I;
  using Rows = typename T::Rows::Rows;
  constexpr bool over_stretch = Rows::kGroup == kStretch;  // that is one group of activations; else each block is
  constexpr bool bit_sums = S::kBitSums && panel_layout(T::Rows::kType).bit_sums;
  constexpr bool from_zero = T::kMins || T::kSigned || Rows::kBytes == 2;
  static_assert(over_stretch || Rows::kGroup == T::kBlock);
  alignas(64) float group[R][kPanelRows];
  if constexpr (over_stretch) {
    for (int r = 0; r < R; ++r)
      S::store(group[r], S::zero());
  }
  for (int64_t block = 0; block < open.blocks; ++block) {
    const int64_t at = k + block * T::kBlock;
    const auto* w = reinterpret_cast<const uint8_t*>(open.lines[block]);
    HalfSums<R> sums;
    if constexpr (Rows::kBytes == 2) {
      multiply_wide<T, R>(w, x.block(at), sums);
    } else if constexpr (T::kSigned) {
      multiply_signed<T, R>(w, x.block(at), sums);
    } else {
      multiply_narrow<T, R>(w, x.block(at), sums);
    }
    const int32_t* code_sums = x.sum(at);
    const float* x_scale = x.scale(at);
    const F scale = S::load(open.scale[block]);
    const F extra = bit_sums || T::kMins ? S::load(open.min[block]) : S::zero();
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      I product = {sums.low[r], sums.high[r]};
      if constexpr (!from_zero) product = S::add_i(product, S::set1_i(code_sums[r]));
      float* into = over_stretch ? group[r] : to + r * kSumStride;
      F sum;
      if constexpr (over_stretch) {
        sum = S::fma(S::to_float(product), scale, S::load(into));
      } else if constexpr (bit_sums) {
        sum = S::fma(S::as_float(product), scale, extra);
      } else {
        sum = S::mul(S::to_float(product), scale);
      }
      if constexpr (T::kMins) sum = S::fma(S::to_float(S::set1_i(code_sums[r])), extra, sum);
      if constexpr (!over_stretch) sum = S::fma(sum, S::set1(x_scale[r]), S::load(into));
      S::store(into, sum);
    }
  }
  if constexpr (over_stretch) {
    for (int r = 0; r < R; ++r)
      S::store(to + r * kSumStride, S::fma(S::load(group[r]), S::set1(x.scale(k)[r]), S::load(to + r * kSumStride)));
  }
}

// All rows of a call of P panels.
template <class S, class T, int P>
inline void avx2_panels(const LinearCall& call) {
  using Tile = typename T::Tile;
  using Rows = typename Tile::Rows::Rows;
  const int64_t cols = round_up(call.cols, panel_layout(T::Rows::kType).step);
  alignas(64) float sums[kMostLinearRows][kLinearPanels][kPanelRows];
  for (int64_t r = 0; r < call.rows; ++r) {
    for (int p = 0; p < P; ++p)
      S::store(sums[r][p], S::zero());
  }
  OpenStretch open[P];
  for (int64_t k = 0; k < cols; k += kStretch) {
    for (int p = 0; p < P; ++p)
      open_stretch<S, T>(call.panels + p * call.panel_stride, k, cols, open[p]);
    int64_t r = 0;
    const auto tiles_of = [&](auto rows) __attribute__((always_inline)) {
      for (; r + rows.value <= call.rows; r += rows.value) {
        const Rows x(call.x, call.first_row + r);
        for (int p = 0; p < P; ++p)
          avx2_tile<S, Tile, rows.value>(open[p], x, k, sums[r][p]);
      }
    };
    tiles_of(RowCount<kAvx2TileRows>{});
    tiles_of(RowCount<4>{});
    tiles_of(RowCount<2>{});
    tiles_of(RowCount<1>{});
  }
  for (int64_t r = 0; r < call.rows; ++r) {
    for (int p = 0; p < P; ++p) {
      const int64_t lanes = call.outputs - p * kPanelRows;
      finish<S>(S::load(sums[r][p]), call.bias == nullptr ? nullptr : call.bias + p * kPanelRows,
                lanes < kPanelRows ? lanes : kPanelRows, call.y + r * call.y_stride + p * kPanelRows);
    }
  }
}

}  // namespace
}  // namespace tidemill::tensor
