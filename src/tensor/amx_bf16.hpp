// linear() of BF16 and F16 weights on AMX tiles of bf16, for any number of rows: a sum is made by the same instructions
// in the same order beside no other row and beside many. See kernels.hpp for the arithmetic and vector_linear.hpp for
// why all of this has internal linkage.
#pragma once

#include "tensor/amx_tiles.hpp"
#include "tensor/kernels.hpp"
#include "tensor/vector_avx512.hpp"
#include "tensor/vector_bf16.hpp"
#include "tensor/vector_linear.hpp"
#include "tensor/vector_tiles.hpp"

namespace tidemill::tensor {
namespace {

constexpr int64_t kAmxTile = kTileRows * kLineBytes;  // bytes: 16 rows of activations or 32 k of a panel

// All tiles are full: sums of row tile i and panel p in tile 2 i + p, activations in 4 + i, weights in 6 + p.
using FloatTile = float[kTileRows][kPanelRows];

// Weights as tiles: of block b of 32 k, part q and panel p at data + b * block + q * part + p * panel.
struct WeightTiles {
  const std::byte* data;
  int64_t block;
  int64_t part;
  int64_t panel;
};

template <int i, int P>
[[gnu::always_inline]] inline void multiply_row_tile() {
  multiply_bf16_tiles<2 * i, 4 + i, 6>();
  if constexpr (P == 2) multiply_bf16_tiles<2 * i + 1, 4 + i, 7>();
}

// The sums of I tiles of rows with P panels, over `blocks` blocks of 32 k: from zero, or going on from `sums`.
template <class S, int P, int I, int parts>
inline void multiply_bf16(const WeightTiles& w, const std::byte* x, int64_t x_block, int64_t blocks, bool go_on,
                          FloatTile (*sums)[kLinearPanels]) {
  constexpr int64_t stride = sizeof(sums[0][0][0]);
  const auto each_sum = [&](auto one, [[maybe_unused]] auto two, [[maybe_unused]] auto three,
                            [[maybe_unused]] auto four) __attribute__((always_inline)) {
    one(sums[0][0]);
    if constexpr (P == 2) two(sums[0][1]);
    if constexpr (I == 2) three(sums[1][0]);
    if constexpr (P == 2 && I == 2) four(sums[1][1]);
  };
  if (go_on) {
    each_sum([](auto& s) { load_tile<0>(s, stride); }, [](auto& s) { load_tile<1>(s, stride); },
             [](auto& s) { load_tile<2>(s, stride); }, [](auto& s) { load_tile<3>(s, stride); });
  } else {
    each_sum([](auto&) { zero_tile<0>(); }, [](auto&) { zero_tile<1>(); }, [](auto&) { zero_tile<2>(); },
             [](auto&) { zero_tile<3>(); });
  }
  for (int64_t b = 0; b < blocks; ++b, x += x_block) {
    load_tile<4>(x, kLineBytes);
    if constexpr (I == 2) load_tile<5>(x + kAmxTile, kLineBytes);
    for (int q = 0; q < parts; ++q) {
      const std::byte* tiles = w.data + b * w.block + q * w.part;
      load_tile<6>(tiles, kLineBytes);
      if constexpr (P == 2) load_tile<7>(tiles + w.panel, kLineBytes);
      if constexpr (parts == 1) {
        for (int p = 0; p < P; ++p)
          prefetch_ahead<kAmxTile>(tiles + p * w.panel, S::kPrefetchBytes);
      }
      multiply_row_tile<0, P>();
      if constexpr (I == 2) multiply_row_tile<1, P>();
    }
  }
  each_sum([](auto& s) { store_tile<0>(s, stride); }, [](auto& s) { store_tile<1>(s, stride); },
           [](auto& s) { store_tile<2>(s, stride); }, [](auto& s) { store_tile<3>(s, stride); });
}

// All rows of a call, tile by tile; k is where the weights begin. Rows past the last one are whatever lies behind it in
// memory; nobody reads their sums.
template <class S, int P, int parts>
inline void multiply_rows(const LinearCall& call, const WeightTiles& w, int64_t k, int64_t blocks,
                          FloatTile (*sums)[kLinearPanels]) {
  const int64_t x_block = call.x.rows * kLineBytes;
  const std::byte* x = call.x.codes + k / kBf16Block * x_block + call.first_row * kLineBytes;
  for (int64_t r = 0; r < call.rows; r += 2 * kTileRows) {
    FloatTile(*to)[kLinearPanels] = sums + r / kTileRows;
    if (call.rows - r > kTileRows) {
      multiply_bf16<S, P, 2, parts>(w, x + r * kLineBytes, x_block, blocks, k > 0, to);
    } else {
      multiply_bf16<S, P, 1, parts>(w, x + r * kLineBytes, x_block, blocks, k > 0, to);
    }
  }
}

// F16 weights, opened: each value as a bf16 cut off and the rest, which bf16 holds exactly.
constexpr int64_t kF16Stretch = 512;
struct OpenF16 {
  alignas(64) std::byte tiles[kF16Stretch / kBf16Block][2][kLinearPanels][kAmxTile];
};

template <class S>
[[gnu::always_inline]] inline void open_f16_pair(typename S::F even, typename S::F odd, std::byte* cut,
                                                 std::byte* rest) {
  const __m512i upper = _mm512_set1_epi32(static_cast<int32_t>(0xffff0000));
  const auto pair = [](__m512i a, __m512i b) { return _mm512_or_si512(_mm512_srli_epi32(a, 16), b); };
  const __m512i cut_even = _mm512_and_si512(_mm512_castps_si512(even), upper);
  const __m512i cut_odd = _mm512_and_si512(_mm512_castps_si512(odd), upper);
  _mm512_store_si512(cut, pair(cut_even, cut_odd));
  const __m512 rest_even = S::sub(even, _mm512_castsi512_ps(cut_even));
  const __m512 rest_odd = S::sub(odd, _mm512_castsi512_ps(cut_odd));
  _mm512_store_si512(rest, pair(_mm512_castps_si512(rest_even), _mm512_castps_si512(rest_odd)));
}

// Columns k .. k + blocks * 32 - 1 of one panel; those past the last one are zero.
template <class S>
inline void open_f16(const std::byte* panel, int64_t k, int64_t blocks, int64_t cols, int p, OpenF16& open) {
  const auto* values = reinterpret_cast<const uint16_t*>(panel);
  for (int64_t b = 0; b < blocks; ++b) {
    prefetch_ahead<kAmxTile>(values + (k + b * kBf16Block) * kPanelRows, S::kPrefetchBytes);
    for (int64_t pair = 0; pair < kBf16Block / 2; ++pair) {
      const int64_t at = k + b * kBf16Block + 2 * pair;
      const typename S::F even = at < cols ? S::load_f16(values + at * kPanelRows) : S::zero();
      const typename S::F odd = at + 1 < cols ? S::load_f16(values + (at + 1) * kPanelRows) : S::zero();
      open_f16_pair<S>(even, odd, open.tiles[b][0][p] + pair * kLineBytes, open.tiles[b][1][p] + pair * kLineBytes);
    }
  }
}

template <class S, DType type, int P>
inline void amx_plain_panels(const LinearCall& call) {
  alignas(64) FloatTile sums[kMostLinearRows / kTileRows][kLinearPanels];
  const int64_t blocks = (call.cols + kBf16Block - 1) / kBf16Block;
  if constexpr (type == DType::bf16) {
    multiply_rows<S, P, 1>(call, {call.panels, kAmxTile, 0, call.panel_stride}, 0, blocks, sums);
  } else {
    OpenF16 open;
    const WeightTiles tiles{open.tiles[0][0][0], sizeof open.tiles[0], sizeof open.tiles[0][0], kAmxTile};
    for (int64_t k = 0; k < call.cols; k += kF16Stretch) {
      const int64_t left = blocks - k / kBf16Block;
      const int64_t now = left < kF16Stretch / kBf16Block ? left : kF16Stretch / kBf16Block;
      for (int p = 0; p < P; ++p)
        open_f16<S>(call.panels + p * call.panel_stride, k, now, call.cols, p, open);
      multiply_rows<S, P, 2>(call, tiles, k, now, sums);
    }
  }
  for (int64_t r = 0; r < call.rows; ++r) {
    for (int p = 0; p < P; ++p) {
      const int64_t lanes = call.outputs - p * kPanelRows;
      finish<S>(S::load(sums[r / kTileRows][p][r % kTileRows]),
                call.bias == nullptr ? nullptr : call.bias + p * kPanelRows, lanes < kPanelRows ? lanes : kPanelRows,
                call.y + r * call.y_stride + p * kPanelRows);
    }
  }
}

// Few rows read one panel after the other, as one stream.
template <class S, DType type>
void linear_amx_plain(const LinearCall& call) {
  const TileShapes shapes = full_tiles();
  load_tile_shapes(shapes);
  const int64_t together = (call.rows <= kTileRows ? 1 : kLinearPanels) * kPanelRows;
  LinearCall left = call;
  while (left.outputs > 0) {
    const LinearCall head = take_panels(left, left.outputs < together ? left.outputs : together);
    if (head.outputs > kPanelRows) {
      amx_plain_panels<S, type, 2>(head);
    } else {
      amx_plain_panels<S, type, 1>(head);
    }
  }
  release_tiles();
}

}  // namespace
}  // namespace tidemill::tensor
