// The tensors of a shape, as a GGUF file of it has them: which ones, follows from the parts of its architecture, and
// how large they are, from its numbers.
//
// The loader states them a second time (layer_loader.hpp), on purpose: it wants what a file's metadata say, and a file
// of a shape that it loads shows that both are right.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/shapes.hpp"

namespace tidemill::model {

struct ShapeTensor {
  // What random weights of it are like.
  enum class Kind : uint8_t {
    matrix,       // of variance 1 / inputs
    hidden_norm,  // near 1, one for each channel of the hidden state
    near_one,
    near_zero,
    given,  // `values`: no weights, and no parameters
  };

  std::string name;
  Kind kind = Kind::matrix;
  std::vector<int64_t> shape;  // innermost first
  bool always_f32 = false;     // of a matrix: whatever the type of the others
  std::vector<float> values = {};

  int64_t elements() const;
};

// In the order that files have them in.
std::vector<ShapeTensor> tensors_of(const Shape& shape);

}  // namespace tidemill::model
