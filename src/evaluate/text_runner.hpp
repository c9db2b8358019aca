// How well a model predicts a text, alone or beside a reference that reads the same tokens.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string_view>

#include "base/result.hpp"
#include "evaluate/prediction.hpp"
#include "evaluate/subject.hpp"

namespace tidemill::evaluate {

struct TextOptions {
  int64_t window = 512;  // tokens that are read together, the one before the text included
  int64_t stride = 512;  // tokens from the beginning of one window to that of the next, 1 .. window
  double tie = 0.05;     // of Comparison, nats
  int64_t tokens = 0;    // at most so many of the text; 0: all
  std::function<void(size_t done, size_t total)> on_progress;  // tokens that count
  std::function<bool()> cancelled;                             // asked before each step; true ends the work
};

struct TextResult {
  int64_t windows = 0;
  TextScore score;
  std::optional<TextScore> reference;
  std::optional<Comparison> comparison;
};

// Predicts every token of the text but the first, and that too where the model puts a token before texts. Never more
// logits are held than those of one step of each model. `reference` may be null; else it has the subject's vocabulary.
// Errors: `invalid_argument` (a text of which no token counts, a window beyond the context or too small, the stride),
// `corrupt` where logits are no numbers, `too_large`, `exhausted`, `cancelled`.
base::Result<TextResult> judge_text(Subject& subject, Subject* reference, std::string_view text,
                                    const TextOptions& options);

// The same for tokens, whatever text they are: bytes are not counted.
base::Result<TextResult> judge_tokens(Subject& subject, Subject* reference, std::span<const Token> tokens,
                                      const TextOptions& options);

}  // namespace tidemill::evaluate
