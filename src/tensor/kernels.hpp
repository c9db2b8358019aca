// The operations of the CPU device that depend on the instruction set, as a table of function pointers. Each
// instruction set fills one table in one source file that is compiled with its own flags; cpu_device.cpp chooses a
// table once.
//
// This header is included by files compiled for different instruction sets. It must stay free of inline functions that
// those files might emit, or the linker could keep an AVX-512 copy for everybody.
//
// All tables compute the same bits. The order of floating-point operations, for reference, where `lane` is an output
// row:
//   quantised linear  per group of 32 k: i = exact integer sum; Q8_0, Q4_0: acc = fma(float(i), w_scale * x_scale,
//   acc).
//                     K-quants, per step of 256 k: a = fma(float(i), x_scale, a) over groups, from 0; acc = fma(d, a,
//                     acc). Q4_K also: b = fma(float(min), x_scale * float(sum of x codes), b), from 0; acc =
//                     fma(-dmin, b, acc).
//   plain linear      two accumulators, for even and odd k: acc[k % 2] = fma(w, x, acc[k % 2]); their sum at the end.
//   sums of 16 lanes  lanes i and i + 8 are added, then i and i + 4, i + 2, i + 1.
//   rms_norm          lane i % 16: acc = fma(x, x, acc); lanes summed; y = (x * (1 / sqrt(sum / n + epsilon))) *
//   weight. attention         score = (sequential fma over head_dim) * scale; p = exp(score - max); lane t % 16 sums p
//   over blocks;
//                     o[d] = fma(p[t], v[t][d], o[d]) for ascending t; out = o * (1 / sum).
//   exp               see exp_constants.hpp.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/dtype.hpp"
#include "tensor/isa.hpp"

namespace tidemill::tensor {

// Activations as int8 with one scale per group of 32, K padded with zero codes to the weight's steps. The bytes of the
// codes are the instruction set's own affair (Kernels::code_bytes each).
//
// A group whose largest magnitude a is finite and at least 2^-100 has scale a / 127 and codes rint(x * (127 / a)). A
// smaller one has scale 0 and codes 0. One with a NaN or an infinity has scale NaN and codes 0, so that the output is
// NaN too.
struct QuantizedRows {
  std::byte* codes;      // [row][padded cols * code_bytes]
  int64_t code_stride;   // bytes
  float* scales;         // [row][padded cols / 32]
  int64_t scale_stride;  // elements
  int32_t* sums;         // [row][padded cols / sum_group]: sum of codes * sum_factor of the weight's PanelLayout
  int64_t sum_stride;    // elements
};

// y[0 .. rows) of one panel: y.row(r)[lane] = sum over k of w[lane][k] * x.row(r)[k], plus bias[lane] where bias is
// given.
struct PanelCall {
  const std::byte* panel;
  int64_t cols;         // of the matrix, unpadded
  int64_t lanes;        // output rows of this panel that exist, 1 .. 16
  const float* bias;    // [lanes], or null
  QuantizedRows x;      // for quantised types, starting at the first row wanted
  const float* x_data;  // for plain types, likewise
  int64_t x_stride;
  int64_t rows;
  float* y;
  int64_t y_stride;
};

// One row and one KV head of an attention call. Layouts of keys and values: kv_cache.hpp.
struct AttentionCall {
  const std::byte* keys;    // block b's keys of this head are at keys + block_table[b] * block_stride
  const std::byte* values;  // likewise
  int64_t block_stride;     // bytes
  const int32_t* block_table;
  int64_t tokens;  // attend to tokens 0 .. tokens - 1
  int64_t head_dim;
  int64_t group;  // query heads that share this KV head
  float scale;
  const float* q;  // [group][head_dim]
  float* out;      // [group][head_dim]
  float* scores;   // scratch [group][tokens rounded up to 16]
  float* sums;     // scratch [group][head_dim rounded up to 16]
};

struct Kernels {
  Isa isa;
  int code_bytes;  // bytes that one activation code takes

  // `cols` floats into row 0 of `out`; groups up to `padded_cols` are zeroed.
  void (*quantize_row)(const float* x, int64_t cols, int64_t padded_cols, int64_t sum_group, int sum_factor,
                       const QuantizedRows& out);
  void (*linear[7])(const PanelCall& call);  // by DType

  void (*rms_norm)(const float* x, const float* weight, float epsilon, int64_t n, float* y);
  void (*silu_multiply)(const float* gate, const float* up, int64_t n, float* out);
  void (*exp)(const float* x, int64_t n, float* out);

  void (*f32_to_f16)(const float* x, int64_t n, uint16_t* out);
  void (*attention[3])(const AttentionCall& call);  // by KvType

  // For the ceilings: endless-looking work of a known amount on registers or on memory. Each returns something that
  // depends on all of it, so that it is not optimised away. rounds * 16 lanes * 4 multiply-accumulates * kPeakChains,
  // int8.
  int32_t (*peak_int8)(int64_t rounds);
  // rounds * 16 lanes * kPeakChains fused multiply-adds, binary32.
  float (*peak_fma)(int64_t rounds);
  // Reads every byte of [data, data + bytes); bytes is a multiple of 4096.
  uint64_t (*read_bytes)(const std::byte* data, int64_t bytes);
};
inline constexpr int64_t kPeakChains = 12;

const Kernels& scalar_kernels();
const Kernels& avx2_kernels();
const Kernels& avx512_vnni_kernels();

// The table of an available instruction set (in isa.cpp).
const Kernels& kernels_for(Isa isa);

}  // namespace tidemill::tensor
