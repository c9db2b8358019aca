// Encoders of the block types whose scales are searched for: the scale, or scale and minimum, of each group is the one
// of several tried that leaves the smallest squared error, and where scales are themselves stored as small integers
// each is the best of its neighbours. quantize.cpp has simpler ones of Q8_0, Q4_0, Q4_K and Q6_K.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "tensor/dtype.hpp"

namespace tidemill::tensor {

// Any block type: info(type).block_elements floats into one block. What that decodes to is finite: see hold_within().
void encode_block(DType type, const float* x, std::byte* block);
// The same where squared errors count as much as `importance` says, as many positive numbers.
void encode_block(DType type, const float* x, const float* importance, std::byte* block);

// What encoders share.

// The numbers that a block of the type can hold which are nearest to those of `x`, infinities among them; 0 for NaN.
void hold_within(DType type, const float* x, std::span<float> out);

// Whether a block of the type can hold every one of `x`, or the nearest that it has: whether hold_within() would leave
// them as they are.
bool holds(DType type, std::span<const float> x);

// The eight 6-bit scales and minima of Q4_K and Q5_K, in 12 bytes.
void store_scales_and_mins(const std::array<uint8_t, 8>& scales, const std::array<uint8_t, 8>& mins, std::byte* packed);

// The largest that binary16 has.
inline constexpr float kLargestScale = 65504;

// A scale or a minimum as it is stored. The largest stand for those beyond: infinity would leave a block without a
// single number.
inline uint16_t f16_of_scale(float value) {
  return f32_to_f16(std::clamp(value, -kLargestScale, kLargestScale));
}

// The largest exponent of MXFP4 whose every multiple is a float, and its largest multiple, 6 * 2^125.
inline constexpr int kLargestMxfp4Exponent = 252;
inline constexpr float kLargestMxfp4 = 0x1.8p127F;

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
