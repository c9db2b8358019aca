#include "grammar/minimal_automaton.hpp"

#include <map>
#include <span>
#include <utility>

namespace tidemill::grammar {
namespace {

// Which states lead to a state by a class.
class Predecessors {
 public:
  explicit Predecessors(const ClassAutomaton& table) : classes_(table.classes), begin_(table.next.size() + 1, 0) {
    const auto slot = [&](size_t i) { return table.next[i] * classes_ + i % classes_; };
    for (size_t i = 0; i < table.next.size(); ++i)
      if (table.next[i] != Automaton::none) ++begin_[slot(i) + 1];
    for (size_t i = 1; i < begin_.size(); ++i)
      begin_[i] += begin_[i - 1];
    states_.resize(begin_.back());
    std::vector<uint32_t> at(begin_.begin(), begin_.end() - 1);
    for (size_t i = 0; i < table.next.size(); ++i)
      if (table.next[i] != Automaton::none) states_[at[slot(i)]++] = static_cast<uint32_t>(i / classes_);
  }

  std::span<const uint32_t> by(uint32_t state, size_t byte_class) const {
    return of_slots(state * classes_ + byte_class, 1);
  }
  std::span<const uint32_t> by_any(uint32_t state) const { return of_slots(state * classes_, classes_); }

 private:
  std::span<const uint32_t> of_slots(size_t first, size_t count) const {
    return std::span(states_).subspan(begin_[first], begin_[first + count] - begin_[first]);
  }

  size_t classes_;
  std::vector<uint32_t> begin_;   // [states][classes] and the end
  std::vector<uint32_t> states_;  // by where they lead
};

// Which states reach an end.
std::vector<uint8_t> living(const ClassAutomaton& table, const Predecessors& before) {
  std::vector<uint8_t> lives = table.accepting;
  std::vector<uint32_t> work;
  for (uint32_t state = 0; state < lives.size(); ++state)
    if (lives[state] != 0) work.push_back(state);
  while (!work.empty()) {
    const uint32_t state = work.back();
    work.pop_back();
    for (const uint32_t earlier : before.by_any(state)) {
      if (lives[earlier] != 0) continue;
      lives[earlier] = 1;
      work.push_back(earlier);
    }
  }
  return lives;
}

// States in blocks. Each block is a piece of one list, at whose front its marked states stand.
class Blocks {
 public:
  explicit Blocks(size_t states) : place_(states), block_of_(states) {}

  void add(const std::vector<uint32_t>& members) {
    if (members.empty()) return;
    const auto begin = static_cast<uint32_t>(states_.size());
    for (const uint32_t state : members) {
      place_[state] = static_cast<uint32_t>(states_.size());
      block_of_[state] = static_cast<uint32_t>(blocks_.size());
      states_.push_back(state);
    }
    blocks_.push_back({begin, static_cast<uint32_t>(states_.size())});
  }

  size_t count() const { return blocks_.size(); }
  uint32_t block_of(uint32_t state) const { return block_of_[state]; }
  std::span<const uint32_t> members(uint32_t block) const {
    return std::span(states_).subspan(blocks_[block].begin, blocks_[block].end - blocks_[block].begin);
  }

  void mark(uint32_t state) {
    Block& block = blocks_[block_of_[state]];
    const uint32_t front = block.begin + block.marked;
    if (place_[state] < front) return;
    if (block.marked++ == 0) touched_.push_back(block_of_[state]);
    const uint32_t other = states_[front];
    std::swap(states_[front], states_[place_[state]]);
    std::swap(place_[other], place_[state]);
  }

  // Parts what is marked in a block from the rest, if there is any, as a new block; takes all marks away. Calls
  // `parted(old, made)`.
  template <typename Parted>
  void part(const Parted& parted) {
    for (const uint32_t old : std::exchange(touched_, {})) {
      const uint32_t marked = std::exchange(blocks_[old].marked, 0);
      if (marked == blocks_[old].end - blocks_[old].begin) continue;
      const auto made = static_cast<uint32_t>(blocks_.size());
      const uint32_t begin = blocks_[old].begin;
      blocks_[old].begin += marked;
      blocks_.push_back({begin, begin + marked});
      for (const uint32_t state : members(made))
        block_of_[state] = made;
      parted(old, made);
    }
  }

 private:
  struct Block {
    uint32_t begin;
    uint32_t end;
    uint32_t marked = 0;
  };

  std::vector<uint32_t> states_;    // block by block
  std::vector<uint32_t> place_;     // [states] where in states_
  std::vector<uint32_t> block_of_;  // [states]
  std::vector<Block> blocks_;
  std::vector<uint32_t> touched_;  // with marks
};

// Equal states, block by block. States that do not live are in none. When it is stopped, not all that differ are apart.
Blocks equal_states(const ClassAutomaton& table, const Predecessors& before, const std::vector<uint8_t>& lives,
                    const std::stop_token& stop) {
  std::map<std::pair<uint8_t, uint8_t>, std::vector<uint32_t>> kinds;  // those that accept are one
  for (uint32_t state = 0; state < lives.size(); ++state) {
    const uint8_t kind = table.kind.empty() ? uint8_t{0} : table.kind[state];
    if (lives[state] != 0) kinds[{kind, table.accepting[state]}].push_back(state);
  }
  Blocks blocks(lives.size());
  for (const auto& [kind, members] : kinds)
    blocks.add(members);
  std::vector<uint32_t> waiting;  // blocks that others may yet have to be parted by
  std::vector<uint8_t> is_waiting(blocks.count(), 1);
  for (uint32_t block = 0; block < blocks.count(); ++block)
    waiting.push_back(block);
  const auto parted = [&](uint32_t old, uint32_t made) {
    // Of the two halves of what the others agree on, one says what the other does.
    const bool is_smaller = blocks.members(made).size() <= blocks.members(old).size();
    const uint32_t added = is_waiting[old] != 0 || is_smaller ? made : old;
    is_waiting.push_back(0);
    is_waiting[added] = 1;
    waiting.push_back(added);
  };
  while (!waiting.empty() && !stop.stop_requested()) {
    const uint32_t by = waiting.back();
    waiting.pop_back();
    is_waiting[by] = 0;
    const std::vector<uint32_t> members(blocks.members(by).begin(), blocks.members(by).end());
    for (size_t byte_class = 0; byte_class < table.classes; ++byte_class) {
      for (const uint32_t state : members)
        for (const uint32_t earlier : before.by(state, byte_class))
          blocks.mark(earlier);
      blocks.part(parted);
    }
  }
  return blocks;
}

}  // namespace

std::shared_ptr<const Automaton> minimal_automaton(const ClassAutomaton& table,
                                                   const std::array<uint8_t, 256>& class_of,
                                                   const std::stop_token& stop) {
  const Predecessors before(table);
  const std::vector<uint8_t> lives = living(table, before);
  if (lives.empty() || lives[0] == 0) return Automaton::trimmed({});
  const Blocks blocks = equal_states(table, before, lives, stop);
  if (stop.stop_requested()) return nullptr;
  // The start comes first.
  const uint32_t start = blocks.block_of(0);
  const auto number = [start](uint32_t block) { return block == start ? 0 : block == 0 ? start : block; };
  std::vector<Automaton::State> states(blocks.count());
  for (uint32_t block = 0; block < blocks.count(); ++block) {
    const uint32_t any = blocks.members(block).front();
    Automaton::State& state = states[number(block)];
    state.accepting = table.accepting[any] != 0;
    for (size_t byte = 0; byte < 256; ++byte) {
      const uint32_t next = table.next[any * table.classes + class_of[byte]];
      if (next != Automaton::none && lives[next] != 0) state.next[byte] = number(blocks.block_of(next));
    }
  }
  return Automaton::trimmed(states);
}

}  // namespace tidemill::grammar
