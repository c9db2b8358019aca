// The oracle of the encoder's tests: BERT written once more, plainly, in double precision, one text at a time, from the
// paper's formulas. It shares with the code under test what the reference decoder shares (reference_decoder.hpp).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/gguf.hpp"

namespace tidemill::test {

// The final hidden states, [tokens][width].
std::vector<std::vector<double>> reference_encode(const model::GgufFile& file, std::span<const int32_t> tokens,
                                                  std::span<const int32_t> types);

// A reranker's score, from the first of these.
double reference_score(const model::GgufFile& file, std::span<const int32_t> tokens, std::span<const int32_t> types);

}  // namespace tidemill::test
