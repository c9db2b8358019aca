// How far a model of some weight type may be from a plain double-precision implementation.
#pragma once

#include <cmath>
#include <span>
#include <vector>

#include "tensor/isa.hpp"
#include "tensor/kernels.hpp"

namespace tidemill::test {

// ||a - b|| / ||b||
inline double relative_error(std::span<const float> got, const std::vector<double>& expected) {
  double difference = 0;
  double norm = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    difference += (got[i] - expected[i]) * (got[i] - expected[i]);
    norm += expected[i] * expected[i];
  }
  return std::sqrt(difference / norm);
}

// Plain types multiply the exact weights with float activations: what is left are roundings of 2^-24, a few hundred of
// which add up like a random walk to about 1e-6. Q8_0 quantises each linear's input to 16 bits in groups of 256: the
// largest of 256 normal values is about 3 sigma and meets 32512, so each input is off by 2.7e-5 of its norm and the
// nine on the way to the logits by some 1e-4. The other block types quantise to 8 bits, which is 256 times coarser at
// the same group and about 200 times in groups of 32: 1.5 to 2 %, rather more for the heavy-tailed gate * up. Where the
// inputs of BF16 weights are rounded to bf16, each is off by up to 2^-9 of its norm, and nine by up to 0.6 % (0.6 to
// 0.8 % was seen). A wrong pairing, norm or head is off by 100 %. All that is of two layers; errors of more add up like
// a random walk, and an encoder of two layers has as many products between its input and its output.
inline double tolerance(tensor::DType type) {
  const auto isa = tensor::choose_isa();
  if (isa && tensor::kernels_for(*isa).rounds[static_cast<size_t>(type)]) return 0.02;
  if (tensor::info(type).block_elements == 1) return 1e-5;
  return type == tensor::DType::q8_0 ? 1e-3 : 0.08;
}

}  // namespace tidemill::test
