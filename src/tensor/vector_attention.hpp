// Attention over paged keys and values, written once over a vector type S of 16 lanes; see vector_linear.hpp for why
// all of it has internal linkage, and attention_order.hpp for what must be computed. A policy Kv (PlainKv, Int8Kv in
// vector_attention_kv.hpp) knows how a cache type scores keys, weighs tokens and sums values; here is the walk along
// the segments, which they share.
//
// Where values are the first part of keys (KvShape::latent), those of a segment are laid out when it is come to, as if
// they were apart: the walk over the queries, of which many share a latent, knows of no difference.
//
// A segment's keys and values (16 KB in int8) stay in L1 while the queries of the call pass over them, four at a time:
// every line loaded then serves four accumulators.
#pragma once

#include "tensor/attention_order.hpp"
#include "tensor/kernels.hpp"
#include "tensor/packed_layout.hpp"
#include "tensor/vector_rows.hpp"

namespace tidemill::tensor {
namespace {

constexpr int64_t kBlock = 16;  // tokens: kKvBlockTokens
constexpr int64_t kSegmentBlocks = kAttentionSegment / kBlock;

// The stretch of keys and values that queries pass over.
struct Segment {
  int64_t begin = 0;   // token
  int64_t first = 0;   // block that any row sees some of; those before it are not looked at
  int64_t blocks = 0;  // that the longest row sees some of, `first` ones included
  const std::byte* keys[kSegmentBlocks];
  const std::byte* values[kSegmentBlocks];
  // The next segment's blocks, to be prefetched: scattered as they may be, the hardware does not foresee them. Where
  // there is none, the place of one that is there already.
  const std::byte* next_keys[kSegmentBlocks];
  const std::byte* next_values[kSegmentBlocks];
};

struct Range {
  int64_t begin;
  int64_t end;
};

// What a query sees of a segment: its tokens hidden .. visible - 1, and none where these are equal.
struct Sight {
  int64_t hidden;   // before its window
  int64_t visible;  // up to its position, at most kAttentionSegment

  bool operator==(const Sight&) const = default;
};

// R queries that pass over a segment together, and see the same of it.
struct Pass {
  int64_t first;      // query
  int64_t hidden;     // as in Sight
  int64_t visible;    // likewise; more than that
  float* scores;      // [R][kAttentionSegment]
  uint8_t* codes;     // likewise, S::kCodeBytes each; int8 only
  float* state_most;  // of the first query
  float* state_weight;
  float* state_sums;
  int64_t sum_stride;
  alignas(64) float keep[kLanes];  // [R]: factor of the sums so far
  alignas(64) float take[kLanes];  // [R]: of the segment's
};

[[gnu::always_inline]] inline int64_t blocks_of(int64_t tokens) {
  return (tokens + kBlock - 1) / kBlock;
}

// 2^y by a polynomial of 2^r for the fraction, r in [-1/2, 1/2], highest power first.
template <class S, size_t N>
[[gnu::always_inline]] inline typename S::F exp2_by(const float (&polynomial)[N], typename S::F y) {
  const typename S::I n = S::round_to_int(y);
  const typename S::F r = S::sub(y, S::to_float(n));
  typename S::F p = S::set1(polynomial[0]);
#pragma GCC unroll 8
  for (size_t i = 1; i < N; ++i)
    p = S::fma(p, r, S::set1(polynomial[i]));
  return S::zero_where_less(y, kExp2Lowest, S::add_exponent(p, n));
}
template <class S>
[[gnu::always_inline]] inline typename S::F exp2_of(typename S::F y) {
  return exp2_by<S>(kExp2Polynomial, y);
}
template <class S>
[[gnu::always_inline]] inline typename S::F exp2_coarse_of(typename S::F y) {
  return exp2_by<S>(kExp2CoarsePolynomial, y);
}

// What a dot product is multiplied by: for an exponent of two or, where scores are capped, for tanh_of_half.
[[gnu::always_inline]] inline float score_factor(const AttentionCall& call) {
  return call.soft_cap > 0 ? call.scale * (2.0F / call.soft_cap) : call.scale * kLog2E;
}

// Where the first block begins that the queries see some of.
[[gnu::always_inline]] inline int64_t first_block(const Pass& pass) {
  return pass.hidden / kBlock * kBlock;
}

// Lowers what of the first block lies before the queries' window, and of the last beyond their position, to -infinity:
// it is not for them to see. Then the largest score of each query. Queries are interleaved here and below, since each
// alone is a chain of latencies.
template <class S, int R>
[[gnu::always_inline]] inline void largest_scores(const Pass& pass, float (&most)[R]) {
  using F = typename S::F;
  const F lowest = S::set1(-__builtin_inff());
  const int64_t first = first_block(pass);
  const int64_t last = (pass.visible - 1) / kBlock * kBlock;
  if (pass.hidden > first) {
    for (int r = 0; r < R; ++r) {
      float* scores = pass.scores + r * kAttentionSegment + first;
      S::store(scores, S::first_or(lowest, pass.hidden - first, S::load(scores)));
    }
  }
  F highest[R];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    float* scores = pass.scores + r * kAttentionSegment + last;
    const F seen = S::first_or(S::load(scores), pass.visible - last, lowest);
    S::store(scores, seen);
    highest[r] = S::max(seen, lowest);
  }
  for (int64_t t = first; t < last; t += kBlock) {
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r)
      highest[r] = S::max(S::load(pass.scores + r * kAttentionSegment + t), highest[r]);
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
    most[r] = S::reduce_max(highest[r]);
}

// The segment's largest exponents and weights into the state of n queries; the factors of its sums and of those so far
// into `take` and `keep`.
template <class S>
[[gnu::always_inline]] inline void take_weights(const float* most, const float* weights, int64_t n, float* state_most,
                                                float* state_weight, float* take, float* keep) {
  using F = typename S::F;
  const F now = S::load_first(most, n);
  const F before = S::load_first(state_most, n);
  const F both = S::max(now, before);
  const F t = exp2_of<S>(S::sub(now, both));
  const F k = exp2_of<S>(S::sub(before, both));
  S::store(take, t);
  S::store(keep, k);
  S::store_first(state_most, n, both);
  const F kept = S::mul(S::load_first(state_weight, n), k);
  S::store_first(state_weight, n, S::fma(S::load_first(weights, n), t, kept));
}

// The pass that fetches asks for the next segment, a few lines with every step of its work: as many as can be on their
// way at a time, and in no phase none.
template <class S, class Kv, bool Fetch, int R>
[[gnu::noinline]] void pass_over(const AttentionCall& call, const Kv& kv, const Segment& segment, int64_t first,
                                 const Sight& sight) {
  alignas(64) float scores[R * kAttentionSegment];
  alignas(64) uint8_t codes[R * kAttentionSegment * S::kCodeBytes];
  Pass pass;
  pass.first = first;
  pass.hidden = sight.hidden;
  pass.visible = sight.visible;
  pass.scores = scores;
  pass.codes = codes;
  pass.state_most = call.state.most + first;
  pass.state_weight = call.state.weight + first;
  pass.state_sums = call.state.sums + first * call.state.sum_stride;
  pass.sum_stride = call.state.sum_stride;
  float most[R];
  float weights[R];
  kv.template score<Fetch, R>(call, segment, pass);
  if (call.soft_cap > 0) kv.template cap<R>(call, segment, pass);
  largest_scores<S, R>(pass, most);
  kv.template weigh<Fetch, R>(segment, pass, most, weights);
  take_weights<S>(most, weights, R, pass.state_most, pass.state_weight, pass.take, pass.keep);
  kv.template sum<Fetch, R>(segment, pass);
}

// What query i sees of the segment; nothing is 0 .. 0.
[[gnu::always_inline]] inline Sight sight_of(const AttentionCall& call, const Segment& segment, int64_t i) {
  const int64_t end = call.positions[i / call.group] + int64_t{1} - segment.begin;
  const int64_t begin = end - call.window;
  const int64_t visible = end < kAttentionSegment ? end : kAttentionSegment;
  const int64_t hidden = begin < 0 ? 0 : begin;
  return hidden < visible ? Sight{hidden, visible} : Sight{0, 0};
}

// Query `first` and on; the call's first ones fetch.
template <class S, class Kv, int R>
[[gnu::always_inline]] inline void pass_in_turn(const AttentionCall& call, const Kv& kv, const Segment& segment,
                                                int64_t first, const Sight& sight) {
  if (sight.visible == 0) return;
  if (first == 0) {
    pass_over<S, Kv, true, R>(call, kv, segment, first, sight);
  } else {
    pass_over<S, Kv, false, R>(call, kv, segment, first, sight);
  }
}

// Queries first .. first + R - 1: together where they see the same, one by one where not.
template <class S, class Kv, int R>
[[gnu::always_inline]] inline void pass_together(const AttentionCall& call, const Kv& kv, const Segment& segment,
                                                 int64_t first) {
  const Sight sight = sight_of(call, segment, first);
  bool even = true;
  for (int r = 1; r < R; ++r)
    even = even && sight_of(call, segment, first + r) == sight;
  if (even) return pass_in_turn<S, Kv, R>(call, kv, segment, first, sight);
  for (int64_t i = first; i < first + R; ++i)
    pass_in_turn<S, Kv, 1>(call, kv, segment, i, sight_of(call, segment, i));
}

// `seen` are the tokens that any row of the call sees.
template <class Kv>
[[gnu::always_inline]] inline Segment segment_at(const AttentionCall& call, int64_t index, const Range& seen) {
  Segment segment;
  segment.begin = index * kAttentionSegment;
  const int64_t left = seen.end - segment.begin;
  segment.blocks = left <= 0 ? 0 : left < kAttentionSegment ? blocks_of(left) : kSegmentBlocks;
  segment.first = seen.begin <= segment.begin ? 0 : (seen.begin - segment.begin) / kBlock;
  const int32_t* table = call.block_table + index * kSegmentBlocks;
  // Of latents, asking for the next values asks for some of the next keys once more.
  const std::byte* values = call.values == nullptr ? call.keys : call.values;
  for (int64_t b = segment.first; b < segment.blocks; ++b) {
    segment.keys[b] = call.keys + table[b] * call.block_stride;
    segment.values[b] = values + table[b] * call.block_stride;
  }
  const int64_t next = index + 1 < call.end_segment ? left - kAttentionSegment : 0;
  for (int64_t b = 0; b < kSegmentBlocks; ++b) {
    const int64_t block = table[b * kBlock < next ? kSegmentBlocks + b : segment.first];
    segment.next_keys[b] = call.keys + block * call.block_stride;
    segment.next_values[b] = values + block * call.block_stride;
  }
  return segment;
}

// From the first token that any row sees to behind the last.
[[gnu::always_inline]] inline Range range_of(const AttentionCall& call) {
  Range range = {call.positions[0], 0};
  for (int64_t r = 0; r < call.rows; ++r) {
    const int64_t end = call.positions[r] + int64_t{1};
    const int64_t begin = end < call.window ? 0 : end - call.window;
    range.begin = begin < range.begin ? begin : range.begin;
    range.end = end > range.end ? end : range.end;
  }
  return range;
}

// The segment that the call has come to: values are where queries look for them.
template <class Kv>
[[gnu::always_inline]] inline void enter(const AttentionCall& call, Kv& kv, Segment& segment) {
  for (int64_t b = segment.first; call.values == nullptr && b < segment.blocks; ++b) {
    std::byte* laid_out = call.value_space + b * kv.value_bytes();
    kv.lay_out_values(segment.keys[b], laid_out);
    segment.values[b] = laid_out;
  }
  kv.enter(segment);
}

// Queries `from` and on, to the call's last.
template <class S, class Kv>
[[gnu::always_inline]] inline void pass_all(const AttentionCall& call, const Kv& kv, const Segment& segment,
                                            int64_t from) {
  const int64_t queries = call.rows * call.group;
  int64_t i = from;
  for (; i + 4 <= queries; i += 4)
    pass_together<S, Kv, 4>(call, kv, segment, i);
  for (; i + 2 <= queries; i += 2)
    pass_together<S, Kv, 2>(call, kv, segment, i);
  for (; i < queries; ++i)
    pass_together<S, Kv, 1>(call, kv, segment, i);
}

template <class S, class Kv>
void attention(const AttentionCall& call) {
  const Range seen = range_of(call);
  Kv kv(call);
  for (int64_t s = call.first_segment; s < call.end_segment; ++s) {
    Segment segment = segment_at<Kv>(call, s, seen);
    if (segment.blocks == 0) return;
    enter(call, kv, segment);
    pass_all<S>(call, kv, segment, 0);
  }
}

template <class S>
void merge_attention(const AttentionState& state, const AttentionState& later, int64_t queries, int64_t value_dim) {
  for (int64_t i = 0; i < queries; ++i) {
    alignas(64) float take[kLanes];
    alignas(64) float keep[kLanes];
    take_weights<S>(later.most + i, later.weight + i, 1, state.most + i, state.weight + i, take, keep);
    float* sums = state.sums + i * state.sum_stride;
    const float* from = later.sums + i * later.sum_stride;
    for (int64_t d = 0; d < value_dim; d += kLanes) {
      const typename S::F kept = S::mul(S::load(sums + d), S::set1(keep[0]));
      S::store(sums + d, S::fma(S::load(from + d), S::set1(take[0]), kept));
    }
  }
}

// Butterflies of elements `apart`, for all pairs of x[0 .. n).
[[gnu::always_inline]] inline void turn_step(float* x, int64_t n, int64_t apart) {
  for (int64_t i = 0; i < n; i += 2 * apart) {
    for (int64_t j = i; j < i + apart; ++j) {
      const float a = x[j];
      const float b = x[j + apart];
      x[j] = a + b;
      x[j + apart] = a - b;
    }
  }
}

template <class S>
int32_t turn_head(float* x, int64_t head_dim) {
  const int64_t order = head_dim & -head_dim;
  if (order > 1) turn_step(x, head_dim, 1);
  if (order > 2) turn_step(x, head_dim, 2);
  if (order > 4) turn_step(x, head_dim, 4);
  if (order > 8) turn_step(x, head_dim, 8);
  for (int64_t apart = 16; apart < order; apart *= 2) {
    for (int64_t i = 0; i < head_dim; i += 2 * apart) {
      for (int64_t j = i; j < i + apart; j += kLanes) {
        const typename S::F a = S::load(x + j);
        const typename S::F b = S::load(x + j + apart);
        S::store(x + j, S::add(a, b));
        S::store(x + j + apart, S::sub(a, b));
      }
    }
  }
  typename S::I largest = S::set1_i(0);
  for_vectors(head_dim,
              [&](int64_t i, int64_t n) { largest = S::max_i(largest, S::magnitude_bits(load_up_to<S>(x + i, n))); });
  return S::largest_i(largest);
}

template <class S>
void round_codes(const float* x, int64_t n, float inverse, int8_t* codes) {
  for_vectors(n, [&](int64_t i, int64_t m) {
    int8_t stretch[kLanes];
    S::store_s8(stretch, S::round_to_int(S::mul(load_up_to<S>(x + i, m), S::set1(inverse))));
    __builtin_memcpy(codes + i, stretch, static_cast<size_t>(m));
  });
}

template <class S>
void finish_attention(const AttentionState& state, int64_t queries, int64_t value_dim, bool turned, float* out) {
  const float order = static_cast<float>(value_dim & -value_dim);
  for (int64_t i = 0; i < queries; ++i) {
    float* sums = state.sums + i * state.sum_stride;
    const float inverse = 1.0F / state.weight[i];
    float* to = out + i * value_dim;
    for_vectors(value_dim,
                [&](int64_t d, int64_t n) { store_up_to<S>(to + d, n, S::mul(S::load(sums + d), S::set1(inverse))); });
    if (!turned) continue;
    turn_head<S>(to, value_dim);
    for_vectors(value_dim, [&](int64_t d, int64_t n) {
      store_up_to<S>(to + d, n, S::mul(load_up_to<S>(to + d, n), S::set1(1.0F / order)));
    });
  }
}

}  // namespace
}  // namespace tidemill::tensor
