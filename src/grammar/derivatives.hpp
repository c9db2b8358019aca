// Derivatives of expressions (Brzozowski, 1964): the derivative of a language by a symbol holds what may follow it.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <stop_token>
#include <utility>
#include <vector>

#include "grammar/expressions.hpp"

namespace tidemill::grammar {

// Bytes that no part of a grammar tells apart are of one class.
struct ByteClasses {
  explicit ByteClasses(const Expressions& expressions);

  std::array<uint8_t, 256> class_of{};
  std::vector<uint8_t> member;  // [classes] one byte of each
};

// Works in an arena of its own, which grows by what is derived. Facts of rules must be set. Not thread-safe; copying
// gives an independent one.
class Derivatives {
 public:
  explicit Derivatives(Expressions expressions);

  Expressions& expressions() { return expressions_; }
  const Expressions& expressions() const { return expressions_; }

  // By a byte, or by the control token whose name has the number given. Recurses as deep as the node's `depth`; work
  // is bounded by the node's weight and what it begins with.
  NodeIndex by_byte(NodeIndex node, uint8_t byte) { return derive(node, byte); }
  NodeIndex by_special(NodeIndex node, uint32_t name) { return derive(node, 256 + name); }

  size_t memory() const { return expressions_.memory() + slots_.capacity() * sizeof(Slot); }

 private:
  struct Slot {
    uint64_t key = 0;  // node and symbol; 0 is free
    NodeIndex value = 0;
  };

  NodeIndex derive(NodeIndex node, uint32_t symbol);
  NodeIndex compute(NodeIndex node, uint32_t symbol);
  NodeIndex derive_sequence(NodeIndex node, uint32_t symbol);
  NodeIndex derive_choice(NodeIndex node, uint32_t symbol);
  bool may_begin(NodeIndex node, uint32_t symbol) const {
    return symbol < 256 ? expressions_.first(node)[symbol] : expressions_.at(node).special_first;
  }
  Slot& slot_of(uint64_t key);
  void remember(uint64_t key, NodeIndex value);

  Expressions expressions_;
  std::vector<Slot> slots_;  // a power of two
  size_t used_ = 0;
};

// An automaton of texts of characters.
struct CharacterAutomaton {
  std::shared_ptr<const Automaton> texts;
  std::vector<uint8_t> between;  // [states] whether it stands between two characters, not within one
};

// What products of automata may take, all together.
struct ProductBudget {
  static constexpr size_t explored_per_state = 5;
  explicit ProductBudget(size_t max_states, std::stop_token asked_to_stop = {})
      : states(max_states), explored(max_states * explored_per_state), stop(std::move(asked_to_stop)) {}

  // Of what it began with, 0 to 1.
  double share_spent(size_t max_states) const;

  size_t states;    // of the automata made, which are minimal
  size_t explored;  // pairs of states looked at on the way, of which many may be equal or lead nowhere
  std::stop_token stop;
};

// The intersection of two expressions of `source` without rules and control tokens, as the least automaton; taken from
// the budget. Null if it needs more than is left, or is stopped.
std::shared_ptr<const Automaton> intersection(const Expressions& source, NodeIndex left, NodeIndex right,
                                              ProductBudget& budget);
// The same for what is of `left` and not of `right`.
std::shared_ptr<const Automaton> difference(const Expressions& source, NodeIndex left, NodeIndex right,
                                            ProductBudget& budget);
// The automaton of `texts`, which are of `characters`, any number of one character; no state is between them and within
// one as well. None as above.
std::optional<CharacterAutomaton> character_automaton(const Expressions& source, NodeIndex texts, NodeIndex characters,
                                                      ProductBudget& budget);
// Whether the intersection is empty, as far as a thousand pairs of states tell; false if they do not. Those looked at
// count as explored: few where it is not empty, since the first that accepts decides.
bool are_apart(const Expressions& source, NodeIndex left, NodeIndex right, ProductBudget& budget);

}  // namespace tidemill::grammar
