// What the engine is asked to do and what it answers.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "engine/reasoning.hpp"
#include "engine/sampling.hpp"
#include "grammar/token_grammar.hpp"
#include "observe/trace.hpp"

namespace tidemill::engine {

// Looks for stop strings in one choice's text, where not all of it counts. What it says depends on the text alone, not
// on how that is cut into pieces. Used by one thread at a time.
class StopWatch {
 public:
  StopWatch() = default;
  StopWatch(const StopWatch&) = delete;
  StopWatch& operator=(const StopWatch&) = delete;
  virtual ~StopWatch() = default;

  // Takes the text's next piece: the index of the stop string that it completes, or -1. Nothing follows a stop string.
  virtual int push(std::string_view text) = 0;
};

struct Request {
  enum class Kind : uint8_t {
    generate,
    embed,
    score,  // of a pair of texts, by a reranker
  };

  Kind kind = Kind::generate;
  std::string id;             // for traces; empty: made up
  std::vector<Token> prompt;  // at least one token
  Sampling sampling;
  int64_t second_text = 0;        // for Kind::score: where the second text begins in the prompt, at 1 or later
  int max_tokens = 16;            // >= 0; generation also ends where the context does
  std::vector<std::string> stop;  // stop strings; matched across token borders, not emitted
  // Makes what looks for the stop strings, for each choice; none: they end the text wherever they stand. With it the
  // text comes out as it is, that of stop strings and what stands behind them in the last token included.
  std::function<std::unique_ptr<StopWatch>()> stop_watch;
  std::vector<Token> stop_tokens;  // besides the model's own end-of-generation tokens
  bool ignore_eos = false;         // go on past end-of-generation tokens
  int n = 1;                       // independent choices from one prompt, choice i seeded with seed + i
  bool logprobs = false;
  int top_logprobs = 0;       // 0 .. 20 alternatives per token
  bool echo = false;          // also report the prompt's tokens (with logprobs if asked; their bytes joined are the
                              // prompt's text, so that hidden tokens have none), for /v1/completions
  bool special_text = false;  // special tokens appear in the text
  // What each choice's text must be a sentence of; null: anything. Tokens that cannot follow are never chosen, and
  // those that alone can follow are taken without asking the model. A choice ends where nothing can follow; one that
  // max_tokens or the context ends may be cut off anywhere.
  std::shared_ptr<const grammar::TokenGrammar> grammar;
  // How much each choice may reason; none: as much as it likes. Needs special_text, since what opens and closes
  // reasoning may be special tokens. Where the grammar does not allow the closing tokens yet, or a character is not
  // whole, more tokens come first.
  std::optional<ReasoningBudget> reasoning;
  // What each choice has generated already, for a client that was served by another engine until then: empty, or one
  // list for each choice. These tokens count as this request's own in every regard (penalties, draws, max_tokens, stop
  // strings, grammar), but are computed as a prompt is, and come back in one event, Event::resumed, before any other of
  // the choice. Tokens that this request could not have generated are refused.
  std::vector<std::vector<Token>> resumed;
  int priority = 0;             // lower runs first, as in vLLM
  bool pin_prompt = false;      // the whole blocks of its prompt stay in the prefix cache as long as the engine lives
  std::string tenant;           // salts the prefix cache: tenants do not see each other's hits
  observe::SpanContext parent;  // the span under which the engine opens its own
};

// Under softmax of the model's own logits, before bias, penalties, temperature and truncation (OpenAI, vLLM's default).
struct TokenLogprob {
  Token token = 0;
  std::string bytes;  // the token's bytes, perhaps part of a UTF-8 character
  std::optional<float>
      logprob;  // natural logarithm; absent for the first token of an echoed prompt, which follows nothing
};

struct TokenInfo {
  TokenLogprob chosen;
  std::vector<TokenLogprob> top;  // most likely first
  size_t text_offset = 0;         // where in the choice's text it begins, in characters; hidden tokens take no room
};

enum class FinishReason : uint8_t { none, stop, length, cancelled, error };
std::string_view to_string(FinishReason reason);

struct Usage {
  int prompt_tokens = 0;
  int completion_tokens = 0;  // over all choices
  int cached_tokens = 0;      // prompt tokens found in the prefix cache
};

// One step of one choice. `text` holds whole UTF-8 characters that can no longer become part of a stop string.
struct Event {
  int choice = 0;
  std::string text;
  bool resumed = false;             // of Request::resumed, all that it has of this choice
  std::vector<Token> tokens;        // generated since the last event of this choice, the one that ended it included
  std::vector<size_t> text_ends;    // for each token generated: how much of `text` had come when it had been added
  int echoed = 0;                   // so many of `tokens` at the front are the prompt's (Request::echo, first event)
  std::vector<TokenInfo> logprobs;  // one per token, if asked for; never withheld with the text
  FinishReason finish = FinishReason::none;
  std::string matched_stop;          // the stop string that ended it, if one did
  int cached_tokens = 0;             // as in Usage; not yet known, and 0, in a resumed event
  std::vector<float> embedding;      // for Kind::embed, in the one event that ends it; unit length
  std::optional<float> score;        // for Kind::score likewise: the model's logit, more for what fits better
  std::optional<base::Error> error;  // with FinishReason::error
  std::optional<Usage> usage;        // in the last event of the whole request
};

}  // namespace tidemill::engine
