// Attention of one row and one KV head over paged keys and values, written once over a vector type S of 16 lanes; see
// vector_linear.hpp for why all of it has internal linkage. T is a loader of 16 cache elements (LoadF32, LoadF16,
// LoadBf16).
#pragma once

#include "tensor/kernels.hpp"
#include "tensor/packed_layout.hpp"
#include "tensor/vector_linear.hpp"
#include "tensor/vector_rows.hpp"

namespace tidemill::tensor {
namespace {

constexpr int64_t kBlock = 16;  // tokens: kKvBlockTokens

// Raw scores of query heads first .. first + G - 1 against blocks b .. b + B - 1. A score is one sequential sum, so
// several of them run at once to hide the latency of fma.
template <class S, class T, int G, int B>
[[gnu::always_inline]] inline void score_blocks(const AttentionCall& call, int64_t first, int64_t b,
                                                int64_t score_stride) {
  const std::byte* keys[B];
  typename S::F acc[B][G];
  for (int j = 0; j < B; ++j) {
    keys[j] = call.keys + call.block_table[b + j] * call.block_stride;
    for (int g = 0; g < G; ++g)
      acc[j][g] = S::zero();
  }
  const float* q = call.q + first * call.head_dim;
  for (int64_t d = 0; d < call.head_dim; ++d) {
#pragma GCC unroll 4
    for (int j = 0; j < B; ++j) {
      const typename S::F k = T::load(keys[j] + d * T::kBytes);
#pragma GCC unroll 4
      for (int g = 0; g < G; ++g)
        acc[j][g] = S::fma(k, S::set1(q[g * call.head_dim + d]), acc[j][g]);
    }
  }
  for (int j = 0; j < B; ++j) {
    for (int g = 0; g < G; ++g) {
      S::store(call.scores + (first + g) * score_stride + (b + j) * kBlock, S::mul(acc[j][g], S::set1(call.scale)));
    }
  }
}

template <class S, class T, int G>
inline void score_heads(const AttentionCall& call, int64_t first, int64_t blocks, int64_t score_stride) {
  int64_t b = 0;
  for (; b + 4 / G <= blocks; b += 4 / G)
    score_blocks<S, T, G, 4 / G>(call, first, b, score_stride);
  if constexpr (G < 4) {
    for (; b < blocks; ++b)
      score_blocks<S, T, G, 1>(call, first, b, score_stride);
  }
}

// Scores of one head to probabilities times their sum, in place; returns one over the sum.
template <class S>
inline float softmax(float* scores, int64_t tokens, int64_t blocks) {
  using F = typename S::F;
  const F lowest = S::set1(-__builtin_inff());
  const int64_t last = (blocks - 1) * kBlock;
  // What the last block holds beyond `tokens` is not of this sequence.
  S::store(scores + last, S::first_or(S::load(scores + last), tokens - last, lowest));
  F highest = lowest;
  for (int64_t b = 0; b < blocks; ++b)
    highest = S::max(S::load(scores + b * kBlock), highest);
  float lanes[kLanes];
  S::store(lanes, highest);
  for (int64_t i = 1; i < kLanes; ++i)
    lanes[0] = lanes[i] > lanes[0] ? lanes[i] : lanes[0];
  const F shift = S::set1(lanes[0]);
  F sum = S::zero();
  for (int64_t b = 0; b < blocks; ++b) {
    const F p = exp_of<S>(S::sub(S::load(scores + b * kBlock), shift));
    S::store(scores + b * kBlock, p);
    sum = S::add(sum, p);
  }
  return 1.0F / sum_lanes<S>(sum);
}

// sums[g][d] += p[g][t] * v[t][d] for the `tokens` tokens of one block, for G heads and D vectors of d.
template <class S, class T, int G, int D>
[[gnu::always_inline]] inline void weigh_values(const std::byte* values, int64_t row_bytes, int64_t tokens,
                                                const float* p, int64_t p_stride, float* sums, int64_t sum_stride) {
  typename S::F acc[G][D];
  for (int g = 0; g < G; ++g) {
    for (int d = 0; d < D; ++d)
      acc[g][d] = S::load(sums + g * sum_stride + d * kLanes);
  }
  for (int64_t t = 0; t < tokens; ++t) {
    typename S::F v[D];
#pragma GCC unroll 4
    for (int d = 0; d < D; ++d)
      v[d] = T::load(values + t * row_bytes + d * T::kBytes);
#pragma GCC unroll 4
    for (int g = 0; g < G; ++g) {
      const typename S::F weight = S::set1(p[g * p_stride + t]);
#pragma GCC unroll 4
      for (int d = 0; d < D; ++d)
        acc[g][d] = S::fma(v[d], weight, acc[g][d]);
    }
  }
  for (int g = 0; g < G; ++g) {
    for (int d = 0; d < D; ++d)
      S::store(sums + g * sum_stride + d * kLanes, acc[g][d]);
  }
}

template <class S, class T, int G>
inline void weigh_heads(const AttentionCall& call, int64_t first, int64_t b, int64_t score_stride) {
  const int64_t padded = round_up(call.head_dim, kLanes);
  const int64_t row_bytes = padded / kLanes * T::kBytes;
  const std::byte* values = call.values + call.block_table[b] * call.block_stride;
  const int64_t left = call.tokens - b * kBlock;
  const int64_t tokens = left < kBlock ? left : kBlock;
  const float* p = call.scores + first * score_stride + b * kBlock;
  float* sums = call.sums + first * padded;
  constexpr int D = 4 / G;
  int64_t d = 0;
  for (; d + D * kLanes <= padded; d += D * kLanes) {
    weigh_values<S, T, G, D>(values + d / kLanes * T::kBytes, row_bytes, tokens, p, score_stride, sums + d, padded);
  }
  if constexpr (D > 1) {
    for (; d < padded; d += kLanes) {
      weigh_values<S, T, G, 1>(values + d / kLanes * T::kBytes, row_bytes, tokens, p, score_stride, sums + d, padded);
    }
  }
}

// body<G>(first) over the query heads, four, two or one at a time.
template <class Four, class Two, class One>
[[gnu::always_inline]] inline void for_heads(int64_t heads, Four four, Two two, One one) {
  int64_t g = 0;
  for (; g + 4 <= heads; g += 4)
    four(g);
  for (; g + 2 <= heads; g += 2)
    two(g);
  for (; g < heads; ++g)
    one(g);
}

template <class S, class T>
void attention(const AttentionCall& call) {
  const int64_t blocks = (call.tokens + kBlock - 1) / kBlock;
  const int64_t stride = blocks * kBlock;
  const int64_t padded = round_up(call.head_dim, kLanes);
  for_heads(
      call.group, [&](int64_t g) { score_heads<S, T, 4>(call, g, blocks, stride); },
      [&](int64_t g) { score_heads<S, T, 2>(call, g, blocks, stride); },
      [&](int64_t g) { score_heads<S, T, 1>(call, g, blocks, stride); });
  for (int64_t i = 0; i < call.group * padded; i += kLanes)
    S::store(call.sums + i, S::zero());
  constexpr int64_t kMostHeads = 64;
  for (int64_t first = 0; first < call.group; first += kMostHeads) {
    const int64_t heads = call.group - first < kMostHeads ? call.group - first : kMostHeads;
    float inverse[kMostHeads];
    for (int64_t g = 0; g < heads; ++g)
      inverse[g] = softmax<S>(call.scores + (first + g) * stride, call.tokens, blocks);
    for (int64_t b = 0; b < blocks; ++b) {
      for_heads(
          heads, [&](int64_t g) { weigh_heads<S, T, 4>(call, first + g, b, stride); },
          [&](int64_t g) { weigh_heads<S, T, 2>(call, first + g, b, stride); },
          [&](int64_t g) { weigh_heads<S, T, 1>(call, first + g, b, stride); });
    }
    for (int64_t g = 0; g < heads; ++g) {
      const float* from = call.sums + (first + g) * padded;
      float* to = call.out + (first + g) * call.head_dim;
      for_vectors(call.head_dim, [&](int64_t i, int64_t n) {
        store_up_to<S>(to + i, n, S::mul(S::load(from + i), S::set1(inverse[g])));
      });
    }
  }
}

}  // namespace
}  // namespace tidemill::tensor
