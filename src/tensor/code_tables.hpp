// What the 4-bit codes of IQ4_NL, IQ4_XS and MXFP4 stand for, as integers. Formats: ggml's kvalues of IQ4, and the OCP
// Microscaling Formats specification 1.0 (E2M1, of which these are the doubled values).
//
// Read by files compiled for different instruction sets: data alone, see kernels.hpp.
#pragma once

#include <cstdint>

namespace tidemill::tensor {

inline constexpr int8_t kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
inline constexpr int8_t kMxfp4Values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

// The same as unsigned codes, for multiplications that want them: value + zero.
inline constexpr int kIq4Zero = 128;
inline constexpr int kMxfp4Zero = 12;
inline constexpr uint8_t kIq4Codes[16] = {1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241};
inline constexpr uint8_t kMxfp4Codes[16] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};
static_assert([] {
  for (int i = 0; i < 16; ++i) {
    if (kIq4Codes[i] != kIq4Values[i] + kIq4Zero || kMxfp4Codes[i] != kMxfp4Values[i] + kMxfp4Zero) return false;
  }
  return true;
}());

}  // namespace tidemill::tensor
