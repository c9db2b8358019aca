// Activations rounded to bf16 (kernels.hpp), for the files that are compiled with AVX-512; see vector_linear.hpp for
// why all of this has internal linkage.
#pragma once

#include "tensor/kernels.hpp"
#include "tensor/vector_avx512.hpp"
#include "tensor/vector_rows.hpp"

namespace tidemill::tensor {
namespace {

// Sixteen values in bf16, in the low halves of the lanes.
[[gnu::always_inline]] inline __m512i round_to_bf16(__m512 x) {
  const __m512i bits = _mm512_castps_si512(x);
  const __m512i magnitude = _mm512_and_si512(bits, _mm512_set1_epi32(0x7fffffff));
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(magnitude, odd), _mm512_set1_epi32(0x7fff));
  rounded = _mm512_min_epu32(rounded, _mm512_set1_epi32(0x7f7fffff));  // else the largest become infinite
  const __m512i infinity = _mm512_set1_epi32(0x7f800000);
  rounded = _mm512_mask_mov_epi32(rounded, _mm512_cmpge_epi32_mask(magnitude, infinity), magnitude);
  rounded = _mm512_mask_or_epi32(rounded, _mm512_cmpgt_epi32_mask(magnitude, infinity), rounded,
                                 _mm512_set1_epi32(0x00400000));  // a NaN may lie in the lower half alone
  rounded = _mm512_maskz_mov_epi32(_mm512_cmpge_epi32_mask(magnitude, _mm512_set1_epi32(0x00800000)), rounded);
  const __m512i sign = _mm512_and_si512(bits, _mm512_set1_epi32(static_cast<int32_t>(0x80000000)));
  return _mm512_srli_epi32(_mm512_or_si512(rounded, sign), 16);
}

inline void round_row(const float* x, int64_t cols, int64_t row, const QuantizedRows& out) {
  const int64_t padded = round_up(cols, kBf16Block);
  for (int64_t k = 0; k < padded; k += kLanes) {
    const int64_t left = cols - k < 0 ? 0 : cols - k < kLanes ? cols - k : kLanes;
    const __m512i values = round_to_bf16(Avx512::load_first(x + k, left));
    std::byte* to = out.codes + ((k / kBf16Block * out.rows + row) * kBf16Block + k % kBf16Block) * 2;
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi32_epi16(values));
  }
}

}  // namespace
}  // namespace tidemill::tensor
