// AVX2 with FMA and F16C. Compiled with those flags: nothing here may be called before the CPU has been asked.
#include <immintrin.h>
#include <type_traits>

#include "tensor/avx2_plain.hpp"
#include "tensor/avx2_tiles.hpp"
#include "tensor/kernels.hpp"
#include "tensor/vector_kernels.hpp"

namespace tidemill::tensor {
namespace {

#define TM_INLINE [[gnu::always_inline]] static inline

// Sixteen lanes in two registers.
//
// VPMADDUBSW saturates at 16 bits. Codes of weights of up to six bits against narrow activations stay below that, and
// of four bits even when eight such pairs are added up; so do the magnitudes of signed codes, whose signs the
// activations take (neither is ever -128). All else is multiplied in 16 bits: the even bytes of each lane against (x0,
// x2), the odd ones against (x1, x3). Wide activations, and attention's queries, are stored that way, two bytes a code:
// x0 x2 x1 x3.
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

  struct N {
    __m256i low, high;
  };
  struct Signed {  // codes of eight bits and a sign
    __m256i low, high;
  };

  static constexpr int kCodeBytes = 2;
  static constexpr int kWidePlanes = 1;  // the 16 bits hold a wide code as well
  static constexpr int64_t kPrefetchBytes = 4096;
  static constexpr int kFewRows = 2;           // up to so many, straight from the packed weights
  static constexpr int kPanelsOfWideRow = 2;   // vector_linear.hpp
  static constexpr bool kOwnTiles = true;      // multiply_panels
  static constexpr bool kBitSums = true;       // vector_bit_sums.hpp
  static constexpr bool kHighInPlace = false;  // likewise
  static constexpr bool kSignedTables = true;  // vector_formats.hpp
  static constexpr int kTilePanels = 2;
  static constexpr int kRowsPlain = 4;
  static constexpr int64_t kFewRowsF32 = 2;  // vector_weight_only.hpp
  static constexpr int kTileRowsF32 = 6;
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
  TM_INLINE F set1_once(float x) { return set1(x); }
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
  TM_INLINE void load_bf16_pairs(const std::byte* p, F& even, F& odd) {
    const __m256i low = load_half(p);
    const __m256i high = load_half(p + 32);
    const __m256i upper = _mm256_set1_epi32(static_cast<int32_t>(0xffff0000));
    even = {_mm256_castsi256_ps(_mm256_slli_epi32(low, 16)), _mm256_castsi256_ps(_mm256_slli_epi32(high, 16))};
    odd = {_mm256_castsi256_ps(_mm256_and_si256(low, upper)), _mm256_castsi256_ps(_mm256_and_si256(high, upper))};
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

  // The lanes in double precision, four to a register.
  struct D {
    __m256d a, b, c, d;
  };
  TM_INLINE D set1_d(double x) {
    const __m256d v = _mm256_set1_pd(x);
    return {v, v, v, v};
  }
  TM_INLINE void store(double* p, D v) {
    _mm256_storeu_pd(p, v.a);
    _mm256_storeu_pd(p + 4, v.b);
    _mm256_storeu_pd(p + 8, v.c);
    _mm256_storeu_pd(p + 12, v.d);
  }
  TM_INLINE D widen(F v) {
    return {_mm256_cvtps_pd(_mm256_castps256_ps128(v.low)), _mm256_cvtps_pd(_mm256_extractf128_ps(v.low, 1)),
            _mm256_cvtps_pd(_mm256_castps256_ps128(v.high)), _mm256_cvtps_pd(_mm256_extractf128_ps(v.high, 1))};
  }
  TM_INLINE F narrow(D v) {
    return {_mm256_set_m128(_mm256_cvtpd_ps(v.b), _mm256_cvtpd_ps(v.a)),
            _mm256_set_m128(_mm256_cvtpd_ps(v.d), _mm256_cvtpd_ps(v.c))};
  }
  TM_INLINE D add(D x, D y) {
    return {_mm256_add_pd(x.a, y.a), _mm256_add_pd(x.b, y.b), _mm256_add_pd(x.c, y.c), _mm256_add_pd(x.d, y.d)};
  }
  TM_INLINE D sub(D x, D y) {
    return {_mm256_sub_pd(x.a, y.a), _mm256_sub_pd(x.b, y.b), _mm256_sub_pd(x.c, y.c), _mm256_sub_pd(x.d, y.d)};
  }
  TM_INLINE D mul(D x, D y) {
    return {_mm256_mul_pd(x.a, y.a), _mm256_mul_pd(x.b, y.b), _mm256_mul_pd(x.c, y.c), _mm256_mul_pd(x.d, y.d)};
  }
  TM_INLINE D div(D x, D y) {
    return {_mm256_div_pd(x.a, y.a), _mm256_div_pd(x.b, y.b), _mm256_div_pd(x.c, y.c), _mm256_div_pd(x.d, y.d)};
  }
  TM_INLINE D magnitude(D v) {
    const __m256d sign = _mm256_set1_pd(-0.0);
    return {_mm256_andnot_pd(sign, v.a), _mm256_andnot_pd(sign, v.b), _mm256_andnot_pd(sign, v.c),
            _mm256_andnot_pd(sign, v.d)};
  }
  // Magnitudes with the signs of other numbers.
  TM_INLINE __m256d with_sign_of_quarter(__m256d magnitude, __m256d other) {
    return _mm256_or_pd(magnitude, _mm256_and_pd(other, _mm256_set1_pd(-0.0)));
  }
  TM_INLINE D with_sign_of(D magnitude, D other) {
    return {with_sign_of_quarter(magnitude.a, other.a), with_sign_of_quarter(magnitude.b, other.b),
            with_sign_of_quarter(magnitude.c, other.c), with_sign_of_quarter(magnitude.d, other.d)};
  }

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
  TM_INLINE F as_float(I bits) { return {_mm256_castsi256_ps(bits.low), _mm256_castsi256_ps(bits.high)}; }
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
  TM_INLINE N narrow_codes(const uint8_t* line) { return {load_half(line), load_half(line + 32)}; }
  TM_INLINE __m256i low_nibbles(__m256i v) { return _mm256_and_si256(v, _mm256_set1_epi8(15)); }
  TM_INLINE N low_codes(const uint8_t* line) {
    return {low_nibbles(load_half(line)), low_nibbles(load_half(line + 32))};
  }
  TM_INLINE N high_codes(const uint8_t* line) {
    return {low_nibbles(_mm256_srli_epi16(load_half(line), 4)),
            low_nibbles(_mm256_srli_epi16(load_half(line + 32), 4))};
  }
  // Bits 2 q and 2 q + 1 of each byte.
  TM_INLINE __m256i quarters(__m256i v, int q) {
    return _mm256_and_si256(_mm256_srli_epi16(v, 2 * q), _mm256_set1_epi8(3));
  }
  TM_INLINE N quarter_codes(const uint8_t* line, int q) {
    return {quarters(load_half(line), q), quarters(load_half(line + 32), q)};
  }
  // Codes of two bits plus 4 where bit `bit` of a byte of `bits` is set. Shifting words moves that bit within its byte.
  TM_INLINE __m256i with_third_bit_half(__m256i v, __m256i bits, int bit) {
    const int up = 2 - bit;
    const __m256i moved = up > 0 ? _mm256_slli_epi16(bits, up) : _mm256_srli_epi16(bits, -up);
    return _mm256_or_si256(v, _mm256_and_si256(moved, _mm256_set1_epi8(4)));
  }
  TM_INLINE N with_third_bit(N v, const uint8_t* bits, int bit) {
    return {with_third_bit_half(v.low, load_half(bits), bit), with_third_bit_half(v.high, load_half(bits + 32), bit)};
  }
  // Those bits of each byte that `mask` has.
  TM_INLINE __m256i masked_half(const uint8_t* half, int mask) {
    return _mm256_and_si256(load_half(half), _mm256_set1_epi8(static_cast<char>(mask)));
  }
  TM_INLINE N masked(const uint8_t* line, int mask) { return {masked_half(line, mask), masked_half(line + 32, mask)}; }
  // Lines 0 to 4 of FiveBits (packed_layout.hpp); 5 and 6, of the two lines that have their bits; and 7, of three.
  TM_INLINE N five_bits(const uint8_t* line) { return masked(line, 31); }
  TM_INLINE __m256i five_of_tops_half(const uint8_t* a, const uint8_t* b) {
    const __m256i lower = _mm256_srli_epi16(masked_half(a, 0xe0), 2);
    return _mm256_srli_epi16(_mm256_or_si256(lower, masked_half(b, 0xc0)), 3);
  }
  TM_INLINE N five_of_tops(const uint8_t* a, const uint8_t* b) {
    return {five_of_tops_half(a, b), five_of_tops_half(a + 32, b + 32)};
  }
  TM_INLINE __m256i five_of_tops_half(const uint8_t* a, const uint8_t* b, const uint8_t* c) {
    const __m256i fourth = _mm256_srli_epi16(masked_half(b, 0x20), 1);
    const __m256i upper = _mm256_srli_epi16(_mm256_or_si256(fourth, masked_half(c, 0x20)), 1);
    return _mm256_or_si256(upper, _mm256_srli_epi16(masked_half(a, 0xe0), 5));
  }
  TM_INLINE N five_of_tops(const uint8_t* a, const uint8_t* b, const uint8_t* c) {
    return {five_of_tops_half(a, b, c), five_of_tops_half(a + 32, b + 32, c + 32)};
  }
  // Blocks 0 to 2 of SixBits, and block 3 of all of them.
  TM_INLINE N six_bits(const uint8_t* line) { return masked(line, 63); }
  TM_INLINE __m256i six_of_tops_half(const uint8_t* a, const uint8_t* b, const uint8_t* c) {
    const __m256i lowest = _mm256_srli_epi16(masked_half(a, 0xc0), 2);
    const __m256i lower = _mm256_srli_epi16(_mm256_or_si256(lowest, masked_half(b, 0xc0)), 2);
    return _mm256_srli_epi16(_mm256_or_si256(lower, masked_half(c, 0xc0)), 2);
  }
  TM_INLINE N six_of_tops(const uint8_t* a, const uint8_t* b, const uint8_t* c) {
    return {six_of_tops_half(a, b, c), six_of_tops_half(a + 32, b + 32, c + 32)};
  }
  // What stands in a table of 16 bytes at each nibble.
  TM_INLINE N look_up(N nibbles, const void* table) {
    const __m256i both = _mm256_broadcastsi128_si256(_mm_loadu_si128(static_cast<const __m128i*>(table)));
    return {_mm256_shuffle_epi8(both, nibbles.low), _mm256_shuffle_epi8(both, nibbles.high)};
  }
  TM_INLINE Signed look_up_signed(N nibbles, const void* table) {
    const N values = look_up(nibbles, table);
    return {values.low, values.high};
  }
  // Codes less `zero`, as signed bytes.
  TM_INLINE N less(N codes, int zero) {
    if (zero == 0) return codes;
    const __m256i v = _mm256_set1_epi8(static_cast<char>(zero));
    return {_mm256_sub_epi8(codes.low, v), _mm256_sub_epi8(codes.high, v)};
  }
  TM_INLINE N less(Signed codes, int /*zero*/) { return {codes.low, codes.high}; }
  // Byte i of each lane to its highest, the others zero; and with its sign back to the lowest.
  template <int i>
  TM_INLINE __m256i to_highest_half(__m256i v) {
    if constexpr (i == 3) return _mm256_and_si256(v, _mm256_set1_epi32(static_cast<int32_t>(0xff000000)));
    constexpr int order_of_lane = i << 24 | 0x00808080;
    const __m128i order =
        _mm_setr_epi32(order_of_lane, order_of_lane + (4 << 24), order_of_lane + (8 << 24), order_of_lane + (12 << 24));
    return _mm256_shuffle_epi8(v, _mm256_broadcastsi128_si256(order));
  }
  template <int i>
  TM_INLINE I to_highest(N codes) {
    return {to_highest_half<i>(codes.low), to_highest_half<i>(codes.high)};
  }
  TM_INLINE I from_highest(I v) { return {_mm256_srai_epi32(v.low, 24), _mm256_srai_epi32(v.high, 24)}; }
  TM_INLINE void store_line(uint8_t* to, N codes) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), codes.low);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 32), codes.high);
  }
  TM_INLINE void store_line(uint8_t* to, Signed codes) { store_line(to, N{codes.low, codes.high}); }
  // The nibbles of 16 bytes, one to a lane.
  TM_INLINE I load_low_u4(const uint8_t* p) {
    const I v = load_u8(p);
    return {_mm256_and_si256(v.low, _mm256_set1_epi32(15)), _mm256_and_si256(v.high, _mm256_set1_epi32(15))};
  }
  TM_INLINE I load_high_u4(const uint8_t* p) {
    const I v = load_u8(p);
    return {_mm256_srli_epi32(v.low, 4), _mm256_srli_epi32(v.high, 4)};
  }
  // quant_blocks.hpp's mxfp4_scale: a normal float, or one of two subnormal ones.
  TM_INLINE __m256 mxfp4_scale_half(__m256i e) {
    const __m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(e, _mm256_set1_epi32(1)), 23);
    const __m256i subnormal = _mm256_sllv_epi32(_mm256_set1_epi32(0x00200000), e);
    const __m256i nan = _mm256_set1_epi32(0x7fc00000);
    __m256i bits = _mm256_blendv_epi8(normal, subnormal, _mm256_cmpgt_epi32(_mm256_set1_epi32(2), e));
    bits = _mm256_blendv_epi8(bits, nan, _mm256_cmpeq_epi32(e, _mm256_set1_epi32(255)));
    return _mm256_castsi256_ps(bits);
  }
  TM_INLINE F load_mxfp4_scale(const uint8_t* p) {
    const I e = load_u8(p);
    return {mxfp4_scale_half(e.low), mxfp4_scale_half(e.high)};
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
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), low_nibbles(low));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 32), low_nibbles(high));
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
  TM_INLINE __m256i load_narrow_x(const std::byte* x) {
    int32_t four;
    __builtin_memcpy(&four, x, sizeof four);
    return _mm256_set1_epi32(four);
  }
  // acc + the sums of four products per lane, in order (avx2_tiles.hpp).
  TM_INLINE I dot(I acc, C w, X x) {
    acc.low = _mm256_add_epi32(acc.low, _mm256_madd_epi16(w.even_low, x.even));
    acc.high = _mm256_add_epi32(acc.high, _mm256_madd_epi16(w.even_high, x.even));
    acc.low = _mm256_add_epi32(acc.low, _mm256_madd_epi16(w.odd_low, x.odd));
    acc.high = _mm256_add_epi32(acc.high, _mm256_madd_epi16(w.odd_high, x.odd));
    keep_order(acc.low, acc.high);
    return acc;
  }
  TM_INLINE __m256i dot_half(__m256i acc, __m256i w, __m256i x) {
    return _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), _mm256_set1_epi16(1)));
  }
  TM_INLINE I dot(I acc, N w, __m256i x) { return {dot_half(acc.low, w.low, x), dot_half(acc.high, w.high, x)}; }
  TM_INLINE __m256i dot_signed_half(__m256i acc, __m256i w, __m256i x) {
    return dot_half(acc, _mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
  }
  TM_INLINE I dot(I acc, Signed w, __m256i x) {
    return {dot_signed_half(acc.low, w.low, x), dot_signed_half(acc.high, w.high, x)};
  }

  // The codes of a line less 128, as 128 bytes: the even ones of lanes 0 .. 7 and 8 .. 15, then the odd ones.
  TM_INLINE void store_words_less_128(uint8_t* to, const uint8_t* line) {
    const C c = codes(line);
    const __m256i zero = _mm256_set1_epi16(128);
    const __m256i words[] = {c.even_low, c.even_high, c.odd_low, c.odd_high};
    for (int i = 0; i < 4; ++i)
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + i * 32), _mm256_sub_epi16(words[i], zero));
  }
  // Products of narrow codes as long as they are sums of 16 bits, and the rest, in order; start, add and total as
  // PlainNarrowSum's.
  template <int most>
  struct PairSum {
    static constexpr int kAtOnce = 32767 / (2 * 127 * most);
    __m256i low, high;
    I sum;

    [[gnu::always_inline]] void start(int32_t from) { sum = set1_i(from); }
    [[gnu::always_inline]] void add(int line, N w, __m256i x) {
      const __m256i l = _mm256_maddubs_epi16(w.low, x);
      const __m256i h = _mm256_maddubs_epi16(w.high, x);
      if (line % kAtOnce != 0) {
        low = _mm256_add_epi16(low, l);
        high = _mm256_add_epi16(high, h);
      } else {
        if (line > 0) {
          sum = total();
          keep_order(sum.low, sum.high);
        }
        low = l;
        high = h;
      }
      keep_order(low, high);
    }
    [[gnu::always_inline]] I total() const {
      const __m256i ones = _mm256_set1_epi16(1);
      return add_i(sum, {_mm256_madd_epi16(low, ones), _mm256_madd_epi16(high, ones)});
    }
  };
  template <int most>
  using NarrowSum = std::conditional_t<(most < 128), PairSum<most>, PlainNarrowSum<Avx2>>;

  // vector_tiles.hpp's many rows, and those of vector_linear.hpp's plain weights.
  template <class T, int P>
  static void multiply_panels(const LinearCall& call);
  template <class T>
  static void multiply_plain(const LinearCall& call);

  // The low bytes of the lanes, which fit.
  TM_INLINE void store_s8(int8_t* p, I v) {
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(v.low, v.high), 0xd8);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                     _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
  }
  // For attention: signed codes; weights, kCodeBytes each; acc + the sums of four products per lane.
  TM_INLINE __m256i low_signed(__m256i v) { return _mm256_srai_epi16(_mm256_slli_epi16(v, 8), 8); }
  TM_INLINE C values(const uint8_t* line) {
    const __m256i low = load_half(line);
    const __m256i high = load_half(line + 32);
    return {low_signed(low), low_signed(high), _mm256_srai_epi16(low, 8), _mm256_srai_epi16(high, 8)};
  }
  TM_INLINE void store_weights(uint8_t* p, I v) { store_codes(reinterpret_cast<std::byte*>(p), v); }
  TM_INLINE X weights(const uint8_t* p) { return load_x(reinterpret_cast<const std::byte*>(p)); }
  // In order, which GCC 12 would not keep: it makes all products of an unrolled loop first, and spills them.
  TM_INLINE void add_in_order(I& acc, C w, X x) {
    acc.low = _mm256_add_epi32(acc.low, _mm256_madd_epi16(w.even_low, x.even));
    acc.high = _mm256_add_epi32(acc.high, _mm256_madd_epi16(w.even_high, x.even));
    keep_order(acc.low, acc.high);
    acc.low = _mm256_add_epi32(acc.low, _mm256_madd_epi16(w.odd_low, x.odd));
    acc.high = _mm256_add_epi32(acc.high, _mm256_madd_epi16(w.odd_high, x.odd));
    keep_order(acc.low, acc.high);
  }
  TM_INLINE void score(I& acc, C k, X q) { add_in_order(acc, k, q); }
  TM_INLINE void weigh(I& acc, X w, C v) { add_in_order(acc, v, w); }
};

template <class T, int P>
void Avx2::multiply_panels(const LinearCall& call) {
  if constexpr (T::Rows::Rows::kBytes == 2) {
    // Opened into words, a panel is twice as large: two would leave L1 to nothing else.
    LinearCall left = call;
    while (left.outputs > 0)
      avx2_panels<Avx2, T, 1>(take_panels(left, left.outputs < kPanelRows ? left.outputs : kPanelRows));
  } else {
    avx2_panels<Avx2, T, P>(call);
  }
}
template <class T>
void Avx2::multiply_plain(const LinearCall& call) {
  avx2_plain<Avx2, T>(call);
}

}  // namespace

const Kernels& avx2_kernels() {
  static constexpr Kernels kernels = make_kernels<Avx2>(Isa::avx2);
  return kernels;
}

}  // namespace tidemill::tensor
