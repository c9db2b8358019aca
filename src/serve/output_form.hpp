// What form a request's output has: the grammar that holds the engine to it, and the reader that takes its text apart
// into reasoning, content and tool calls.
#pragma once

#include <memory>
#include <optional>
#include <string>
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
  std::vector<bool> prefer_strict;   // of each: wire::Tool::prefers_strict
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

// The parts of the text that are not content: reasoning, and what calls are spelled with.
engine::QuietText quiet_of(const ReadingRules& rules);

class PieceList;

// Takes one choice's events apart. Not thread-safe.
class OutputReader {
 public:
  // `rules` must outlive it; null: the text is the content. Ids that calls lack follow from `id`, the answer's, and the
  // choice.
  OutputReader(const ReadingRules* rules, std::string_view id, int choice);

  // The pieces that an event of the engine gives rise to, in the order in which they were written; at least one. The
  // last carries the finish reason. How tokens were put together into events makes no difference but to where pieces
  // begin: with probabilities each token has pieces of its own, since what they belong to depends on it.
  std::vector<wire::Event> read(engine::Event event);
  // Tokens of reasoning so far.
  int64_t reasoning_tokens() const { return reasoning_tokens_; }

 private:
  std::vector<wire::Event> take_apart(engine::Event& event);
  void note(const chat::Delta& delta);
  void take_text(std::string_view text, PieceList& pieces);
  void take_end(engine::FinishReason finish, PieceList& pieces);

  std::optional<chat::OutputParser> parser_;
  std::vector<std::string> triggers_;  // that begin a call
  int choice_;
  bool reasoned_ = false;  // what came out with the present token
  bool answered_ = false;
  int64_t reasoning_tokens_ = 0;
  int64_t waiting_tokens_ = 0;  // of which nothing has come out yet
};

}  // namespace tidemill::serve
