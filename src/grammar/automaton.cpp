#include "grammar/automaton.hpp"

#include <map>
#include <utility>

namespace tidemill::grammar {

std::shared_ptr<const Automaton> Automaton::trimmed(const std::vector<State>& states) {
  const size_t count = states.size();
  std::vector<uint32_t> reached;
  std::vector<uint8_t> is_reached(count, 0);
  std::vector<std::vector<uint32_t>> before(count);
  if (count > 0) {
    reached.push_back(0);
    is_reached[0] = 1;
  }
  for (size_t i = 0; i < reached.size(); ++i) {
    uint32_t last = none;
    for (const uint32_t next : states[reached[i]].next) {
      if (next == none || next == last) continue;
      last = next;
      before[next].push_back(reached[i]);
      if (is_reached[next] == 0) {
        is_reached[next] = 1;
        reached.push_back(next);
      }
    }
  }
  std::vector<uint8_t> lives(count, 0);
  std::vector<uint32_t> work;
  for (const uint32_t state : reached) {
    if (!states[state].accepting) continue;
    lives[state] = 1;
    work.push_back(state);
  }
  while (!work.empty()) {
    const uint32_t state = work.back();
    work.pop_back();
    for (const uint32_t earlier : before[state]) {
      if (lives[earlier] != 0) continue;
      lives[earlier] = 1;
      work.push_back(earlier);
    }
  }
  auto automaton = std::make_shared<Automaton>();
  if (count == 0 || lives[0] == 0) return automaton;
  std::vector<uint32_t> number(count, none);
  uint32_t kept = 0;
  for (const uint32_t state : reached)  // the start is the first of them
    if (lives[state] != 0) number[state] = kept++;
  automaton->states_.resize(kept);
  for (const uint32_t state : reached) {
    if (lives[state] == 0) continue;
    State& copy = automaton->states_[number[state]];
    copy.accepting = states[state].accepting;
    for (size_t byte = 0; byte < 256; ++byte)
      if (const uint32_t next = states[state].next[byte]; next != none) copy.next[byte] = number[next];
  }
  return automaton;
}

std::shared_ptr<const Automaton> Automaton::restricted_to(const ByteSet& kept) const {
  std::vector<State> states = states_;
  for (State& state : states)
    for (size_t byte = 0; byte < 256; ++byte)
      if (!kept[byte]) state.next[byte] = none;
  return trimmed(states);
}

ByteSet Automaton::first(uint32_t state) const {
  ByteSet bytes;
  for (size_t byte = 0; byte < 256; ++byte)
    bytes[byte] = states_[state].next[byte] != none;
  return bytes;
}

namespace {

// Where in a character the text stands (Unicode standard, table 3-7: well-formed byte sequences).
enum Utf8State : uint8_t { kBoundary, kOneMore, kTwoMore, kThreeMore, kAfterE0, kAfterEd, kAfterF0, kAfterF4, kBroken };

Utf8State utf8_step(Utf8State state, unsigned byte) {
  const auto within = [byte](unsigned first, unsigned last) { return first <= byte && byte <= last; };
  switch (state) {
    case kBoundary:
      if (byte < 0x80) return kBoundary;
      if (within(0xC2, 0xDF)) return kOneMore;
      if (byte == 0xE0) return kAfterE0;
      if (byte == 0xED) return kAfterEd;
      if (within(0xE1, 0xEF)) return kTwoMore;
      if (byte == 0xF0) return kAfterF0;
      if (byte == 0xF4) return kAfterF4;
      return within(0xF1, 0xF3) ? kThreeMore : kBroken;
    case kOneMore:
      return within(0x80, 0xBF) ? kBoundary : kBroken;
    case kTwoMore:
      return within(0x80, 0xBF) ? kOneMore : kBroken;
    case kThreeMore:
      return within(0x80, 0xBF) ? kTwoMore : kBroken;
    case kAfterE0:
      return within(0xA0, 0xBF) ? kOneMore : kBroken;
    case kAfterEd:
      return within(0x80, 0x9F) ? kOneMore : kBroken;
    case kAfterF0:
      return within(0x90, 0xBF) ? kTwoMore : kBroken;
    case kAfterF4:
      return within(0x80, 0x8F) ? kTwoMore : kBroken;
    case kBroken:
      return kBroken;
  }
  return kBroken;
}

// Aho and Corasick's automaton: state = the longest end of the text that begins a trigger.
class Search {
 public:
  explicit Search(std::span<const std::string> triggers) {
    nodes_.emplace_back();
    for (const std::string& trigger : triggers)
      insert(trigger);
    link();
  }

  uint32_t next(uint32_t node, size_t byte) const { return nodes_[node].next[byte]; }
  bool found(uint32_t node) const { return nodes_[node].accepting; }

 private:
  void insert(const std::string& trigger) {
    uint32_t at = 0;
    for (const char c : trigger) {
      const auto byte = static_cast<uint8_t>(c);
      if (nodes_[at].next[byte] == Automaton::none) {
        nodes_[at].next[byte] = static_cast<uint32_t>(nodes_.size());
        nodes_.emplace_back();
      }
      at = nodes_[at].next[byte];
    }
    nodes_[at].accepting = true;
  }

  void link() {
    std::vector<uint32_t> order{0};
    std::vector<uint32_t> shorter(nodes_.size(), 0);  // the node of the longest proper end
    for (size_t i = 0; i < order.size(); ++i) {
      const uint32_t node = order[i];
      for (size_t byte = 0; byte < 256; ++byte) {
        uint32_t& next = nodes_[node].next[byte];
        const uint32_t otherwise = node == 0 ? 0 : nodes_[shorter[node]].next[byte];
        if (next == Automaton::none) {
          next = otherwise;
          continue;
        }
        shorter[next] = otherwise;
        nodes_[next].accepting = nodes_[next].accepting || nodes_[otherwise].accepting;
        order.push_back(next);
      }
    }
  }

  std::vector<Automaton::State> nodes_;
};

// `through`: the language ends with the first trigger; otherwise no trigger may come.
std::shared_ptr<const Automaton> search_automaton(std::span<const std::string> triggers, bool through) {
  const Search search(triggers);
  std::vector<Automaton::State> states(1);
  std::vector<std::pair<uint32_t, Utf8State>> meaning{{0, kBoundary}};
  std::map<std::pair<uint32_t, Utf8State>, uint32_t> numbers{{meaning[0], 0}};
  states[0].accepting = !through;
  for (size_t i = 0; i < meaning.size(); ++i) {
    const auto [node, within] = meaning[i];
    if (search.found(node)) continue;
    for (size_t byte = 0; byte < 256; ++byte) {
      const std::pair<uint32_t, Utf8State> key{search.next(node, byte), utf8_step(within, static_cast<unsigned>(byte))};
      if (key.second == kBroken || (!through && search.found(key.first))) continue;
      const auto [found, is_new] = numbers.try_emplace(key, static_cast<uint32_t>(states.size()));
      if (is_new) {
        states.emplace_back();
        states.back().accepting = through ? search.found(key.first) : key.second == kBoundary;
        meaning.push_back(key);
      }
      states[i].next[byte] = found->second;
    }
  }
  return Automaton::trimmed(states);
}

}  // namespace

std::shared_ptr<const Automaton> text_through_automaton(std::span<const std::string> triggers) {
  return search_automaton(triggers, true);
}

std::shared_ptr<const Automaton> text_without_automaton(std::span<const std::string> triggers) {
  return search_automaton(triggers, false);
}

}  // namespace tidemill::grammar
