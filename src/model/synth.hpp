// Writes models of random weights in the shape of real ones: for benchmarks, load tests and comparisons with other
// engines.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>

#include "base/result.hpp"
#include "model/shapes.hpp"
#include "tensor/dtype.hpp"

namespace tidemill::model {

inline constexpr float kOutlierScale = 50;

struct SynthOptions {
  tensor::DType type = tensor::DType::q8_0;  // of the matrices; norms and biases are F32
  uint64_t seed = 1;                         // the same seed gives the same file
  // So many input channels, chosen by the seed and the same in every layer, are scaled by kOutlierScale in the norms'
  // weights: activations as large language models have them, which are hard on coarse quantisation.
  int64_t outlier_channels = 0;  // 0 .. the shape's width
  int threads = 1;
  std::function<void(size_t done, size_t total)> on_progress;  // bytes of tensors written
  std::function<bool()> cancelled = {};                        // asked often; true ends the work with `cancelled`
};

// The type that a matrix of `cols` columns gets where `type` is asked for: `type`, or Q8_0 where `cols` is not a
// multiple of its block (K-quants and IQ4_XS need 256; qwen2.5-0.5b has rows of 896).
tensor::DType synth_type(tensor::DType type, int64_t cols);

// Writes a complete GGUF model, vocabulary and chat template included, which other GGUF engines read as well. Weights
// are about Gaussian with variance 1 / inputs, norms near 1. Nothing is left under `path` on failure. Errors as
// GgufWriter's, `cancelled`, and `invalid_argument` for more outlier channels than the width.
base::Result<void> write_synthetic_model(const Shape& shape, const std::filesystem::path& path,
                                         const SynthOptions& options);

}  // namespace tidemill::model
