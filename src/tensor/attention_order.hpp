// The numerical contract of attention: what every instruction set computes, in which order. For one query (one head of
// one row, at position `last`) against one KV head:
//
// Tokens 0 .. last, or those of a window that ends there, are walked in segments of kAttentionSegment at absolute
// positions. A segment is computed from its own visible tokens alone, and segments with any are merged in ascending
// order by one formula: so it matters neither how many rows are computed together, nor how a prompt was cut, nor how
// segments are spread over threads.
//
//   f32, f16, bf16   e[t] = (sequential fma of k[d] * q[d] over head_dim, from 0) * (scale * log2(e));
//   segment          m = max e[t];  w[t] = exp2(e[t] - m);  lane t % 16 adds w[t] up, lanes are summed: weight;
//                    sums[d] = fma(v[t][d], w[t], sums[d]) for ascending t, from 0.
//   int8             the query is turned by the Hadamard matrix of its head (attention does not change where keys are
//   query            turned too, while outliers among the elements spread over all of them) and quantised to 127 steps:
//                    i[d], a = s * (scale * log2(e) / n), where s = largest / 127 and n is the order of the matrix.
//   int8             e[t] = fma(float(sum of k[t][d] * i[d]) * key_scale[t], a, value_exponent[t]): the value's scale
//   segment          is a factor of the weight, so that one integer sum over tokens does. c = max e[t] - log2(255);
//                    w[t] = exp2_coarse(e[t] - c), at most 255; lane t % 16: l = fma(w[t], exp2(-value_exponent[t]), l)
//                    over blocks; lanes summed: weight. code[t] = rint(w[t] + kWeightDither[t % 16]);
//                    sums[d] = float(sum of code[t] * v[t][d]), where sums of integers are exact.
//   latents          f32, f16, bf16: values are the first elements of keys. int8: query and key are turned and rounded
//                    in two parts, the latent and the rest: e[t] = fma(float(sum over the rest) * key_scale[t], a_rest,
//                    fma(float(sum over the latent) * exp2(value_exponent[t]), a_latent, value_exponent[t])).
//   soft cap         With a cap C, scores come first: x = (dot product) * (scale * (2 / C)), int8: a likewise,
//                    x = float(sum) * key_scale[t] * a, and sums of both parts of latents; then e[t] = tanh(x / 2) * (C
//                    * log2(e)), int8: e[t] = fma(tanh(x / 2), C * log2(e), value_exponent[t]). tanh:
//                    exp_constants.hpp.
//   merge            m' = max(m, M); f = exp2(m - m'); g = exp2(M - m'); weight' = fma(weight, f, Weight * g);
//                    sums'[d] = fma(sums[d], f, Sums[d] * g), from M = -infinity, Weight = 0, Sums = 0.
//   sink             where there are some, one merge more behind the last segment: M = sink * log2(e), Weight = 1
//   (int8:
//                    255), Sums = 0.
//   out              sums[d] * (1 / weight); int8: turned back, times 1 / n.
//
// A maximum ignores NaN; a NaN among a row's queries, its visible keys or values makes its weight NaN, and so its
// output, but no other row's.
#pragma once

#include <cstdint>

namespace tidemill::tensor {

// Tokens. Long segments cost less merging, short ones quantise weights more finely (relative to the segment's own
// largest) and are spread over threads more evenly.
inline constexpr int64_t kAttentionSegment = 128;

// A head of n elements is turned in blocks of the largest power of two that divides n; butterflies (a + b, a - b) of
// elements 1, 2, 4, ... apart, in this order.
inline constexpr float kLog2Of255 = 0x1.ffa37cp+2F;

// exp2(y), for y <= 0: n = rint(y), r = y - n, Horner with fma over the polynomial, times 2^n by adding to the
// exponent; 0 for y < kExp2Lowest. The Taylor series to the sixth power is good to 1.2e-7 of the result.
inline constexpr float kExp2Lowest = -120.0F;
inline constexpr float kExp2Polynomial[] = {
    0x1.430912p-13F, 0x1.5d87fep-10F, 0x1.3b2ab6p-7F, 0x1.c6b08ep-5F, 0x1.ebfbep-3F, 0x1.62e43p-1F, 1.0F};
// exp2_coarse: the same with this polynomial, the best of its degree: 7.5e-5, against the 2e-3 of a code's rounding.
inline constexpr float kExp2CoarsePolynomial[] = {0x1.c3f76p-5F, 0x1.f0de1ap-3F, 0x1.62f31ap-1F, 0x1.fff692p-1F};

// What is added to a weight before it is rounded: (j + 1/2) / 16 - 1/2 in bit-reversed order of j. Weights of a small
// fraction of the largest would else be rounded all in one direction, and many of them may count together.
inline constexpr float kWeightDither[16] = {-0.46875F, 0.03125F, -0.21875F, 0.28125F, -0.34375F, 0.15625F,
                                            -0.09375F, 0.40625F, -0.40625F, 0.09375F, -0.15625F, 0.34375F,
                                            -0.28125F, 0.21875F, -0.03125F, 0.46875F};

}  // namespace tidemill::tensor
