#include "tensor/quant_blocks.hpp"

#include <cassert>
#include <cstring>

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

// { f16 d; u8 q[16]; }: low nibbles are elements 0..15, high nibbles 16..31.
void unpack_q4_0(const std::byte* block, UnpackedBlock& out) {
  out.d = load_u16(block);
  for (int i = 0; i < 16; ++i) {
    const auto q = static_cast<uint8_t>(block[2 + i]);
    out.codes[i] = q & 15U;
    out.codes[i + 16] = q >> 4U;
  }
}

// { f16 d, dmin; u8 scales[12]; u8 q[128]; }: eight 6-bit scales and minima in 12 bytes; each 32 bytes of q hold 64
// elements, the low nibbles first.
void unpack_q4_k(const std::byte* block, UnpackedBlock& out) {
  out.d = load_u16(block);
  out.dmin = load_u16(block + 2);
  uint8_t s[12];
  std::memcpy(s, block + 4, sizeof s);
  for (int j = 0; j < 4; ++j) {
    out.scale[j] = static_cast<int8_t>(s[j] & 63U);
    out.min[j] = s[j + 4] & 63U;
    out.scale[j + 4] = static_cast<int8_t>((s[j + 8] & 15U) | (s[j] >> 6U) << 4U);
    out.min[j + 4] = static_cast<uint8_t>((s[j + 8] >> 4U) | (s[j + 4] >> 6U) << 4U);
  }
  const std::byte* q = block + 16;
  for (int pair = 0; pair < 4; ++pair) {
    for (int i = 0; i < 32; ++i) {
      const auto byte = static_cast<uint8_t>(q[pair * 32 + i]);
      out.codes[pair * 64 + i] = byte & 15U;
      out.codes[pair * 64 + 32 + i] = byte >> 4U;
    }
  }
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
    default:
      assert(false && "not a block type");
  }
}

void block_to_float(DType type, const UnpackedBlock& block, float* destination) {
  const float d = f16_to_f32(block.d);
  switch (type) {
    case DType::q8_0:
    case DType::q4_0: {
      const int zero = zero_code(type);
      for (int i = 0; i < 32; ++i)
        destination[i] = d * static_cast<float>(block.codes[i] - zero);
      return;
    }
    case DType::q4_k: {
      const float dmin = f16_to_f32(block.dmin);
      for (int i = 0; i < 256; ++i) {
        const int group = i / 32;
        const float scale = d * static_cast<float>(block.scale[group]);
        const float min = dmin * static_cast<float>(block.min[group]);
        destination[i] = scale * static_cast<float>(block.codes[i]) - min;
      }
      return;
    }
    case DType::q6_k:
      for (int i = 0; i < 256; ++i) {
        const int group = i / 16;
        const float scale = d * static_cast<float>(block.scale[group]);
        destination[i] = scale * static_cast<float>(block.codes[i] - 32);
      }
      return;
    default:
      assert(false && "not a block type");
  }
}

}  // namespace tidemill::tensor
