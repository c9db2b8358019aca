// How weights lie in memory on the CPU: one layout for every batch size and instruction set.
//
// A matrix is cut into panels of 16 output rows (the last one padded with zeros); a lane of a kernel is an output row.
// A panel is one sequential stream of steps over K, so that a single prefetch stream feeds a core. A step of a
// quantised panel holds the scales and the codes of its K range. Codes are unsigned; four consecutive k of one row are
// adjacent bytes and 16 rows follow each other, so 64 bytes are one operand of VPDPBUSD (and a row of an AMX tile):
// line[lane * 4 + i] is the code of row `lane` at k + i. K is padded to whole steps with zero bytes, which meet
// activations of zero.
//
// F32 and F16 have 16 values per k: a step is one k. BF16 has two consecutive k of one row side by side, which makes a
// line of 64 bytes one operand of VDPBF16PS and a row of an AMX tile: line[lane * 2 + i] is row `lane` at k + i; a step
// is 16 lines, one tile. K is padded with zeros.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/code_tables.hpp"
#include "tensor/dtype.hpp"

namespace tidemill::tensor {

// Files hold panels in this layout (model/packed_file.hpp). Raise it with every change of what the bytes of a panel of
// any type mean or how many they are: files of another version are refused, and packed anew.
inline constexpr uint32_t kPackedLayoutVersion = 4;

inline constexpr int64_t kPanelRows = 16;
inline constexpr int64_t kLineBytes = 64;  // 4 k of 16 rows

// Where the value of (lane, k) lies in a panel of BF16, counted in values.
constexpr int64_t bf16_place(int64_t lane, int64_t k) {
  return (k / 2 * kPanelRows + lane) * 2 + k % 2;
}

// 64 k, two groups. scale: binary16.
struct StepQ8 {
  uint16_t scale[2][16];
  uint8_t codes[2][8][kLineBytes];
};
// 64 k: the low nibbles of the lines are group 0, the high nibbles group 1. Q4_0 and IQ4_NL.
struct StepQ4 {
  uint16_t scale[2][16];
  uint8_t codes[8][kLineBytes];
};
// 256 k: eight groups; the low nibbles of codes[p] are group 2p, the high nibbles group 2p + 1.
struct StepQ4K {
  uint16_t d[16];
  uint16_t dmin[16];
  uint8_t scale[8][16];
  uint8_t min[8][16];
  uint8_t codes[4][8][kLineBytes];
};
// 64 k: as StepQ4, with a minimum for each group, which is added.
struct StepQ41 {
  uint16_t scale[2][16];
  uint16_t min[2][16];
  uint8_t codes[8][kLineBytes];
};
// Codes of five bits, each group of 32 in five lines. Its lines 0 to 4 lie as they are in the low five bits, and those
// of the others are made up of the three bits above: line 5 of those of line 0 and, as its upper two, the upper two of
// line 1; line 6 of those of lines 2 and 3 in the same way; line 7 of those of line 4, bit 5 of line 1 and bit 5 of
// line 3. So five lines of eight take one instruction (docs/performance.md has the figures).
using FiveBits = uint8_t[5][kLineBytes];
struct StepQ50 {
  uint16_t scale[2][16];
  FiveBits codes[2];
};
struct StepQ51 {
  uint16_t scale[2][16];
  uint16_t min[2][16];
  FiveBits codes[2];
};
struct StepQ5K {
  uint16_t d[16];
  uint16_t dmin[16];
  uint8_t scale[8][16];
  uint8_t min[8][16];
  FiveBits codes[8];
};
// 256 k: sixteen groups of 16, codes of two bits: bits 2 q and 2 q + 1 of codes[half] are k = half * 128 + q * 32 and
// on. Of the bytes of `scale`, the low nibble is the scale and the high one the minimum.
struct StepQ2K {
  uint16_t d[16];
  uint16_t dmin[16];
  uint8_t scale[16][16];
  uint8_t codes[2][8][kLineBytes];
};
// The same with a line of third bits for each group of 32 k: bit i of a byte of it belongs to the group's line i.
struct StepQ3K {
  uint16_t d[16];
  uint16_t unused[16];
  int8_t scale[16][16];
  uint8_t third[8][kLineBytes];
  uint8_t codes[2][8][kLineBytes];
};
// 256 k: sixteen groups of 16, codes of six bits. Of each half's four blocks of 32 k, the first three lie as they are
// in the low six bits of codes[half][block]; the two bits above them in blocks 0, 1 and 2 are the lowest, middle and
// highest two of block 3.
using SixBits = uint8_t[3][8][kLineBytes];
struct StepQ6K {
  uint16_t d[16];
  uint16_t unused[16];
  int8_t scale[16][16];
  SixBits codes[2];
};
// 256 k: eight groups of 32, nibbles as in StepQ4K.
struct StepIq4Xs {
  uint16_t d[16];
  uint16_t unused[16];
  int8_t scale[8][16];
  uint8_t codes[4][8][kLineBytes];
};
// 128 k: four groups, nibbles as in StepQ4K; a group's scale is 2^(exponent - 128), as quant_blocks.hpp has it.
struct StepMxfp4 {
  uint8_t exponent[4][16];
  uint8_t codes[2][8][kLineBytes];
};
static_assert(sizeof(StepQ8) == 64 + 1024 && sizeof(StepQ4) == 64 + 512);
static_assert(sizeof(StepQ4K) == 64 + 256 + 2048 && sizeof(StepQ6K) == 64 + 256 + 3072);
static_assert(sizeof(StepQ41) == 128 + 512 && sizeof(StepQ50) == 64 + 640 && sizeof(StepQ51) == 128 + 640);
static_assert(sizeof(StepQ5K) == 64 + 256 + 2560);
static_assert(sizeof(StepQ2K) == 64 + 256 + 1024 && sizeof(StepQ3K) == 64 + 256 + 512 + 1024);
static_assert(sizeof(StepIq4Xs) == 64 + 128 + 2048 && sizeof(StepMxfp4) == 64 + 1024);

struct PanelLayout {
  bool quantized;
  int64_t step;        // elements of K in one step
  int64_t step_bytes;  // for 16 rows
  // What the integer accumulator of `sum_group` elements, which share a scale, starts from, per unit of the sum of
  // their activation codes: minus the code that stands for weight zero. Types with minima keep those apart and want the
  // sum itself.
  int64_t sum_group;
  int sum_factor;
  // How activations are quantised to meet these weights: elements of K that share a scale, and whether their codes have
  // 16 bits or 8.
  int64_t activation_group;
  bool wide;
  bool bit_sums = false;  // whether sums may start as the bits of a float (vector_bit_sums.hpp)

  [[gnu::always_inline]] constexpr bool has_mins() const { return sum_factor > 0; }  // as round_up()
};

// Narrow codes add an error of their own to each product, the smaller the fewer activations share a scale; wide ones
// add next to none and cost twice the multiplications. Q8_0 is for who wants the model as it is: wide. Weights of six
// bits and less err far more than any of this; they get what llama.cpp gives them, 8 bits in groups of 32 or 256
// (docs/performance.md has the figures for some).
constexpr PanelLayout panel_layout(DType type) {
  switch (type) {
    case DType::f32:
      return {false, 1, 64, 0, 0, 0, false};
    case DType::f16:
      return {false, 1, 32, 0, 0, 0, false};
    case DType::bf16:
      return {false, 32, 1024, 0, 0, 0, false};
    case DType::q8_0:
      return {true, 64, sizeof(StepQ8), 32, -128, 256, true};
    case DType::q4_0:
      return {true, 64, sizeof(StepQ4), 32, -8, 32, false, true};
    case DType::q4_k:
      return {true, 256, sizeof(StepQ4K), 32, 1, 256, false};
    case DType::q6_k:
      return {true, 256, sizeof(StepQ6K), 16, -32, 256, false};
    case DType::q4_1:
      return {true, 64, sizeof(StepQ41), 32, 1, 32, false};
    case DType::q5_0:
      return {true, 64, sizeof(StepQ50), 32, -16, 32, false};
    case DType::q5_1:
      return {true, 64, sizeof(StepQ51), 32, 1, 32, false};
    case DType::q2_k:
      return {true, 256, sizeof(StepQ2K), 16, 1, 256, false};
    case DType::q3_k:
      return {true, 256, sizeof(StepQ3K), 16, -4, 256, false};
    case DType::q5_k:
      return {true, 256, sizeof(StepQ5K), 32, 1, 256, false};
    case DType::iq4_nl:
      return {true, 64, sizeof(StepQ4), 32, -kIq4Zero, 32, false};
    case DType::iq4_xs:
      return {true, 256, sizeof(StepIq4Xs), 32, -kIq4Zero, 256, false};
    case DType::mxfp4:
      return {true, 128, sizeof(StepMxfp4), 32, -kMxfp4Zero, 32, false};
  }
  return {};
}

// Inlined without fail: an instruction set's file must not leave a copy for the linker to choose (kernels.hpp).
[[gnu::always_inline]] constexpr int64_t round_up(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// Bytes of one panel of `cols` columns, a multiple of 64.
constexpr int64_t panel_bytes(DType type, int64_t cols) {
  const PanelLayout layout = panel_layout(type);
  return round_up((cols + layout.step - 1) / layout.step * layout.step_bytes, 64);
}

// Panels of a matrix of `rows` rows.
constexpr int64_t panel_count(int64_t rows) {
  return rows / kPanelRows + (rows % kPanelRows != 0 ? 1 : 0);
}

}  // namespace tidemill::tensor
