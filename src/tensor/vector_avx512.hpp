// Sixteen lanes as one register of AVX-512 (F, BW, DQ, VL) with VNNI, for the files that are compiled with those flags;
// see vector_linear.hpp for why it has internal linkage.
#pragma once

#include <cstddef>
#include <cstdint>
#include <immintrin.h>

#include "tensor/kernels.hpp"
#include "tensor/vector_linear.hpp"

namespace tidemill::tensor {
namespace {

#define TM_INLINE [[gnu::always_inline]] static inline

// Sixteen lanes in one register.
struct Avx512 {
  using F = __m512;
  using I = __m512i;
  using C = __m512i;  // 64 codes
  using N = C;        // 64 codes of weights that meet narrow activations
  using X = __m512i;  // four codes, sixteen times

  static constexpr int kCodeBytes = 1;   // of a plane of a wide code, and of attention's codes
  static constexpr int kWidePlanes = 2;  // of 8 bits
  static constexpr int64_t kPrefetchBytes = 4096;
  static constexpr int kFewRows = 16;  // up to so many, straight from the packed weights
  static constexpr int kPanelsOfWideRow = 1;
  static constexpr bool kOwnTiles = false;
  static constexpr bool kBitSums = true;        // vector_bit_sums.hpp
  static constexpr bool kHighInPlace = true;    // likewise
  static constexpr bool kSignedTables = false;  // vector_formats.hpp
  template <int most>
  using NarrowSum = PlainNarrowSum<Avx512>;
  static constexpr int kTilePanels = 2;
  // Rows of a tile of P panels: the accumulators and what they are made from fit 32 registers.
  template <int P>
  static constexpr int kTileRows = P == 1 ? 8 : 6;
  static constexpr int kRowsPlain = 8;
  static constexpr int64_t kFewRowsF32 = 4;  // vector_weight_only.hpp
  static constexpr int kTileRowsF32 = 8;
  // Accumulators of attention's two products.
  static constexpr int kScoreTile = 16;
  static constexpr int kSumTile = 16;

  TM_INLINE __mmask16 first(int64_t n) { return static_cast<__mmask16>((1U << n) - 1U); }

  TM_INLINE F zero() { return _mm512_setzero_ps(); }
  TM_INLINE F set1(float x) { return _mm512_set1_ps(x); }
  // For several multiplications: as load_x_once() below.
  TM_INLINE F set1_once(float x) {
    F v = set1(x);
    asm("" : "+v"(v));
    return v;
  }
  TM_INLINE F load(const float* p) { return _mm512_loadu_ps(p); }
  TM_INLINE I load_i(const int32_t* p) { return _mm512_loadu_si512(p); }
  TM_INLINE F load_first(const float* p, int64_t n) { return _mm512_maskz_loadu_ps(first(n), p); }
  TM_INLINE void store(float* p, F v) { _mm512_storeu_ps(p, v); }
  TM_INLINE void store_first(float* p, int64_t n, F v) { _mm512_mask_storeu_ps(p, first(n), v); }
  TM_INLINE F first_or(F v, int64_t n, F other) { return _mm512_mask_blend_ps(first(n), other, v); }
  TM_INLINE F load_f16(const uint16_t* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  TM_INLINE F load_bf16(const uint16_t* p) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
  }
  TM_INLINE void load_bf16_pairs(const std::byte* p, F& even, F& odd) {
    const __m512i pairs = _mm512_loadu_si512(p);
    even = _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
    odd = _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(static_cast<int32_t>(0xffff0000))));
  }
  TM_INLINE void store_f16(uint16_t* p, F v) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }

  TM_INLINE F add(F a, F b) { return _mm512_add_ps(a, b); }
  TM_INLINE F sub(F a, F b) { return _mm512_sub_ps(a, b); }
  TM_INLINE F mul(F a, F b) { return _mm512_mul_ps(a, b); }
  TM_INLINE F div(F a, F b) { return _mm512_div_ps(a, b); }
  TM_INLINE F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  TM_INLINE F negate(F a) { return _mm512_xor_ps(a, _mm512_set1_ps(-0.0F)); }
  // a > b ? a : b and a < b ? a : b; so b where either is NaN.
  TM_INLINE F max(F a, F b) { return _mm512_max_ps(a, b); }
  TM_INLINE F min(F a, F b) { return _mm512_min_ps(a, b); }
  // The largest lane (none is NaN), and the sum of lanes in the order of kernels.hpp.
  TM_INLINE float reduce_max(F v) { return _mm512_reduce_max_ps(v); }
  TM_INLINE float reduce_add(F v) {
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    four = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
  }
  TM_INLINE F zero_where_less(F x, float bound, F v) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, _mm512_set1_ps(bound), _CMP_NLT_UQ), v);
  }
  TM_INLINE F add_exponent(F v, I n) {
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(v), _mm512_slli_epi32(n, 23)));
  }

  // The lanes in double precision, eight to a register.
  struct D {
    __m512d low, high;
  };
  TM_INLINE D set1_d(double x) { return {_mm512_set1_pd(x), _mm512_set1_pd(x)}; }
  TM_INLINE void store(double* p, D v) {
    _mm512_storeu_pd(p, v.low);
    _mm512_storeu_pd(p + 8, v.high);
  }
  TM_INLINE D widen(F v) {
    return {_mm512_cvtps_pd(_mm512_castps512_ps256(v)), _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1))};
  }
  TM_INLINE F narrow(D v) {
    return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(v.low)), _mm512_cvtpd_ps(v.high), 1);
  }
  TM_INLINE D add(D a, D b) { return {_mm512_add_pd(a.low, b.low), _mm512_add_pd(a.high, b.high)}; }
  TM_INLINE D sub(D a, D b) { return {_mm512_sub_pd(a.low, b.low), _mm512_sub_pd(a.high, b.high)}; }
  TM_INLINE D mul(D a, D b) { return {_mm512_mul_pd(a.low, b.low), _mm512_mul_pd(a.high, b.high)}; }
  TM_INLINE D div(D a, D b) { return {_mm512_div_pd(a.low, b.low), _mm512_div_pd(a.high, b.high)}; }
  TM_INLINE D magnitude(D v) { return {_mm512_abs_pd(v.low), _mm512_abs_pd(v.high)}; }
  // Magnitudes with the signs of other numbers.
  TM_INLINE D with_sign_of(D magnitude, D other) {
    const __m512d sign = _mm512_set1_pd(-0.0);
    return {_mm512_or_pd(magnitude.low, _mm512_and_pd(other.low, sign)),
            _mm512_or_pd(magnitude.high, _mm512_and_pd(other.high, sign))};
  }

  TM_INLINE I set1_i(int32_t x) { return _mm512_set1_epi32(x); }
  TM_INLINE I load_u8(const uint8_t* p) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  TM_INLINE I load_s8(const int8_t* p) {
    return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  TM_INLINE I add_i(I a, I b) { return _mm512_add_epi32(a, b); }
  TM_INLINE int32_t sum_i(I v) { return _mm512_reduce_add_epi32(v); }
  TM_INLINE F to_float(I v) { return _mm512_cvtepi32_ps(v); }
  TM_INLINE F as_float(I bits) { return _mm512_castsi512_ps(bits); }
  TM_INLINE I round_to_int(F v) { return _mm512_cvtps_epi32(v); }
  TM_INLINE I magnitude_bits(F v) { return _mm512_and_epi32(_mm512_castps_si512(v), _mm512_set1_epi32(0x7fffffff)); }
  TM_INLINE I max_i(I a, I b) { return _mm512_max_epi32(a, b); }
  TM_INLINE int32_t largest_i(I v) { return _mm512_reduce_max_epi32(v); }

  TM_INLINE C codes(const uint8_t* line) { return _mm512_loadu_si512(line); }
  TM_INLINE N narrow_codes(const uint8_t* line) { return codes(line); }
  TM_INLINE C low_codes(const uint8_t* line) {
    return _mm512_and_si512(_mm512_loadu_si512(line), _mm512_set1_epi8(15));
  }
  TM_INLINE C high_codes(const uint8_t* line) {
    return _mm512_and_si512(_mm512_srli_epi16(_mm512_loadu_si512(line), 4), _mm512_set1_epi8(15));
  }
  TM_INLINE C high_codes_in_place(const uint8_t* line) {
    return _mm512_andnot_si512(_mm512_set1_epi8(15), _mm512_loadu_si512(line));
  }
  // Bits 2 q and 2 q + 1 of each byte.
  TM_INLINE C quarter_codes(const uint8_t* line, int q) {
    C v = _mm512_loadu_si512(line);
    switch (q) {
      case 1:
        v = _mm512_srli_epi16(v, 2);
        break;
      case 2:
        v = _mm512_srli_epi16(v, 4);
        break;
      case 3:
        v = _mm512_srli_epi16(v, 6);
        break;
      default:
        break;
    }
    return _mm512_and_si512(v, _mm512_set1_epi8(3));
  }
  // Codes of two bits plus 4 where bit `bit` of a byte of `bits` is set.
  TM_INLINE C with_third_bit(C v, const uint8_t* bits, int bit) {
    const __mmask64 set =
        _mm512_test_epi8_mask(_mm512_loadu_si512(bits), _mm512_set1_epi8(static_cast<char>(1 << bit)));
    return _mm512_mask_add_epi8(v, set, v, _mm512_set1_epi8(4));
  }
  // Those bits of each byte that `mask` has; and `v` with them.
  TM_INLINE C masked(const uint8_t* line, int mask) {
    return _mm512_and_si512(_mm512_loadu_si512(line), _mm512_set1_epi8(static_cast<char>(mask)));
  }
  TM_INLINE C with_masked(C v, const uint8_t* line, int mask) {
    constexpr int v_or_both = 0xf8;  // v | (line & mask)
    return _mm512_ternarylogic_epi32(v, _mm512_loadu_si512(line), _mm512_set1_epi8(static_cast<char>(mask)), v_or_both);
  }
  // Lines 0 to 4 of FiveBits (packed_layout.hpp); 5 and 6, of the two lines that have their bits; and 7, of three.
  TM_INLINE C five_bits(const uint8_t* line) { return masked(line, 31); }
  TM_INLINE C five_of_tops(const uint8_t* a, const uint8_t* b) {
    return _mm512_srli_epi16(with_masked(_mm512_srli_epi16(masked(a, 0xe0), 2), b, 0xc0), 3);
  }
  TM_INLINE C five_of_tops(const uint8_t* a, const uint8_t* b, const uint8_t* c) {
    const C upper = _mm512_srli_epi16(with_masked(_mm512_srli_epi16(masked(b, 0x20), 1), c, 0x20), 1);
    return _mm512_or_si512(upper, _mm512_srli_epi16(masked(a, 0xe0), 5));
  }
  // Blocks 0 to 2 of SixBits, and block 3 of all of them.
  TM_INLINE C six_bits(const uint8_t* line) { return masked(line, 63); }
  TM_INLINE C six_of_tops(const uint8_t* a, const uint8_t* b, const uint8_t* c) {
    const C lower = _mm512_srli_epi16(with_masked(_mm512_srli_epi16(masked(a, 0xc0), 2), b, 0xc0), 2);
    return _mm512_srli_epi16(with_masked(lower, c, 0xc0), 2);
  }
  // What stands in a table of 16 bytes at each nibble.
  TM_INLINE C look_up(C nibbles, const void* table) {
    const __m128i sixteen = _mm_loadu_si128(static_cast<const __m128i*>(table));
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(sixteen), nibbles);
  }
  // Codes less `zero`, as signed bytes.
  TM_INLINE N less(N codes, int zero) {
    return zero == 0 ? codes : _mm512_sub_epi8(codes, _mm512_set1_epi8(static_cast<char>(zero)));
  }
  // Byte i of each lane to its highest, the others zero; and with its sign back to the lowest.
  template <int i>
  TM_INLINE I to_highest(N codes) {
    if constexpr (i == 3) return _mm512_and_si512(codes, _mm512_set1_epi32(static_cast<int32_t>(0xff000000)));
    constexpr int order_of_lane = i << 24 | 0x00808080;
    const __m128i order =
        _mm_setr_epi32(order_of_lane, order_of_lane + (4 << 24), order_of_lane + (8 << 24), order_of_lane + (12 << 24));
    return _mm512_shuffle_epi8(codes, _mm512_broadcast_i32x4(order));
  }
  TM_INLINE I from_highest(I v) { return _mm512_srai_epi32(v, 24); }
  TM_INLINE void store_line(uint8_t* to, C codes) { _mm512_storeu_si512(to, codes); }
  // The nibbles of 16 bytes, one to a lane.
  TM_INLINE I load_low_u4(const uint8_t* p) { return _mm512_and_si512(load_u8(p), _mm512_set1_epi32(15)); }
  TM_INLINE I load_high_u4(const uint8_t* p) { return _mm512_srli_epi32(load_u8(p), 4); }
  // quant_blocks.hpp's mxfp4_scale: a normal float, or one of two subnormal ones.
  TM_INLINE F load_mxfp4_scale(const uint8_t* p) {
    const I e = load_u8(p);
    const I normal = _mm512_slli_epi32(_mm512_sub_epi32(e, _mm512_set1_epi32(1)), 23);
    const I subnormal = _mm512_sllv_epi32(_mm512_set1_epi32(0x00200000), e);
    I bits = _mm512_mask_mov_epi32(normal, _mm512_cmplt_epi32_mask(e, _mm512_set1_epi32(2)), subnormal);
    bits =
        _mm512_mask_mov_epi32(bits, _mm512_cmpeq_epi32_mask(e, _mm512_set1_epi32(255)), _mm512_set1_epi32(0x7fc00000));
    return _mm512_castsi512_ps(bits);
  }
  TM_INLINE void store_codes(std::byte* p, I v) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(v));
  }
  // code = 256 * upper + lower, both signed; the upper halves of a block come first.
  TM_INLINE void store_wide_codes(std::byte* p, I v) {
    const I upper = _mm512_srai_epi32(_mm512_add_epi32(v, _mm512_set1_epi32(128)), 8);
    store_codes(p, upper);
    store_codes(p + kCodeBlock, _mm512_sub_epi32(v, _mm512_slli_epi32(upper, 8)));
  }
  TM_INLINE I times_256(I v) { return _mm512_slli_epi32(v, 8); }
  TM_INLINE void store_less(uint8_t* to, C codes, int zero) {
    if (zero != 0) codes = _mm512_sub_epi8(codes, _mm512_set1_epi8(static_cast<char>(zero)));
    _mm512_storeu_si512(to, codes);
  }
  template <int zero>
  TM_INLINE void store_low_nibbles(uint8_t* to, const uint8_t* line) {
    store_less(to, low_codes(line), zero);
  }
  template <int zero>
  TM_INLINE void store_high_nibbles(uint8_t* to, const uint8_t* line) {
    store_less(to, high_codes(line), zero);
  }
  TM_INLINE void store_less_128(uint8_t* to, const uint8_t* line) { store_less(to, codes(line), -128); }
  TM_INLINE X load_x(const std::byte* x) {
    int32_t four;
    __builtin_memcpy(&four, x, sizeof four);
    return _mm512_set1_epi32(four);
  }
  TM_INLINE X load_narrow_x(const std::byte* x) { return load_x(x); }
  // For several dots: in a register, where the compiler would give each dot a memory operand of its own.
  TM_INLINE X load_x_once(const std::byte* x) {
    X v = load_x(x);
    asm("" : "+v"(v));
    return v;
  }
  // acc + the sums of four products per lane.
  TM_INLINE I dot(I acc, C w, X x) { return _mm512_dpbusd_epi32(acc, w, x); }
  // The same where the accumulators fill most registers. Written out, because GCC 12 copies every accumulator before
  // and after the intrinsic.
  TM_INLINE void add_dot(I& acc, C w, X x) { asm("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(w), "v"(x)); }

  // The low bytes of the lanes.
  TM_INLINE void store_s8(int8_t* p, I v) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(v)); }
  TM_INLINE void store_weights(uint8_t* p, I v) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(v));
  }
  // For attention: signed codes; four unsigned weights; acc + the sums of four products per lane.
  TM_INLINE C values(const uint8_t* line) { return _mm512_loadu_si512(line); }
  TM_INLINE X weights(const uint8_t* p) { return load_x(reinterpret_cast<const std::byte*>(p)); }
  TM_INLINE void score(I& acc, C k, X q) { add_dot(acc, k, q); }
  TM_INLINE void weigh(I& acc, X w, C v) { add_dot(acc, w, v); }
};

#undef TM_INLINE

}  // namespace
}  // namespace tidemill::tensor
