#include "engine/softmax.hpp"

#include <cassert>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

namespace tidemill::engine {
namespace {

// Four lanes are what baseline x86-64 and ARMv8 both have; a vocabulary of 128k takes about a quarter of a millisecond.
constexpr size_t kLanes = 4;
using Floats = float __attribute__((vector_size(16)));
using Ints = int32_t __attribute__((vector_size(16)));
using Doubles = double __attribute__((vector_size(32)));

constexpr float kInfinity = std::numeric_limits<float>::infinity();

Floats broadcast(float x) {
  return Floats{x, x, x, x};
}

// `count` <= kLanes elements; lanes past them are `fill`.
Floats load(const float* from, size_t count, float fill) {
  Floats lanes = broadcast(fill);
  std::memcpy(&lanes, from, count * sizeof(float));
  return lanes;
}

// exp(x) for x <= 0: x = n ln 2 + r with |r| <= ln 2 / 2, then Taylor's polynomial of degree 7 in r (its error there is
// below 2^-27) and n added to the exponent. Below -87 the result is 0, for the exponent would run out.
Floats exp_negative(Floats x) {
  const Floats lowest = broadcast(-87.0f);
  const Ints alive = x >= lowest;
  x = alive ? x : lowest;
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
  for (size_t i = 0; i < logits.size(); i += kLanes) {
    const Floats x = load(logits.data() + i, std::min(kLanes, logits.size() - i), -kInfinity);
    max = x > max ? x : max;
    not_a_number |= x != x;  // NOLINT(misc-redundant-expression): what differs from itself is not a number
  }
  float result = -kInfinity;
  bool bad = false;
  for (size_t lane = 0; lane < kLanes; ++lane) {
    result = std::max(result, max[lane]);
    bad = bad || not_a_number[lane] != 0;
  }
  if (bad || std::isinf(result)) return std::nullopt;
  return result;
}

double exp_sum(std::span<const float> logits, float max, float scale, std::span<float> weights) {
  assert(weights.empty() || weights.size() == logits.size());
  Doubles sum{};
  for (size_t i = 0; i < logits.size(); i += kLanes) {
    const size_t count = std::min(kLanes, logits.size() - i);
    const Floats x = load(logits.data() + i, count, -kInfinity);
    const Floats terms = exp_negative((x - max) * scale);
    if (!weights.empty()) std::memcpy(weights.data() + i, &terms, count * sizeof(float));
    sum += __builtin_convertvector(terms, Doubles);
  }
  return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

}  // namespace tidemill::engine
