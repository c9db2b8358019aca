// The operations of the CPU device that depend on the instruction set, as a table of function pointers. Each
// instruction set fills one table in one source file that is compiled with its own flags; cpu_device.cpp chooses a
// table once.
//
// This header is included by files compiled for different instruction sets. It must stay free of inline functions that
// those files might emit, or the linker could keep an AVX-512 copy for everybody.
//
// All tables compute the same bits from weights whose scales are finite, but for linear() of BF16 and F16 weights where
// the instruction set multiplies bf16 (Kernels::rounds). The order of floating-point operations, for reference, where
// `lane` is an output row:
//   quantised linear  over blocks of 32 k (Q2_K, Q3_K, Q6_K: 16), for each group of activations (PanelLayout):
//                       i = exact integer sum of (weight code - zero code) * activation code; of IQ4 and MXFP4, a
//                       code's value in their table (code_tables.hpp)
//                       a = fma(float(i), w, a) from 0, w the block's scale (K-quants and IQ4_XS: d * scale, an exact
//                       product); types with minima: then a = fma(float(sum of activation codes), m, a), m being
//                       -(dmin * min), an exact product too, or what Q4_1 and Q5_1 add to each weight
//                     acc = fma(a, x_scale, acc) over groups, from 0.
//   plain linear      two accumulators, for even and odd k: acc[k % 2] = fma(w, x, acc[k % 2]); their sum at the end.
//                     w of quantised types (linear_f32) is the weight's value as dequantize() gives it.
//   rounded linear    activations rounded to bf16, K padded with zeros; subnormal operands and results count as zero.
//                     VDPBF16PS: acc = fma(w[k + 1], x[k + 1], acc), then fma(w[k], x[k], acc), for even k, from 0.
//                     TDPBF16PS: for each 32 k: even = fma(w[k], x[k], even) over its even k, from 0, odd likewise;
//                     acc = acc + (even + odd), from 0. F16 is split into h, which is the value cut off to bf16, and
//                     l, the rest, which is exact: each 32 k with h, then with l.
//   sums of 16 lanes  lanes i and i + 8 are added, then i and i + 4, i + 2, i + 1.
//   inverse_rms       lane i % 16: acc = fma(x, x, acc); lanes summed; 1 / sqrt(sum / n + epsilon).
//   normalize         (x * inverse) * weight.
//   attention         see attention_order.hpp.
//   exp, tanh         see exp_constants.hpp, as the tanh form of GELU.
//   gated             (x / (1 + e^-x)) * up, (x / (1 + e^-u)) * up for GELU, and of clamped numbers
//                     (x / (1 + e^-(x * slope))) * (up + 1).
//   soft_cap          tanh of half of x * (2 / cap), * cap.
//   layer_norm, gelu  see encoder_rows.hpp.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/dtype.hpp"
#include "tensor/isa.hpp"
#include "tensor/packed_layout.hpp"

namespace tidemill::tensor {

// Activations as integer codes with one scale per group of K (the last group may be shorter), K padded with zero codes
// to the weight's steps.
//
// Codes are of 8 bits, up to L = 127, or wide ones, up to L = 127 * 256. A group whose largest magnitude a is finite
// and at least 2^-100 has scale a / L and codes rint(x * (L / a)). A smaller one has scale 0 and codes 0. One with a
// NaN or an infinity has scale NaN and codes 0, so that the output is NaN too.
//
// Everything is kept for many rows side by side, so that a kernel reaches a tile of rows at fixed distances.
struct QuantizedRows {
  int64_t rows;
  std::byte* codes;  // [padded cols / kCodeBlock][rows][kCodeBlock codes, in the instruction set's own order]
  float* scales;     // [groups][rows]
  // [padded cols / sum_group][rows]: sum of codes * sum_factor of the weight's PanelLayout, plus what an instruction
  // set may want to start from (vector_bit_sums.hpp).
  int32_t* sums;
};
inline constexpr int64_t kCodeBlock = 64;
// Activations rounded to bf16 lie in `codes` alone: [cols padded to kBf16Block / kBf16Block][rows][kBf16Block values].
// To nearest even; subnormal ones become zero, and none that is finite an infinity.
inline constexpr int64_t kBf16Block = 32;
// What may be read behind the last byte of codes, scales and sums: a tile takes its rows sixteen at a time.
inline constexpr int64_t kQuantizedSlack = 16 * 2 * kCodeBlock;

// y.row(r)[o] = sum over k of w[o][k] * x.row(r)[k], plus bias[o] where bias is given, for the `outputs` output rows o
// of some consecutive panels.
struct LinearCall {
  const std::byte* panels;
  int64_t panel_stride;  // bytes
  int64_t outputs;       // all panels but the last one are full
  int64_t cols;          // of the matrix, unpadded
  const float* bias;     // [outputs], or null
  QuantizedRows x;       // for linear() of quantised types, and of those whose activations are rounded
  int64_t first_row;     // of x that is wanted
  const float* x_data;   // for all else, at the first row wanted
  int64_t x_stride;
  int64_t rows;  // 1 .. kMostLinearRows
  float* y;
  int64_t y_stride;
  int64_t ahead_of_one_row;  // bytes of quantised weights to ask memory for ahead; of a single row
};
inline constexpr int64_t kMostLinearRows = 256;
inline constexpr int64_t kLinearPanels = 2;  // that one call had best have, where there are so many

// What attention keeps of each query while it walks along the keys: see attention_order.hpp.
struct AttentionState {
  float* most;         // [queries]: the largest exponent so far
  float* weight;       // [queries]: sum of weights, relative to it
  float* sums;         // [queries][sum_stride]: weighted sums of values, relative to it
  int64_t sum_stride;  // value_dim rounded up to 16
};

// Rows of one sequence and one KV head. Query r * group + g is head g (of those that share the KV head) of row r.
// Layouts of keys and values: kv_cache.hpp.
struct AttentionCall {
  const std::byte* keys;    // block b's keys of this head are at keys + block_table[b] * block_stride
  const std::byte* values;  // likewise; null: they are the first value_dim elements of keys (KvShape::latent)
  int64_t block_stride;     // bytes
  const int32_t* block_table;
  int64_t head_dim;   // elements of a query and a key
  int64_t value_dim;  // and of a value
  int64_t group;
  int64_t rows;
  const int32_t* positions;  // [rows]: row r attends to tokens up to positions[r]
  int64_t window;            // and so many at most; more than any position where there is no window
  float scale;
  float soft_cap;  // 0: none
  const float* q;  // row r's heads are at q + r * q_stride, [group][head_dim]
  int64_t q_stride;
  int64_t first_segment;  // of those to walk along: first_segment .. end_segment - 1
  int64_t end_segment;
  AttentionState state;    // goes on from what is there
  std::byte* scratch;      // as attention_runner.cpp has it
  std::byte* value_space;  // of latents: room for the values of a segment, in the layout of those that are apart
};

struct Kernels {
  Isa isa;
  int narrow_bytes;  // that an activation code of 8 bits takes
  int wide_bytes;    // that a wide one takes

  // `cols` floats into row `row` of `out`, as weights of this layout want them; `padded_cols` is a multiple of its
  // step.
  void (*quantize_row)(const float* x, int64_t cols, int64_t padded_cols, const PanelLayout& layout, int64_t row,
                       const QuantizedRows& out);
  // Whether linear() wants activations rounded to bf16 (by DType), and what rounds them.
  bool rounds[kDTypes];
  void (*round_row)(const float* x, int64_t cols, int64_t row, const QuantizedRows& out);
  void (*linear[kDTypes])(const LinearCall& call);  // by DType
  // Weights of any type by activations in F32. For types that linear() takes floats for, it is the same.
  void (*linear_f32[kDTypes])(const LinearCall& call);  // by DType

  float (*inverse_rms)(const float* x, float epsilon, int64_t n);
  void (*normalize)(const float* x, float inverse, const float* weight, int64_t n, float* y);
  void (*silu_multiply)(const float* gate, const float* up, int64_t n, float* out);
  void (*gelu_multiply)(const float* gate, const float* up, int64_t n, float* out);
  void (*clamped_silu_multiply)(const float* gate, const float* up, int64_t n, float* out);
  void (*soft_cap)(const float* x, float cap, int64_t n, float* out);
  void (*exp)(const float* x, int64_t n, float* out);
  // See encoder_rows.hpp.
  void (*layer_norm)(const float* x, const float* weight, const float* bias, float epsilon, int64_t n, float* y);
  void (*gelu)(float* x, int64_t n);

  void (*f32_to_f16)(const float* x, int64_t n, uint16_t* out);
  void (*attention[4])(const AttentionCall& call);  // by KvType
  // Takes the state of `queries` queries over the segments that follow those of `state` into it.
  void (*merge_attention)(const AttentionState& state, const AttentionState& later, int64_t queries, int64_t value_dim);
  // out[query][value_dim] from the state; `turned` where the values are stored turned.
  void (*finish_attention)(const AttentionState& state, int64_t queries, int64_t value_dim, bool turned, float* out);
  // For the int8 cache. Turns a head by the Hadamard matrix in place; returns the largest magnitude's bits (those of an
  // infinity or more where there is one that is not finite).
  int32_t (*turn_head)(float* x, int64_t head_dim);
  // rint(x * inverse) for n values within int8.
  void (*round_codes)(const float* x, int64_t n, float inverse, int8_t* codes);
};

const Kernels& scalar_kernels();
const Kernels& avx2_kernels();
const Kernels& avx512_vnni_kernels();
const Kernels& avx512_bf16_kernels();
const Kernels& amx_kernels();

// The table of an available instruction set (in isa.cpp).
const Kernels& kernels_for(Isa isa);

}  // namespace tidemill::tensor
