// Who guesses what a sequence goes on with, so that several of its tokens are verified in one step.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "engine/sampling.hpp"

namespace tidemill::engine {

struct Proposal {
  std::span<const Token> tokens;  // to follow the sequence; may be empty
  // How many of the sequence's last tokens speak for the proposal. Proposals with alike support are expected to be
  // right alike often; that share is learned, so what the number means in itself is the proposer's affair.
  int support = 0;
};

// Belongs to one sequence. A proposal costs time when it is wrong and saves time when it is right; it never changes
// what is generated, so anything may be proposed. Used by the engine's thread alone.
class Proposer {
 public:
  virtual ~Proposer() = default;
  // At most `most` tokens to follow `tokens`, which are the sequence's prompt and output: those of the last call and
  // perhaps more. The result is valid until the next call. Every token must be one of the model's vocabulary.
  virtual Proposal propose(std::span<const Token> tokens, int64_t most) = 0;
};

using MakeProposer = std::function<std::unique_ptr<Proposer>()>;

}  // namespace tidemill::engine
