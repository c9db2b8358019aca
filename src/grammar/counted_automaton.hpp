// Texts of so many characters that an automaton accepts. The characters are counted beside its states: an automaton
// that counted them itself would have a state for each count.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "grammar/automaton.hpp"
#include "grammar/derivatives.hpp"

namespace tidemill::grammar {

// Immutable; thread-safe. A state is one of the automaton's and how many characters have begun.
class CountedAutomaton {
 public:
  static constexpr uint32_t unbounded = UINT32_MAX;
  struct Bounds {
    uint32_t least = 0;
    uint32_t most = unbounded;
  };

  // What it takes to tell which lengths are left is taken from the budget. Null if that does not suffice, or it is
  // stopped.
  static std::shared_ptr<const CountedAutomaton> create(CharacterAutomaton characters, Bounds bounds,
                                                        ProductBudget& budget);
  // The same without the transitions on bytes outside of `kept`; null as above.
  std::shared_ptr<const CountedAutomaton> restricted_to(const ByteSet& kept, ProductBudget& budget) const;

  const std::shared_ptr<const Automaton>& texts() const { return characters_.texts; }  // of any length
  size_t memory() const;                                                               // bytes, without the texts'

  // Whether some text leads on from there to an end within the bounds.
  bool lives(uint32_t state, uint32_t count) const;
  bool accepts(uint32_t state, uint32_t count) const { return texts()->accepts(state) && count >= bounds_.least; }
  // The bytes that lead to what lives, and whether there is any.
  ByteSet first(uint32_t state, uint32_t count) const;
  bool goes_on(uint32_t state, uint32_t count) const;
  // How many characters have begun behind a byte that leads on.
  uint32_t count_behind(uint32_t state, uint32_t count) const {
    return count + (characters_.between[state] != 0 ? 1 : 0);
  }
  // Whether the bounds leave out nothing any more.
  bool is_free(uint32_t count) const { return bounds_.most == unbounded && count >= bounds_.least; }
  // A count that as many as `longest` further characters lead to the same from, for all that may come and may end; none
  // where that is as if nothing were counted.
  std::optional<uint32_t> widened(uint32_t count, uint32_t longest) const;

 private:
  CountedAutomaton(CharacterAutomaton characters, Bounds bounds);
  void find_nearest();
  bool find_lengths(ProductBudget& budget);
  bool can_take(uint32_t state, size_t characters) const;

  CharacterAutomaton characters_;
  Bounds bounds_;
  std::vector<uint32_t> next_begin_;  // [states] and the end, of next_
  std::vector<uint32_t> next_;        // states that a state leads to, each once
  std::vector<uint32_t> nearest_;     // [states] the fewest characters that have yet to begin up to an end
  uint32_t farthest_ = 0;             // of those
  // Bit by bit, the states from which exactly so many more characters lead to an end: the rows from settled_ on come
  // again and again, for ever. Only where there is a lower bound; not settled where the upper one comes first.
  size_t words_ = 0;            // of a row
  std::vector<uint64_t> rows_;  // [characters][words_]
  size_t settled_ = 0;
  size_t period_ = 0;  // 0: not settled
};

}  // namespace tidemill::grammar
