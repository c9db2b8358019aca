// What a model's output must look like under tool_choice and strict tools, as a grammar.
#pragma once

#include <optional>
#include <span>

#include "base/result.hpp"
#include "chat/format.hpp"
#include "chat/tools.hpp"
#include "grammar/builder.hpp"

namespace tidemill::chat {

struct ToolRules {
  ToolChoice choice;
  bool parallel = true;  // more than one call is fine
  // Inside of reasoning the output goes through its closing tag first. At the beginning of an answer reasoning may come
  // first, where the format has tags for it. Content that has begun goes on, and calls may stand behind it.
  Start start = Start::answer;
  bool may_reason = true;     // false: thinking was turned off, and no reasoning is opened
  bool reasons_once = false;  // of harmony: one message of analysis at most, as it has a budget
  bool always = false;        // give a grammar for `automatic` without strict tools too
  // What content must be (response_format); none: any text. Not for content that has begun, nor may that choose
  // `required` or `named`.
  std::optional<grammar::Expression> content;
};

// Every output that satisfies the expression is read by OutputParser into calls of `tools` that keep the rules:
// - required, named: one call or (parallel) several, and no content;
// - automatic: any text, but what begins a call is one, of an offered tool; text may follow where the format closes
//   calls with a tag. `content` or calls where it is given;
// - none: text in which no call begins; `content` where it is given.
// Arguments follow the schema for strict tools, and are any JSON object for others. Formats that write parameters in
// tags take them in the schema's order, and text values without the closing tag.
//
// No expression: there is nothing to hold the output to (automatic, no strict tool, no `content`).
// Errors: `invalid_argument` if `choice` names no tool or there are none to call; `unsupported` if the format is `none`
// and a call is asked for; those of the schema front end, with the tool's name.
base::Result<std::optional<grammar::Expression>> tool_grammar(grammar::GrammarBuilder& builder, const Format& format,
                                                              std::span<const Tool> tools, const ToolRules& rules);

}  // namespace tidemill::chat
