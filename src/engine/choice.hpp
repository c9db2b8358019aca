// One choice's tokens on their way out: to text, stop strings and events.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

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
  FinishReason finish() const { return finish_; }
  bool finished() const { return finish_ != FinishReason::none; }
  // Uniform in [0, 1): a function of the seed and of how many tokens came before.
  double draw() const;

  // What the next token may be, if the request has a grammar (else null), valid until add(). An error is the request's
  // end.
  base::Result<const grammar::TokenMask*> allowed();
  // The next token, where the grammar leaves no other text and so the model need not be asked. Never when finished.
  std::optional<Token> forced() const;

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
  void advance_grammar(Token token);
  // The text that the token completes.
  std::string spell(Token token);

  const Request& request_;
  const text::Tokenizer& tokenizer_;
  uint64_t seed_;
  TokenHistory history_;
  text::Detokenizer detokenizer_;
  size_t characters_ = 0;  // that have come out of it
  StopMatcher stops_;
  std::optional<grammar::Matcher> matcher_;  // with a grammar
  std::vector<Token> forced_;                // that come next, from next_forced_ on
  size_t next_forced_ = 0;
  Event event_;
  int generated_ = 0;
  FinishReason finish_ = FinishReason::none;
};

}  // namespace tidemill::engine
