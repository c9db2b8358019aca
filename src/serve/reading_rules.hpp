// How an output's text is taken apart into reasoning, content and tool calls; and what ends reasoning.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "chat/format.hpp"
#include "chat/tools.hpp"
#include "engine/request.hpp"
#include "text/tokenizer.hpp"

namespace tidemill::serve {

// One for all choices of a request.
struct ReadingRules {
  chat::Format format;
  std::vector<chat::Tool> tools;    // that may be called; with none, nothing is a call
  std::vector<bool> prefer_strict;  // of each: wire::Tool::prefers_strict
  chat::Start start = chat::Start::answer;
  bool must_call = false;         // no content comes: what of an opening a limit cuts off is none
  std::vector<std::string> stop;  // strings that end the content
};

// What ends reasoning when so many tokens are spent on it. None where there is nothing to end: the format has no tags
// for reasoning, or the answer has begun.
std::optional<engine::ReasoningBudget> reasoning_budget(const text::Tokenizer& tokenizer, const ReadingRules& rules,
                                                        int64_t tokens);

}  // namespace tidemill::serve
