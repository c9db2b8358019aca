// Proposals from the sequence itself: what followed the last time that its end occurred (Saxena, "Prompt Lookup
// Decoding", 2023). Right wherever output repeats prompt or output: edited code, quotations, tables, tool calls.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/proposer.hpp"

namespace tidemill::engine {

// Where each run of `order` tokens occurred: a hash table of the latest occurrences, and for each occurrence the one
// before it with the same hash. Adding a token takes constant time (amortised: the table doubles), and memory is at
// most 24 bytes a token. The tokens are not kept: the caller compares them.
class NgramIndex {
 public:
  explicit NgramIndex(int64_t order) : order_(order) {}

  int64_t order() const { return order_; }
  // Adds the runs that end before tokens[end]; those of earlier calls are in already.
  void extend(std::span<const Token> tokens, int64_t end);
  // The latest occurrence of a run with the hash of the one that ends with the last of `tokens`: the position of its
  // last token, -1 for none.
  int64_t latest(std::span<const Token> tokens) const;
  // The occurrence before that, with the same hash.
  int64_t earlier(int64_t position) const { return previous_[static_cast<size_t>(position)]; }

 private:
  size_t slot(std::span<const Token> tokens, int64_t last) const;
  void insert(std::span<const Token> tokens, int64_t last);

  int64_t order_;
  std::vector<int32_t> heads_;     // [power of two]
  std::vector<int32_t> previous_;  // [positions indexed]
};

// Among the latest occurrences of the sequence's end, takes the one with the longest common past, of equals the latest,
// and proposes what followed it; a sequence that repeats itself is continued around the loop. Each proposal looks at a
// bounded number of occurrences, whatever the tokens.
class PromptLookup final : public Proposer {
 public:
  Proposal propose(std::span<const Token> tokens, int64_t most) override;

 private:
  NgramIndex long_{4};  // finds long repetitions among many short ones
  NgramIndex short_{2};
  std::vector<Token> proposed_;
};

}  // namespace tidemill::engine
