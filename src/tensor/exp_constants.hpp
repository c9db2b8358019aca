// e^x of the kernels, the same in every instruction set:
//   x < kExpLowest: 0.  x > kExpHighest: as kExpHighest.  NaN: NaN.
//   n = rint(x * log2(e));  r = fma(n, -kLn2High, x);  r = fma(n, -kLn2Low, r);
//   p = Horner over kExpPolynomial with fma;  result = p * 2^n, by adding n to the exponent.
// The polynomial is the Taylor series to the sixth power: |r| <= ln(2) / 2 leaves a truncation error of 1.2e-7, one
// unit in the last place of a float.
#pragma once

namespace tidemill::tensor {

inline constexpr float kExpLowest = -86.0F;  // 2^n stays normal
inline constexpr float kExpHighest = 88.0F;  // the result stays finite
inline constexpr float kLog2E = 0x1.715476p+0F;
inline constexpr float kLn2High = 0x1.62e4p-1F;  // few bits: n * kLn2High is exact
inline constexpr float kLn2Low = 0x1.7f7d1cp-20F;
// Highest power first.
inline constexpr float kExpPolynomial[] = {
    0x1.6c16c2p-10F, 0x1.111112p-7F, 0x1.555556p-5F, 0x1.555556p-3F, 0.5F, 1.0F, 1.0F};

}  // namespace tidemill::tensor
