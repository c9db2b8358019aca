#include "tensor/dtype.hpp"

#include <array>
#include <bit>
#include <cassert>
#include <cstring>

#include "base/lower_case.hpp"
#include "tensor/quant_blocks.hpp"

namespace tidemill::tensor {
namespace {

constexpr std::array<DTypeInfo, kDTypes> kInfos = {{
    {"F32", 0, 1, 4},
    {"F16", 1, 1, 2},
    {"BF16", 30, 1, 2},
    {"Q8_0", 8, 32, 34},
    {"Q4_0", 2, 32, 18},
    {"Q4_K", 12, 256, 144},
    {"Q6_K", 14, 256, 210},
    {"Q4_1", 3, 32, 20},
    {"Q5_0", 6, 32, 22},
    {"Q5_1", 7, 32, 24},
    {"Q2_K", 10, 256, 84},
    {"Q3_K", 11, 256, 110},
    {"Q5_K", 13, 256, 176},
    {"IQ4_NL", 20, 32, 18},
    {"IQ4_XS", 23, 256, 136},
    {"MXFP4", 39, 32, 17},
}};
constexpr std::array<DType, kDTypes> kAll = {
    DType::f32,  DType::f16,  DType::bf16, DType::q8_0, DType::q4_0, DType::q4_1,   DType::q5_0,   DType::q5_1,
    DType::q2_k, DType::q3_k, DType::q4_k, DType::q5_k, DType::q6_k, DType::iq4_nl, DType::iq4_xs, DType::mxfp4};

}  // namespace

const DTypeInfo& info(DType type) {
  return kInfos[static_cast<size_t>(type)];
}

std::span<const DType> all_dtypes() {
  return kAll;
}

std::optional<DType> dtype_from_ggml(uint32_t ggml_type) {
  for (const DType type : kAll) {
    if (info(type).ggml_type == ggml_type) return type;
  }
  return std::nullopt;
}

std::optional<DType> dtype_from_name(std::string_view name) {
  for (const DType type : kAll) {
    if (base::equal_ignoring_case(info(type).name, name)) return type;
  }
  return std::nullopt;
}

int64_t row_bytes(DType type, int64_t elements) {
  const DTypeInfo& t = info(type);
  assert(elements % t.block_elements == 0);
  return elements / t.block_elements * t.block_bytes;
}

void dequantize(DType type, const std::byte* source, int64_t elements, float* destination) {
  switch (type) {
    case DType::f32:
      if (elements > 0) std::memcpy(destination, source, static_cast<size_t>(elements) * sizeof(float));
      return;
    case DType::f16:
    case DType::bf16:
      for (int64_t i = 0; i < elements; ++i) {
        uint16_t bits;
        std::memcpy(&bits, source + i * 2, sizeof bits);
        destination[i] = type == DType::f16 ? f16_to_f32(bits) : bf16_to_f32(bits);
      }
      return;
    default:
      break;
  }
  const DTypeInfo& t = info(type);
  assert(elements % t.block_elements == 0);
  UnpackedBlock block;
  for (int64_t i = 0; i < elements / t.block_elements; ++i) {
    unpack_block(type, source + i * t.block_bytes, block);
    block_to_float(type, block, destination + i * t.block_elements);
  }
}

float f16_to_f32(uint16_t bits) {
  const uint32_t sign = (bits & 0x8000U) << 16U;
  const uint32_t exponent = bits >> 10U & 31U;
  const uint32_t mantissa = bits & 0x3ffU;
  if (exponent == 0) {
    // Zero or subnormal: mantissa * 2^-24, exact in binary32.
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24F;
    return std::bit_cast<float>(std::bit_cast<uint32_t>(magnitude) | sign);
  }
  if (exponent == 31) {
    const uint32_t quiet = mantissa != 0 ? 0x400000U : 0;  // as F16C does
    return std::bit_cast<float>(sign | 0x7f800000U | mantissa << 13U | quiet);
  }
  return std::bit_cast<float>(sign | (exponent + 112) << 23U | mantissa << 13U);
}

uint16_t f32_to_f16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = bits >> 16U & 0x8000U;
  const uint32_t magnitude = bits & 0x7fffffffU;
  if (magnitude > 0x7f800000U) {  // NaN: quiet, keeping the payload's top bits as F16C does
    return static_cast<uint16_t>(sign | 0x7e00U | (magnitude >> 13U & 0x3ffU));
  }
  if (magnitude >= 0x477ff000U) return static_cast<uint16_t>(sign | 0x7c00U);  // rounds to 65536 or more
  if (magnitude < 0x38800000U) {                                               // below 2^-14: subnormal or zero
    // Adding 0.5 leaves the significand in units of 2^-24, rounded to nearest even by the addition itself.
    const float shifted = std::bit_cast<float>(magnitude) + 0.5F;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3f000000U));
  }
  const uint32_t rounded = magnitude + 0xfffU + (magnitude >> 13U & 1U);
  return static_cast<uint16_t>(sign | ((rounded - 0x38000000U) >> 13U));
}

float bf16_to_f32(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16U);
}

uint16_t f32_to_bf16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffU) > 0x7f800000U) return static_cast<uint16_t>(bits >> 16U | 0x40U);  // NaN stays a quiet NaN
  return static_cast<uint16_t>((bits + 0x7fffU + (bits >> 16U & 1U)) >> 16U);
}

}  // namespace tidemill::tensor
