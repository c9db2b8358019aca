// Least automata against what each state accepts, over all short strings.
#include "grammar/minimal_automaton.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <random>
#include <set>
#include <stop_token>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace tidemill::grammar {
namespace {

constexpr size_t most_states = 7;
constexpr size_t longest = 7;  // tells any two states of so many apart, also one from nothing

const std::vector<std::string>& all_strings() {
  static const auto all = [] {
    std::vector<std::string> strings{""};
    for (size_t i = 0; strings[i].size() < longest; ++i)
      for (const char letter : {'a', 'b'})
        strings.push_back(strings[i] + letter);
    return strings;
  }();
  return all;
}

// 'a' and 'b' are classes of their own; nothing leads on by any other byte.
std::array<uint8_t, 256> classes_of_bytes() {
  std::array<uint8_t, 256> class_of{};
  class_of.fill(2);
  class_of['a'] = 0;
  class_of['b'] = 1;
  return class_of;
}

ClassAutomaton random_table(std::mt19937& random) {
  ClassAutomaton table;
  table.classes = 3;
  const size_t states = 1 + random() % most_states;
  for (size_t state = 0; state < states; ++state) {
    for (int letter = 0; letter < 2; ++letter)
      table.next.push_back(random() % 4 == 0 ? Automaton::none : static_cast<uint32_t>(random() % states));
    table.next.push_back(Automaton::none);
    table.accepting.push_back(random() % 3 == 0 ? 1 : 0);
  }
  return table;
}

// Which of all_strings() are accepted from a state on.
std::vector<bool> accepted(const ClassAutomaton& table, uint32_t from) {
  std::vector<bool> out;
  for (const std::string& text : all_strings()) {
    uint32_t state = from;
    for (const char letter : text)
      if (state != Automaton::none) state = table.next[state * table.classes + (letter == 'a' ? 0 : 1)];
    out.push_back(state != Automaton::none && table.accepting[state] != 0);
  }
  return out;
}

std::vector<bool> accepted(const Automaton& automaton) {
  std::vector<bool> out;
  for (const std::string& text : all_strings()) {
    uint32_t state = automaton.size() == 0 ? Automaton::none : Automaton::start;
    for (const char letter : text)
      if (state != Automaton::none) state = automaton.next(state, static_cast<uint8_t>(letter));
    out.push_back(state != Automaton::none && automaton.accepts(state));
  }
  return out;
}

// How many languages, but for the empty one, the states are of that the start leads to.
size_t languages(const ClassAutomaton& table) {
  std::set<std::vector<bool>> found;
  std::vector<uint32_t> reached{0};
  for (size_t i = 0; i < reached.size(); ++i) {
    const std::vector<bool> language = accepted(table, reached[i]);
    if (language != std::vector<bool>(language.size())) found.insert(language);
    for (size_t letter = 0; letter < 2; ++letter) {
      const uint32_t next = table.next[reached[i] * table.classes + letter];
      if (next != Automaton::none && std::find(reached.begin(), reached.end(), next) == reached.end())
        reached.push_back(next);
    }
  }
  return found.size();
}

TEST(MinimalAutomaton, HasAStateForEachLanguageAndAcceptsTheSame) {
  std::mt19937 random(5);
  for (int i = 0; i < 2'000; ++i) {
    SCOPED_TRACE(i);
    const ClassAutomaton table = random_table(random);
    const auto automaton = minimal_automaton(table, classes_of_bytes());
    // Where nothing is accepted there is no state, whatever leads round.
    const bool empty = accepted(table, 0) == std::vector<bool>(all_strings().size());
    ASSERT_EQ(automaton->size(), empty ? 0 : languages(table));
    ASSERT_EQ(accepted(*automaton), accepted(table, 0));
    if (!empty) {
      EXPECT_EQ(automaton->next(Automaton::start, 'c'), Automaton::none);
    }
  }
}

TEST(MinimalAutomaton, IsNoneWhenStopped) {
  std::mt19937 random(6);
  std::stop_source stop;
  ClassAutomaton table = random_table(random);
  table.accepting[0] = 1;  // so that there is something to find
  EXPECT_NE(minimal_automaton(table, classes_of_bytes(), stop.get_token()), nullptr);
  (void)stop.request_stop();
  EXPECT_EQ(minimal_automaton(table, classes_of_bytes(), stop.get_token()), nullptr);
}

TEST(MinimalAutomaton, OfALongCount) {
  // "a" a thousand times and more, each number a state of its own, in two copies that a "b" at the beginning chooses.
  constexpr uint32_t most = 1'000;
  ClassAutomaton table;
  table.classes = 3;
  for (uint32_t copy = 0; copy < 2; ++copy) {
    for (uint32_t count = 0; count <= most; ++count) {
      const uint32_t state = copy * (most + 1) + count;
      table.next.push_back(count == most ? state : state + 1);
      table.next.push_back(state == 0 ? most + 1 : Automaton::none);
      table.next.push_back(Automaton::none);
      table.accepting.push_back(count == most ? 1 : 0);
    }
  }
  const auto automaton = minimal_automaton(table, classes_of_bytes());
  EXPECT_EQ(automaton->size(), most + 2);  // the start alone goes on by "b"
  uint32_t state = automaton->next(Automaton::start, 'b');
  for (uint32_t count = 0; count < most; ++count) {
    ASSERT_NE(state, Automaton::none);
    ASSERT_FALSE(automaton->accepts(state));
    state = automaton->next(state, 'a');
  }
  EXPECT_TRUE(automaton->accepts(state));
  EXPECT_EQ(automaton->next(state, 'a'), state);
}

}  // namespace
}  // namespace tidemill::grammar
