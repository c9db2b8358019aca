// AVX2 with FMA and F16C. Compiled with those flags: nothing here may be called before the CPU has been asked.
#include <immintrin.h>

#include "tensor/kernels.hpp"
#include "tensor/vector_kernels.hpp"

namespace tidemill::tensor {
namespace {

#define TM_INLINE [[gnu::always_inline]] static inline

// Sixteen lanes in two registers.
//
// VPMADDUBSW saturates at 16 bits, so products are made from 16-bit halves instead: the even bytes of each lane against
// (x0, x2), the odd ones against (x1, x3). Activations are stored that way, two bytes a code: x0 x2 x1 x3.
struct Avx2 {
  struct F {
    __m256 low, high;
  };
  struct I {
    __m256i low, high;
  };
  struct C {
    __m256i even_low, even_high, odd_low, odd_high;
  };
  struct X {
    __m256i even, odd;
  };

  static constexpr int kCodeBytes = 2;
  static constexpr int kWidePlanes = 1;  // the 16 bits hold a wide code as well
  static constexpr int64_t kPrefetchBytes = 4096;
  static constexpr int kFewRows = 2;  // up to so many, straight from the packed weights
  template <int P>
  static constexpr int kTileRows = P == 1 ? 4 : 2;
  static constexpr int kRowsPlain = 4;
  // Accumulators of attention's two products.
  static constexpr int kScoreTile = 4;
  static constexpr int kSumTile = 4;

  // All bits set in the first n of eight lanes.
  TM_INLINE __m256i first_of_eight(int64_t n) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int32_t>(n)), lane);
  }

  TM_INLINE F zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
  TM_INLINE F set1(float x) {
    const __m256 v = _mm256_set1_ps(x);
    return {v, v};
  }
  TM_INLINE F load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
  TM_INLINE F load_first(const float* p, int64_t n) {
    return {_mm256_maskload_ps(p, first_of_eight(n)), _mm256_maskload_ps(p + 8, first_of_eight(n - 8))};
  }
  TM_INLINE void store(float* p, F v) {
    _mm256_storeu_ps(p, v.low);
    _mm256_storeu_ps(p + 8, v.high);
  }
  TM_INLINE void store_first(float* p, int64_t n, F v) {
    _mm256_maskstore_ps(p, first_of_eight(n), v.low);
    _mm256_maskstore_ps(p + 8, first_of_eight(n - 8), v.high);
  }
  TM_INLINE F first_or(F v, int64_t n, F other) {
    return {_mm256_blendv_ps(other.low, v.low, _mm256_castsi256_ps(first_of_eight(n))),
            _mm256_blendv_ps(other.high, v.high, _mm256_castsi256_ps(first_of_eight(n - 8)))};
  }
  TM_INLINE F load_f16(const uint16_t* p) {
    const auto* halves = reinterpret_cast<const __m128i*>(p);
    return {_mm256_cvtph_ps(_mm_loadu_si128(halves)), _mm256_cvtph_ps(_mm_loadu_si128(halves + 1))};
  }
  TM_INLINE __m256 widen_bf16(__m128i bits) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
  }
  TM_INLINE F load_bf16(const uint16_t* p) {
    const auto* halves = reinterpret_cast<const __m128i*>(p);
    return {widen_bf16(_mm_loadu_si128(halves)), widen_bf16(_mm_loadu_si128(halves + 1))};
  }
  TM_INLINE void store_f16(uint16_t* p, F v) {
    auto* halves = reinterpret_cast<__m128i*>(p);
    _mm_storeu_si128(halves, _mm256_cvtps_ph(v.low, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    _mm_storeu_si128(halves + 1, _mm256_cvtps_ph(v.high, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }

  TM_INLINE F add(F a, F b) { return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)}; }
  TM_INLINE F sub(F a, F b) { return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)}; }
  TM_INLINE F mul(F a, F b) { return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)}; }
  TM_INLINE F div(F a, F b) { return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)}; }
  TM_INLINE F fma(F a, F b, F c) {
    return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
  }
  TM_INLINE F negate(F a) {
    const __m256 sign = _mm256_set1_ps(-0.0F);
    return {_mm256_xor_ps(a.low, sign), _mm256_xor_ps(a.high, sign)};
  }
  // a > b ? a : b and a < b ? a : b; so b where either is NaN.
  TM_INLINE F max(F a, F b) { return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)}; }
  TM_INLINE F min(F a, F b) { return {_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high)}; }
  // The largest lane (none is NaN), and the sum of lanes in the order of kernels.hpp.
  TM_INLINE float reduce_max(F v) {
    const __m256 eight = _mm256_max_ps(v.low, v.high);
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    four = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
  }
  TM_INLINE float reduce_add(F v) {
    const __m256 eight = _mm256_add_ps(v.low, v.high);
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    four = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
  }
  TM_INLINE F zero_where_less(F x, float bound, F v) {
    const __m256 b = _mm256_set1_ps(bound);
    return {_mm256_and_ps(_mm256_cmp_ps(x.low, b, _CMP_NLT_UQ), v.low),
            _mm256_and_ps(_mm256_cmp_ps(x.high, b, _CMP_NLT_UQ), v.high)};
  }
  TM_INLINE __m256 add_exponent_half(__m256 v, __m256i n) {
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(v), _mm256_slli_epi32(n, 23)));
  }
  TM_INLINE F add_exponent(F v, I n) { return {add_exponent_half(v.low, n.low), add_exponent_half(v.high, n.high)}; }

  TM_INLINE I set1_i(int32_t x) {
    const __m256i v = _mm256_set1_epi32(x);
    return {v, v};
  }
  TM_INLINE __m256i load_half(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
  TM_INLINE I load_u8(const uint8_t* p) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return {_mm256_cvtepu8_epi32(bytes), _mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8))};
  }
  TM_INLINE I load_s8(const int8_t* p) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return {_mm256_cvtepi8_epi32(bytes), _mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8))};
  }
  TM_INLINE I add_i(I a, I b) { return {_mm256_add_epi32(a.low, b.low), _mm256_add_epi32(a.high, b.high)}; }
  TM_INLINE I times_256(I v) { return {_mm256_slli_epi32(v.low, 8), _mm256_slli_epi32(v.high, 8)}; }
  TM_INLINE int32_t sum_i(I v) {
    const __m256i eight = _mm256_add_epi32(v.low, v.high);
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(four, _mm_shuffle_epi32(four, 0xb1)));
  }
  TM_INLINE F to_float(I v) { return {_mm256_cvtepi32_ps(v.low), _mm256_cvtepi32_ps(v.high)}; }
  TM_INLINE I round_to_int(F v) { return {_mm256_cvtps_epi32(v.low), _mm256_cvtps_epi32(v.high)}; }
  TM_INLINE I magnitude_bits(F v) {
    const __m256i mask = _mm256_set1_epi32(0x7fffffff);
    return {_mm256_and_si256(_mm256_castps_si256(v.low), mask), _mm256_and_si256(_mm256_castps_si256(v.high), mask)};
  }
  TM_INLINE I max_i(I a, I b) { return {_mm256_max_epi32(a.low, b.low), _mm256_max_epi32(a.high, b.high)}; }
  TM_INLINE int32_t largest_i(I v) {
    const __m256i eight = _mm256_max_epi32(v.low, v.high);
    __m128i four = _mm_max_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    four = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    return _mm_cvtsi128_si32(_mm_max_epi32(four, _mm_shuffle_epi32(four, 0xb1)));
  }

  TM_INLINE C codes(const uint8_t* line) {
    const __m256i low = load_half(line);
    const __m256i high = load_half(line + 32);
    const __m256i even = _mm256_set1_epi16(0x00ff);
    return {_mm256_and_si256(low, even), _mm256_and_si256(high, even), _mm256_srli_epi16(low, 8),
            _mm256_srli_epi16(high, 8)};
  }
  TM_INLINE C low_codes(const uint8_t* line) {
    const __m256i low = load_half(line);
    const __m256i high = load_half(line + 32);
    const __m256i nibble = _mm256_set1_epi16(0x000f);
    return {_mm256_and_si256(low, nibble), _mm256_and_si256(high, nibble),
            _mm256_and_si256(_mm256_srli_epi16(low, 8), nibble), _mm256_and_si256(_mm256_srli_epi16(high, 8), nibble)};
  }
  TM_INLINE C high_codes(const uint8_t* line) {
    const __m256i low = load_half(line);
    const __m256i high = load_half(line + 32);
    const __m256i nibble = _mm256_set1_epi16(0x000f);
    return {_mm256_and_si256(_mm256_srli_epi16(low, 4), nibble), _mm256_and_si256(_mm256_srli_epi16(high, 4), nibble),
            _mm256_srli_epi16(low, 12), _mm256_srli_epi16(high, 12)};
  }
  TM_INLINE void store_codes(std::byte* p, I v) {
    const __m256i order = _mm256_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15,  //
                                           0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15);
    // Packing works within 128-bit halves: put the quarters back in order first.
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(v.low, v.high), 0xd8);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_shuffle_epi8(words, order));
  }
  TM_INLINE void store_wide_codes(std::byte* p, I v) { store_codes(p, v); }
  TM_INLINE void store_nibbles(uint8_t* to, __m256i low, __m256i high) {
    const __m256i nibble = _mm256_set1_epi8(15);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_and_si256(low, nibble));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 32), _mm256_and_si256(high, nibble));
  }
  template <int zero>
  TM_INLINE void store_low_nibbles(uint8_t* to, const uint8_t* line) {
    store_nibbles(to, load_half(line), load_half(line + 32));
  }
  template <int zero>
  TM_INLINE void store_high_nibbles(uint8_t* to, const uint8_t* line) {
    store_nibbles(to, _mm256_srli_epi16(load_half(line), 4), _mm256_srli_epi16(load_half(line + 32), 4));
  }
  // x is x0 x2 x1 x3 in 16 bits each.
  TM_INLINE X load_x(const std::byte* x) {
    int32_t even;
    int32_t odd;
    __builtin_memcpy(&even, x, sizeof even);
    __builtin_memcpy(&odd, x + 4, sizeof odd);
    return {_mm256_set1_epi32(even), _mm256_set1_epi32(odd)};
  }
  TM_INLINE X load_x_once(const std::byte* x) { return load_x(x); }
  // acc + the sums of four products per lane.
  TM_INLINE I dot(I acc, C w, X x) {
    acc.low = _mm256_add_epi32(acc.low, _mm256_madd_epi16(w.even_low, x.even));
    acc.high = _mm256_add_epi32(acc.high, _mm256_madd_epi16(w.even_high, x.even));
    acc.low = _mm256_add_epi32(acc.low, _mm256_madd_epi16(w.odd_low, x.odd));
    acc.high = _mm256_add_epi32(acc.high, _mm256_madd_epi16(w.odd_high, x.odd));
    return acc;
  }

  // The low bytes of the lanes, which fit.
  TM_INLINE void store_s8(int8_t* p, I v) {
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(v.low, v.high), 0xd8);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                     _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
  }
  TM_INLINE void store_u8(uint8_t* p, I v) {
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(v.low, v.high), 0xd8);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                     _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
  }
  // For attention: signed codes; four unsigned weights; acc + the sums of four products per lane.
  TM_INLINE __m256i low_signed(__m256i v) { return _mm256_srai_epi16(_mm256_slli_epi16(v, 8), 8); }
  TM_INLINE C values(const uint8_t* line) {
    const __m256i low = load_half(line);
    const __m256i high = load_half(line + 32);
    return {low_signed(low), low_signed(high), _mm256_srai_epi16(low, 8), _mm256_srai_epi16(high, 8)};
  }
  TM_INLINE X weights(const uint8_t* p) {
    int32_t four;
    __builtin_memcpy(&four, p, sizeof four);
    const __m256i v = _mm256_set1_epi32(four);
    return {_mm256_and_si256(v, _mm256_set1_epi16(0x00ff)), _mm256_srli_epi16(v, 8)};
  }
  TM_INLINE void score(I& acc, C k, X q) { acc = dot(acc, k, q); }
  TM_INLINE void weigh(I& acc, X w, C v) { acc = dot(acc, v, w); }
};

}  // namespace

const Kernels& avx2_kernels() {
  static constexpr Kernels kernels = make_kernels<Avx2>(Isa::avx2);
  return kernels;
}

}  // namespace tidemill::tensor
