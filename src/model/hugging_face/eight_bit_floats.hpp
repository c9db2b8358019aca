// Floating-point numbers of eight bits, as safetensors files have them: F8_E4M3 and F8_E5M2 (OCP 8-bit Floating Point
// Specification, OFP8, 1.0: sign, exponent, mantissa) and powers of two that scale others, F8_E8M0 (OCP Microscaling
// Formats, MX, 1.0).
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace tidemill::model {

// Each code's number.
using EightBitNumbers = std::array<float, 256>;

// Of a type as safetensors name it; null for all but the three.
const EightBitNumbers* eight_bit_numbers(std::string_view dtype);

// Whether it is one of the two that weights may be of.
inline bool is_eight_bit_float(std::string_view dtype) {
  return dtype == "F8_E4M3" || dtype == "F8_E5M2";
}

}  // namespace tidemill::model
