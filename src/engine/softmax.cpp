#include "engine/softmax.hpp"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>

#include "engine/exp_passes.hpp"
#include "engine/softmax_avx2.hpp"
#include "tensor/isa.hpp"

namespace tidemill::engine {
namespace {

// Four lanes are what every x86-64 has.
constexpr size_t kLanes = 4;
using Passes = ExpPasses<kLanes>;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

bool wide() {
  static const bool found =
      std::ranges::find(tensor::available_isas(), tensor::Isa::avx2) != tensor::available_isas().end();
  return found;
}

}  // namespace

std::optional<float> finite_max(std::span<const float> logits) {
  Passes::Floats max = Passes::Floats{} - kInfinity;
  Passes::Ints not_a_number{};
  Passes::for_lanes(logits.data(), logits.size(), [&](size_t, const Passes::Floats& x, size_t) {
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
  const auto pass = wide() ? exp_above_avx2 : Passes::exp_above;
  pass(logits.data(), logits.size(), max, scale, lowest, weights.data());
}

double exp_sum(std::span<const float> logits, float max, float scale, std::span<float> weights) {
  assert(weights.empty() || weights.size() == logits.size());
  const auto pass = wide() ? exp_sum_avx2 : Passes::exp_sum;
  return pass(logits.data(), logits.size(), max, scale, weights.empty() ? nullptr : weights.data());
}

}  // namespace tidemill::engine
