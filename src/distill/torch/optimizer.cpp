#include "distill/torch/optimizer.hpp"

#include <ATen/Parallel.h>
#include <ATen/core/ivalue.h>  // which clang misses in others' headers
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros_like.h>
#include <algorithm>
#include <cmath>

namespace tidemill::distill {

using at::Tensor;

namespace {

constexpr double kMeanShare = 0.9;
constexpr double kSquareShare = 0.95;
constexpr double kEpsilon = 1e-8;
constexpr int kOrthogonalSteps = 5;

}  // namespace

Tensor orthogonal(const Tensor& matrix, Precision precision) {
  const bool tall = matrix.size(0) > matrix.size(1);
  Tensor x = tall ? matrix.t() : matrix;
  x = x.div(matrix.norm().add(1e-7));
  if (precision == Precision::bf16) x = x.to(at::kBFloat16);
  for (int i = 0; i < kOrthogonalSteps; ++i) {
    const Tensor a = at::mm(x, x.t());
    const Tensor b = at::mm(a, a).mul_(2.0315).add_(a, -4.7750);
    x = at::mm(b, x).add_(x, 3.4445);
  }
  x = x.to(at::kFloat);
  return tall ? x.t() : x;
}

Optimizer::Optimizer(const StudentPlan& plan, std::vector<NamedView> weights) : plan_(plan) {
  for (NamedView& weight : weights) {
    Slot slot;
    if (weight.matrix) {
      slot.momentum = at::zeros_like(weight.values);
    } else {
      slot.mean = at::zeros_like(weight.values);
      slot.square = at::zeros_like(weight.values);
    }
    slot.weight = std::move(weight);
    slots_.push_back(std::move(slot));
  }
}

void Optimizer::step(std::span<const NamedView> gradients, double rate) {
  ++steps_;
  at::parallel_for(0, static_cast<int64_t>(slots_.size()), 1, [&](int64_t begin, int64_t end) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
      if (slots_[i].weight.matrix) {
        turn(slots_[i], gradients[i].values, rate);
      } else {
        adapt(slots_[i], gradients[i].values, rate);
      }
    }
  });
}

void Optimizer::turn(Slot& slot, const Tensor& gradient, double rate) const {
  slot.momentum.mul_(plan_.matrix_momentum).add_(gradient, 1 - plan_.matrix_momentum);
  const Tensor ahead = gradient.mul(1 - plan_.matrix_momentum).add_(slot.momentum, plan_.matrix_momentum);
  const Tensor update = orthogonal(ahead, plan_.precision);
  // A tall matrix changes more of its output than its share.
  const double tall = static_cast<double>(update.size(0)) / static_cast<double>(update.size(1));
  const double scaled = rate * plan_.matrix_rate;
  slot.weight.values.mul_(1 - scaled * plan_.matrix_decay).add_(update, -scaled * std::sqrt(std::max(1.0, tall)));
}

void Optimizer::adapt(Slot& slot, const Tensor& gradient, double rate) const {
  slot.mean.mul_(kMeanShare).add_(gradient, 1 - kMeanShare);
  slot.square.mul_(kSquareShare).addcmul_(gradient, gradient, 1 - kSquareShare);
  const double mean_part = 1 - std::pow(kMeanShare, static_cast<double>(steps_));
  const double square_part = 1 - std::pow(kSquareShare, static_cast<double>(steps_));
  const Tensor scale = slot.square.div(square_part).sqrt_().add_(kEpsilon);
  slot.weight.values.addcdiv_(slot.mean, scale, -rate * plan_.vector_rate / mean_part);
}

std::vector<NamedView> Optimizer::state() const {
  std::vector<NamedView> views;
  const auto add = [&](const Slot& slot, const Tensor& values, const char* what) {
    if (values.defined()) views.push_back({slot.weight.name + what, values, slot.weight.matrix, slot.weight.heads});
  };
  for (const Slot& slot : slots_) {
    add(slot, slot.momentum, "/momentum");
    add(slot, slot.mean, "/mean");
    add(slot, slot.square, "/square");
  }
  return views;
}

}  // namespace tidemill::distill
