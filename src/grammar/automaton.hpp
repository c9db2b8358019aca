// Explicit automata over bytes: what needs to look at a text as a whole (search for a string, intersection).
#pragma once

#include <array>
#include <bitset>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace tidemill::grammar {

using ByteSet = std::bitset<256>;

// A deterministic automaton in which every state can still reach an end. Immutable.
class Automaton {
 public:
  static constexpr uint32_t none = UINT32_MAX;

  struct State {
    std::array<uint32_t, 256> next;  // a state, or `none`
    bool accepting = false;

    State() { next.fill(none); }
  };

  // Of the states reached from the first one; those that reach no accepting state are dropped, and where that leaves
  // nothing (`start` too), size() is 0.
  static std::shared_ptr<const Automaton> trimmed(const std::vector<State>& states);
  // The same automaton without the transitions on bytes outside of `kept`.
  std::shared_ptr<const Automaton> restricted_to(const ByteSet& kept) const;

  size_t size() const { return states_.size(); }
  size_t memory() const { return states_.capacity() * sizeof(State); }  // bytes
  static constexpr uint32_t start = 0;
  uint32_t next(uint32_t state, uint8_t byte) const { return states_[state].next[byte]; }
  bool accepts(uint32_t state) const { return states_[state].accepting; }
  ByteSet first(uint32_t state) const;  // the bytes that lead on

 private:
  std::vector<State> states_;
};

// Texts in UTF-8 up to and including the first occurrence of one of `triggers` (each valid UTF-8, not empty).
std::shared_ptr<const Automaton> text_through_automaton(std::span<const std::string> triggers);
// Texts in UTF-8 in which none of them occurs.
std::shared_ptr<const Automaton> text_without_automaton(std::span<const std::string> triggers);

}  // namespace tidemill::grammar
