// Integer sums that are floats already, for Q4_0 on instruction sets with S::kBitSums; see vector_linear.hpp for why
// all of this has internal linkage.
//
// An integer sum |i| < 2^22 that started from the bits of c = 1.5 * 2^23 is, read as a float, c + i exactly. A block's
// scale s has the 11 bits of a binary16, so c * s is exact as well, and fma(c + i, s, -(c * s)) is i * s rounded once:
// what float(i) * s is, in one instruction for two. (It is +0 where that may be -0; both leave alone a sum that began
// as +0. For an s that is not finite it is NaN where that may be infinite.)
//
// High nibbles need not be shifted down for it where products do not saturate (S::kHighInPlace): their codes are
// sixteen times as large, their scales a sixteenth. Then |16 * i| <= 16 * 8 * 127 * 32 < 2^22 still.
#pragma once

#include "tensor/packed_layout.hpp"

namespace tidemill::tensor {
namespace {

constexpr int32_t kBitsOfZero = 0x4b400000;  // of 1.5 * 2^23
constexpr float kFloatOfZero = 0x1.8p+23F;

// The sums of activation codes times the layout's factor as such weights want them: with what sums start from, where a
// block of Q4_0 is that of the low nibbles (even) or of the high ones.
template <class S>
[[gnu::always_inline]] inline int32_t start_of_sum(const PanelLayout& layout, int64_t block, int32_t sum) {
  if (!S::kBitSums || !layout.bit_sums) return sum;
  return kBitsOfZero + (S::kHighInPlace && block % 2 != 0 ? 16 * sum : sum);
}

// A block's scales, and the products of its sums with them.
template <class S>
struct BlockScale {
  typename S::F scale;
  typename S::F less;  // c * scale, negated

  [[gnu::always_inline]] BlockScale(const uint16_t* binary16, bool high) : scale(S::load_f16(binary16)) {
    if constexpr (S::kBitSums) {
      if (S::kHighInPlace && high) scale = S::mul(scale, S::set1(0.0625F));
      less = S::mul(scale, S::set1(-kFloatOfZero));
    }
  }
  [[gnu::always_inline]] typename S::F times(typename S::I sum) const {
    if constexpr (S::kBitSums) {
      return S::fma(S::as_float(sum), scale, less);
    } else {
      return S::mul(S::to_float(sum), scale);
    }
  }
};

}  // namespace
}  // namespace tidemill::tensor
