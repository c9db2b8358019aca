#include "model/hugging_face/eight_bit_floats.hpp"

#include <cmath>
#include <limits>

namespace tidemill::model {
namespace {

constexpr float kNoNumber = std::numeric_limits<float>::quiet_NaN();

// Of a sign, an exponent and `mantissa_bits`; what is no number aside.
EightBitNumbers signed_numbers(int mantissa_bits, int bias) {
  EightBitNumbers numbers;
  const int ones = 1 << mantissa_bits;
  for (int code = 0; code < 256; ++code) {
    const int exponent = (code & 0x7F) >> mantissa_bits;
    const int mantissa = code & (ones - 1);
    // The smallest exponent stands for numbers without the leading one.
    const float size = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), 1 - bias - mantissa_bits)
                                     : std::ldexp(static_cast<float>(ones + mantissa), exponent - bias - mantissa_bits);
    numbers[static_cast<size_t>(code)] = code < 0x80 ? size : -size;
  }
  return numbers;
}

// It has no infinities: only the code of all ones is no number.
EightBitNumbers e4m3_numbers() {
  EightBitNumbers numbers = signed_numbers(3, 7);
  numbers[0x7F] = numbers[0xFF] = kNoNumber;
  return numbers;
}

EightBitNumbers e5m2_numbers() {
  EightBitNumbers numbers = signed_numbers(2, 15);
  for (const size_t sign : {size_t{0}, size_t{0x80}}) {
    const float infinity = std::numeric_limits<float>::infinity();
    numbers[sign + 0x7C] = sign == 0 ? infinity : -infinity;
    for (size_t code = 0x7D; code <= 0x7F; ++code)
      numbers[sign + code] = kNoNumber;
  }
  return numbers;
}

EightBitNumbers e8m0_numbers() {
  EightBitNumbers numbers;
  for (int code = 0; code < 255; ++code)
    numbers[static_cast<size_t>(code)] = std::ldexp(1.0F, code - 127);
  numbers[255] = kNoNumber;
  return numbers;
}

}  // namespace

const EightBitNumbers* eight_bit_numbers(std::string_view dtype) {
  static const EightBitNumbers e4m3 = e4m3_numbers();
  static const EightBitNumbers e5m2 = e5m2_numbers();
  static const EightBitNumbers e8m0 = e8m0_numbers();
  if (dtype == "F8_E4M3") return &e4m3;
  if (dtype == "F8_E5M2") return &e5m2;
  return dtype == "F8_E8M0" ? &e8m0 : nullptr;
}

}  // namespace tidemill::model
