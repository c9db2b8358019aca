// The oracle of the decoder's tests: the same transformers written once more, plainly, in double precision, one
// sequence at a time, without a cache, from the papers' formulas. It shares with the code under test only the GGUF
// reader and the dequantisation of single tensors, both of which have tests of their own.
#pragma once

#include <span>
#include <vector>

#include "model/gguf.hpp"

namespace tidemill::test {

struct ReferenceOutput {
  std::vector<std::vector<double>> logits;  // [tokens][vocabulary]
  std::vector<std::vector<double>> hidden;  // [tokens][width], after the final norm
};

ReferenceOutput reference_forward(const model::GgufFile& file, std::span<const int32_t> tokens);

}  // namespace tidemill::test
