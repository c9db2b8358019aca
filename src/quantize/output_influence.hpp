// How much errors of the output matrix matter beside errors of what it is multiplied by.
#pragma once

#include "base/result.hpp"
#include "model/checkpoint.hpp"
#include "tensor/device.hpp"

namespace tidemill::quantize {

// How much further apart predictions are (KL divergence) where the output matrix's products err than where its input
// does by as much relative to its size, to the second order. Errors of products are each token's own. Those of the
// input move likely tokens, which are alike, together, and that changes no prediction. 1 where tokens have nothing in
// common, in trained models up to some tens.
//
// `states` are rows of the output matrix's input, some tens of a text's; logits are the products times `logit_scale`.
// Reads the matrix twice, a slice at a time; the likelihoods of all tokens are in memory for each state. Errors: those
// of TensorRows and Device::load_weight().
base::Result<double> output_influence(const model::Checkpoint& source, const model::GgufTensor& output,
                                      tensor::ConstMatrix states, float logit_scale, tensor::Device& device);

}  // namespace tidemill::quantize
