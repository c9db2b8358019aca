// The block structures of GGUF's quantised types, taken apart into whole codes. Shared by plain dequantisation and by
// the packing of weights, so that the bit-twiddling of each format is written once.
//
// Formats: ggml's block_q8_0 and its likes, as described by the GGUF specification; MXFP4 is that of the OCP
// Microscaling Formats specification 1.0.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/dtype.hpp"

namespace tidemill::tensor {

// One block as unsigned codes. Weight i is worth
//   Q8_0, Q5_0, Q4_0:  d * (code - zero)
//   Q5_1, Q4_1:        d * code + dmin
//   Q5_K, Q4_K:        d * scale[i / 32] * code - dmin * min[i / 32]
//   Q2_K:              d * scale[i / 16] * code - dmin * min[i / 16]
//   Q6_K, Q3_K:        d * scale[i / 16] * (code - zero)
//   IQ4_NL:            d * kIq4Values[code]
//   IQ4_XS:            d * scale[i / 32] * kIq4Values[code]
//   MXFP4:             mxfp4_scale(exponent) * kMxfp4Values[code]
struct UnpackedBlock {
  uint8_t codes[256];
  int8_t scale[16];
  uint8_t min[16];
  uint16_t d;     // binary16
  uint16_t dmin;  // binary16
  uint8_t exponent;
};

// The code that stands for weight 0 in types whose codes are the weights' multiples of a scale; 0 for those with minima
// or a table.
int zero_code(DType type);

// Half of what an E8M0 scale is worth, since kMxfp4Values are doubled: 2^(exponent - 128), but NaN for 255, as the
// specification has it (ggml goes on to 2^127).
float mxfp4_scale(uint8_t exponent);

// `type` is a block type; `block` points at info(type).block_bytes bytes. Fills the members the type has.
void unpack_block(DType type, const std::byte* block, UnpackedBlock& out);

// The weights of an unpacked block: info(type).block_elements floats.
void block_to_float(DType type, const UnpackedBlock& block, float* destination);

}  // namespace tidemill::tensor
