// The block structures of GGUF's quantised types, taken apart into whole codes. Shared by plain dequantisation and by
// the packing of weights, so that the bit-twiddling of each format is written once.
//
// Formats: ggml's block_q8_0, block_q4_0, block_q4_K and block_q6_K as described by the GGUF specification.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/dtype.hpp"

namespace tidemill::tensor {

// One block as unsigned codes. A weight is worth
//   Q8_0, Q4_0:  d * (code - zero)
//   Q4_K:        d * scale[i / 32] * code - dmin * min[i / 32]
//   Q6_K:        d * scale[i / 16] * (code - zero)
struct UnpackedBlock {
  uint8_t codes[256];
  int8_t scale[16];
  uint8_t min[8];
  uint16_t d;     // binary16
  uint16_t dmin;  // binary16
};

// The code that stands for weight 0 in each quantised type (0 for Q4_K, whose minimum is explicit).
int zero_code(DType type);

// `type` is a block type; `block` points at info(type).block_bytes bytes. Fills the members the type has.
void unpack_block(DType type, const std::byte* block, UnpackedBlock& out);

// The weights of an unpacked block: info(type).block_elements floats.
void block_to_float(DType type, const UnpackedBlock& block, float* destination);

}  // namespace tidemill::tensor
