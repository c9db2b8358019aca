// Encoders of the block types whose scales are searched for: the scale, or scale and minimum, of each group is the one
// of several tried that leaves the smallest squared error, and where scales are themselves stored as small integers
// each is the best of its neighbours. quantize.cpp has simpler ones of Q8_0, Q4_0, Q4_K and Q6_K. No NaN, infinity or
// magnitude makes an invalid block.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "tensor/dtype.hpp"

namespace tidemill::tensor {

// Any block type: info(type).block_elements floats into one block.
void encode_block(DType type, const float* x, std::byte* block);
// The same where squared errors count as much as `importance` says, as many positive numbers.
void encode_block(DType type, const float* x, const float* importance, std::byte* block);

// What encoders share.

// The eight 6-bit scales and minima of Q4_K and Q5_K, in 12 bytes.
void store_scales_and_mins(const std::array<uint8_t, 8>& scales, const std::array<uint8_t, 8>& mins, std::byte* packed);

inline void store_u16(std::byte* p, uint16_t bits) {
  std::memcpy(p, &bits, sizeof bits);
}

// Nearest integer in [low, high], which are small; 0 or the nearest bound for what is not a number in range.
inline int to_code(float value, int low, int high) {
  if (!(value > static_cast<float>(low))) return std::isnan(value) ? std::clamp(0, low, high) : low;
  if (value >= static_cast<float>(high)) return high;
  constexpr float unit = 0x1.8p23F;  // whose last bit is 1: the addition rounds to nearest even
  return static_cast<int>((value + unit) - unit);
}

inline float inverse(float x) {
  return x != 0 ? 1 / x : 0;
}

}  // namespace tidemill::tensor
