// Proposals that are right or wrong as a test wants them, from sequences that it knows beforehand.
#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "engine/proposer.hpp"

namespace tidemill::engine::test {

// Whole sequences, prompt and output, which the test says before their requests are submitted. Thread-safe.
class KnownSequences {
 public:
  using Tokens = std::shared_ptr<const std::vector<Token>>;

  void add(std::vector<Token> tokens) {
    const std::lock_guard lock(mutex_);
    all_.push_back(std::make_shared<const std::vector<Token>>(std::move(tokens)));
  }
  // One that begins with `tokens`; null if none does.
  Tokens find(std::span<const Token> tokens) const {
    const std::lock_guard lock(mutex_);
    for (const Tokens& known : all_) {
      if (begins_with(*known, tokens)) return known;
    }
    return nullptr;
  }
  static bool begins_with(std::span<const Token> known, std::span<const Token> tokens) {
    return known.size() >= tokens.size() && std::ranges::equal(known.first(tokens.size()), tokens);
  }

 private:
  mutable std::mutex mutex_;
  std::vector<Tokens> all_;
};

// Proposes what is known to follow, but another token where `wrong(position)`; zeros after the known end and for
// unknown sequences.
class ScriptedProposer final : public Proposer {
 public:
  using Wrong = std::function<bool(int64_t position)>;
  ScriptedProposer(const KnownSequences& known, Wrong wrong) : known_(known), wrong_(std::move(wrong)) {}

  Proposal propose(std::span<const Token> tokens, int64_t most) override {
    if (!present_ || !KnownSequences::begins_with(*present_, tokens)) present_ = known_.find(tokens);
    proposed_.clear();
    for (int64_t position = std::ssize(tokens); std::ssize(proposed_) < most; ++position) {
      const bool in = present_ && position < std::ssize(*present_);
      const Token right = in ? (*present_)[static_cast<size_t>(position)] : 0;
      proposed_.push_back(wrong_(position) ? (right + 1) % 60 : right);
    }
    return {proposed_, 8};
  }

 private:
  const KnownSequences& known_;
  Wrong wrong_;
  KnownSequences::Tokens present_;
  std::vector<Token> proposed_;
};

inline MakeProposer scripted(const KnownSequences& known, ScriptedProposer::Wrong wrong) {
  return [&known, wrong] { return std::make_unique<ScriptedProposer>(known, wrong); };
}

}  // namespace tidemill::engine::test
