// Feed-forward blocks made a little wider, so that their matrices fit blocks.
//
// The rows of the down projection are as long as the block is wide inside: where that is no multiple of 32, no type of
// blocks fits them. Zeros change nothing: gate and up get rows of zeros, and biases zeros, so that inner channels come
// out as act(0) * 0, which is 0 for every activation there is; and the down projection gets columns of zeros, by which
// those are multiplied. What other programs read is a plain model with another inner width.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "model/checkpoint.hpp"
#include "quantize/plan.hpp"
#include "tensor/dtype.hpp"

namespace tidemill::quantize {

struct Widened {
  model::Checkpoint checkpoint;  // as the source, but for the inner width and what has it
  int64_t from = 0;              // inner width
  int64_t to = 0;
  int64_t zeros = 0;  // elements of matrices that are in no model but this
};

// The source with the next multiple of 32 as the inner width of its feed-forward blocks. Null where it is one already,
// where the matrices would not get smaller by it in the types that plan_types() gives them for `type` and `rules`, and
// for all but decoders without experts. `source` must outlive the result. Tensors that are wider are made when they are
// read, one at a time.
std::optional<Widened> widen(const model::Checkpoint& source, tensor::DType type, std::span<const TensorRule> rules);

}  // namespace tidemill::quantize
