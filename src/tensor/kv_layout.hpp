// Where a KV cache on the CPU keeps the keys and values of one block of 16 tokens and one KV head. Nothing but sizes:
// it is included by files compiled for different instruction sets.
//
// f32, f16, bf16
//   keys    [head_dim][16 tokens]: a lane is a token, and a score is one sequential sum over head_dim.
//   values  [16 tokens][head_dim rounded up to 16]: a lane is an element of the output.
// int8, where key and value are turned first (attention_order.hpp)
//   keys    [head_dim / 4 rounded up][16 tokens][4 elements] of code + 128, then a binary32 scale for each token.
//   values  [head_dim / 16 rounded up][4][16 elements][4 tokens] of code, then for each token a binary32 exponent: the
//           scale is 2 to its power, and it is a multiple of 1/16.
// latents (KvShape::latent): keys alone, of which a kernel lays out a segment's values when it comes to it.
//   f32, f16, bf16   as above.
//   int8    the latent and the rest of a key are turned and rounded each by itself, since the values of one may be far
//           larger than those of the other: [head_dim / 4][16 tokens][4 elements] of code + 128, then for each token
//           the latent's exponent as values have it, then the rest's scale as keys have it.
// So 64 bytes of int8 codes are one operand of VPDPBUSD, and one row of an AMX tile: keys are its unsigned side against
// signed queries (what the 128 adds is constant for a query), values its signed side against unsigned weights.
#pragma once

#include <cstdint>

namespace tidemill::tensor {

inline constexpr int32_t kInt8KeyZero = 128;

}  // namespace tidemill::tensor
