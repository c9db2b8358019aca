#include "engine/batch_builder.hpp"

namespace tidemill::engine {

// A row of the sequence whose block table comes next.
int32_t BatchBuilder::add_row(Token token, int64_t position) {
  tokens_.push_back(token);
  positions_.push_back(static_cast<int32_t>(position));
  sequences_.push_back(static_cast<int32_t>(block_tables_.size()));
  return static_cast<int32_t>(tokens_.size() - 1);
}

model::Batch BatchBuilder::build(std::span<const Slice> plan) {
  tokens_.clear();
  positions_.clear();
  sequences_.clear();
  block_tables_.clear();
  logit_rows_.clear();
  hidden_rows_.clear();
  outputs_.clear();
  for (const Slice& slice : plan) {
    const Sequence& sequence = *slice.sequence;
    Outputs outputs{std::ssize(logit_rows_), 0, std::ssize(hidden_rows_), 0};
    for (int64_t position = slice.begin; position < slice.begin + slice.count; ++position) {
      const int32_t row = add_row(sequence.tokens()[static_cast<size_t>(position)], position);
      if (sequence.wants_logits(position)) logit_rows_.push_back(row);
      if (sequence.wants_hidden(position)) hidden_rows_.push_back(row);
    }
    for (size_t i = 0; i < slice.proposed.size(); ++i) {
      logit_rows_.push_back(add_row(slice.proposed[i], slice.begin + slice.count + static_cast<int64_t>(i)));
    }
    outputs.logits = std::ssize(logit_rows_) - outputs.first_logits;
    outputs.hidden = std::ssize(hidden_rows_) - outputs.first_hidden;
    outputs_.push_back(outputs);
    block_tables_.push_back(sequence.blocks());
  }
  return {tokens_, positions_, sequences_, block_tables_, logit_rows_, hidden_rows_};
}

}  // namespace tidemill::engine
