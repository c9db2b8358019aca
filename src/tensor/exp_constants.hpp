// e^x of the kernels, the same in every instruction set:
//   x < kExpLowest: 0.  x > kExpHighest: as kExpHighest.  NaN: NaN.
//   n = rint(x * log2(e));  r = fma(n, -kLn2High, x);  r = fma(n, -kLn2Low, r);
//   p = Horner over kExpPolynomial with fma;  result = p * 2^n, by adding n to the exponent.
// The polynomial is the Taylor series to the sixth power: |r| <= ln(2) / 2 leaves a truncation error of 1.2e-7, one
// unit in the last place of a float.
//
// tanh(x / 2) likewise, as t / (t + 2) with t = e^x - 1, which stays exact for small x:
//   y = x within -kTanhRange .. kTanhRange (beyond it the result is -1 or 1; NaN: NaN).
//   n and r as above, from y;  p = Horner over kExpm1Polynomial with fma;
//   t = fma(p * r, 2^n, 2^n - 1);  result = t / (t + 2).
// The Taylor series of (e^r - 1) / r to the sixth power leaves a truncation error of 1.5e-8.
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

inline constexpr float kTanhRange = 40.0F;
// Highest power first.
inline constexpr float kExpm1Polynomial[] = {
    0x1.a01a02p-13F, 0x1.6c16c2p-10F, 0x1.111112p-7F, 0x1.555556p-5F, 0x1.555556p-3F, 0.5F, 1.0F};

// GELU in its form with tanh (Hendrycks and Gimpel 2016), x * (1 + tanh(u / 2)) / 2 with
// u = 2 * sqrt(2 / pi) * (x + 0.044715 * x^3), which is x / (1 + e^-u):
//   u = x * fma(x * x, kGeluCubic, kGeluLinear);  result = x / (1 + e^-u).
inline constexpr float kGeluLinear = 0x1.988454p+0F;
inline constexpr float kGeluCubic = 0x1.2444f2p-4F;

// The gate of gpt-oss (openai/gpt-oss, swiglu): how steep it is, and what its inputs are clamped to.
inline constexpr float kClampedSiluSlope = 1.702F;
inline constexpr float kClampedSiluLimit = 7.0F;

}  // namespace tidemill::tensor
