// How a text that is longer than a model reads at once is cut for judging its predictions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace tidemill::evaluate {

// Tokens [begin, end) of the text are read afresh, behind the beginning-of-sequence token where the model wants one.
// Each row predicts the token after it: those from `first_scored` up to and including `end` count here.
struct Window {
  size_t begin = 0;
  size_t end = 0;
  size_t first_scored = 0;
};

// Windows of at most `window` rows that begin `stride` tokens apart, so that every token counts once, seen from at
// least window - stride tokens where the text has them. `lead` is 1 with a token put before each window, else 0: then
// nothing predicts the first token of the text, which does not count. Wants window > lead and 1 <= stride <= window.
std::vector<Window> cut(size_t tokens, size_t window, size_t stride, size_t lead);

// How many tokens count: all, or all but the first.
inline size_t scored_tokens(size_t tokens, size_t lead) {
  return tokens - (tokens > 0 && lead == 0 ? 1 : 0);
}

}  // namespace tidemill::evaluate
