// A type for each matrix, so that all together take so many bits a weight in memory and the model loses little.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/result.hpp"
#include "model/checkpoint.hpp"
#include "quantize/calibration.hpp"
#include "quantize/plan.hpp"
#include "tensor/dtype.hpp"

namespace tidemill::quantize {

struct Budget {
  double bits = 8.5;  // a weight, at most
  int64_t zeros = 0;  // elements of the source that are no weights (widen.hpp): what they take counts, and they do not
};

struct Mixture {
  tensor::DType type = tensor::DType::q8_0;  // of most weights
  std::vector<TensorRule> rules;             // of each matrix, before those that were given
  double bits = 0;                           // a weight in memory, of all matrices
};

// Within the budget. Matrices begin in the largest type that fits them, and step by step that one takes a smaller type
// of which predictions lose the least for each byte saved: what its outputs lose relative to what they are
// (expected_error.hpp), as far as it matters (Calibration::influence_of). 8 to 3 bits, with types that are smaller in
// memory too. Those that a rule matches have its type; those that are always F32 stay so.
// Errors: `invalid_argument` where even the smallest types take more, which says how much, and those of
// plan_types() and TensorRows; `cancelled`. Progress counts the source's tensors.
base::Result<Mixture> plan_mixture(const model::Checkpoint& source, const Calibration& calibration,
                                   std::span<const TensorRule> rules, Budget budget,
                                   const std::function<bool()>& cancelled,
                                   const std::function<void(size_t done, size_t total)>& on_progress = {});

}  // namespace tidemill::quantize
