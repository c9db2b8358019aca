// The policies of vector_attention.hpp: how a cache type scores keys, weighs tokens and sums values.
#pragma once

#include <type_traits>

#include "tensor/kv_layout.hpp"
#include "tensor/vector_attention.hpp"
#include "tensor/vector_linear.hpp"

namespace tidemill::tensor {
namespace {

// One address with small distances from it, where GCC 12 would hold a register for each distance and spill vectors.
template <class T>
[[gnu::always_inline]] inline void keep_in_register(T*& pointer) {
  asm("" : "+r"(pointer));
}

constexpr int at_most_four(int n) {
  return n < 4 ? n : 4;
}

// Into L2: on its way to L1, a line holds one of the few places that the loads of now need.
[[gnu::always_inline]] inline void prefetch_line(const std::byte* line) {
  __builtin_prefetch(line, 0, 2);
}
[[gnu::always_inline]] inline void prefetch_lines(const std::byte* from, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += kLineBytes)
    prefetch_line(from + i);
}

// Sixteen bytes of E, and what interleaves the first and the last halves of two such.
template <class E>
struct Piece;
template <>
struct Piece<uint32_t> {
  using V = uint32_t __attribute__((vector_size(16)));
  static V first_halves(V a, V b) { return __builtin_shufflevector(a, b, 0, 4, 1, 5); }
  static V last_halves(V a, V b) { return __builtin_shufflevector(a, b, 2, 6, 3, 7); }
};
template <>
struct Piece<uint16_t> {
  using V = uint16_t __attribute__((vector_size(16)));
  static V first_halves(V a, V b) { return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11); }
  static V last_halves(V a, V b) { return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15); }
};

// Transposes a square of as many rows as a piece has elements. Each round turns the bits of an element's place, row
// before column, by one: after half of them rows and columns have changed places.
template <class E>
[[gnu::always_inline]] inline void transpose_square(const std::byte* from, int64_t from_stride, std::byte* to,
                                                    int64_t to_stride) {
  using V = typename Piece<E>::V;
  constexpr int kSide = 16 / sizeof(E);
  V rows[kSide];
#pragma GCC unroll 8
  for (int i = 0; i < kSide; ++i)
    __builtin_memcpy(&rows[i], from + i * from_stride, sizeof rows[i]);
#pragma GCC unroll 3
  for (int left = kSide; left > 1; left /= 2) {
    V next[kSide];
#pragma GCC unroll 4
    for (int i = 0; i < kSide / 2; ++i) {
      next[2 * i] = Piece<E>::first_halves(rows[i], rows[i + kSide / 2]);
      next[2 * i + 1] = Piece<E>::last_halves(rows[i], rows[i + kSide / 2]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < kSide; ++i)
      rows[i] = next[i];
  }
#pragma GCC unroll 8
  for (int i = 0; i < kSide; ++i)
    __builtin_memcpy(to + i * to_stride, &rows[i], sizeof rows[i]);
}

// Four int8 codes of each of four tokens become those tokens' codes of each of four elements; unsigned become signed.
[[gnu::always_inline]] inline void transpose_codes(const std::byte* from, std::byte* to) {
  using V = uint8_t __attribute__((vector_size(16)));
  V codes;
  __builtin_memcpy(&codes, from, sizeof codes);
  codes = __builtin_shufflevector(codes, codes, 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  codes ^= static_cast<uint8_t>(kInt8KeyZero);
  __builtin_memcpy(to, &codes, sizeof codes);
}

// f32, f16 and bf16: T loads 16 elements (LoadF32, LoadF16, LoadBf16).
template <class S, class T>
struct PlainKv {
  using F = typename S::F;

  // Tokens of a block whose values are asked for before the others.
  static constexpr int64_t kEarly = 4;

  float factor;     // of a dot product
  int64_t vectors;  // of a value

  explicit PlainKv(const AttentionCall& call)
      : factor(score_factor(call)), vectors((call.value_dim + kLanes - 1) / kLanes) {}

  // Of a block.
  int64_t value_bytes() const { return kBlock * vectors * T::kBytes; }
  [[gnu::noinline]] void lay_out_values(const std::byte* keys, std::byte* values) const {
    using E = std::conditional_t<T::kBytes == kLanes * 4, uint32_t, uint16_t>;
    constexpr int64_t kSize = sizeof(E);
    constexpr int64_t kSide = 16 / kSize;
    for (int64_t d = 0; d < vectors * kLanes; d += kSide) {
      for (int64_t t = 0; t < kBlock; t += kSide)
        transpose_square<E>(keys + d * T::kBytes + t * kSize, T::kBytes, values + t * vectors * T::kBytes + d * kSize,
                            vectors * T::kBytes);
    }
  }

  void enter(const Segment& /*segment*/) {}

  // A score is one sequential sum, so several of them run at once to hide the latency of fma.
  template <bool Fetch, int R, int B>
  [[gnu::always_inline]] void score_blocks(const AttentionCall& call, const float* const (&q)[R],
                                           const Segment& segment, const Pass& pass, int64_t b) const {
    F acc[B][R];
    for (int j = 0; j < B; ++j) {
      for (int r = 0; r < R; ++r)
        acc[j][r] = S::zero();
    }
    for (int64_t d = 0; d < call.head_dim; ++d) {
#pragma GCC unroll 4
      for (int j = 0; j < B; ++j) {
        const F k = T::load(segment.keys[b + j] + d * T::kBytes);
        if (Fetch && d * T::kBytes % kLineBytes == 0) prefetch_line(segment.next_keys[b + j] + d * T::kBytes);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r)
          acc[j][r] = S::fma(k, S::set1(q[r][d]), acc[j][r]);
      }
    }
    for (int j = 0; j < B; ++j) {
      for (int r = 0; r < R; ++r)
        S::store(pass.scores + r * kAttentionSegment + (b + j) * kBlock, S::mul(acc[j][r], S::set1(factor)));
    }
  }

  template <bool Fetch, int R>
  [[gnu::always_inline]] void score(const AttentionCall& call, const Segment& segment, const Pass& pass) const {
    const float* q[R];
    for (int r = 0; r < R; ++r) {
      const int64_t i = pass.first + r;
      q[r] = call.q + i / call.group * call.q_stride + i % call.group * call.head_dim;
    }
    constexpr int B = at_most_four(S::kScoreTile / R);
    const int64_t blocks = blocks_of(pass.visible);
    int64_t b = pass.hidden / kBlock;
    for (; b + B <= blocks; b += B) {
      score_blocks<Fetch, R, B>(call, q, segment, pass, b);
    }
    if constexpr (B > 1) {
      for (; b < blocks; ++b)
        score_blocks<Fetch, R, 1>(call, q, segment, pass, b);
    }
  }

  // Exponents from what tanh is taken of.
  template <int R>
  [[gnu::noinline]] void cap(const AttentionCall& call, const Segment& /*segment*/, const Pass& pass) const {
    const F most = S::set1(call.soft_cap * kLog2E);
    for (int64_t t = first_block(pass); t < pass.visible; t += kBlock) {
      for (int r = 0; r < R; ++r) {
        float* scores = pass.scores + r * kAttentionSegment + t;
        S::store(scores, S::mul(tanh_of_half<S>(S::load(scores)), most));
      }
    }
  }

  // Asks for the values of the first tokens of the next segment's blocks.
  template <bool Fetch, int R>
  [[gnu::always_inline]] void weigh(const Segment& segment, const Pass& pass, const float (&most)[R],
                                    float (&weights)[R]) const {
    F sums[R];
    for (int r = 0; r < R; ++r)
      sums[r] = S::zero();
    for (int64_t t = first_block(pass); t < pass.visible; t += kBlock) {
      if (Fetch) prefetch_lines(segment.next_values[t / kBlock], kEarly * vectors * T::kBytes);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        float* scores = pass.scores + r * kAttentionSegment + t;
        const F w = exp2_of<S>(S::sub(S::load(scores), S::set1(most[r])));
        S::store(scores, w);
        sums[r] = S::add(sums[r], w);
      }
    }
    for (int r = 0; r < R; ++r)
      weights[r] = S::reduce_add(sums[r]);
  }

  // D vectors of the sums, from vector d0 on.
  template <bool Fetch, int R, int D>
  [[gnu::always_inline]] void sum_vectors(const Segment& segment, const Pass& pass, int64_t d0) const {
    F acc[R][D];
    for (int r = 0; r < R; ++r) {
      for (int d = 0; d < D; ++d)
        acc[r][d] = S::zero();
    }
    for (int64_t b = pass.hidden / kBlock; b * kBlock < pass.visible; ++b) {
      const int64_t left = pass.visible - b * kBlock;
      const int64_t tokens = left < kBlock ? left : kBlock;
      const int64_t before = pass.hidden - b * kBlock;
      for (int64_t t = before > 0 ? before : 0; t < tokens; ++t) {
        const int64_t at = t * vectors * T::kBytes;
        if (Fetch && t >= kEarly) prefetch_lines(segment.next_values[b] + at, vectors * T::kBytes);
        const std::byte* row = segment.values[b] + at + d0 * T::kBytes;
        F v[D];
#pragma GCC unroll 4
        for (int d = 0; d < D; ++d)
          v[d] = T::load(row + d * T::kBytes);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) {
          const F w = S::set1(pass.scores[r * kAttentionSegment + b * kBlock + t]);
#pragma GCC unroll 4
          for (int d = 0; d < D; ++d)
            acc[r][d] = S::fma(v[d], w, acc[r][d]);
        }
      }
    }
    for (int r = 0; r < R; ++r) {
      for (int d = 0; d < D; ++d) {
        float* to = pass.state_sums + r * pass.sum_stride + (d0 + d) * kLanes;
        S::store(to, S::fma(acc[r][d], S::set1(pass.take[r]), S::mul(S::load(to), S::set1(pass.keep[r]))));
      }
    }
  }

  template <bool Fetch, int R>
  [[gnu::always_inline]] void sum(const Segment& segment, const Pass& pass) const {
    constexpr int D = at_most_four(S::kSumTile / R);
    int64_t d = 0;
    if constexpr (Fetch) {  // with the first vectors
      if (D <= vectors) {
        sum_vectors<true, R, D>(segment, pass, 0);
        d = D;
      } else {
        sum_vectors<true, R, 1>(segment, pass, 0);
        d = 1;
      }
    }
    for (; d + D <= vectors; d += D)
      sum_vectors<false, R, D>(segment, pass, d);
    if constexpr (D > 1) {
      for (; d < vectors; ++d)
        sum_vectors<false, R, 1>(segment, pass, d);
    }
  }
};

// Where the codes of a query lie: the first four, each next four `step` bytes further on, and the next query's `apart`
// bytes.
struct QueryCodes {
  std::byte* codes;
  int64_t step;
  int64_t apart;
};

// How the codes of queries are laid out: for vectors, four codes of each query of a group (four queries, at the end two
// or one), then their next four; or query after query, for tiles.
enum class QueryOrder { interleaved, rows };

template <class S, QueryOrder kOrder = QueryOrder::interleaved>
struct Int8Kv {
  using F = typename S::F;
  using I = typename S::I;

  int64_t quads;         // of a key
  int64_t latent_quads;  // those of its latent, or 0: keys are of one part
  int64_t parts;         // so many
  int64_t vectors;       // of a value
  int64_t query_bytes;
  int64_t queries;
  bool capped;             // scores are
  std::byte* query_codes;  // in kOrder; query_bytes each
  float* query_factors;    // [parts][queries]
  int32_t* query_starts;   // [parts][queries]
  // The scale of each token's values, of latents, and 1 / that.
  alignas(64) float value_scales[kAttentionSegment];
  alignas(64) float value_inverses[kAttentionSegment];

  explicit Int8Kv(const AttentionCall& call)
      : quads((call.head_dim + 3) / 4),
        latent_quads(call.values == nullptr ? call.value_dim / 4 : 0),
        parts(call.values == nullptr ? 2 : 1),
        vectors((call.value_dim + kLanes - 1) / kLanes),
        queries(call.rows * call.group),
        capped(call.soft_cap > 0) {
    const int64_t padded = (call.head_dim + kLanes - 1) / kLanes * kLanes;
    query_bytes = padded * S::kCodeBytes;
    auto* row = reinterpret_cast<float*>(call.scratch);
    query_codes = call.scratch + padded * static_cast<int64_t>(sizeof(float));
    query_factors = reinterpret_cast<float*>(query_codes + queries * query_bytes);
    query_starts = reinterpret_cast<int32_t*>(query_factors + parts * queries);
    for (int64_t i = 0; i < padded; ++i)
      row[i] = 0;
    for (int64_t i = 0; i < queries; ++i) {
      const float* q = call.q + i / call.group * call.q_stride + i % call.group * call.head_dim;
      __builtin_memcpy(row, q, static_cast<size_t>(call.head_dim) * sizeof(float));
      if (parts == 1) {
        quantize_query(call, i, 0, row, 0, call.head_dim);
      } else {
        quantize_query(call, i, 0, row, 0, call.value_dim);
        quantize_query(call, i, 1, row, call.value_dim, call.head_dim);
      }
    }
  }

  // Of a block: as they lie where they are apart.
  int64_t value_bytes() const { return (vectors * 4 + 1) * kLineBytes; }
  [[gnu::noinline]] void lay_out_values(const std::byte* keys, std::byte* values) const {
    for (int64_t quad = 0; quad < latent_quads; ++quad) {
      for (int64_t four = 0; four < kBlock / 4; ++four) {  // tokens
        transpose_codes(keys + quad * kLineBytes + four * 16,
                        values + (quad / 4 * 4 + four) * kLineBytes + quad % 4 * 16);
      }
    }
    __builtin_memcpy(values + vectors * 4 * kLineBytes, keys + quads * kLineBytes, kLineBytes);
  }

  [[gnu::always_inline]] QueryCodes codes_of(int64_t i) const {
    constexpr int64_t kFour = 4 * S::kCodeBytes;
    if constexpr (kOrder == QueryOrder::rows) return {query_codes + i * query_bytes, kFour, query_bytes};
    int64_t group = i / 4 * 4;
    int64_t size = 4;
    while (group + size > queries) {  // the last groups have two queries and one
      size /= 2;
      if (i >= group + size && group + size < queries) group += size;
    }
    return {query_codes + group * query_bytes + (i - group) * kFour, size * kFour, kFour};
  }

  // Part `part` of query i: elements begin .. end - 1 of `row`.
  void quantize_query(const AttentionCall& call, int64_t i, int64_t part, float* row, int64_t begin, int64_t end) {
    const int32_t bits = turn_head<S>(row + begin, end - begin);
    float largest;
    __builtin_memcpy(&largest, &bits, sizeof largest);
    float scale = 0;
    float inverse = 0;
    if (bits >= 0x7f800000) {
      scale = __builtin_nanf("");
    } else if (largest >= 0x1p-100F) {
      scale = largest / 127.0F;
      inverse = 127.0F / largest;
    }
    const QueryCodes to = codes_of(i);
    I sum = S::set1_i(0);
    for (int64_t v = begin / kLanes; v * kLanes < end; ++v) {
      const F x = inverse == 0 ? S::zero() : S::load(row + v * kLanes);  // infinity * 0 is not 0
      const I codes = S::round_to_int(S::mul(x, S::set1(inverse)));
      std::byte sixteen[kLanes * S::kCodeBytes];
      S::store_codes(sixteen, codes);
      for (int c = 0; c < 4; ++c)
        __builtin_memcpy(to.codes + (v * 4 + c) * to.step, sixteen + c * 4 * S::kCodeBytes, 4 * S::kCodeBytes);
      sum = S::add_i(sum, codes);
    }
    const auto order = static_cast<float>((end - begin) & (begin - end));
    query_factors[part * queries + i] = scale * (score_factor(call) / order);
    query_starts[part * queries + i] = -kInt8KeyZero * S::sum_i(sum);
  }

  // Of latents, those of the rest of a key, behind the exponents.
  [[gnu::always_inline]] const float* key_scales(const std::byte* keys) const {
    return reinterpret_cast<const float*>(keys + (quads + parts - 1) * kLineBytes);
  }
  // Of one part of the keys of block b of the segment.
  [[gnu::always_inline]] const float* part_scales(const Segment& segment, int64_t part, int64_t b) const {
    return part + 1 < parts ? value_scales + b * kBlock : key_scales(segment.keys[b]);
  }
  [[gnu::always_inline]] const float* value_exponents(const std::byte* values) const {
    return reinterpret_cast<const float*>(values + vectors * 4 * kLineBytes);
  }
  // What is added to a block's scores; to capped ones it comes later.
  [[gnu::always_inline]] F added_exponents(const std::byte* values) const {
    return capped ? S::zero() : S::load(value_exponents(values));
  }

  void enter(const Segment& segment) {
    for (int64_t b = segment.first; b < segment.blocks; ++b) {
      const F exponents = S::load(value_exponents(segment.values[b]));
      S::store(value_inverses + b * kBlock, exp2_of<S>(S::negate(exponents)));
      if (parts > 1) S::store(value_scales + b * kBlock, exp2_of<S>(exponents));
    }
  }

  // Adds what one part of the keys gives, quads begin .. end - 1 of them: to the exponents of values, or to the scores
  // that the part before it gave.
  template <bool Fetch, int R, int B>
  [[gnu::always_inline]] void score_part(const Segment& segment, const Pass& pass, int64_t b, int64_t part,
                                         int64_t begin, int64_t end) const {
    I acc[B][R];
    const uint8_t* keys[B];
    for (int j = 0; j < B; ++j) {
      if constexpr (Fetch) {
        prefetch_line(segment.next_keys[b + j] + quads * kLineBytes);
        prefetch_line(reinterpret_cast<const std::byte*>(value_exponents(segment.next_values[b + j])));
      }
      keys[j] = reinterpret_cast<const uint8_t*>(segment.keys[b + j]);
      for (int r = 0; r < R; ++r)
        acc[j][r] = S::set1_i(query_starts[part * queries + pass.first + r]);
    }
    const QueryCodes group = codes_of(pass.first);
    const std::byte* q = group.codes + begin * group.step;
    for (int64_t c = begin * kLineBytes; c < end * kLineBytes; c += kLineBytes, q += group.step) {
      typename S::X query[R];
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r)
        query[r] = S::load_x_once(q + r * group.apart);
#pragma GCC unroll 4
      for (int j = 0; j < B; ++j) {
        const typename S::C k = S::codes(keys[j] + c);
        if constexpr (Fetch) prefetch_line(segment.next_keys[b + j] + c);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r)
          S::score(acc[j][r], k, query[r]);
      }
    }
    for (int j = 0; j < B; ++j) {
      const F scale = S::load(part_scales(segment, part, b + j));
      const F exponent = added_exponents(segment.values[b + j]);
      for (int r = 0; r < R; ++r) {
        float* scores = pass.scores + r * kAttentionSegment + (b + j) * kBlock;
        const F before = part == 0 ? exponent : S::load(scores);
        const F factor = S::set1(query_factors[part * queries + pass.first + r]);
        S::store(scores, S::fma(S::mul(S::to_float(acc[j][r]), scale), factor, before));
      }
    }
  }

  template <bool Fetch, int R, int B>
  [[gnu::always_inline]] void score_blocks(const Segment& segment, const Pass& pass, int64_t b) const {
    int64_t begin = 0;
    for (int64_t part = 0; part < parts; ++part) {
      const int64_t end = part + 1 < parts ? latent_quads : quads;
      score_part<Fetch, R, B>(segment, pass, b, part, begin, end);
      begin = end;
    }
  }

  template <bool Fetch, int R>
  [[gnu::always_inline]] void score(const AttentionCall& /*call*/, const Segment& segment, const Pass& pass) const {
    constexpr int B = at_most_four(S::kScoreTile / R);
    const int64_t blocks = blocks_of(pass.visible);
    int64_t b = pass.hidden / kBlock;
    for (; b + B <= blocks; b += B) {
      score_blocks<Fetch, R, B>(segment, pass, b);
    }
    if constexpr (B > 1) {
      for (; b < blocks; ++b)
        score_blocks<Fetch, R, 1>(segment, pass, b);
    }
  }

  // Exponents from what tanh is taken of.
  template <int R>
  [[gnu::noinline]] void cap(const AttentionCall& call, const Segment& segment, const Pass& pass) const {
    const F most = S::set1(call.soft_cap * kLog2E);
    for (int64_t t = first_block(pass); t < pass.visible; t += kBlock) {
      const F exponent = S::load(value_exponents(segment.values[t / kBlock]));
      for (int r = 0; r < R; ++r) {
        float* scores = pass.scores + r * kAttentionSegment + t;
        S::store(scores, S::fma(tanh_of_half<S>(S::load(scores)), most, exponent));
      }
    }
  }

  // Asks for the first vector of the next segment's values.
  template <bool Fetch, int R>
  [[gnu::always_inline]] void weigh(const Segment& segment, const Pass& pass, const float (&most)[R],
                                    float (&weights)[R]) const {
    const F dither = S::load(kWeightDither);
    F shift[R];
    F sums[R];
    for (int r = 0; r < R; ++r) {
      shift[r] = S::set1(most[r] - kLog2Of255);
      sums[r] = S::zero();
    }
    const auto weigh_block = [&](int r, int64_t t) __attribute__((always_inline)) {
      const int64_t at = r * kAttentionSegment + t;
      const F w = exp2_coarse_of<S>(S::sub(S::load(pass.scores + at), shift[r]));
      S::store_weights(pass.codes + at * S::kCodeBytes, S::round_to_int(S::add(w, dither)));
      return S::fma(w, S::load(value_inverses + t), sums[r]);
    };
    int64_t t = first_block(pass);
    if (pass.hidden > t) {
      // The scale of a token that is not visible may be NaN.
      for (int r = 0; r < R; ++r) {
        F sum = S::first_or(sums[r], pass.hidden - t, weigh_block(r, t));
        if (pass.visible - t < kBlock) sum = S::first_or(sum, pass.visible - t, sums[r]);
        sums[r] = sum;
      }
      t += kBlock;
    }
    for (; t + kBlock <= pass.visible; t += kBlock) {
      if constexpr (Fetch) prefetch_lines(segment.next_values[t / kBlock], 4 * kLineBytes);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r)
        sums[r] = weigh_block(r, t);
    }
    if (t < pass.visible) {
      for (int r = 0; r < R; ++r)
        sums[r] = S::first_or(weigh_block(r, t), pass.visible - t, sums[r]);
    }
    for (int r = 0; r < R; ++r)
      weights[r] = S::reduce_add(sums[r]);
  }

  template <bool Fetch, int R, int D>
  [[gnu::always_inline]] void sum_vectors(const Segment& segment, const Pass& pass, int64_t d0) const {
    I acc[R][D];
    for (int r = 0; r < R; ++r) {
      for (int d = 0; d < D; ++d)
        acc[r][d] = S::set1_i(0);
    }
    const int64_t blocks = blocks_of(pass.visible);
    for (int64_t b = pass.hidden / kBlock; b < blocks; ++b) {
      const std::byte* next = segment.next_values[b] + d0 * 4 * kLineBytes;
      const auto* lines = reinterpret_cast<const uint8_t*>(segment.values[b]) + d0 * 4 * kLineBytes;
      const uint8_t* codes = pass.codes + b * kBlock * S::kCodeBytes;
      keep_in_register(lines);
      keep_in_register(codes);
#pragma GCC unroll 4
      for (int c = 0; c < 4; ++c) {
        typename S::C v[D];
#pragma GCC unroll 4
        for (int d = 0; d < D; ++d)
          v[d] = S::values(lines + (d * 4 + c) * kLineBytes);
        if constexpr (Fetch) {
#pragma GCC unroll 4
          for (int d = 0; d < D; ++d)
            if (d0 + d > 0) prefetch_line(next + (d * 4 + c) * kLineBytes);
        }
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) {
          const typename S::X w = S::weights(codes + (r * kAttentionSegment + c * 4) * S::kCodeBytes);
#pragma GCC unroll 4
          for (int d = 0; d < D; ++d)
            S::weigh(acc[r][d], w, v[d]);
        }
      }
    }
    for (int r = 0; r < R; ++r) {
      const F keep = S::set1(pass.keep[r]);
      const F take = S::set1(pass.take[r]);
      for (int d = 0; d < D; ++d) {
        float* to = pass.state_sums + r * pass.sum_stride + (d0 + d) * kLanes;
        S::store(to, S::fma(S::to_float(acc[r][d]), take, S::mul(S::load(to), keep)));
      }
    }
  }

  template <bool Fetch, int R>
  [[gnu::always_inline]] void sum(const Segment& segment, const Pass& pass) const {
    constexpr int D = at_most_four(S::kSumTile / R);
    int64_t d = 0;
    for (; d + D <= vectors; d += D)
      sum_vectors<Fetch, R, D>(segment, pass, d);
    if constexpr (D > 1) {
      for (; d < vectors; ++d)
        sum_vectors<Fetch, R, 1>(segment, pass, d);
    }
  }
};

}  // namespace
}  // namespace tidemill::tensor
