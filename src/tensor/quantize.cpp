// Writing of GGUF's types: the inverse of dequantize(), used by tools that make models.
#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <cstring>
#include <span>

#include "tensor/block_encoders.hpp"
#include "tensor/dtype.hpp"

namespace tidemill::tensor {
namespace {

void quantize_q8_0(const float* x, std::byte* block) {
  float largest = 0;
  for (int i = 0; i < 32; ++i)
    largest = std::max(largest, std::fabs(x[i]));
  const float scale = largest / 127;
  store_u16(block, f16_of_scale(scale));
  const float inv = inverse(scale);
  for (int i = 0; i < 32; ++i)
    block[2 + i] = static_cast<std::byte>(to_code(x[i] * inv, -127, 127));
}

// The element largest in magnitude becomes code 0 (that is, -8), so that its sign costs no range.
void quantize_q4_0(const float* x, std::byte* block) {
  float extreme = 0;
  for (int i = 0; i < 32; ++i) {
    if (std::fabs(x[i]) > std::fabs(extreme)) extreme = x[i];
  }
  const float scale = extreme / -8;
  store_u16(block, f16_of_scale(scale));
  const float inv = inverse(scale);
  for (int i = 0; i < 16; ++i) {
    const int low = to_code(x[i] * inv + 8, 0, 15);
    const int high = to_code(x[i + 16] * inv + 8, 0, 15);
    block[2 + i] = static_cast<std::byte>(low | high << 4);
  }
}

// Each group of 32 spans [min(0, smallest), largest] with 16 steps; the groups' steps and minima are then rounded to 6
// bits of one common scale, and the codes chosen against what those decode to.
void quantize_q4_k(const float* x, std::byte* block) {
  std::array<float, 8> step{};
  std::array<float, 8> floor{};
  for (size_t g = 0; g < 8; ++g) {
    float low = 0;
    float high = 0;
    for (size_t i = 0; i < 32; ++i) {
      low = std::min(low, x[g * 32 + i]);
      high = std::max(high, x[g * 32 + i]);
    }
    step[g] = (high - low) / 15;
    floor[g] = -low;
  }
  const uint16_t d_bits = f16_of_scale(*std::max_element(step.begin(), step.end()) / 63);
  const uint16_t dmin_bits = f16_of_scale(*std::max_element(floor.begin(), floor.end()) / 63);
  const float d = f16_to_f32(d_bits);
  const float dmin = f16_to_f32(dmin_bits);
  std::memset(block, 0, 144);
  store_u16(block, d_bits);
  store_u16(block + 2, dmin_bits);

  std::array<uint8_t, 8> scales{};
  std::array<uint8_t, 8> mins{};
  for (size_t g = 0; g < 8; ++g) {
    scales[g] = static_cast<uint8_t>(to_code(step[g] * inverse(d), 0, 63));
    mins[g] = static_cast<uint8_t>(to_code(floor[g] * inverse(dmin), 0, 63));
    const float inv = inverse(d * static_cast<float>(scales[g]));
    const float offset = dmin * static_cast<float>(mins[g]);
    for (size_t i = 0; i < 32; ++i) {
      const int code = to_code((x[g * 32 + i] + offset) * inv, 0, 15);
      block[16 + g / 2 * 32 + i] |= static_cast<std::byte>(g % 2 == 0 ? code : code << 4);
    }
  }
  store_scales_and_mins(scales, mins, block + 4);
}

// The element largest in magnitude of each group of 16 becomes -32; the groups' scales are rounded to 8 bits of one
// common scale, and the codes chosen against what those decode to.
void quantize_q6_k(const float* x, std::byte* block) {
  std::array<float, 16> scale{};
  float extreme = 0;
  for (size_t g = 0; g < 16; ++g) {
    float peak = 0;
    for (size_t i = 0; i < 16; ++i) {
      if (std::fabs(x[g * 16 + i]) > std::fabs(peak)) peak = x[g * 16 + i];
    }
    scale[g] = peak / -32;
    if (std::fabs(scale[g]) > std::fabs(extreme)) extreme = scale[g];
  }
  const uint16_t d_bits = f16_of_scale(extreme / -128);
  const float d = f16_to_f32(d_bits);
  std::memset(block, 0, 210);
  store_u16(block + 208, d_bits);
  for (size_t g = 0; g < 16; ++g) {
    const int code_scale = to_code(scale[g] * inverse(d), -128, 127);
    block[192 + g] = static_cast<std::byte>(code_scale);
    const float inv = inverse(d * static_cast<float>(code_scale));
    for (size_t i = 0; i < 16; ++i) {
      const auto code = static_cast<unsigned>(to_code(x[g * 16 + i] * inv + 32, 0, 63));
      const size_t e = g * 16 + i;
      const size_t half = e / 128;
      const size_t quarter = e % 128 / 32;
      const size_t at = e % 32;
      const size_t low = half * 64 + (quarter % 2) * 32 + at;
      block[low] |= static_cast<std::byte>((code & 15U) << (quarter / 2 * 4));
      block[128 + half * 32 + at] |= static_cast<std::byte>((code >> 4U) << (quarter * 2));
    }
  }
}

void quantize_block(DType type, const float* source, std::byte* block) {
  std::array<float, 256> held{};
  hold_within(type, source, std::span(held).first(static_cast<size_t>(info(type).block_elements)));
  const float* x = held.data();
  switch (type) {
    case DType::q8_0:
      return quantize_q8_0(x, block);
    case DType::q4_0:
      return quantize_q4_0(x, block);
    case DType::q4_k:
      return quantize_q4_k(x, block);
    case DType::q6_k:
      return quantize_q6_k(x, block);
    default:
      return encode_block(type, source, block);  // which sees to it itself that all is within what the type holds
  }
}

}  // namespace

void quantize(DType type, const float* source, int64_t elements, std::byte* destination) {
  const DTypeInfo& t = info(type);
  assert(elements % t.block_elements == 0);
  for (int64_t b = 0; b < elements / t.block_elements; ++b) {
    const float* x = source + b * t.block_elements;
    std::byte* block = destination + b * t.block_bytes;
    switch (type) {
      case DType::f32:
        std::memcpy(block, x, sizeof(float));
        break;
      case DType::f16:
        store_u16(block, f32_to_f16(*x));
        break;
      case DType::bf16:
        store_u16(block, f32_to_bf16(*x));
        break;
      default:
        quantize_block(type, x, block);
    }
  }
}

}  // namespace tidemill::tensor
