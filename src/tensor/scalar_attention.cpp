#include "tensor/scalar_attention.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <iterator>
#include <limits>
#include <vector>

#include "tensor/attention_order.hpp"
#include "tensor/device.hpp"
#include "tensor/exp_constants.hpp"
#include "tensor/kv_layout.hpp"

namespace tidemill::tensor::scalar {
namespace {

constexpr int64_t kLanes = 16;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

template <size_t n>
float exp2_by(const float (&polynomial)[n], float y) {
  if (std::isnan(y)) return y;
  if (y < kExp2Lowest) return 0;
  const float whole = std::nearbyint(y);
  const float r = y - whole;
  float p = polynomial[0];
  for (size_t i = 1; i < n; ++i)
    p = std::fma(p, r, polynomial[i]);
  return std::bit_cast<float>(std::bit_cast<int32_t>(p) + static_cast<int32_t>(whole) * (1 << 23));
}

float sum_lanes(float (&lanes)[kLanes]) {
  for (int64_t width = kLanes / 2; width > 0; width /= 2) {
    for (int64_t i = 0; i < width; ++i)
      lanes[i] = lanes[i] + lanes[i + width];
  }
  return lanes[0];
}

// What one segment says of one query.
struct Part {
  float most = -kInfinity;
  float weight = 0;
  std::vector<float> sums;
};

void merge(const AttentionState& state, int64_t query, float most, float weight, const float* sums, int64_t value_dim) {
  const float both = most > state.most[query] ? most : state.most[query];
  const float take = exp2_by(kExp2Polynomial, most - both);
  const float keep = exp2_by(kExp2Polynomial, state.most[query] - both);
  state.most[query] = both;
  state.weight[query] = std::fma(weight, take, state.weight[query] * keep);
  float* to = state.sums + query * state.sum_stride;
  for (int64_t d = 0; d < value_dim; ++d)
    to[d] = std::fma(sums[d], take, to[d] * keep);
}

// Calls part(q, begin, end) for every segment that a query of the call sees some of, with the tokens that it sees, and
// merges what it gives.
template <typename OnPart>
void walk(const AttentionCall& call, const OnPart& on_part) {
  for (int64_t query = 0; query < call.rows * call.group; ++query) {
    const int64_t row = query / call.group;
    const float* q = call.q + row * call.q_stride + query % call.group * call.head_dim;
    const int64_t tokens = call.positions[row] + int64_t{1};
    for (int64_t s = call.first_segment; s < call.end_segment; ++s) {
      const int64_t begin = std::max(s * kAttentionSegment, tokens - call.window);
      const int64_t end = std::min((s + 1) * kAttentionSegment, tokens);
      if (begin >= end) continue;
      const Part part = on_part(q, begin, end);
      merge(call.state, query, part.most, part.weight, part.sums.data(), call.value_dim);
    }
  }
}

// What a dot product is multiplied by: for an exponent of two or, where scores are capped, for tanh_of_half.
float score_factor(const AttentionCall& call) {
  return call.soft_cap > 0 ? call.scale * (2.0F / call.soft_cap) : call.scale * kLog2E;
}

const std::byte* keys_of(const AttentionCall& call, int64_t token) {
  return call.keys + call.block_table[token / kKvBlockTokens] * call.block_stride;
}
const std::byte* values_of(const AttentionCall& call, int64_t token) {
  return call.values + call.block_table[token / kKvBlockTokens] * call.block_stride;
}

template <DType type>
float element(const std::byte* p, int64_t index) {
  float value;
  dequantize(type, p + index * (type == DType::f32 ? 4 : 2), 1, &value);
  return value;
}

// Element d of a token's key, and of its value, which may be in its key.
template <DType type>
float key_element(const AttentionCall& call, int64_t token, int64_t d) {
  return element<type>(keys_of(call, token), d * kKvBlockTokens + token % kKvBlockTokens);
}
template <DType type>
float value_element(const AttentionCall& call, int64_t token, int64_t d) {
  if (call.values == nullptr) return key_element<type>(call, token, d);
  const int64_t row = (call.value_dim + kLanes - 1) / kLanes * kLanes;
  return element<type>(values_of(call, token), token % kKvBlockTokens * row + d);
}

template <DType type>
Part plain_part(const AttentionCall& call, const float* q, int64_t begin, int64_t end) {
  Part part;
  const float factor = score_factor(call);
  float weights[kAttentionSegment];  // of token t at t % kAttentionSegment
  for (int64_t t = begin; t < end; ++t) {
    float dot = 0;
    for (int64_t d = 0; d < call.head_dim; ++d)
      dot = std::fma(key_element<type>(call, t, d), q[d], dot);
    float& exponent = weights[t % kAttentionSegment];
    exponent = dot * factor;
    if (call.soft_cap > 0) exponent = tanh_of_half(exponent) * (call.soft_cap * kLog2E);
    if (exponent > part.most) part.most = exponent;
  }
  float lanes[kLanes] = {};
  for (int64_t t = begin; t < end; ++t) {
    float& weight = weights[t % kAttentionSegment];
    weight = exp2_by(kExp2Polynomial, weight - part.most);
    lanes[t % kLanes] = lanes[t % kLanes] + weight;
  }
  part.weight = sum_lanes(lanes);
  for (int64_t d = 0; d < call.value_dim; ++d) {
    float sum = 0;
    for (int64_t t = begin; t < end; ++t)
      sum = std::fma(value_element<type>(call, t, d), weights[t % kAttentionSegment], sum);
    part.sums.push_back(sum);
  }
  return part;
}

template <DType type>
void plain_attention(const AttentionCall& call) {
  walk(call, [&](const float* q, int64_t begin, int64_t end) { return plain_part<type>(call, q, begin, end); });
}

// A query, or one part of it.
struct QuantizedQuery {
  std::vector<int8_t> codes;
  float factor = 0;
};

QuantizedQuery quantize_query(const AttentionCall& call, const float* q, int64_t count) {
  std::vector<float> turned(q, q + count);
  const auto largest = std::bit_cast<float>(turn_head(turned.data(), count));
  QuantizedQuery out;
  out.codes.resize(turned.size());
  float scale = 0;
  if (!(largest < kInfinity)) {
    scale = std::numeric_limits<float>::quiet_NaN();
  } else if (largest >= 0x1p-100F) {
    scale = largest / 127.0F;
    round_codes(turned.data(), count, 127.0F / largest, out.codes.data());
  }
  out.factor = scale * (score_factor(call) / static_cast<float>(count & -count));
  return out;
}

float scale_after(const std::byte* codes, int64_t bytes, int64_t token) {
  float scale;
  std::memcpy(&scale, codes + bytes + token % kKvBlockTokens * static_cast<int64_t>(sizeof scale), sizeof scale);
  return scale;
}

int64_t key_code_bytes(const AttentionCall& call) {
  return (call.head_dim + 3) / 4 * 64;
}

int32_t key_code(const AttentionCall& call, int64_t token, int64_t d) {
  const std::byte code = keys_of(call, token)[d / 4 * 64 + token % kKvBlockTokens * 4 + d % 4];
  return static_cast<int32_t>(code) - kInt8KeyZero;
}
int32_t value_code(const AttentionCall& call, int64_t token, int64_t d) {
  if (call.values == nullptr) return key_code(call, token, d);
  const int64_t in_block = token % kKvBlockTokens;
  return static_cast<int8_t>(values_of(call, token)[(d / 16 * 4 + in_block / 4) * 64 + d % 16 * 4 + in_block % 4]);
}
float value_exponent(const AttentionCall& call, int64_t token) {
  if (call.values == nullptr) return scale_after(keys_of(call, token), key_code_bytes(call), token);
  return scale_after(values_of(call, token), (call.value_dim + 15) / 16 * 256, token);
}
// Of a key or, of latents, of what follows the latent.
float key_scale(const AttentionCall& call, int64_t token) {
  const int64_t exponents = call.values == nullptr ? 64 : 0;
  return scale_after(keys_of(call, token), key_code_bytes(call) + exponents, token);
}

// Of the product of a part of a key, from element `first` on, and of a query, as codes.
float code_product(const AttentionCall& call, const QuantizedQuery& q, int64_t first, int64_t token) {
  int32_t dot = 0;
  for (size_t i = 0; i < q.codes.size(); ++i)
    dot += key_code(call, token, first + static_cast<int64_t>(i)) * q.codes[i];
  return static_cast<float>(dot);
}

// The parts of a query: one or, of latents, two.
std::vector<QuantizedQuery> quantize_parts(const AttentionCall& call, const float* q) {
  if (call.values != nullptr) return {quantize_query(call, q, call.head_dim)};
  return {quantize_query(call, q, call.value_dim),
          quantize_query(call, q + call.value_dim, call.head_dim - call.value_dim)};
}

// `added` to the products with all parts.
float score_of(const AttentionCall& call, const std::vector<QuantizedQuery>& parts, int64_t token, float added) {
  float score = added;
  int64_t first = 0;
  for (const QuantizedQuery& part : parts) {
    const bool latent = call.values == nullptr && first == 0;
    const float scale = latent ? exp2_by(kExp2Polynomial, value_exponent(call, token)) : key_scale(call, token);
    score = std::fma(code_product(call, part, first, token) * scale, part.factor, score);
    first += static_cast<int64_t>(part.codes.size());
  }
  return score;
}

Part int8_part(const AttentionCall& call, const std::vector<QuantizedQuery>& q, int64_t begin, int64_t end) {
  Part part;
  float exponents[kAttentionSegment];  // of token t at t % kAttentionSegment
  for (int64_t t = begin; t < end; ++t) {
    const float own = value_exponent(call, t);
    float& exponent = exponents[t % kAttentionSegment];
    exponent = call.soft_cap > 0 ? std::fma(tanh_of_half(score_of(call, q, t, 0)), call.soft_cap * kLog2E, own)
                                 : score_of(call, q, t, own);
    if (exponent > part.most) part.most = exponent;
  }
  const float shift = part.most - kLog2Of255;
  float lanes[kLanes] = {};
  int32_t codes[kAttentionSegment];
  for (int64_t t = begin; t < end; ++t) {
    const float w = exp2_by(kExp2CoarsePolynomial, exponents[t % kAttentionSegment] - shift);
    const float inverse = exp2_by(kExp2Polynomial, -value_exponent(call, t));
    lanes[t % kLanes] = std::fma(w, inverse, lanes[t % kLanes]);
    const float rounded = std::nearbyint(w + kWeightDither[t % kLanes]);
    codes[t % kAttentionSegment] = std::isnan(rounded) ? 0 : static_cast<int32_t>(rounded);
  }
  part.weight = sum_lanes(lanes);
  for (int64_t d = 0; d < call.value_dim; ++d) {
    int32_t sum = 0;
    for (int64_t t = begin; t < end; ++t)
      sum += codes[t % kAttentionSegment] * value_code(call, t, d);
    part.sums.push_back(static_cast<float>(sum));
  }
  return part;
}

}  // namespace

void attention_f32(const AttentionCall& call) {
  plain_attention<DType::f32>(call);
}
void attention_f16(const AttentionCall& call) {
  plain_attention<DType::f16>(call);
}
void attention_bf16(const AttentionCall& call) {
  plain_attention<DType::bf16>(call);
}
void attention_int8(const AttentionCall& call) {
  walk(call, [&](const float* q, int64_t begin, int64_t end) {
    return int8_part(call, quantize_parts(call, q), begin, end);
  });
}

float tanh_of_half(float x) {
  if (std::isnan(x)) return x;
  const float y = std::clamp(x, -kTanhRange, kTanhRange);
  const float n = std::nearbyint(y * kLog2E);
  float r = std::fma(n, -kLn2High, y);
  r = std::fma(n, -kLn2Low, r);
  float p = kExpm1Polynomial[0];
  for (size_t i = 1; i < std::size(kExpm1Polynomial); ++i)
    p = std::fma(p, r, kExpm1Polynomial[i]);
  const auto power = std::bit_cast<float>(std::bit_cast<int32_t>(1.0F) + static_cast<int32_t>(n) * (1 << 23));
  const float t = std::fma(p * r, power, power - 1.0F);
  return t / (t + 2.0F);
}

void merge_attention(const AttentionState& state, const AttentionState& later, int64_t queries, int64_t value_dim) {
  for (int64_t i = 0; i < queries; ++i)
    merge(state, i, later.most[i], later.weight[i], later.sums + i * later.sum_stride, value_dim);
}

void finish_attention(const AttentionState& state, int64_t queries, int64_t value_dim, bool turned, float* out) {
  const auto order = static_cast<float>(value_dim & -value_dim);
  for (int64_t i = 0; i < queries; ++i) {
    float* to = out + i * value_dim;
    for (int64_t d = 0; d < value_dim; ++d)
      to[d] = state.sums[i * state.sum_stride + d] * (1.0F / state.weight[i]);
    if (!turned) continue;
    turn_head(to, value_dim);
    for (int64_t d = 0; d < value_dim; ++d)
      to[d] = to[d] * (1.0F / order);
  }
}

int32_t turn_head(float* x, int64_t head_dim) {
  for (int64_t apart = 1; apart < (head_dim & -head_dim); apart *= 2) {
    for (int64_t i = 0; i < head_dim; ++i) {
      if (i / apart % 2 != 0) continue;
      const float a = x[i];
      const float b = x[i + apart];
      x[i] = a + b;
      x[i + apart] = a - b;
    }
  }
  int32_t largest = 0;  // as integers, finite < infinity < NaN
  for (int64_t i = 0; i < head_dim; ++i)
    largest = std::max(largest, std::bit_cast<int32_t>(x[i]) & 0x7fffffff);
  return largest;
}

void round_codes(const float* x, int64_t n, float inverse, int8_t* codes) {
  for (int64_t i = 0; i < n; ++i)
    codes[i] = static_cast<int8_t>(std::nearbyint(x[i] * inverse));
}

}  // namespace tidemill::tensor::scalar
