// linear() of quantised weights for many rows: a stretch of a panel is opened once, into code lines and float scales,
// and then serves tile after tile of activation rows from the cache. See vector_linear.hpp for why all of this has
// internal linkage.
#pragma once

#include "tensor/kernels.hpp"
#include "tensor/packed_layout.hpp"
#include "tensor/vector_linear.hpp"
#include "tensor/vector_q4_tiles.hpp"

namespace tidemill::tensor {
namespace {

// So many elements of K of one panel are opened at a time.
constexpr int64_t kStretch = 256;

struct OpenStretch {
  static constexpr int64_t kMostBlocks = kStretch / 16;

  alignas(64) uint8_t codes[kStretch / 2][kLineBytes];  // room for two bytes a code
  alignas(64) float scale[kMostBlocks][kPanelRows];
  alignas(64) float min[kMostBlocks][kPanelRows];   // negated; where the type has one; BlockScale::less of Q4_0
  const uint8_t (*lines[kMostBlocks])[kLineBytes];  // of each block, in the panel itself or in `codes`
  int64_t blocks;
};

// Whether Q4_0 has its own way (vector_q4_tiles.hpp).
template <class S, DType type = DType::q4_0>
constexpr bool kQ4Tiles = S::kHighInPlace&& panel_layout(type).bit_sums;

// How the steps of each type open: block size, whether there are minima, whether codes have signs, and the largest one.
// `Tile` is the type whose tiles multiply what is opened: itself, or another one that opens alike, so that there are
// fewer of them. Up to kFewRows rows are multiplied straight from the packed weights. vector_formats.hpp has more
// types.
template <class S>
struct TilesQ8 {
  using Step = StepQ8;
  using Rows = RowsQ8<S>;
  using Tile = TilesQ8;
  static constexpr int64_t kFewRows = S::kFewRows;
  static constexpr int kMostCode = 255;
  static constexpr int64_t kBlock = 32;
  static constexpr bool kMins = false;
  static constexpr bool kSigned = false;

  template <bool is_signed>
  [[gnu::always_inline]] static inline void open(const Step& step, int64_t first, OpenStretch& out) {
    for (int half = 0; half < 2; ++half) {
      out.lines[first + half] = step.codes[half];
      if constexpr (Rows::Rows::kPlanes == 1) {  // wide codes as 16-bit words want such weights
        out.lines[first + half] = out.codes + (first + half) * 16;
        for (int line = 0; line < 8; ++line)
          S::store_words_less_128(out.codes[(first + half) * 16 + 2 * line], step.codes[half][line]);
      } else if constexpr (is_signed) {
        for (int line = 0; line < 8; ++line)
          S::store_less_128(out.codes[(first + half) * 8 + line], step.codes[half][line]);
        out.lines[first + half] = out.codes + (first + half) * 8;
      }
      S::store(out.scale[first + half], S::load_f16(step.scale[half]));
    }
  }
};

// Eight lines of nibbles as 16 lines of bytes less `zero`, from `to` on.
template <class S, int zero>
[[gnu::always_inline]] inline void open_nibbles(const uint8_t (*lines)[kLineBytes], uint8_t (*to)[kLineBytes]) {
  for (int line = 0; line < 8; ++line) {
    S::template store_low_nibbles<zero>(to[line], lines[line]);
    S::template store_high_nibbles<zero>(to[8 + line], lines[line]);
  }
}

template <class S>
struct TilesQ4 {
  using Step = StepQ4;
  using Rows = RowsQ4<S>;
  using Tile = TilesQ4;
  static constexpr int64_t kFewRows = kQ4Tiles<S> ? kQ4FewRows : S::kFewRows;
  static constexpr int kMostCode = 15;
  static constexpr int64_t kBlock = 32;
  static constexpr bool kMins = false;
  static constexpr bool kSigned = false;

  template <bool is_signed>
  [[gnu::always_inline]] static inline void open(const Step& step, int64_t first, OpenStretch& out) {
    open_nibbles<S, is_signed ? 8 : 0>(step.codes, out.codes + first * 8);
    for (int half = 0; half < 2; ++half) {
      out.lines[first + half] = out.codes + (first + half) * 8;
      S::store(out.scale[first + half], S::load_f16(step.scale[half]));
      if constexpr (S::kOwnTiles) S::store(out.min[first + half], BlockScale<S>(step.scale[half], false).less);
    }
  }
};

template <class S>
struct TilesQ4K {
  using Step = StepQ4K;
  using Rows = RowsQ4K<S>;
  using Tile = TilesQ4K;
  static constexpr int64_t kFewRows = S::kFewRows;
  static constexpr int kMostCode = 15;
  static constexpr int64_t kBlock = 32;
  static constexpr bool kMins = true;
  static constexpr bool kSigned = false;

  template <bool is_signed>
  [[gnu::always_inline]] static inline void open(const Step& step, int64_t first, OpenStretch& out) {
    const typename S::F d = S::load_f16(step.d);
    const typename S::F dmin = S::negate(S::load_f16(step.dmin));
    for (int block = 0; block < 8; ++block) {
      if (block % 2 == 0) open_nibbles<S, 0>(step.codes[block / 2], out.codes + (first + block) * 8);
      out.lines[first + block] = out.codes + (first + block) * 8;
      S::store(out.scale[first + block], S::mul(d, S::to_float(S::load_u8(step.scale[block]))));
      S::store(out.min[first + block], S::mul(dmin, S::to_float(S::load_u8(step.min[block]))));
    }
  }
};

// The stretch of `panel` from column k on, which is a multiple of kStretch; cols is padded to steps.
template <class S, class T, bool is_signed = false>
[[gnu::always_inline]] inline void open_stretch(const std::byte* panel, int64_t k, int64_t cols, OpenStretch& out) {
  constexpr int64_t kStep = panel_layout(T::Rows::kType).step;
  const auto* step = reinterpret_cast<const typename T::Step*>(panel) + k / kStep;
  const int64_t end = cols - k < kStretch ? cols - k : kStretch;
  for (int64_t at = 0; at < end; at += kStep, ++step) {
    prefetch_ahead<sizeof(typename T::Step)>(step, S::kPrefetchBytes);
    T::template open<is_signed>(*step, at / T::kBlock, out);
  }
  out.blocks = end / T::kBlock;
}

// The integer sums of one block of K: P panels against R rows.
template <class S, class T, int P, int R>
[[gnu::always_inline]] inline void multiply_lines(const OpenStretch (&open)[kLinearPanels], int64_t block,
                                                  const std::byte* codes, const int32_t* code_sums,
                                                  typename S::I (&products)[P][R]) {
  using Rows = typename T::Rows::Rows;
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    const typename S::I start = S::set1_i(T::kMins || Rows::kPlanes > 1 ? 0 : code_sums[r]);
    for (int p = 0; p < P; ++p)
      products[p][r] = start;
  }
#pragma GCC unroll 2
  for (int plane = 0; plane < Rows::kPlanes; ++plane) {
#pragma GCC unroll 8
    for (int line = 0; line < T::kBlock / 4; ++line) {
      typename S::C w[P];
      for (int p = 0; p < P; ++p)
        w[p] = S::codes(open[p].lines[block][line]);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const std::byte* at = Rows::at(codes, r, line, plane);
        const typename S::X x = S::load_x_once(at);
        for (int p = 0; p < P; ++p)
          S::add_dot(products[p][r], w[p], x);
      }
    }
    if (plane + 1 < Rows::kPlanes) {
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        for (int p = 0; p < P; ++p)
          products[p][r] = S::add_i(S::times_256(products[p][r]), S::set1_i(code_sums[r]));
      }
    }
  }
}

// acc[row][panel] += one stretch of P panels against R rows; k is where the stretch begins.
template <class S, class T, int P, int R>
inline void tile(const OpenStretch (&open)[kLinearPanels], const typename T::Rows::Rows& x, int64_t k,
                 float (*acc)[kLinearPanels][kPanelRows]) {
  constexpr int64_t group = T::Rows::Rows::kGroup;
  static_assert(group == kStretch || group == T::kBlock);
  // Over the stretch where it is one group of activations, else over all.
  typename S::F sums[P][R];
  for (int p = 0; p < P; ++p) {
    for (int r = 0; r < R; ++r)
      sums[p][r] = group == kStretch ? S::zero() : S::load(acc[r][p]);
  }
  for (int64_t block = 0; block < open[0].blocks; ++block) {
    const int64_t at = k + block * T::kBlock;
    const int32_t* code_sums = x.sum(at);
    typename S::I products[P][R];
    multiply_lines<S, T, P, R>(open, block, x.block(at), code_sums, products);
    const float* x_scale = x.scale(at);
    for (int p = 0; p < P; ++p) {
      const typename S::F scale = S::load(open[p].scale[block]);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const typename S::F product = S::to_float(products[p][r]);
        typename S::F sum = group == T::kBlock ? S::mul(product, scale) : S::fma(product, scale, sums[p][r]);
        if constexpr (T::kMins) {
          const typename S::F codes = S::to_float(S::set1_i(code_sums[r]));
          sum = S::fma(codes, S::load(open[p].min[block]), sum);
        }
        sums[p][r] = group == T::kBlock ? S::fma(sum, S::set1(x_scale[r]), sums[p][r]) : sum;
      }
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int p = 0; p < P; ++p) {
      S::store(acc[r][p],
               group == T::kBlock ? sums[p][r] : S::fma(sums[p][r], S::set1(x.scale(k)[r]), S::load(acc[r][p])));
    }
  }
}

template <class S, class T, int P>
inline void many_rows_of(const LinearCall& call) {
  using Tile = typename T::Tile;
  using Rows = typename Tile::Rows::Rows;
  constexpr int R = S::template kTileRows<P>;
  const int64_t cols = round_up(call.cols, panel_layout(T::Rows::kType).step);
  alignas(64) float acc[kMostLinearRows][kLinearPanels][kPanelRows];
  for (int64_t r = 0; r < call.rows; ++r) {
    for (int p = 0; p < P; ++p)
      S::store(acc[r][p], S::zero());
  }
  OpenStretch open[kLinearPanels];
  for (int64_t k = 0; k < cols; k += kStretch) {
    for (int p = 0; p < P; ++p)
      open_stretch<S, T>(call.panels + p * call.panel_stride, k, cols, open[p]);
    int64_t r = 0;
    for (; r + R <= call.rows; r += R)
      tile<S, Tile, P, R>(open, Rows(call.x, call.first_row + r), k, acc + r);
    if constexpr (R > 4) {
      for (; r + 4 <= call.rows; r += 4)
        tile<S, Tile, P, 4>(open, Rows(call.x, call.first_row + r), k, acc + r);
    }
    if constexpr (R > 2) {
      for (; r + 2 <= call.rows; r += 2)
        tile<S, Tile, P, 2>(open, Rows(call.x, call.first_row + r), k, acc + r);
    }
    for (; r < call.rows; ++r)
      tile<S, Tile, P, 1>(open, Rows(call.x, call.first_row + r), k, acc + r);
  }
  for (int64_t r = 0; r < call.rows; ++r) {
    for (int p = 0; p < P; ++p) {
      const int64_t lanes = call.outputs - p * kPanelRows;
      finish<S>(S::load(acc[r][p]), call.bias == nullptr ? nullptr : call.bias + p * kPanelRows,
                lanes < kPanelRows ? lanes : kPanelRows, call.y + r * call.y_stride + p * kPanelRows);
    }
  }
}

// The first panels of a call, `outputs` rows of them, and what then is left.
[[gnu::always_inline]] inline LinearCall take_panels(LinearCall& call, int64_t outputs) {
  LinearCall head = call;
  head.outputs = outputs;
  call.panels += round_up(outputs, kPanelRows) / kPanelRows * call.panel_stride;
  call.outputs -= outputs;
  if (call.bias != nullptr) call.bias += outputs;
  call.y += outputs;
  return head;
}

template <class S, class T, int P>
[[gnu::always_inline]] inline void many_rows_of_panels(const LinearCall& call) {
  if constexpr (S::kOwnTiles) {
    S::template multiply_panels<T, P>(call);
  } else if constexpr (kQ4Tiles<S, T::Rows::kType>) {
    q4_panels<S, P>(call);
  } else {
    many_rows_of<S, T, P>(call);
  }
}

template <class S, class T>
inline void many_rows(LinearCall call) {
  constexpr int P = S::kTilePanels;
  while (call.outputs > kPanelRows) {
    const int64_t most = P * kPanelRows;
    many_rows_of_panels<S, T, P>(take_panels(call, call.outputs < most ? call.outputs : most));
  }
  if (call.outputs > 0) many_rows_of_panels<S, T, 1>(call);
}

// All rows of a call of quantised weights.
template <class S, class T>
void linear_quantized(const LinearCall& call) {
  if (call.rows > T::kFewRows) return many_rows<S, T>(call);
  int64_t r = 0;
  if constexpr (T::kFewRows >= 8) {
    for (; r + 8 <= call.rows; r += 8)
      few_rows<S, typename T::Rows, 8>(call, r);
  }
  if constexpr (T::kFewRows >= 4) {
    for (; r + 4 <= call.rows; r += 4)
      few_rows<S, typename T::Rows, 4>(call, r);
  }
  for (; r + 2 <= call.rows; r += 2)
    few_rows<S, typename T::Rows, 2>(call, r);
  for (; r < call.rows; ++r)
    few_rows<S, typename T::Rows, 1>(call, r);
}

}  // namespace
}  // namespace tidemill::tensor
