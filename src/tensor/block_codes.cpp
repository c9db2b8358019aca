#include "tensor/block_codes.hpp"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstring>
#include <limits>

#include "tensor/block_encoders.hpp"
#include "tensor/code_tables.hpp"
#include "tensor/quant_blocks.hpp"

namespace tidemill::tensor {
namespace {

int bits_of(DType type) {
  switch (type) {
    case DType::q8_0:
      return 8;
    case DType::q6_k:
      return 6;
    case DType::q5_0:
    case DType::q5_1:
    case DType::q5_k:
      return 5;
    case DType::q3_k:
      return 3;
    case DType::q2_k:
      return 2;
    default:
      return 4;
  }
}

// Groups of a block that have a scale each.
int groups_of(DType type) {
  switch (type) {
    case DType::q2_k:
    case DType::q3_k:
    case DType::q6_k:
      return 16;
    case DType::q4_k:
    case DType::q5_k:
    case DType::iq4_xs:
      return 8;
    default:
      return 1;
  }
}

// The low ones are elements 0..15, the high ones 16..31.
void store_low_bits(const uint8_t* codes, std::byte* q) {
  for (int i = 0; i < 16; ++i)
    q[i] = static_cast<std::byte>((codes[i] & 15U) | (codes[i + 16] & 15U) << 4U);
}

// Bit i of four bytes is the fifth of element i.
void store_fifth_bits(const uint8_t* codes, std::byte* high) {
  std::memset(high, 0, 4);
  for (int i = 0; i < 32; ++i)
    high[i / 8] |= static_cast<std::byte>((codes[i] >> 4U & 1U) << (i % 8));
}

// Two bits of 256 codes, in quarters of 32 of each half.
void store_low_quarters(const uint8_t* codes, std::byte* q) {
  std::memset(q, 0, 64);
  for (int e = 0; e < 256; ++e)
    q[e / 128 * 32 + e % 32] |= static_cast<std::byte>((codes[e] & 3U) << (e % 128 / 32 * 2));
}

// Each 32 bytes hold 64 elements, the low nibbles first.
void store_nibble_pairs(const uint8_t* codes, std::byte* q) {
  for (int pair = 0; pair < 4; ++pair) {
    for (int i = 0; i < 32; ++i) {
      const uint8_t* at = codes + pair * 64 + i;
      q[pair * 32 + i] = static_cast<std::byte>((at[0] & 15U) | (at[32] & 15U) << 4U);
    }
  }
}

// One bit of 256 codes: bit j of byte i is that of element 32 j + i.
void store_bit(const uint8_t* codes, unsigned bit, std::byte* high) {
  std::memset(high, 0, 32);
  for (int e = 0; e < 256; ++e)
    high[e % 32] |= static_cast<std::byte>((codes[e] >> bit & 1U) << (e / 32));
}

void store_q6_k(const uint8_t* codes, std::byte* block) {
  std::memset(block, 0, 192);
  for (int e = 0; e < 256; ++e) {
    const int half = e / 128;
    const int quarter = e % 128 / 32;
    const int at = e % 32;
    block[half * 64 + quarter % 2 * 32 + at] |= static_cast<std::byte>((codes[e] & 15U) << (quarter / 2 * 4));
    block[128 + half * 32 + at] |= static_cast<std::byte>((codes[e] >> 4U & 3U) << (quarter * 2));
  }
}

}  // namespace

BlockGrid::BlockGrid(DType type, const std::byte* block)
    : elements_(static_cast<int>(info(type).block_elements)),
      group_(elements_ / groups_of(type)),
      highest_((1 << bits_of(type)) - 1),
      zero_(zero_code(type)) {
  UnpackedBlock unpacked;
  unpack_block(type, block, unpacked);
  const float d = type == DType::mxfp4 ? mxfp4_scale(unpacked.exponent) : f16_to_f32(unpacked.d);
  const auto groups = static_cast<size_t>(groups_of(type));
  for (size_t g = 0; g < groups; ++g)
    scale_[g] = groups == 1 ? d : d * static_cast<float>(unpacked.scale[g]);
  if (type == DType::q4_1 || type == DType::q5_1) offset_[0] = f16_to_f32(unpacked.dmin);
  if (type == DType::q2_k || type == DType::q4_k || type == DType::q5_k) {
    for (size_t g = 0; g < groups; ++g)
      offset_[g] = -(f16_to_f32(unpacked.dmin) * static_cast<float>(unpacked.min[g]));
  }
  if (type == DType::iq4_nl || type == DType::iq4_xs) table_ = kIq4Values;
  if (type == DType::mxfp4) table_ = kMxfp4Values;
  for (size_t g = 0; g < groups; ++g)
    inverse_[g] = inverse(scale_[g]);
}

uint8_t BlockGrid::nearest(int element, float value) const {
  const auto g = static_cast<size_t>(element / group_);
  const float level_wanted = (value - offset_[g]) * inverse_[g];
  if (table_ == nullptr) return static_cast<uint8_t>(to_code(level_wanted, -zero_, highest_ - zero_) + zero_);
  uint8_t best = 0;
  float least = std::numeric_limits<float>::infinity();
  for (int code = 0; code <= highest_; ++code) {
    const float off = std::fabs(level_wanted - static_cast<float>(table_[code]));
    if (!(off < least)) continue;
    least = off;
    best = static_cast<uint8_t>(code);
  }
  return best;
}

void store_codes(DType type, const uint8_t* codes, std::byte* block) {
  switch (type) {
    case DType::q8_0:
      for (int i = 0; i < 32; ++i)
        block[2 + i] = static_cast<std::byte>(codes[i] ^ 0x80U);
      return;
    case DType::q4_0:
    case DType::iq4_nl:
      return store_low_bits(codes, block + 2);
    case DType::q4_1:
      return store_low_bits(codes, block + 4);
    case DType::q5_0:
      store_fifth_bits(codes, block + 2);
      return store_low_bits(codes, block + 6);
    case DType::q5_1:
      store_fifth_bits(codes, block + 4);
      return store_low_bits(codes, block + 8);
    case DType::q2_k:
      return store_low_quarters(codes, block + 16);
    case DType::q3_k:
      store_bit(codes, 2, block);
      return store_low_quarters(codes, block + 32);
    case DType::q4_k:
      return store_nibble_pairs(codes, block + 16);
    case DType::q5_k:
      store_bit(codes, 4, block + 16);
      return store_nibble_pairs(codes, block + 48);
    case DType::q6_k:
      return store_q6_k(codes, block);
    case DType::iq4_xs:
      for (int g = 0; g < 8; ++g)
        store_low_bits(codes + g * 32, block + 8 + g * 16);
      return;
    case DType::mxfp4:
      return store_low_bits(codes, block + 1);
    default:
      assert(false && "not a block type");
  }
}

}  // namespace tidemill::tensor
