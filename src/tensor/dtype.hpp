// Element types of weights as GGUF stores them, and their plain conversion to and from float.
// Block formats follow the GGUF specification and ggml's published block structures.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace tidemill::tensor {

enum class DType : uint8_t {
  f32,
  f16,
  bf16,
  q8_0,
  q4_0,
  q4_k,
  q6_k,
  q4_1,
  q5_0,
  q5_1,
  q2_k,
  q3_k,
  q5_k,
  iq4_nl,
  iq4_xs,
  mxfp4,
};
inline constexpr size_t kDTypes = 16;

struct DTypeInfo {
  std::string_view name;   // as users write it: "Q8_0"
  uint32_t ggml_type;      // its number in a GGUF file
  int64_t block_elements;  // elements in one block; 1 for plain types
  int64_t block_bytes;     // bytes of one block
};

const DTypeInfo& info(DType type);
std::span<const DType> all_dtypes();  // plain types first, then by the bits of a code within a family
std::optional<DType> dtype_from_ggml(uint32_t ggml_type);
std::optional<DType> dtype_from_name(std::string_view name);  // case-insensitive

// Bytes of one row of `elements` elements; `elements` must be a multiple of the type's block_elements.
int64_t row_bytes(DType type, int64_t elements);

// Exact conversion of `elements` elements (a multiple of the block) to float.
void dequantize(DType type, const std::byte* source, int64_t elements, float* destination);
// Rounds to nearest. Q8_0 and Q4_0 choose their scales the way the format's reference does; Q4_K and Q6_K take the
// range of each group; all others try several scales for the smallest squared error (block_encoders.hpp). Used to write
// models. Blocks hold nothing but finite numbers: what is beyond those that a type can hold, infinity too, becomes the
// nearest of them, and what is no number 0. F32, F16 and BF16 have infinities and NaN of their own, and keep them.
void quantize(DType type, const float* source, int64_t elements, std::byte* destination);

float f16_to_f32(uint16_t bits);
uint16_t f32_to_f16(float value);  // round to nearest even
float bf16_to_f32(uint16_t bits);
uint16_t f32_to_bf16(float value);  // round to nearest even

}  // namespace tidemill::tensor
