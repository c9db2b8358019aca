// The row operations that only encoders need. These are the plain forms, which say what the vector ones
// (vector_encoder_rows.hpp) compute too, bit for bit. They are worth it: GELU of a row of 3,072 takes 17 us in the
// plain form, 3.8 us in AVX2 and 3.1 us in AVX-512, layer norm of 768 1.6, 0.4 and 0.4 us (a Xeon with VNNI, one core),
// and a layer of bge-base has one such row and two such norms a token beside products of 7.1 million int8
// multiplications, which the same core does in 19 us at its peak.
//
// Read by files compiled for different instruction sets: data and declarations alone, see kernels.hpp.
#pragma once

#include <cstdint>

namespace tidemill::tensor {

// y[i] = float((x[i] - mean) * inverse) * weight[i] + bias[i], where mean is the sum of x over n, and inverse is
// 1 / sqrt(sum of (x - mean)^2 / n + epsilon), all in double. Sums: lane i % 16 adds its elements up in ascending
// order, then the lanes are added as in kernels.hpp. In place where x and y are the same.
void layer_norm_row(const float* x, const float* weight, const float* bias, float epsilon, int64_t n, float* y);

// x[i] = x[i] * (1 + erf(x[i] / sqrt(2))) / 2 (Hendrycks and Gimpel 2016), in double, with the error function's
// approximation 7.1.28 of Abramowitz and Stegun: 1 - (1 + a1 x + ... + a6 x^6)^-16 for x >= 0, good to 3e-7. It needs
// no exponential. NaN stays NaN, infinity infinity, and -infinity becomes NaN, as in the formula.
void gelu_row(float* x, int64_t n);

inline constexpr double kHalfRoot = 0.70710678118654752440;  // 1 / sqrt(2)
// a6 to a1, and 1.
inline constexpr double kErrorFunction[7] = {
    0.0000430638, 0.0002765672, 0.0001520143, 0.0092705272, 0.0422820123, 0.0705230784, 1};

// x[i] = tanh(x[i]) = 1 - 2 / (e^(2 x[i]) + 1), in double, of |x[i]| and with its sign; 1 from 20 on, where no float is
// nearer. e^y = 2^n * e^r with n = rint(y / ln 2), and the Taylor series to the twelfth power for e^r. NaN stays NaN.
// There is no vector form: a text has one such row.
void tanh_row(float* x, int64_t n);

}  // namespace tidemill::tensor
