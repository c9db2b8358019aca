// The tile instructions of AMX as inline functions. Assembly rather than the compiler's intrinsics, whose operands GCC
// 12 describes incompletely: it may move the stores that fill a tile's memory behind the load. Internal linkage, as in
// vector_linear.hpp.
//
// Tiles are numbered at compile time. TileShapes says how the tiles are used here; while it is loaded no other shape
// is.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tidemill::tensor {
namespace {

// The 64 bytes of LDTILECFG, palette 1 (Intel SDM, volume 1, chapter 18).
struct alignas(64) TileShapes {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};
static_assert(sizeof(TileShapes) == 64);

// Of a full tile, whose rows have 64 bytes.
constexpr int64_t kTileRows = 16;

// All eight tiles full.
inline TileShapes full_tiles() {
  TileShapes shapes;
  for (int tile = 0; tile < 8; ++tile) {
    shapes.rows[tile] = kTileRows;
    shapes.row_bytes[tile] = 64;
  }
  return shapes;
}

[[gnu::always_inline]] inline void load_tile_shapes(const TileShapes& shapes) {
  asm volatile("ldtilecfg %0" : : "m"(shapes) : "memory");
}
// All tiles go back to their initial state, in which a context switch saves nothing.
[[gnu::always_inline]] inline void release_tiles() {
  asm volatile("tilerelease" : : : "memory");
}
template <int tile>
[[gnu::always_inline]] inline void zero_tile() {
  asm volatile("tilezero %%tmm%c0" : : "i"(tile));
}
// Row r of the tile from or to base + r * stride bytes.
template <int tile>
[[gnu::always_inline]] inline void load_tile(const void* base, int64_t stride) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(base), "r"(stride), "i"(tile) : "memory");
}
template <int tile>
[[gnu::always_inline]] inline void store_tile(void* base, int64_t stride) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(base), "r"(stride), "i"(tile) : "memory");
}
// sums[m][n] += sum over i, k of rows[m][4 k + i] * lines[k][4 n + i]: signed bytes into 32-bit integers.
template <int sums, int rows, int lines>
[[gnu::always_inline]] inline void multiply_tiles() {
  asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(sums), "i"(rows), "i"(lines));
}
// The same of signed rows and unsigned lines.
template <int sums, int rows, int lines>
[[gnu::always_inline]] inline void multiply_tiles_signed_unsigned() {
  asm volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(sums), "i"(rows), "i"(lines));
}
// The same of unsigned rows and signed lines.
template <int sums, int rows, int lines>
[[gnu::always_inline]] inline void multiply_tiles_unsigned_signed() {
  asm volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(sums), "i"(rows), "i"(lines));
}
// The same of pairs of bf16 into binary32: see kernels.hpp for the order.
template <int sums, int rows, int lines>
[[gnu::always_inline]] inline void multiply_bf16_tiles() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(sums), "i"(rows), "i"(lines));
}

}  // namespace
}  // namespace tidemill::tensor
