// How an output's text is taken apart into reasoning, content and tool calls; and what the engine must know of that.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "chat/format.hpp"
#include "chat/tools.hpp"
#include "engine/request.hpp"
#include "text/tokenizer.hpp"

namespace tidemill::serve {

// One for all choices of a request.
struct ReadingRules {
  chat::Format format;
  std::vector<chat::Tool> tools;    // that may be called
  std::vector<bool> prefer_strict;  // of each: wire::Tool::prefers_strict
  chat::Start start = chat::Start::answer;
  bool must_call = false;  // no content comes: what of an opening a limit cuts off is none
};

// The parts of the text that are not content: reasoning, and what calls are spelled with.
engine::QuietText quiet_of(const ReadingRules& rules);

// What ends reasoning when so many tokens are spent on it. None where there is nothing to end: the format has no tags
// for reasoning, or the answer has begun.
std::optional<engine::ReasoningBudget> reasoning_budget(const text::Tokenizer& tokenizer, const ReadingRules& rules,
                                                        int64_t tokens);

}  // namespace tidemill::serve
