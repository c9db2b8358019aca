// One step of the optimiser: Muon for the matrices of layers, AdamW without decay for embeddings and norms.
#pragma once

#include <ATen/core/Tensor.h>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "distill/student.hpp"
#include "distill/torch/network.hpp"

namespace tidemill::distill {

// The nearest orthogonal matrix, about: singular values between 0.7 and 1.2. Five Newton-Schulz steps with the
// polynomial of https://kellerjordan.github.io/posts/muon.
at::Tensor orthogonal(const at::Tensor& matrix, Precision precision);

class Optimizer {
 public:
  Optimizer(const StudentPlan& plan, std::vector<NamedView> weights);

  // `gradients` lie beside the weights, in their order. Runs at::parallel_for over the matrices.
  void step(std::span<const NamedView> gradients, double rate);

  // Arrays of its state, by the weights' names and order of rows.
  std::vector<NamedView> state() const;
  int64_t steps() const { return steps_; }
  void set_steps(int64_t steps) { steps_ = steps; }

 private:
  struct Slot {
    NamedView weight;
    at::Tensor momentum;      // of Muon
    at::Tensor mean, square;  // of AdamW
  };
  void turn(Slot& slot, const at::Tensor& gradient, double rate) const;
  void adapt(Slot& slot, const at::Tensor& gradient, double rate) const;

  StudentPlan plan_;
  std::vector<Slot> slots_;
  int64_t steps_ = 0;
};

}  // namespace tidemill::distill
