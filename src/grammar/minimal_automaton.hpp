// The least automaton of a language: by Hopcroft's algorithm ("An n log n algorithm for minimizing states in a finite
// automaton", 1971), on automata that need not have every transition.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stop_token>
#include <vector>

#include "grammar/automaton.hpp"

namespace tidemill::grammar {

// A deterministic automaton over classes of bytes, whose first state is the start and leads to all others.
struct ClassAutomaton {
  size_t classes = 1;
  std::vector<uint32_t> next;      // [states][classes] a state, or Automaton::none
  std::vector<uint8_t> accepting;  // [states]
  std::vector<uint8_t> kind = {};  // [states] those of different kinds stay apart; empty: all are of one
};

// `class_of`: of each byte. What is equal is one state, and what reaches no end is left out, so there are no fewer
// states than the language needs and no more. Time grows as classes times states times their logarithm. Null if it is
// stopped.
std::shared_ptr<const Automaton> minimal_automaton(const ClassAutomaton& table,
                                                   const std::array<uint8_t, 256>& class_of,
                                                   const std::stop_token& stop = {});

}  // namespace tidemill::grammar
