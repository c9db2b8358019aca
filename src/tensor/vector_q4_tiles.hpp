// linear() of Q4_0 for more than a few rows, on instruction sets with S::kBitSums; see vector_linear.hpp for why all of
// this has internal linkage.
//
// A stretch of two panels is unpacked into L1 by the first eight rows, for all. Each code of activations that is
// broadcast meets both panels, so that loads do not outnumber the multiplications; sums over blocks live in memory,
// which leaves registers for the integer sums of eight rows. That is eight VPDPBUSD and two multiply-adds for each
// block, panel and row. The next stretch is asked for a few lines at a time, between the multiplications: all at once
// they would wait for each other.
#pragma once

#include "tensor/kernels.hpp"
#include "tensor/packed_layout.hpp"
#include "tensor/vector_bit_sums.hpp"
#include "tensor/vector_linear.hpp"

namespace tidemill::tensor {
namespace {

constexpr int64_t kQ4Stretch = 512;  // of K
constexpr int64_t kQ4Blocks = kQ4Stretch / 32;
constexpr int kQ4Rows = 8;                   // of a tile
constexpr int64_t kQ4FewRows = kQ4Rows - 1;  // up to so many, straight from the packed weights

// A stretch of P panels, unpacked by the first tile that meets it.
template <int P>
struct OpenQ4 {
  alignas(64) uint8_t codes[kQ4Stretch / 4][P][kLineBytes];  // those of high nibbles sixteen times as large
  alignas(64) float scale[kQ4Blocks][P][kPanelRows];
  alignas(64) float less[kQ4Blocks][P][kPanelRows];  // BlockScale
};

// Where the stretch lies packed, and the lines that a tile asks for between its blocks: as many of `panels` panels as a
// stretch has.
struct SourceQ4 {
  static constexpr int64_t kLinesOfBlock = (sizeof(StepQ4) / kLineBytes + 1) / 2;

  const std::byte* steps;
  const std::byte* ahead;
  int64_t stride;  // from panel to panel, of both
  int panels;

  [[gnu::always_inline]] const StepQ4& step(int p, int64_t block) const {
    return reinterpret_cast<const StepQ4*>(steps + p * stride)[block / 2];
  }
  [[gnu::always_inline]] void prefetch(int64_t block) const {
    for (int p = 0; p < panels; ++p) {
      const std::byte* from = ahead + p * stride + block * kLinesOfBlock * kLineBytes;
#pragma GCC unroll 5
      for (int64_t line = 0; line < kLinesOfBlock; ++line)
        __builtin_prefetch(from + line * kLineBytes, 0, 2);
    }
  }
};

// A number of rows as a type.
template <int rows>
struct RowCount {
  static constexpr int value = rows;
};

// sums[row][panel] += block `block` of a stretch, that of the low nibbles of its step or the high ones, against R rows.
template <class S, int P, int R, bool opens, bool high>
[[gnu::always_inline]] inline void q4_block(OpenQ4<P>& open, const SourceQ4& source, int64_t block,
                                            const RowsAt<S, DType::q4_0>& x, int64_t k, float (*sums)[P][kPanelRows]) {
  using Rows = RowsAt<S, DType::q4_0>;
  source.prefetch(block);
  const std::byte* codes = x.block(k);
  const int32_t* starts = x.sum(k);
  typename S::I products[P][R];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    for (int p = 0; p < P; ++p)
      products[p][r] = S::set1_i(starts[r]);
  }
#pragma GCC unroll 8
  for (int line = 0; line < 8; ++line) {
    typename S::C w[P];
#pragma GCC unroll 2
    for (int p = 0; p < P; ++p) {
      uint8_t* unpacked = open.codes[block * 8 + line][p];
      if constexpr (opens) {
        const uint8_t* packed = source.step(p, block).codes[line];
        w[p] = high ? S::high_codes_in_place(packed) : S::low_codes(packed);
        S::store_less(unpacked, w[p], 0);
      } else {
        w[p] = S::codes(unpacked);
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const typename S::X four = S::load_x_once(Rows::at(codes, r, line));
#pragma GCC unroll 2
      for (int p = 0; p < P; ++p)
        S::add_dot(products[p][r], w[p], four);
    }
  }
  const float* x_scale = x.scale(k);
#pragma GCC unroll 2
  for (int p = 0; p < P; ++p) {
    if constexpr (opens) {
      const BlockScale<S> unpacked(source.step(p, block).scale[high ? 1 : 0], high);
      S::store(open.scale[block][p], unpacked.scale);
      S::store(open.less[block][p], unpacked.less);
    }
    const typename S::F scale = S::load(open.scale[block][p]);
    const typename S::F less = S::load(open.less[block][p]);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const typename S::F product = S::fma(S::as_float(products[p][r]), scale, less);
      S::store(sums[r][p], S::fma(product, S::set1(x_scale[r]), S::load(sums[r][p])));
    }
  }
}

// All blocks of a stretch that begins at column k.
template <class S, int P, int R, bool opens>
inline void q4_tile(OpenQ4<P>& open, const SourceQ4& source, int64_t blocks, const RowsAt<S, DType::q4_0>& x, int64_t k,
                    float (*sums)[P][kPanelRows]) {
  for (int64_t block = 0; block < blocks; block += 2) {
    q4_block<S, P, R, opens, false>(open, source, block, x, k + block * 32, sums);
    q4_block<S, P, R, opens, true>(open, source, block + 1, x, k + block * 32 + 32, sums);
  }
}

// All rows of a call of P panels; at least kQ4Rows.
template <class S, int P>
inline void q4_panels(const LinearCall& call) {
  using Rows = RowsAt<S, DType::q4_0>;
  const int64_t cols = round_up(call.cols, panel_layout(DType::q4_0).step);
  alignas(64) float sums[kMostLinearRows][P][kPanelRows];
  for (int64_t r = 0; r < call.rows; ++r) {
    for (int p = 0; p < P; ++p)
      S::store(sums[r][p], S::zero());
  }
  OpenQ4<P> open;
  for (int64_t k = 0; k < cols; k += kQ4Stretch) {
    const int64_t blocks = (cols - k < kQ4Stretch ? cols - k : kQ4Stretch) / 32;
    constexpr int64_t step = panel_layout(DType::q4_0).step;
    const auto steps_at = [&](int64_t column) { return call.panels + column / step * int64_t{sizeof(StepQ4)}; };
    // Behind the last stretch come the panels of the next call, most often. The first tile asks for the first panel's
    // lines, the second one for the second's; one tile alone for both.
    SourceQ4 source = {steps_at(k),
                       k + kQ4Stretch < cols ? steps_at(k + kQ4Stretch) : call.panels + P * call.panel_stride,
                       call.panel_stride, 1 + static_cast<int>(call.rows == kQ4Rows) * (P - 1)};
    q4_tile<S, P, kQ4Rows, true>(open, source, blocks, Rows(call.x, call.first_row), k, sums);
    source.panels = P - source.panels;
    source.ahead += call.panel_stride;
    int64_t r = kQ4Rows;
    const auto tiles_of = [&](auto rows) __attribute__((always_inline)) {
      for (; r + rows.value <= call.rows; r += rows.value) {
        q4_tile<S, P, rows.value, false>(open, source, blocks, Rows(call.x, call.first_row + r), k, sums + r);
        source.panels = 0;
      }
    };
    tiles_of(RowCount<kQ4Rows>{});
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
