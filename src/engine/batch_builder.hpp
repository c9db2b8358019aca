// From a plan to the batch that the model reads.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/scheduler.hpp"
#include "model/model.hpp"

namespace tidemill::engine {

// Keeps its buffers from step to step. Not thread-safe.
class BatchBuilder {
 public:
  // Where a slice's outputs lie in the model's Output: rows [first, first + count) of logits, and of hidden. The logits
  // of proposed tokens come last.
  struct Outputs {
    int64_t first_logits = 0;
    int64_t logits = 0;
    int64_t first_hidden = 0;
    int64_t hidden = 0;
  };

  // Valid until the next call, and as long as the sequences keep their tokens and blocks.
  model::Batch build(std::span<const Slice> plan);
  // One for each slice of the plan.
  std::span<const Outputs> outputs() const { return outputs_; }

 private:
  int32_t add_row(Token token, int64_t position);

  std::vector<Token> tokens_;
  std::vector<int32_t> positions_;
  std::vector<int32_t> sequences_;
  std::vector<std::span<const int32_t>> block_tables_;
  std::vector<int32_t> logit_rows_;
  std::vector<int32_t> hidden_rows_;
  std::vector<Outputs> outputs_;
};

}  // namespace tidemill::engine
