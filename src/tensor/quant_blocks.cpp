#include "tensor/quant_blocks.hpp"

#include <cassert>
#include <cmath>
#include <cstring>
#include <limits>

#include "tensor/code_tables.hpp"

namespace tidemill::tensor {
namespace {

uint16_t load_u16(const std::byte* p) {
  uint16_t bits;
  std::memcpy(&bits, p, sizeof bits);
  return bits;
}

// { f16 d; int8 q[32]; }
void unpack_q8_0(const std::byte* block, UnpackedBlock& out) {
  out.d = load_u16(block);
  for (int i = 0; i < 32; ++i)
    out.codes[i] = static_cast<uint8_t>(static_cast<uint8_t>(block[2 + i]) ^ 0x80U);
}

// Nibbles of 16 bytes: the low ones are elements 0..15, the high ones 16..31.
void unpack_nibbles(const std::byte* q, uint8_t* codes) {
  for (int i = 0; i < 16; ++i) {
    const auto byte = static_cast<uint8_t>(q[i]);
    codes[i] = byte & 15U;
    codes[i + 16] = byte >> 4U;
  }
}

// { f16 d; u8 q[16]; }
void unpack_q4_0(const std::byte* block, UnpackedBlock& out) {
  out.d = load_u16(block);
  unpack_nibbles(block + 2, out.codes);
}

// u8 high[4]: bit i, counted from the lowest of the first byte, is the fifth of element i.
void add_fifth_bits(const std::byte* high, uint8_t* codes) {
  for (int i = 0; i < 32; ++i)
    codes[i] |= static_cast<uint8_t>((static_cast<uint8_t>(high[i / 8]) >> (i % 8) & 1U) << 4U);
}

// { f16 d, m; u8 q[16]; }
void unpack_q4_1(const std::byte* block, UnpackedBlock& out) {
  out.d = load_u16(block);
  out.dmin = load_u16(block + 2);
  unpack_nibbles(block + 4, out.codes);
}

// { f16 d; u8 high[4]; u8 q[16]; }
void unpack_q5_0(const std::byte* block, UnpackedBlock& out) {
  out.d = load_u16(block);
  unpack_nibbles(block + 6, out.codes);
  add_fifth_bits(block + 2, out.codes);
}

// { f16 d, m; u8 high[4]; u8 q[16]; }
void unpack_q5_1(const std::byte* block, UnpackedBlock& out) {
  out.d = load_u16(block);
  out.dmin = load_u16(block + 2);
  unpack_nibbles(block + 8, out.codes);
  add_fifth_bits(block + 4, out.codes);
}

// Two bits each: bits 2 j and 2 j + 1 of byte i are element 32 j + i of 128.
void unpack_quarters(const std::byte* q, uint8_t* codes) {
  for (int i = 0; i < 128; ++i)
    codes[i] = static_cast<uint8_t>(q[i % 32]) >> (i / 32 * 2) & 3U;
}

// { u8 scales[16]; u8 q[64]; f16 d, dmin; }: of a byte of `scales`, the low nibble is the scale, the high one the
// minimum.
void unpack_q2_k(const std::byte* block, UnpackedBlock& out) {
  for (int g = 0; g < 16; ++g) {
    out.scale[g] = static_cast<int8_t>(static_cast<uint8_t>(block[g]) & 15U);
    out.min[g] = static_cast<uint8_t>(block[g]) >> 4U;
  }
  unpack_quarters(block + 16, out.codes);
  unpack_quarters(block + 48, out.codes + 128);
  out.d = load_u16(block + 80);
  out.dmin = load_u16(block + 82);
}

// { u8 high[32]; u8 q[64]; u8 scales[12]; f16 d; }: bit j of high[i] is the third bit of element 32 j + i. Scales have
// six bits less 32: the low four of groups 0..7 and 8..15 are the nibbles of the first eight bytes, the high two of
// group g are bits 2 (g / 4) and on of byte 8 + g % 4.
void unpack_q3_k(const std::byte* block, UnpackedBlock& out) {
  unpack_quarters(block + 32, out.codes);
  unpack_quarters(block + 64, out.codes + 128);
  for (int i = 0; i < 256; ++i)
    out.codes[i] |= static_cast<uint8_t>((static_cast<uint8_t>(block[i % 32]) >> (i / 32) & 1U) << 2U);
  for (int g = 0; g < 16; ++g) {
    const unsigned low = static_cast<uint8_t>(block[96 + g % 8]) >> (g / 8 * 4) & 15U;
    const unsigned high = static_cast<uint8_t>(block[104 + g % 4]) >> (g / 4 * 2) & 3U;
    out.scale[g] = static_cast<int8_t>(static_cast<int>(low | high << 4U) - 32);
  }
  out.d = load_u16(block + 108);
}

// u8 scales[12]: eight 6-bit scales and minima.
void unpack_scales_and_mins(const std::byte* packed, UnpackedBlock& out) {
  uint8_t s[12];
  std::memcpy(s, packed, sizeof s);
  for (int j = 0; j < 4; ++j) {
    out.scale[j] = static_cast<int8_t>(s[j] & 63U);
    out.min[j] = s[j + 4] & 63U;
    out.scale[j + 4] = static_cast<int8_t>((s[j + 8] & 15U) | (s[j] >> 6U) << 4U);
    out.min[j + 4] = static_cast<uint8_t>((s[j + 8] >> 4U) | (s[j + 4] >> 6U) << 4U);
  }
}

// u8 q[128]: each 32 bytes hold 64 elements, the low nibbles first.
void unpack_nibble_pairs(const std::byte* q, uint8_t* codes) {
  for (int pair = 0; pair < 4; ++pair) {
    for (int i = 0; i < 32; ++i) {
      const auto byte = static_cast<uint8_t>(q[pair * 32 + i]);
      codes[pair * 64 + i] = byte & 15U;
      codes[pair * 64 + 32 + i] = byte >> 4U;
    }
  }
}

// { f16 d, dmin; u8 scales[12]; u8 q[128]; }
void unpack_q4_k(const std::byte* block, UnpackedBlock& out) {
  out.d = load_u16(block);
  out.dmin = load_u16(block + 2);
  unpack_scales_and_mins(block + 4, out);
  unpack_nibble_pairs(block + 16, out.codes);
}

// { f16 d, dmin; u8 scales[12]; u8 high[32]; u8 q[128]; }: bit j of high[i] is the fifth bit of element 32 j + i.
void unpack_q5_k(const std::byte* block, UnpackedBlock& out) {
  out.d = load_u16(block);
  out.dmin = load_u16(block + 2);
  unpack_scales_and_mins(block + 4, out);
  unpack_nibble_pairs(block + 48, out.codes);
  for (int i = 0; i < 256; ++i)
    out.codes[i] |= static_cast<uint8_t>((static_cast<uint8_t>(block[16 + i % 32]) >> (i / 32) & 1U) << 4U);
}

// { f16 d; u8 q[16]; }
void unpack_iq4_nl(const std::byte* block, UnpackedBlock& out) {
  out.d = load_u16(block);
  unpack_nibbles(block + 2, out.codes);
}

// { f16 d; u16 high; u8 low[4]; u8 q[128]; }: eight scales of six bits less 32, their low four bits as nibbles in
// `low`, the high two of group g at bit 2 g of `high`; each 16 bytes of q hold 32 elements.
void unpack_iq4_xs(const std::byte* block, UnpackedBlock& out) {
  out.d = load_u16(block);
  const unsigned high = load_u16(block + 2);
  for (int g = 0; g < 8; ++g) {
    const unsigned low = static_cast<uint8_t>(block[4 + g / 2]) >> (g % 2 * 4) & 15U;
    out.scale[g] = static_cast<int8_t>(static_cast<int>(low | (high >> (2 * g) & 3U) << 4U) - 32);
    unpack_nibbles(block + 8 + g * 16, out.codes + g * 32);
  }
}

// { u8 e; u8 q[16]; }
void unpack_mxfp4(const std::byte* block, UnpackedBlock& out) {
  out.exponent = static_cast<uint8_t>(block[0]);
  unpack_nibbles(block + 1, out.codes);
}

// { u8 low[128]; u8 high[64]; int8 scales[16]; f16 d; }: each half of 128 elements takes 64 bytes of low nibbles and 32
// bytes with the two high bits of its four quarters.
void unpack_q6_k(const std::byte* block, UnpackedBlock& out) {
  const std::byte* low = block;
  const std::byte* high = block + 128;
  std::memcpy(out.scale, block + 192, 16);
  out.d = load_u16(block + 208);
  for (int half = 0; half < 2; ++half) {
    for (int i = 0; i < 32; ++i) {
      const auto l0 = static_cast<uint8_t>(low[half * 64 + i]);
      const auto l1 = static_cast<uint8_t>(low[half * 64 + 32 + i]);
      const auto h = static_cast<uint8_t>(high[half * 32 + i]);
      uint8_t* codes = out.codes + half * 128 + i;
      codes[0] = static_cast<uint8_t>((l0 & 15U) | (h & 3U) << 4U);
      codes[32] = static_cast<uint8_t>((l1 & 15U) | (h >> 2U & 3U) << 4U);
      codes[64] = static_cast<uint8_t>((l0 >> 4U) | (h >> 4U & 3U) << 4U);
      codes[96] = static_cast<uint8_t>((l1 >> 4U) | (h >> 6U & 3U) << 4U);
    }
  }
}

}  // namespace

int zero_code(DType type) {
  switch (type) {
    case DType::q8_0:
      return 128;
    case DType::q4_0:
      return 8;
    case DType::q5_0:
      return 16;
    case DType::q3_k:
      return 4;
    case DType::q6_k:
      return 32;
    default:
      return 0;
  }
}

void unpack_block(DType type, const std::byte* block, UnpackedBlock& out) {
  switch (type) {
    case DType::q8_0:
      return unpack_q8_0(block, out);
    case DType::q4_0:
      return unpack_q4_0(block, out);
    case DType::q4_k:
      return unpack_q4_k(block, out);
    case DType::q6_k:
      return unpack_q6_k(block, out);
    case DType::q4_1:
      return unpack_q4_1(block, out);
    case DType::q5_0:
      return unpack_q5_0(block, out);
    case DType::q5_1:
      return unpack_q5_1(block, out);
    case DType::q2_k:
      return unpack_q2_k(block, out);
    case DType::q3_k:
      return unpack_q3_k(block, out);
    case DType::q5_k:
      return unpack_q5_k(block, out);
    case DType::iq4_nl:
      return unpack_iq4_nl(block, out);
    case DType::iq4_xs:
      return unpack_iq4_xs(block, out);
    case DType::mxfp4:
      return unpack_mxfp4(block, out);
    default:
      assert(false && "not a block type");
  }
}

float mxfp4_scale(uint8_t exponent) {
  return exponent == 255 ? std::numeric_limits<float>::quiet_NaN() : std::ldexp(1.0F, exponent - 128);
}

void block_to_float(DType type, const UnpackedBlock& block, float* destination) {
  const float d = type == DType::mxfp4 ? mxfp4_scale(block.exponent) : f16_to_f32(block.d);
  switch (type) {
    case DType::q8_0:
    case DType::q4_0:
    case DType::q5_0: {
      const int zero = zero_code(type);
      for (int i = 0; i < 32; ++i)
        destination[i] = d * static_cast<float>(block.codes[i] - zero);
      return;
    }
    case DType::q4_1:
    case DType::q5_1: {
      const float min = f16_to_f32(block.dmin);
      for (int i = 0; i < 32; ++i)
        destination[i] = d * static_cast<float>(block.codes[i]) + min;
      return;
    }
    case DType::q2_k:
    case DType::q4_k:
    case DType::q5_k: {
      const int size = type == DType::q2_k ? 16 : 32;
      const float dmin = f16_to_f32(block.dmin);
      for (int i = 0; i < 256; ++i) {
        const int group = i / size;
        const float scale = d * static_cast<float>(block.scale[group]);
        const float min = dmin * static_cast<float>(block.min[group]);
        destination[i] = scale * static_cast<float>(block.codes[i]) - min;
      }
      return;
    }
    case DType::q3_k:
    case DType::q6_k: {
      const int zero = zero_code(type);
      for (int i = 0; i < 256; ++i) {
        const int group = i / 16;
        const float scale = d * static_cast<float>(block.scale[group]);
        destination[i] = scale * static_cast<float>(block.codes[i] - zero);
      }
      return;
    }
    case DType::iq4_nl:
      for (int i = 0; i < 32; ++i)
        destination[i] = d * static_cast<float>(kIq4Values[block.codes[i]]);
      return;
    case DType::iq4_xs:
      for (int i = 0; i < 256; ++i) {
        const int group = i / 32;
        const float scale = d * static_cast<float>(block.scale[group]);
        destination[i] = scale * static_cast<float>(kIq4Values[block.codes[i]]);
      }
      return;
    case DType::mxfp4:
      for (int i = 0; i < 32; ++i)
        destination[i] = d * static_cast<float>(kMxfp4Values[block.codes[i]]);
      return;
    default:
      assert(false && "not a block type");
  }
}

}  // namespace tidemill::tensor
