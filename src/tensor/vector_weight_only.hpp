// linear_f32() of quantised weights: their values become floats on the way, exactly as dequantize() gives them, and are
// added up in the order of plain linear (kernels.hpp). Few rows take them straight from the registers; for many rows a
// stretch of a panel is opened into L1 once, and serves tile after tile of rows. See vector_linear.hpp for why all of
// this has internal linkage.
//
// A code goes to the highest byte of its lane, which makes it 2^24 times its value and keeps its sign in one
// instruction; scales are made as much smaller. Products of a scale and a code have few enough bits to be exact, so
// that fma(code, scale, min) rounds once, as the sum of a product and a minimum does.
#pragma once

#include <type_traits>

#include "tensor/kernels.hpp"
#include "tensor/packed_layout.hpp"
#include "tensor/vector_formats.hpp"
#include "tensor/vector_linear.hpp"
#include "tensor/vector_tiles.hpp"

namespace tidemill::tensor {
namespace {

// The formats (vector_formats.hpp) of types whose integer kernels do without.
template <class S>
struct FormatQ8 {
  using Step = StepQ8;
  static constexpr DType kType = DType::q8_0;
  static constexpr int kTogether = 2;
  static constexpr bool kSigned = false;

  [[gnu::always_inline]] static inline auto codes(const Step& step, int /*first*/, int t, int line) {
    return S::narrow_codes(step.codes[t][line]);
  }
  [[gnu::always_inline]] static inline auto scale(const Step& step, int g) { return S::load_f16(step.scale[g]); }
};

template <class S>
struct FormatQ4 {
  using Step = StepQ4;
  static constexpr DType kType = DType::q4_0;
  static constexpr int kTogether = 2;
  static constexpr bool kSigned = false;

  [[gnu::always_inline]] static inline auto codes(const Step& step, int /*first*/, int t, int line) {
    return nibble_line<S>(step.codes, t, line);
  }
  [[gnu::always_inline]] static inline auto scale(const Step& step, int g) { return S::load_f16(step.scale[g]); }
};

template <class S>
struct FormatQ4K {
  using Step = StepQ4K;
  static constexpr DType kType = DType::q4_k;
  static constexpr int kTogether = 2;
  static constexpr bool kSigned = false;

  [[gnu::always_inline]] static inline auto codes(const Step& step, int first, int t, int line) {
    return nibble_line<S>(step.codes[first / 2], t, line);
  }
  [[gnu::always_inline]] static inline auto scale(const Step& step, int g) {
    return S::mul(S::load_f16(step.d), S::to_float(S::load_u8(step.scale[g])));
  }
  [[gnu::always_inline]] static inline auto min(const Step& step, int g) {
    return S::mul(S::negate(S::load_f16(step.dmin)), S::to_float(S::load_u8(step.min[g])));
  }
};

// A number that is known when it is compiled.
template <int value>
using Known = std::integral_constant<int, value>;

// The values of a format's weights.
template <class S, class Format>
struct ValuesOf {
  using Step = typename Format::Step;
  static constexpr PanelLayout kLayout = panel_layout(Format::kType);
  static constexpr int kGroups = 32 / kLayout.sum_group;  // in a block of 32 k
  static constexpr int kZero = kLayout.has_mins() || Format::kSigned ? 0 : -kLayout.sum_factor;
  // Scales of MXFP4 may be too small to be made smaller.
  static constexpr bool kTinyScales = Format::kType == DType::mxfp4;

  // each(k, i, 16 values) for the first `blocks` blocks of 32 k of a step, in ascending order of k + i: k is a multiple
  // of 4 and i Known.
  template <class Each>
  [[gnu::always_inline]] static inline void of_step(const Step& step, int64_t blocks, const Each& each) {
    for (int first = 0; first < kLayout.step / 32; first += Format::kTogether) {
#pragma GCC unroll 4
      for (int t = 0; t < Format::kTogether; ++t) {
        if (first + t >= blocks) return;
#pragma GCC unroll 2
        for (int g = 0; g < kGroups; ++g)
          of_group(step, first, t, g, each);
      }
    }
  }

 private:
  template <class Each>
  [[gnu::always_inline]] static inline void of_group(const Step& step, int first, int t, int g, const Each& each) {
    const int group = (first + t) * kGroups + g;
    typename S::F scale = Format::scale(step, group);
    if constexpr (!kTinyScales) scale = S::mul(scale, S::set1(0x1p-24F));
    typename S::F min = S::zero();
    if constexpr (kLayout.has_mins()) min = Format::min(step, group);
#pragma GCC unroll 8
    for (int line = g * 8 / kGroups; line < (g + 1) * 8 / kGroups; ++line) {
      const typename S::N codes = S::less(Format::codes(step, first, t, line), kZero);
      const auto value = [&](auto i) __attribute__((always_inline)) {
        typename S::I code = S::template to_highest<i.value>(codes);
        if constexpr (kTinyScales) code = S::from_highest(code);
        const typename S::F number = S::to_float(code);
        return kLayout.has_mins() ? S::fma(number, scale, min) : S::mul(number, scale);
      };
      const int64_t k = (first + t) * 32 + line * 4;
      each(k, Known<0>{}, value(Known<0>{}));
      each(k, Known<1>{}, value(Known<1>{}));
      each(k, Known<2>{}, value(Known<2>{}));
      each(k, Known<3>{}, value(Known<3>{}));
    }
  }
};

// Rows first .. first + R - 1 of a call against its panels.
template <class S, class Format, int R>
inline void few_rows_f32(const LinearCall& call, int64_t first) {
  using Values = ValuesOf<S, Format>;
  constexpr int64_t kStep = Values::kLayout.step;
  const float* x = call.x_data + first * call.x_stride;
  const int64_t ahead = R == 1 ? call.ahead_of_one_row : kAheadOfRows;
  for_panels(
      call, [&](const std::byte* panel, int64_t lanes, const float* bias, int64_t at) __attribute__((always_inline)) {
        const auto* step = reinterpret_cast<const typename Values::Step*>(panel);
        typename S::F acc[2][R];
        for (int r = 0; r < R; ++r)
          acc[0][r] = acc[1][r] = S::zero();
        for (int64_t k = 0; k < call.cols; k += kStep, ++step) {
          prefetch_ahead<sizeof(typename Values::Step)>(step, ahead);
          const float* from = x + k;
          Values::of_step(
              *step,
              (call.cols - k) / 32, [&](int64_t of_step, auto i, typename S::F w) __attribute__((always_inline)) {
#pragma GCC unroll 8
                for (int r = 0; r < R; ++r) {
                  typename S::F& sum = acc[i.value % 2][r];
                  sum = S::fma(w, S::set1(from[r * call.x_stride + of_step + i.value]), sum);
                }
              });
        }
        for (int r = 0; r < R; ++r)
          finish<S>(S::add(acc[0][r], acc[1][r]), bias, lanes, call.y + (first + r) * call.y_stride + at);
      });
}

// So many elements of K of a panel are opened at a time. What is open has room for as many panels as a tile has at
// most, side by side: [k][panel][16 values].
constexpr int64_t kStretchF32 = 256;
template <class S>
using OpenF32 = float[S::kTilePanels][kPanelRows];

// `blocks` blocks of 32 k of a panel from column k on, a multiple of kStretchF32, into to[][0].
template <class S, class Format>
void open_f32(const std::byte* panel, int64_t k, int64_t blocks, float* to) {
  using Values = ValuesOf<S, Format>;
  constexpr int64_t kStep = Values::kLayout.step;
  constexpr int64_t kStride = sizeof(OpenF32<S>) / sizeof(float);
  static_assert(kStretchF32 % kStep == 0);
  const auto* step = reinterpret_cast<const typename Values::Step*>(panel) + k / kStep;
  for (; blocks > 0; blocks -= kStep / 32, ++step, to += kStep * kStride) {
    prefetch_ahead<sizeof(typename Values::Step)>(step, S::kPrefetchBytes);
    Values::of_step(
        *step, blocks, [&](int64_t at, auto i, typename S::F w) __attribute__((always_inline)) {
          S::store(to + (at + i.value) * kStride, w);
        });
  }
}

// sums[row][parity of k][panel] += n columns of P panels, an even number, against R rows. Even columns first, then odd
// ones: the sums of both would take too many registers.
template <class S, int P, int R>
[[gnu::noinline]] void tile_f32(const OpenF32<S>* w, int64_t n, const float* x, int64_t x_stride,
                                float (*sums)[2][P][kPanelRows]) {
  for (int parity = 0; parity < 2; ++parity) {
    typename S::F acc[P][R];
#pragma GCC unroll 2
    for (int p = 0; p < P; ++p) {
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r)
        acc[p][r] = S::load(sums[r][parity][p]);
    }
#pragma GCC unroll 4
    for (int64_t k = parity; k < n; k += 2) {
      typename S::F values[P];
#pragma GCC unroll 2
      for (int p = 0; p < P; ++p)
        values[p] = S::load(w[k][p]);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const typename S::F one = S::set1_once(x[r * x_stride + k]);
#pragma GCC unroll 2
        for (int p = 0; p < P; ++p)
          acc[p][r] = S::fma(values[p], one, acc[p][r]);
      }
    }
#pragma GCC unroll 2
    for (int p = 0; p < P; ++p) {
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r)
        S::store(sums[r][parity][p], acc[p][r]);
    }
  }
}

// All rows of a call of P panels, which `open` opens.
template <class S, int P>
[[gnu::noinline]] void many_rows_f32(const LinearCall& call, void (*open)(const std::byte*, int64_t, int64_t, float*)) {
  constexpr int R = S::kTileRowsF32;
  constexpr int64_t kTile = kStretchF32 / P;  // columns of a tile: 16 KiB, which stay in L1 for all rows
  alignas(64) float sums[kMostLinearRows][2][P][kPanelRows];
  for (int64_t r = 0; r < call.rows; ++r) {
    for (int p = 0; p < P; ++p) {
      S::store(sums[r][0][p], S::zero());
      S::store(sums[r][1][p], S::zero());
    }
  }
  alignas(64) OpenF32<S> w[kStretchF32];
  for (int64_t k = 0; k < call.cols; k += kStretchF32) {
    const int64_t stretch = call.cols - k < kStretchF32 ? call.cols - k : kStretchF32;
    for (int p = 0; p < P; ++p)
      open(call.panels + p * call.panel_stride, k, stretch / 32, w[0][p]);
    for (int64_t begin = 0; begin < stretch; begin += kTile) {
      const int64_t n = stretch - begin < kTile ? stretch - begin : kTile;
      const float* x = call.x_data + k + begin;
      int64_t r = 0;
      for (; r + R <= call.rows; r += R)
        tile_f32<S, P, R>(w + begin, n, x + r * call.x_stride, call.x_stride, sums + r);
      if constexpr (R > 4) {
        for (; r + 4 <= call.rows; r += 4)
          tile_f32<S, P, 4>(w + begin, n, x + r * call.x_stride, call.x_stride, sums + r);
      }
      for (; r + 2 <= call.rows; r += 2)
        tile_f32<S, P, 2>(w + begin, n, x + r * call.x_stride, call.x_stride, sums + r);
      for (; r < call.rows; ++r)
        tile_f32<S, P, 1>(w + begin, n, x + r * call.x_stride, call.x_stride, sums + r);
    }
  }
  for (int64_t r = 0; r < call.rows; ++r) {
    for (int p = 0; p < P; ++p) {
      const int64_t lanes = call.outputs - p * kPanelRows;
      finish<S>(S::add(S::load(sums[r][0][p]), S::load(sums[r][1][p])),
                call.bias == nullptr ? nullptr : call.bias + p * kPanelRows, lanes < kPanelRows ? lanes : kPanelRows,
                call.y + r * call.y_stride + p * kPanelRows);
    }
  }
}

template <class S, class Format>
void linear_weight_only(const LinearCall& call) {
  if (call.rows <= S::kFewRowsF32) {
    int64_t r = 0;
    if constexpr (S::kFewRowsF32 >= 4) {
      for (; r + 4 <= call.rows; r += 4)
        few_rows_f32<S, Format, 4>(call, r);
    }
    for (; r + 2 <= call.rows; r += 2)
      few_rows_f32<S, Format, 2>(call, r);
    for (; r < call.rows; ++r)
      few_rows_f32<S, Format, 1>(call, r);
    return;
  }
  constexpr int P = S::kTilePanels;
  LinearCall left = call;
  while (left.outputs > kPanelRows) {
    constexpr int64_t most = P * kPanelRows;
    many_rows_f32<S, P>(take_panels(left, left.outputs < most ? left.outputs : most), open_f32<S, Format>);
  }
  if (left.outputs > 0) many_rows_f32<S, 1>(left, open_f32<S, Format>);
}

}  // namespace
}  // namespace tidemill::tensor
