// What form a request's output has: the grammar that holds the engine to it, and the reader that takes its text apart
// into reasoning, content and tool calls.
#pragma once

#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "chat/format.hpp"
#include "chat/output_parser.hpp"
#include "chat/tools.hpp"
#include "engine/request.hpp"
#include "grammar/token_grammar.hpp"
#include "serve/loaded_model.hpp"
#include "wire/request.hpp"

namespace tidemill::serve {

// How the text is taken apart; one for all choices of a request.
struct ReadingRules {
  chat::Format format;
  std::vector<chat::Tool> tools;     // that may be called
  bool starts_in_reasoning = false;  // the prompt opened it
};

struct OutputForm {
  std::shared_ptr<const grammar::TokenGrammar> grammar;  // null: any text
  std::optional<ReadingRules> reading;                   // none: the text is the content
};

// `rendered` is the prompt that the chat template made; empty for Completions. Errors name the parameter: those of the
// schema or grammar the client sent, and `unsupported` where tools are asked for that the model's format cannot call.
base::Result<OutputForm> output_form(const LoadedModel& model, const wire::GenerateRequest& request,
                                     std::string_view rendered);

// Takes one choice's events apart. Not thread-safe.
class OutputReader {
 public:
  // `rules` must outlive it; null: the text is the content.
  OutputReader(const ReadingRules* rules, int choice);

  // The pieces that an event of the engine gives rise to, in the order in which they were written; at least one. The
  // last carries the finish reason. Probabilities are left to the caller.
  std::vector<wire::Event> read(engine::Event event);
  // Tokens of reasoning so far.
  int64_t reasoning_tokens() const { return reasoning_tokens_; }

 private:
  std::vector<wire::Event> take_apart(const engine::Event& event);

  std::optional<chat::OutputParser> parser_;
  std::vector<std::string> triggers_;  // that begin a call
  int choice_;
  int64_t reasoning_tokens_ = 0;
};

}  // namespace tidemill::serve
