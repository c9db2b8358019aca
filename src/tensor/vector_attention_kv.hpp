// The policies of vector_attention.hpp: how a cache type scores keys, weighs tokens and sums values.
#pragma once

#include "tensor/kv_layout.hpp"
#include "tensor/vector_attention.hpp"
#include "tensor/vector_linear.hpp"

namespace tidemill::tensor {
namespace {

constexpr int at_most_four(int n) {
  return n < 4 ? n : 4;
}

[[gnu::always_inline]] inline void prefetch_block(const std::byte* at, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += kLineBytes)
    __builtin_prefetch(at + i, 0, 2);
}

// f32, f16 and bf16: T loads 16 elements (LoadF32, LoadF16, LoadBf16).
template <class S, class T>
struct PlainKv {
  using F = typename S::F;

  float factor;       // of a dot product, for an exponent of two
  int64_t key_bytes;  // of a block
  int64_t vectors;    // of head_dim

  explicit PlainKv(const AttentionCall& call)
      : factor(call.scale * kLog2E),
        key_bytes(call.head_dim * T::kBytes),
        vectors((call.head_dim + kLanes - 1) / kLanes) {}

  void enter(const Segment& /*segment*/) {}

  // A score is one sequential sum, so several of them run at once to hide the latency of fma.
  template <int R, int B>
  [[gnu::always_inline]] void score_blocks(const AttentionCall& call, const float* const (&q)[R],
                                           const Segment& segment, Pass<R>& pass, int64_t b) const {
    F acc[B][R];
    for (int j = 0; j < B; ++j) {
      for (int r = 0; r < R; ++r)
        acc[j][r] = S::zero();
    }
    for (int64_t d = 0; d < call.head_dim; ++d) {
#pragma GCC unroll 4
      for (int j = 0; j < B; ++j) {
        const F k = T::load(segment.keys[b + j] + d * T::kBytes);
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

  template <int R>
  [[gnu::always_inline]] void score(const AttentionCall& call, const Segment& segment, Pass<R>& pass) const {
    const float* q[R];
    for (int r = 0; r < R; ++r) {
      const int64_t i = pass.first + r;
      q[r] = call.q + i / call.group * call.q_stride + i % call.group * call.head_dim;
    }
    constexpr int B = at_most_four(S::kScoreTile / R);
    const int64_t blocks = blocks_of(pass.most);
    int64_t b = 0;
    for (; b + B <= blocks; b += B)
      score_blocks<R, B>(call, q, segment, pass, b);
    if constexpr (B > 1) {
      for (; b < blocks; ++b)
        score_blocks<R, 1>(call, q, segment, pass, b);
    }
    if (!pass.fetch) return;
    for (b = 0; b < segment.next_blocks; ++b)
      prefetch_block(segment.next_keys[b], key_bytes);
  }

  template <int R>
  [[gnu::always_inline]] void weigh(Pass<R>& pass) const {
    for (int r = 0; r < R; ++r) {
      if (pass.visible[r] == 0) {
        take_nothing(pass, r);
        continue;
      }
      float* scores = pass.scores + r * kAttentionSegment;
      const int64_t blocks = blocks_of(pass.visible[r]);
      const int64_t last = (blocks - 1) * kBlock;
      const F lowest = S::set1(-__builtin_inff());
      // What the last block holds beyond the query's position is not for it to see.
      S::store(scores + last, S::first_or(S::load(scores + last), pass.visible[r] - last, lowest));
      F highest = lowest;
      for (int64_t b = 0; b < blocks; ++b)
        highest = S::max(S::load(scores + b * kBlock), highest);
      const float most = S::reduce_max(highest);
      F sum = S::zero();
      for (int64_t b = 0; b < blocks; ++b) {
        const F w = exp2_of<S>(S::sub(S::load(scores + b * kBlock), S::set1(most)));
        S::store(scores + b * kBlock, w);
        sum = S::add(sum, w);
      }
      take_weight<S, R>(pass, r, most, S::reduce_add(sum));
    }
  }

  // acc[r][d] += w[r][t] * v[t][d] for tokens from .. to - 1 of the segment.
  template <int R, int Q, int D>
  [[gnu::always_inline]] void sum_tokens(const Segment& segment, const Pass<R>& pass, int first, int64_t column,
                                         int64_t from, int64_t to, F (&acc)[Q][D]) const {
    for (int64_t t = from; t < to; ++t) {
      const std::byte* row = segment.values[t / kBlock] + t % kBlock * vectors * T::kBytes + column;
      F v[D];
#pragma GCC unroll 4
      for (int d = 0; d < D; ++d)
        v[d] = T::load(row + d * T::kBytes);
#pragma GCC unroll 4
      for (int r = 0; r < Q; ++r) {
        const F w = S::set1(pass.scores[(first + r) * kAttentionSegment + t]);
#pragma GCC unroll 4
        for (int d = 0; d < D; ++d)
          acc[r][d] = S::fma(v[d], w, acc[r][d]);
      }
    }
  }

  // D vectors of the sums of queries first .. first + Q - 1 of the pass.
  template <int R, int Q, int D>
  [[gnu::always_inline]] void sum_vectors(const Segment& segment, Pass<R>& pass, int first, int64_t d0,
                                          int64_t tokens) const {
    F acc[Q][D];
    for (int r = 0; r < Q; ++r) {
      for (int d = 0; d < D; ++d)
        acc[r][d] = S::zero();
    }
    sum_tokens<R, Q, D>(segment, pass, first, d0 * T::kBytes, 0, tokens, acc);
    for (int r = 0; r < Q; ++r) {
      for (int d = 0; d < D; ++d) {
        float* to = pass.sums + (first + r) * pass.sum_stride + (d0 + d) * kLanes;
        const F kept = S::mul(S::load(to), S::set1(pass.keep[first + r]));
        S::store(to, S::fma(acc[r][d], S::set1(pass.take[first + r]), kept));
      }
    }
  }

  template <int R, int Q>
  [[gnu::always_inline]] void sum_queries(const Segment& segment, Pass<R>& pass, int first, int64_t tokens) const {
    constexpr int D = at_most_four(S::kSumTile / Q);
    int64_t d = 0;
    for (; d + D <= vectors; d += D)
      sum_vectors<R, Q, D>(segment, pass, first, d, tokens);
    if constexpr (D > 1) {
      for (; d < vectors; ++d)
        sum_vectors<R, Q, 1>(segment, pass, first, d, tokens);
    }
  }

  template <int R>
  [[gnu::always_inline]] void sum(const AttentionCall& /*call*/, const Segment& segment, Pass<R>& pass) const {
    if (pass.fetch) {
      for (int64_t b = 0; b < segment.next_blocks; ++b)
        prefetch_block(segment.next_values[b], kBlock * vectors * T::kBytes);
    }
    if (pass.even) {
      sum_queries<R, R>(segment, pass, 0, pass.most);
      return;
    }
    // A weight of zero would not do for what is not visible: it may be NaN.
    for (int r = 0; r < R; ++r) {
      if (pass.visible[r] > 0) sum_queries<R, 1>(segment, pass, r, pass.visible[r]);
    }
  }
};

template <class S>
struct Int8Kv {
  using F = typename S::F;
  using I = typename S::I;

  int64_t quads;    // of head_dim
  int64_t vectors;  // of head_dim
  int64_t query_bytes;
  std::byte* query_codes;  // [queries][query_bytes]
  float* query_factors;    // [queries]
  int32_t* query_starts;   // [queries]
  // 1 / the scale of each token's values.
  alignas(64) float value_inverses[kAttentionSegment];

  explicit Int8Kv(const AttentionCall& call)
      : quads((call.head_dim + 3) / 4),
        vectors((call.head_dim + kLanes - 1) / kLanes),
        query_bytes(vectors * kLanes * S::kCodeBytes) {
    const int64_t queries = call.rows * call.group;
    auto* row = reinterpret_cast<float*>(call.scratch);
    query_codes = call.scratch + vectors * kLanes * static_cast<int64_t>(sizeof(float));
    query_factors = reinterpret_cast<float*>(query_codes + queries * query_bytes);
    query_starts = reinterpret_cast<int32_t*>(query_factors + queries);
    for (int64_t i = 0; i < vectors * kLanes; ++i)
      row[i] = 0;
    for (int64_t i = 0; i < queries; ++i) {
      const float* q = call.q + i / call.group * call.q_stride + i % call.group * call.head_dim;
      __builtin_memcpy(row, q, static_cast<size_t>(call.head_dim) * sizeof(float));
      quantize_query(call, i, row);
    }
  }

  void quantize_query(const AttentionCall& call, int64_t i, float* row) {
    const int32_t bits = turn_head<S>(row, call.head_dim);
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
    I sum = S::set1_i(0);
    for (int64_t v = 0; v < vectors; ++v) {
      const F x = inverse == 0 ? S::zero() : S::load(row + v * kLanes);  // infinity * 0 is not 0
      const I codes = S::round_to_int(S::mul(x, S::set1(inverse)));
      S::store_codes(query_codes + i * query_bytes + v * kLanes * S::kCodeBytes, codes);
      sum = S::add_i(sum, codes);
    }
    const auto order = static_cast<float>(call.head_dim & -call.head_dim);
    query_factors[i] = scale * (call.scale * kLog2E / order);
    query_starts[i] = -kInt8KeyZero * S::sum_i(sum);
  }

  [[gnu::always_inline]] const float* key_scales(const std::byte* keys) const {
    return reinterpret_cast<const float*>(keys + quads * kLineBytes);
  }
  [[gnu::always_inline]] const float* value_exponents(const std::byte* values) const {
    return reinterpret_cast<const float*>(values + vectors * 4 * kLineBytes);
  }

  void enter(const Segment& segment) {
    for (int64_t b = 0; b < segment.blocks; ++b) {
      const F exponents = S::load(value_exponents(segment.values[b]));
      S::store(value_inverses + b * kBlock, exp2_of<S>(S::negate(exponents)));
    }
  }

  template <int R, int B>
  [[gnu::always_inline]] void score_blocks(const Segment& segment, Pass<R>& pass, int64_t b) const {
    I acc[B][R];
    const std::byte* q[R];
    const std::byte* keys[B];
    for (int r = 0; r < R; ++r)
      q[r] = query_codes + (pass.first + r) * query_bytes;
    for (int j = 0; j < B; ++j) {
      keys[j] = segment.keys[b + j];
      for (int r = 0; r < R; ++r)
        acc[j][r] = S::set1_i(query_starts[pass.first + r]);
    }
    for (int64_t c = 0; c < quads; ++c) {
      typename S::X query[R];
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r)
        query[r] = S::load_x_once(q[r] + c * 4 * S::kCodeBytes);
#pragma GCC unroll 4
      for (int j = 0; j < B; ++j) {
        const typename S::C k = S::codes(reinterpret_cast<const uint8_t*>(keys[j]) + c * kLineBytes);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r)
          S::score(acc[j][r], k, query[r]);
      }
    }
    for (int j = 0; j < B; ++j) {
      const F scale = S::load(key_scales(keys[j]));
      const F exponent = S::load(value_exponents(segment.values[b + j]));
      for (int r = 0; r < R; ++r) {
        const F e = S::fma(S::mul(S::to_float(acc[j][r]), scale), S::set1(query_factors[pass.first + r]), exponent);
        S::store(pass.scores + r * kAttentionSegment + (b + j) * kBlock, e);
      }
    }
  }

  template <int R>
  [[gnu::always_inline]] void score(const AttentionCall& /*call*/, const Segment& segment, Pass<R>& pass) const {
    constexpr int B = at_most_four(S::kScoreTile / R);
    const int64_t blocks = blocks_of(pass.most);
    int64_t b = 0;
    for (; b + B <= blocks; b += B) {
      fetch_keys(segment, pass, b, b + B);
      score_blocks<R, B>(segment, pass, b);
    }
    if constexpr (B > 1) {
      for (; b < blocks; ++b)
        score_blocks<R, 1>(segment, pass, b);
    }
  }

  template <int R>
  [[gnu::always_inline]] void fetch_keys(const Segment& segment, const Pass<R>& pass, int64_t from, int64_t to) const {
    if (!pass.fetch) return;
    for (int64_t b = from; b < to && b < segment.next_blocks; ++b)
      prefetch_block(segment.next_keys[b], (quads + 1) * kLineBytes);
  }
  template <int R>
  [[gnu::always_inline]] void fetch_values(const Segment& segment, const Pass<R>& pass, int64_t from,
                                           int64_t to) const {
    if (!pass.fetch) return;
    for (int64_t b = from; b < to && b < segment.next_blocks; ++b)
      prefetch_block(segment.next_values[b], (vectors * 4 + 1) * kLineBytes);
  }

  template <int R>
  [[gnu::always_inline]] void weigh(Pass<R>& pass) const {
    for (int r = 0; r < R; ++r) {
      uint8_t* codes = pass.codes + r * kAttentionSegment;
      const int64_t blocks = blocks_of(pass.visible[r]);
      for (int64_t b = blocks; b < blocks_of(pass.most); ++b)
        S::store_u8(codes + b * kBlock, S::set1_i(0));
      if (blocks == 0) {
        take_nothing(pass, r);
        continue;
      }
      float* scores = pass.scores + r * kAttentionSegment;
      const int64_t last = (blocks - 1) * kBlock;
      const int64_t in_last = pass.visible[r] - last;
      const F lowest = S::set1(-__builtin_inff());
      S::store(scores + last, S::first_or(S::load(scores + last), in_last, lowest));
      F highest = lowest;
      for (int64_t b = 0; b < blocks; ++b)
        highest = S::max(S::load(scores + b * kBlock), highest);
      const float most = S::reduce_max(highest);
      const F shift = S::set1(most - kLog2Of255);
      const F dither = S::load(kWeightDither);
      F sum = S::zero();
      for (int64_t b = 0; b < blocks; ++b) {
        const F w = exp2_coarse_of<S>(S::sub(S::load(scores + b * kBlock), shift));
        const F more = S::fma(w, S::load(value_inverses + b * kBlock), sum);
        // Beyond the position the scale may be NaN.
        sum = b + 1 < blocks ? more : S::first_or(more, in_last, sum);
        S::store_u8(codes + b * kBlock, S::round_to_int(S::add(w, dither)));
      }
      take_weight<S, R>(pass, r, most, S::reduce_add(sum));
    }
  }

  template <int R, int D>
  [[gnu::always_inline]] void sum_vectors(const Segment& segment, Pass<R>& pass, int64_t d0) const {
    I acc[R][D];
    for (int r = 0; r < R; ++r) {
      for (int d = 0; d < D; ++d)
        acc[r][d] = S::set1_i(0);
    }
    const int64_t blocks = blocks_of(pass.most);
    for (int64_t b = 0; b < blocks; ++b) {
      const auto* lines = reinterpret_cast<const uint8_t*>(segment.values[b]) + d0 * 4 * kLineBytes;
#pragma GCC unroll 4
      for (int c = 0; c < 4; ++c) {
        typename S::C v[D];
#pragma GCC unroll 4
        for (int d = 0; d < D; ++d)
          v[d] = S::values(lines + (d * 4 + c) * kLineBytes);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) {
          const typename S::X w = S::weights(pass.codes + r * kAttentionSegment + b * kBlock + c * 4);
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
        float* to = pass.sums + r * pass.sum_stride + (d0 + d) * kLanes;
        S::store(to, S::fma(S::to_float(acc[r][d]), take, S::mul(S::load(to), keep)));
      }
    }
  }

  template <int R>
  [[gnu::always_inline]] void sum(const AttentionCall& /*call*/, const Segment& segment, Pass<R>& pass) const {
    constexpr int D = at_most_four(S::kSumTile / R);
    fetch_values(segment, pass, 0, kSegmentBlocks);
    int64_t d = 0;
    for (; d + D <= vectors; d += D)
      sum_vectors<R, D>(segment, pass, d);
    if constexpr (D > 1) {
      for (; d < vectors; ++d)
        sum_vectors<R, 1>(segment, pass, d);
    }
  }
};

}  // namespace
}  // namespace tidemill::tensor
