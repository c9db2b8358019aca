// What a synthetic model says about itself: the keys of a released model of its shape, and its vocabulary.
#pragma once

#include "model/gguf_writer.hpp"
#include "model/shapes.hpp"
#include "tensor/dtype.hpp"

namespace tidemill::model {

// `type` is that of the matrices.
void add_synthetic_metadata(const Shape& shape, tensor::DType type, GgufWriter& writer);

}  // namespace tidemill::model
