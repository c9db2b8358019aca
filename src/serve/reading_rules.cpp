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

engine::QuietText quiet_of(const ReadingRules& rules) {
  engine::QuietText quiet;
  const chat::Format& format = rules.format;
  if (format.tools == chat::ToolFormat::harmony) {
    const std::string answer = "final<|message|>";
    quiet.spans = {{"<|start|>", answer}, {"<|channel|>", answer}};
    return quiet;
  }
  const std::string reasoning_end = core_of(format.reasoning_close);
  if (rules.start == chat::Start::reasoning) quiet.begins_before = reasoning_end;
  if (!reasoning_end.empty() && !format.reasoning_open.empty()) {
    quiet.spans.push_back({core_of(format.reasoning_open), reasoning_end});
  }
  if (rules.tools.empty()) return quiet;
  const chat::CallSyntax& syntax = format.syntax;
  if (!syntax.recipient.empty()) {
    // The prompt has announced a recipient; what is for the user stands behind its name.
    const std::string answer = syntax.recipient + "\n";
    if (rules.start != chat::Start::content) quiet.begins_before = answer;
    quiet.spans.push_back({core_of(syntax.open), answer});
    return quiet;
  }
  const std::string section_end = core_of(syntax.section_close);
  for (std::string& trigger : chat::call_triggers(syntax)) {
    const bool section = !section_end.empty() && trigger == chat::trimmed(syntax.section_open);
    quiet.spans.push_back({std::move(trigger), section ? section_end : core_of(syntax.close)});
  }
  if (syntax.bare && rules.start != chat::Start::content) quiet.first_bytes = "{[";
  return quiet;
}

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
  auto close = tokenizer.encode(budget.closes.front(), {.add_special = false, .parse_special = true});
  if (!close || close->empty()) return std::nullopt;
  budget.close = std::move(*close);
  return budget;
}

}  // namespace tidemill::serve
