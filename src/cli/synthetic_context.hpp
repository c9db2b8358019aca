// Streams with a long context that nobody computed: for timing what decoding costs behind it, where a real prefill
// would take minutes.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/result.hpp"
#include "engine/sampler.hpp"
#include "model/model.hpp"
#include "tensor/device.hpp"

namespace tidemill::cli {

// The first tokens of each context (at most 256) are really computed, and the blocks of their keys and values are
// repeated to the context's length: every block lies in memory of its own, so decoding reads what it would read behind
// a real prompt. What is decoded means nothing. Uses the model by itself, without an engine: nobody else may meanwhile.
class SyntheticContext {
 public:
  // `streams` contexts of `context` tokens, with room for `decode` more. Errors: `exhausted` (no memory for that).
  static base::Result<std::unique_ptr<SyntheticContext>> make(model::Model& model, tensor::Device& device,
                                                              tensor::KvType type, int streams, int context,
                                                              int decode);

  // Greedy steps of one token a stream, from the contexts' ends on (again at each call): tokens per second of all
  // streams together.
  base::Result<double> time_decode(int steps);

  size_t bytes() const { return cache_->bytes(); }

 private:
  SyntheticContext(model::Model& model, std::unique_ptr<tensor::KvCache> cache, int streams, int context);

  void compute(int64_t stream, int64_t tokens);
  void repeat(int64_t stream, int64_t computed_blocks);
  base::Result<void> step(int64_t position);

  model::Model& model_;
  std::unique_ptr<tensor::KvCache> cache_;
  int64_t context_;
  std::vector<std::vector<int32_t>> blocks_;            // of each stream
  std::vector<std::span<const int32_t>> block_tables_;  // likewise, for batches
  std::vector<model::Token> last_;                      // of each stream
  engine::Sampler sampler_;
};

}  // namespace tidemill::cli
