// AVX-512 with VNNI, AMX int8 tiles where a multiplication has rows enough to fill them, or attention queries enough
// (amx_attention.hpp), and AMX bf16 tiles for all rows of BF16 and F16 weights (amx_bf16.hpp). Compiled with the flags
// of the former; the tile instructions are assembly. Nothing here may be called before the CPU and the kernel have been
// asked.
//
// A tile holds 16 rows of activations, or the code lines of one block of a panel: their product are the integer sums of
// one block for 16 rows and 16 outputs, which are scaled and added up by vectors in the order that kernels.hpp states.
// So the bits are those of every other instruction set.
#include "tensor/amx_attention.hpp"
#include "tensor/amx_bf16.hpp"
#include "tensor/amx_tiles.hpp"
#include "tensor/kernels.hpp"
#include "tensor/vector_avx512.hpp"
#include "tensor/vector_formats.hpp"
#include "tensor/vector_tiles.hpp"

namespace tidemill::tensor {
namespace {

using S = Avx512;

// Fewer rows than this leave too much of a tile empty.
constexpr int64_t kFewestRows = 12;
constexpr int kBlocksAtOnce = 4;      // sums of so many blocks are made before any is used
constexpr size_t kInt8Attention = 3;  // KvType::int8

using TileSums = int32_t[kTileRows][kPanelRows];

// Sums in tiles 0 .. 3, activations in 4 and 5, code lines in 6 and 7.
TileShapes shapes_for_blocks_of_32() {
  TileShapes shapes = full_tiles();
  for (const int activations : {4, 5})
    shapes.row_bytes[activations] = 32;
  for (const int lines : {6, 7})
    shapes.rows[lines] = 8;
  return shapes;
}

// The integer sums of block `block` of a stretch that begins at column k, plane by plane, through tile `b` and two
// others. A block beyond the stretch's end is left as it is.
template <int b, class Rows, int planes>
[[gnu::always_inline]] inline void multiply_block(const OpenStretch& open, int64_t block, const Rows& x, int64_t k,
                                                  TileSums (&sums)[planes][kBlocksAtOnce]) {
  if (block >= open.blocks) return;
  constexpr int activations = 4 + b % 2;
  constexpr int lines = 6 + b % 2;
  constexpr int64_t sum_stride = sizeof(sums[0][0][0]);
  const std::byte* codes = x.block(k + block * 32);
  load_tile<lines>(open.lines[block], kLineBytes);
  for (int plane = 0; plane < planes; ++plane) {
    zero_tile<b>();
    load_tile<activations>(codes + plane * Rows::kPlane, Rows::kPlane * planes);
    multiply_tiles<b, activations, lines>();
    store_tile<b>(sums[plane][b], sum_stride);
  }
}

template <class Rows, int planes>
[[gnu::always_inline]] inline void multiply_blocks(const OpenStretch& open, int64_t first, const Rows& x, int64_t k,
                                                   TileSums (&sums)[planes][kBlocksAtOnce]) {
  static_assert(kBlocksAtOnce == 4);
  multiply_block<0>(open, first, x, k, sums);
  multiply_block<1>(open, first + 1, x, k, sums);
  multiply_block<2>(open, first + 2, x, k, sums);
  multiply_block<3>(open, first + 3, x, k, sums);
}

// acc[row] += one stretch of a panel against 16 rows of activations; k is where the stretch begins.
template <class T>
inline void amx_tile(const OpenStretch& open, const typename T::Rows::Rows& x, int64_t k, float (*acc)[kPanelRows]) {
  using Rows = typename T::Rows::Rows;
  constexpr int planes = Rows::kPlanes;
  constexpr int64_t group = Rows::kGroup;
  static_assert(T::kBlock == 32 && (group == kStretch || group == T::kBlock));
  alignas(64) TileSums sums[2][planes][kBlocksAtOnce];
  S::F total[kTileRows];
#pragma GCC unroll 16
  for (int r = 0; r < kTileRows; ++r)
    total[r] = group == kStretch ? S::zero() : S::load(acc[r]);
  multiply_blocks(open, 0, x, k, sums[0]);
  for (int64_t first = 0; first < open.blocks; first += kBlocksAtOnce) {
    // The tiles work on the next blocks while the vectors work on these.
    const int half = static_cast<int>(first / kBlocksAtOnce % 2);
    multiply_blocks(open, first + kBlocksAtOnce, x, k, sums[1 - half]);
    for (int b = 0; b < kBlocksAtOnce && first + b < open.blocks; ++b) {
      const int64_t at = k + (first + b) * T::kBlock;
      const S::F scale = S::load(open.scale[first + b]);
      const float* x_scale = x.scale(at);
#pragma GCC unroll 16
      for (int r = 0; r < kTileRows; ++r) {
        S::I products = S::load_i(sums[half][0][b][r]);
        if constexpr (planes == 2) products = S::add_i(S::times_256(products), S::load_i(sums[half][1][b][r]));
        S::F sum =
            group == T::kBlock ? S::mul(S::to_float(products), scale) : S::fma(S::to_float(products), scale, total[r]);
        if constexpr (T::kMins) {
          const S::F codes = S::to_float(S::set1_i(x.sum(at)[r]));
          sum = S::fma(codes, S::load(open.min[first + b]), sum);
        }
        total[r] = group == T::kBlock ? S::fma(sum, S::set1(x_scale[r]), total[r]) : sum;
      }
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kTileRows; ++r) {
    S::store(acc[r], group == T::kBlock ? total[r] : S::fma(total[r], S::set1(x.scale(k)[r]), S::load(acc[r])));
  }
}

// The rows of a call against one panel. Rows past the last one are whatever lies behind it in memory; their sums go
// into rows of `acc` that nobody reads.
template <class T>
void amx_panel(const LinearCall& call) {
  using Tile = typename T::Tile;
  using Rows = typename Tile::Rows::Rows;
  const int64_t cols = round_up(call.cols, panel_layout(T::Rows::kType).step);
  const int64_t rows = round_up(call.rows, kTileRows);
  alignas(64) float acc[kMostLinearRows][kPanelRows];
  for (int64_t r = 0; r < rows; ++r)
    S::store(acc[r], S::zero());
  OpenStretch open;
  for (int64_t k = 0; k < cols; k += kStretch) {
    open_stretch<S, T, true>(call.panels, k, cols, open);
    for (int64_t r = 0; r < rows; r += kTileRows)
      amx_tile<Tile>(open, Rows(call.x, call.first_row + r), k, acc + r);
  }
  for (int64_t r = 0; r < call.rows; ++r)
    finish<S>(S::load(acc[r]), call.bias, call.outputs, call.y + r * call.y_stride);
}

template <class T>
void linear_amx(const LinearCall& call) {
  if (call.rows < kFewestRows) return linear_quantized<S, T>(call);
  const TileShapes shapes = shapes_for_blocks_of_32();
  load_tile_shapes(shapes);
  LinearCall left = call;
  while (left.outputs > kPanelRows)
    amx_panel<T>(take_panels(left, kPanelRows));
  if (left.outputs > 0) amx_panel<T>(left);
  release_tiles();
}

Kernels with_tiles(Kernels kernels) {
  kernels.isa = Isa::amx;
  kernels.linear[static_cast<size_t>(DType::q8_0)] = linear_amx<TilesQ8<S>>;
  kernels.linear[static_cast<size_t>(DType::q4_0)] = linear_amx<TilesQ4<S>>;
  kernels.linear[static_cast<size_t>(DType::q4_k)] = linear_amx<TilesQ4K<S>>;
  kernels.linear[static_cast<size_t>(DType::q4_1)] = linear_amx<TilesQ41<S>>;
  kernels.linear[static_cast<size_t>(DType::q5_0)] = linear_amx<TilesQ50<S>>;
  kernels.linear[static_cast<size_t>(DType::q5_1)] = linear_amx<TilesQ51<S>>;
  kernels.linear[static_cast<size_t>(DType::q5_k)] = linear_amx<TilesQ5K<S>>;
  kernels.linear[static_cast<size_t>(DType::iq4_nl)] = linear_amx<TilesIq4Nl<S>>;
  kernels.linear[static_cast<size_t>(DType::iq4_xs)] = linear_amx<TilesIq4Xs<S>>;
  kernels.linear[static_cast<size_t>(DType::mxfp4)] = linear_amx<TilesMxfp4<S>>;
  kernels.linear[static_cast<size_t>(DType::f16)] = linear_amx_plain<S, DType::f16>;
  kernels.linear[static_cast<size_t>(DType::bf16)] = linear_amx_plain<S, DType::bf16>;
  kernels.rounds[static_cast<size_t>(DType::f16)] = kernels.rounds[static_cast<size_t>(DType::bf16)] = true;
  kernels.round_row = round_row;
  kernels.attention[kInt8Attention] = attention_int8_amx<S>;
  return kernels;
}

}  // namespace

const Kernels& amx_kernels() {
  static const Kernels kernels = with_tiles(avx512_vnni_kernels());
  return kernels;
}

}  // namespace tidemill::tensor
