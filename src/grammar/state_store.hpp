// The states that the matchers of a grammar go through: what leads from one to the next, and which tokens each allows.
//
// A state is an expression: what may still come. Its transitions are derivatives by bytes, computed when first asked
// for. The tokens that it allows are found by walking the trie of the vocabulary and the states together. Three things
// make that cheap where nearly all tokens are allowed, as inside a string:
//
// - A state is split into a head and a tail, "the rest of this string" and "what comes behind it". The tokens that stay
//   within the head are found once for that head and shared by all states that begin with it; only for the few places
//   of the trie where the head may be over, the tail is asked.
// - Counters that no token can exhaust are set to "without bound" for this purpose.
// - Below a node of the trie all tokens are taken at once where their bytes all lead from a state to itself.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "grammar/derivatives.hpp"
#include "grammar/token_grammar.hpp"

namespace tidemill::grammar {

// Guard every call with mutex(). What calls return follows from the grammar, the vocabulary and their arguments alone,
// not from what the store computed before; only the numbers of states do.
//
// Heavy states (MatchLimits) are led to by no allowed token, but where a mask was found for a lighter state of the same
// kind: what is allowed is accepted all the same.
class StateStore {
 public:
  static constexpr uint32_t dead = 0;  // the state from which nothing is accepted

  // The tokens of a state: those of `base` (may be null) and `more`.
  struct Tokens {
    std::shared_ptr<const TokenMask> base;
    std::vector<text::Token> more;
    bool too_large = false;  // no token leads to a state within the limits
    bool are_short = false;  // all of them would go over a limit: those of few bytes
  };

  // `grammar` is restricted to the vocabulary of `index`.
  StateStore(std::shared_ptr<const Grammar> grammar, std::shared_ptr<const TokenIndex> index,
             const MatchLimits& limits);
  StateStore(const StateStore& other);  // a copy to go on with; nobody may be using `other`
  StateStore& operator=(const StateStore&) = delete;

  std::mutex& mutex() const { return mutex_; }
  const MatchLimits& limits() const { return limits_; }
  bool is_full() const { return memory() > limits_.max_memory; }
  size_t memory() const;

  uint32_t start();
  uint32_t step(uint32_t state, uint8_t byte);
  uint32_t after(uint32_t state, text::Token token);  // `dead` if it may not come
  bool can_end(uint32_t state) const { return expression(state).nullable; }
  bool must_end(uint32_t state) const { return states_[state].node == Expressions::empty; }
  const Tokens& tokens(uint32_t state);
  std::vector<text::Token> forced(uint32_t state, size_t most);
  // The state of this store that is `state` in `other`.
  uint32_t import(const StateStore& other, uint32_t state);

  // Computes ahead what the first outputs will ask for.
  void look_ahead();

 private:
  static constexpr uint32_t kUnknown = UINT32_MAX;

  struct State {
    NodeIndex node = 0;
    uint32_t row = kUnknown;      // of transitions_
    uint32_t visited = 0;         // by the walk of this number
    uint32_t tokens = kUnknown;   // into tokens_
    uint32_t head = kUnknown;     // into heads_
    uint32_t widened = kUnknown;  // the state that allows the same tokens, its counters set to no bound
    uint32_t loops = kUnknown;    // groups of bytes that lead to the state itself, if known
    uint32_t fan = 0;             // with it: the weights of the states that bytes lead to, together
    bool is_heavy = false;        // over the limits: no token that leads there is allowed
  };
  // What a state that is the head of others allows: the tokens whose bytes it accepts so far, and the nodes of the
  // trie where it may be over.
  struct Head {
    Tokens tokens;
    std::vector<uint32_t> exits;
    size_t nodes_behind = 0;  // of the trie, below the exits
    size_t nested = 0;        // most exits on one way
    size_t work = 0;
    uint32_t peak = 0;  // weight of the heaviest state on the ways, and the deepest's depth
    uint32_t peak_depth = 0;
  };
  struct Found {
    std::vector<text::Token> tokens;
    std::vector<uint32_t>* exits = nullptr;  // where the state may be over, if wanted
    size_t longest = SIZE_MAX;               // bytes of the tokens
  };

  const Node& expression(uint32_t state) const { return derivatives_.expressions().at(states_[state].node); }
  const ByteSet& first(uint32_t state) const { return derivatives_.expressions().first(states_[state].node); }
  uint32_t state_of(NodeIndex node);
  bool allows(uint32_t state, text::Token token);
  uint32_t compute_step(uint32_t state, uint8_t byte);
  uint32_t after_special(uint32_t state, uint32_t name);

  void begin_walk();
  bool visit(uint32_t state);
  uint32_t walked_step(uint32_t state, uint8_t byte);
  uint32_t loops(uint32_t state);
  bool walk(uint32_t node, uint32_t state, Found& found);
  bool any_token_below(uint32_t node, uint32_t state);
  std::pair<NodeIndex, NodeIndex> split(NodeIndex node);
  NodeIndex widened(NodeIndex node, int depth, std::unordered_map<NodeIndex, NodeIndex>& known);
  uint32_t widened_state(uint32_t state);
  const Head& head_of(uint32_t state);
  Tokens compute_tokens(uint32_t state);
  bool tokens_through_head(uint32_t state, Tokens& tokens);
  bool stays_light(const Head& head, uint32_t tail_state) const;
  void add_ends_and_specials(uint32_t state, Tokens& tokens);
  Tokens packed(std::vector<text::Token> tokens) const;
  uint32_t follow_forced(uint32_t state, size_t& most);

  std::shared_ptr<const Grammar> grammar_;
  std::shared_ptr<const TokenIndex> index_;
  MatchLimits limits_;
  ByteClasses classes_;
  Derivatives derivatives_;
  std::vector<text::Token> special_tokens_;  // by number of the name
  std::vector<State> states_;
  std::unordered_map<NodeIndex, uint32_t> numbers_;  // of states, by node
  std::vector<uint32_t> transitions_;                // [rows, classes]
  std::vector<uint32_t> charged_;                    // likewise: the walk that counted it last
  std::vector<Tokens> tokens_;
  std::vector<Head> heads_;
  size_t token_memory_ = 0;
  uint32_t walk_ = 0;
  size_t walk_work_ = 0;
  size_t walk_states_ = 0;
  uint32_t walk_peak_ = 0;
  uint32_t walk_peak_depth_ = 0;
  mutable std::mutex mutex_;
};

}  // namespace tidemill::grammar
