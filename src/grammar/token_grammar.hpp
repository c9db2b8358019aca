// A grammar bound to a vocabulary: which tokens may come next.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "base/result.hpp"
#include "grammar/grammar.hpp"
#include "grammar/token_index.hpp"
#include "grammar/token_mask.hpp"
#include "text/vocabulary.hpp"

namespace tidemill::grammar {

class Matcher;
class StateStore;

// What matching may spend. Apart from `max_memory`, which only decides how much is computed again, these are counts
// that follow from the state and the vocabulary alone, so that what is refused does not depend on what happened before.
struct MatchLimits {
  size_t max_memory = 64U << 20U;      // bytes kept for states and masks, per grammar
  uint32_t max_state_weight = 50'000;  // parts of one state; a token that leads past it is not allowed
  // Of tokens that take more, the shorter ones are allowed.
  size_t max_mask_work = 400'000;   // weights of the states that computing one mask passes through, together
  size_t max_mask_states = 20'000;  // those states
  size_t states_ahead = 400;        // that create() looks at
};

// Thread-safe. States and masks are computed when they are first needed, and kept for all matchers of the grammar.
class TokenGrammar : public std::enable_shared_from_this<TokenGrammar> {
 public:
  // Computes the widest masks of the states reached first ahead. Takes milliseconds: call it off the engine's thread.
  // Errors: `too_large`; `unsupported` if the vocabulary cannot spell the grammar (names a byte) or has no token that
  // ends a generation; `invalid_argument` for a rule that is left-recursive where a control token's name is empty;
  // stopped(), as the grammar's limits say.
  static base::Result<std::shared_ptr<const TokenGrammar>> create(std::shared_ptr<const Grammar> grammar,
                                                                  std::shared_ptr<const TokenIndex> index,
                                                                  MatchLimits limits = {});
  ~TokenGrammar();
  TokenGrammar(const TokenGrammar&) = delete;
  TokenGrammar& operator=(const TokenGrammar&) = delete;

  Matcher start() const;
  const TokenIndex& index() const { return *index_; }
  // Bytes that it takes by now, without its index; those of stores that matchers have kept from before are not counted.
  size_t memory() const;

 private:
  friend class Matcher;
  struct Current;

  TokenGrammar(std::shared_ptr<const Grammar> grammar, std::shared_ptr<const TokenIndex> index);

  // The store to use instead of one that is over its limit of memory.
  std::shared_ptr<StateStore> fresh(const std::shared_ptr<StateStore>& full) const;

  std::shared_ptr<const Grammar> grammar_;  // restricted to the vocabulary
  std::shared_ptr<const TokenIndex> index_;
  std::shared_ptr<const StateStore> first_;  // as create() left it: what fresh ones are copied from
  std::unique_ptr<Current> current_;
};

// Where one output stands in a grammar. A small value: copying is cheap. A state is a function of the tokens accepted
// so far alone. Different matchers may be used from different threads at once; one matcher may not.
class Matcher {
 public:
  // The tokens that may come next; tokens that end a generation are among them exactly if can_end(). Never empty.
  // Where all would take too much to find, those of few bytes alone, with which any text can be written. Valid until
  // the next call on the same matcher. Error `too_large`: all ways on lead to states past the limits.
  base::Result<const TokenMask*> allowed();
  bool accept(text::Token token);  // false, and nothing changes, if it may not come
  bool can_end() const;            // what was accepted is a sentence of the grammar
  bool must_end() const;           // and nothing can follow
  // The tokens that must come next because only one byte string can, as long as that is so (at most `most`): longest
  // token first, without the last one where the model should choose how to go on (a longer token that is allowed
  // begins with the remaining bytes). Empty where the next byte is free. Does not move the matcher.
  std::vector<text::Token> forced(size_t most) const;

 private:
  friend class TokenGrammar;
  Matcher(std::shared_ptr<const TokenGrammar> grammar, std::shared_ptr<StateStore> store, uint32_t state);

  std::unique_lock<std::mutex> use_store() const;

  std::shared_ptr<const TokenGrammar> grammar_;
  mutable std::shared_ptr<StateStore> store_;
  mutable uint32_t state_ = 0;  // a number in store_
  std::shared_ptr<const TokenMask> mask_;
  std::shared_ptr<TokenMask> own_mask_;  // where mask_ was put together for this matcher alone
};

}  // namespace tidemill::grammar
