// Outlier channels made smaller where they come from: a norm's weight for a channel is divided by a factor, and that
// column of every matrix behind the norm multiplied by it.
//
// After G. Xiao et al., "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language Models"
// (arXiv:2211.10438). Factors are powers of two, so that nothing is rounded and the plain model computes the same bits
// as before, and their strength is chosen as in J. Lin et al., "AWQ: Activation-aware Weight Quantization"
// (arXiv:2306.00978): the one of several with the least error to expect, of which none at all is one.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "base/thread_team.hpp"
#include "model/checkpoint.hpp"
#include "quantize/calibration.hpp"
#include "tensor/dtype.hpp"

namespace tidemill::quantize {

// A norm and all matrices that are multiplied by what it gives.
struct NormGroup {
  std::string norm;                   // tensor
  std::vector<std::string> matrices;  // tensors
};

// Those of the decoder's architecture: attention and feed-forward norms of each layer. Not the output norm: what it
// gives is multiplied by the output matrix, but is also the hidden state of which embeddings are made. A group is left
// out where a tensor is missing or is no matrix of the norm's width, or the norm is not F32: something else may depend
// on the norm then.
std::vector<NormGroup> norm_groups(const model::Checkpoint& source);

struct SmoothedNorm {
  NormGroup group;
  std::vector<float> factors;  // [width] powers of two
};

// Norms that gain by it, with `types` as plan_types() has them. Progress counts the norms that are looked at. Errors:
// those of TensorRows; `cancelled`.
base::Result<std::vector<SmoothedNorm>> plan_smoothing(
    const model::Checkpoint& source, const Calibration& calibration, std::span<const tensor::DType> types,
    const std::function<bool()>& cancelled, const std::function<void(size_t done, size_t total)>& on_progress = {});

// Powers of two near peak^strength / weight_peak^(1 - strength), from 1/64 to 64, of which the geometric mean is near
// 1; 1 where a channel is never there.
std::vector<float> smoothing_factors(std::span<const float> peaks, std::span<const float> weight_peaks,
                                     double strength);

}  // namespace tidemill::quantize
