#include "serve/reading_rules.hpp"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include "chat/spelling.hpp"

namespace tidemill::serve {
namespace {

// A text of the format as it stands in outputs, which may have white space around it or none.
std::string core_of(const std::string& spelled) {
  return std::string(chat::trimmed(spelled));
}

}  // namespace

std::optional<engine::ReasoningBudget> reasoning_budget(const text::Tokenizer& tokenizer, const ReadingRules& rules,
                                                        int64_t tokens) {
  const chat::Format& format = rules.format;
  if (!format.reasons() || rules.start == chat::Start::content) return std::nullopt;
  engine::ReasoningBudget budget;
  budget.tokens = static_cast<int>(std::min<int64_t>(tokens, std::numeric_limits<int>::max()));
  if (format.tools == chat::ToolFormat::harmony) {
    budget.open = "<|channel|>analysis<|message|>";
    budget.closes = {"<|end|>", "<|call|>", "<|return|>", "<|start|>", "<|channel|>"};
    budget.anywhere = true;
  } else {
    budget.open = core_of(format.reasoning_open);
    budget.closes = {core_of(format.reasoning_close)};
    budget.begun = rules.start == chat::Start::reasoning;
    if (format.syntax.control && !rules.tools.empty()) {
      for (std::string& trigger : chat::call_triggers(format.syntax))
        budget.closes.push_back(std::move(trigger));
    }
  }
  const auto tokens_of = [&](std::string_view text) {
    return tokenizer.encode(text, {.add_special = false, .parse_special = true});
  };
  auto close = tokens_of(budget.closes.front());
  const auto ends = [&](text::Token token) { return tokenizer.ends_generation(token); };
  // In vocabularies of other formats "<|end|>" may end the output: there the next message's beginning ends this one.
  if (budget.anywhere && close && std::ranges::any_of(*close, ends)) close = tokens_of("<|start|>");
  if (!close || close->empty()) return std::nullopt;
  budget.close = std::move(*close);
  return budget;
}

}  // namespace tidemill::serve
