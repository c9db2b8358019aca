// Which tokens a sequence has seen, for the penalties.
#pragma once

#include <span>
#include <unordered_map>

#include "engine/sampling.hpp"

namespace tidemill::engine {

class TokenHistory {
 public:
  TokenHistory() = default;
  explicit TokenHistory(std::span<const Token> prompt) {
    for (const Token token : prompt)
      generated_.try_emplace(token, 0);
  }
  void add_generated(Token token) { ++generated_[token]; }

  // Every token of prompt or output, and how often it was generated. In no particular order.
  const std::unordered_map<Token, int>& counts() const { return generated_; }

 private:
  std::unordered_map<Token, int> generated_;
};

}  // namespace tidemill::engine
