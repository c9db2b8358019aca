// The row operations that only encoders need, in one form for all instruction sets: compiled once, for the least of
// them, so that they give the same bits everywhere. They take a few hundredths of an encoder's time.
#pragma once

#include <cstdint>

namespace tidemill::tensor {

// y[i] = float((x[i] - mean) * inverse) * weight[i] + bias[i], where mean is the sum of x over n, and inverse is
// 1 / sqrt(sum of (x - mean)^2 / n + epsilon), all in double. Sums: lane i % 4 adds its elements up in ascending order,
// then (lane 0 + lane 2) + (lane 1 + lane 3). In place where x and y are the same.
void layer_norm_row(const float* x, const float* weight, const float* bias, float epsilon, int64_t n, float* y);

// x[i] = x[i] * (1 + erf(x[i] / sqrt(2))) / 2 (Hendrycks and Gimpel 2016), in double, with the error function's
// approximation 7.1.28 of Abramowitz and Stegun: 1 - (1 + a1 x + ... + a6 x^6)^-16 for x >= 0, good to 3e-7. It needs
// no exponential. NaN stays NaN, infinity infinity, and -infinity becomes NaN, as in the formula.
void gelu_row(float* x, int64_t n);

// x[i] = tanh(x[i]) = 1 - 2 / (e^(2 x[i]) + 1), in double, of |x[i]| and with its sign; 1 from 20 on, where no float is
// nearer. e^y = 2^n * e^r with n = rint(y / ln 2), and the Taylor series to the twelfth power for e^r. NaN stays NaN.
void tanh_row(float* x, int64_t n);

}  // namespace tidemill::tensor
