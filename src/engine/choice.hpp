// One choice's tokens on their way out: to text, stop strings and events.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/reasoning.hpp"
#include "engine/request.hpp"
#include "engine/sampler.hpp"
#include "engine/stop_matcher.hpp"
#include "engine/token_history.hpp"
#include "text/detokenizer.hpp"

namespace tidemill::engine {

TokenInfo describe(const text::Tokenizer& tokenizer, Token token, const Logprobs& logprobs);

class Choice {
 public:
  // `request` and `tokenizer` must outlive it.
  Choice(const Request& request, const text::Tokenizer& tokenizer, int index, uint64_t seed);

  const TokenHistory& history() const { return history_; }
  int generated() const { return generated_; }
  // How many of these came with the request.
  int resumed() const { return resumed_; }
  FinishReason finish() const { return finish_; }
  bool finished() const { return finish_ != FinishReason::none; }
  // Whether an event has told of the end.
  bool told_end() const { return told_end_; }
  // Uniform in [0, 1): a function of the seed and of how many tokens came before.
  double draw() const;

  // What the next token may be, if the request has a grammar (else null), valid until add(). An error is the request's
  // end.
  base::Result<const grammar::TokenMask*> allowed();
  // The next token, where the grammar leaves no other text or reasoning must end, and so the model need not be asked.
  // Never when finished.
  std::optional<Token> forced() const;

  // Takes the tokens that the request has of this choice, before any other; the next event tells of them. `room` says
  // how many tokens the context takes after the prompt. Error `invalid_argument`: they cannot have been generated.
  base::Result<void> resume(int64_t room);
  // Whether such an event has yet to be taken; and what it lacks until then, if probabilities are asked for: those of
  // an echoed prompt and of the tokens.
  bool resumption_untold() const { return event_.resumed; }
  void complete_resumption(std::span<const TokenInfo> prompt, std::span<const TokenInfo> tokens);

  // The next event will begin with the prompt; `infos` is empty, or one for each token.
  void echo(std::span<const Token> prompt, std::vector<TokenInfo> infos);
  // A generated token, one of those allowed. `room` says how many more the context could take after it.
  void add(Token token, std::optional<TokenInfo> info, int64_t room);
  // Ends it from outside: what was held back comes out.
  void end(FinishReason reason);

  // What has come together since the last call.
  Event take_event();

 private:
  FinishReason reason_to_stop(Token token) const;
  void take(Token token, std::optional<TokenInfo> info, int64_t room);
  // Nothing if the token may come next, else why not.
  std::optional<std::string> refusal_of(Token token) const;
  void advance_grammar(Token token);
  void follow_reasoning(std::string_view text);
  bool can_close_reasoning() const;
  // The text that the token completes.
  std::string spell(Token token);

  const Request& request_;
  const text::Tokenizer& tokenizer_;
  uint64_t seed_;
  TokenHistory history_;
  text::Detokenizer detokenizer_;
  size_t characters_ = 0;                    // that have come out of it
  StopMatcher stops_;                        // without a watch
  std::unique_ptr<StopWatch> stop_watch_;    // with stop strings
  std::optional<grammar::Matcher> matcher_;  // with a grammar
  std::vector<Token> forced_;                // that come next, from next_forced_ on
  size_t next_forced_ = 0;
  std::optional<ReasoningWatch> reasoning_;  // with a budget for it
  std::optional<size_t> closing_;            // which of the tokens that end reasoning comes next
  Event event_;
  int generated_ = 0;
  int resumed_ = 0;
  FinishReason finish_ = FinishReason::none;
  bool told_end_ = false;
};

// The choices of a request, those that it resumes brought to where they were. `seed` is that of the first; `context`
// the most tokens of a sequence. `request` and `tokenizer` must outlive them. Error as Choice::resume.
base::Result<std::vector<std::unique_ptr<Choice>>> start_choices(const Request& request,
                                                                 const text::Tokenizer& tokenizer, uint64_t seed,
                                                                 int64_t context);

}  // namespace tidemill::engine
