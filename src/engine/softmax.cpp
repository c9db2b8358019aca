#include "engine/softmax.hpp"

#include <cassert>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

namespace tidemill::engine {
namespace {

// Four lanes are what baseline x86-64 and ARMv8 both have.
constexpr size_t kLanes = 4;
using Floats = float __attribute__((vector_size(16)));
using Ints = int32_t __attribute__((vector_size(16)));
using TwoFloats = float __attribute__((vector_size(8)));
using TwoDoubles = double __attribute__((vector_size(16)));

constexpr float kInfinity = std::numeric_limits<float>::infinity();

Floats broadcast(float x) {
  return Floats{x, x, x, x};
}

Floats load(const float* from) {
  Floats lanes;
  std::memcpy(&lanes, from, sizeof lanes);
  return lanes;
}

void store(Floats lanes, float* to, size_t count) {
  if (count == kLanes) {
    std::memcpy(to, &lanes, sizeof lanes);
  } else {
    std::memcpy(to, &lanes, count * sizeof(float));
  }
}

// body(i, lanes, count) for every kLanes elements; in the last, shorter stretch the lanes past `count` are `fill`. That
// stretch stands apart because a copy of a length known only at run time is a call, which cost four times the rest.
template <typename Body>
void for_lanes(std::span<const float> values, float fill, Body body) {
  size_t i = 0;
  for (; i + kLanes <= values.size(); i += kLanes)
    body(i, load(values.data() + i), kLanes);
  if (i == values.size()) return;
  Floats rest = broadcast(fill);
  std::memcpy(&rest, values.data() + i, (values.size() - i) * sizeof(float));
  body(i, rest, values.size() - i);
}

// exp(x) for x <= 0: x = n ln 2 + r with |r| <= ln 2 / 2, then Taylor's polynomial of degree 7 in r (its error there is
// below 2^-27) and n added to the exponent. Below -87 the result is 0, for the exponent would run out.
//
// Inlined without fail: calls of it cost as much again as its work.
[[gnu::always_inline]] inline Floats exp_negative(Floats x) {
  const Floats lowest = broadcast(-87.0f);
  const Ints alive = x >= lowest;
  x = x > lowest ? x : lowest;
  const Floats magic = broadcast(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  const Floats n = (x * 1.44269504f + magic) - magic;
  const Floats r = (x - n * 0.693359375f) - n * -2.12194440e-4f;  // ln 2 in two parts, the first exact for these n
  Floats p = broadcast(1.0f / 5040);
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const Ints power = (__builtin_convertvector(n, Ints) + 127) << 23;
  Floats scale;
  std::memcpy(&scale, &power, sizeof scale);
  return alive ? p * scale : broadcast(0.0f);
}

}  // namespace

std::optional<float> finite_max(std::span<const float> logits) {
  Floats max = broadcast(-kInfinity);
  Ints not_a_number{};
  for_lanes(logits, -kInfinity, [&](size_t, Floats x, size_t) {
    max = x > max ? x : max;
    not_a_number |= x != x;  // NOLINT(misc-redundant-expression): what differs from itself is not a number
  });
  float result = -kInfinity;
  bool bad = false;
  for (size_t lane = 0; lane < kLanes; ++lane) {
    result = std::max(result, max[lane]);
    bad = bad || not_a_number[lane] != 0;
  }
  if (bad || std::isinf(result)) return std::nullopt;
  return result;
}

void exp_above(std::span<const float> logits, float max, float scale, float lowest, std::span<float> weights) {
  assert(weights.size() == logits.size());
  for_lanes(logits, -kInfinity, [&](size_t i, Floats x, size_t count) {
    const Floats exponent = (x - max) * scale;
    const Ints wanted = exponent >= lowest;
    Floats terms{};
    if ((wanted[0] | wanted[1] | wanted[2] | wanted[3]) != 0) terms = exp_negative(exponent);
    store(terms, weights.data() + i, count);
  });
}

double exp_sum(std::span<const float> logits, float max, float scale, std::span<float> weights) {
  assert(weights.empty() || weights.size() == logits.size());
  TwoDoubles low{};
  TwoDoubles high{};
  for_lanes(logits, -kInfinity, [&](size_t i, Floats x, size_t count) {
    const Floats terms = exp_negative((x - max) * scale);
    if (!weights.empty()) store(terms, weights.data() + i, count);
    low += __builtin_convertvector(TwoFloats{terms[0], terms[1]}, TwoDoubles);
    high += __builtin_convertvector(TwoFloats{terms[2], terms[3]}, TwoDoubles);
  });
  return (low[0] + low[1]) + (high[0] + high[1]);
}

}  // namespace tidemill::engine
