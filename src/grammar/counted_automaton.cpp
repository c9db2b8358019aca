#include "grammar/counted_automaton.hpp"

#include <algorithm>
#include <map>
#include <utility>

namespace tidemill::grammar {

namespace {

constexpr size_t steps_per_pair = 500;          // of finding lengths, which count as one pair of states looked at
constexpr size_t most_words = size_t{1} << 20;  // of the rows of one automaton

}  // namespace

CountedAutomaton::CountedAutomaton(CharacterAutomaton characters, Bounds bounds)
    : characters_(std::move(characters)), bounds_(bounds) {
  const Automaton& automaton = *texts();
  for (uint32_t state = 0; state < automaton.size(); ++state) {
    next_begin_.push_back(static_cast<uint32_t>(next_.size()));
    for (size_t byte = 0; byte < 256; ++byte)
      if (const uint32_t next = automaton.next(state, static_cast<uint8_t>(byte)); next != Automaton::none)
        next_.push_back(next);
    const auto begin = next_.begin() + next_begin_.back();
    std::sort(begin, next_.end());
    next_.erase(std::unique(begin, next_.end()), next_.end());
  }
  next_begin_.push_back(static_cast<uint32_t>(next_.size()));
}

std::shared_ptr<const CountedAutomaton> CountedAutomaton::create(CharacterAutomaton characters, Bounds bounds,
                                                                 ProductBudget& budget) {
  std::shared_ptr<CountedAutomaton> made(new CountedAutomaton(std::move(characters), bounds));
  made->find_nearest();
  if (bounds.least > 0 && !made->find_lengths(budget)) return nullptr;
  return made;
}

std::shared_ptr<const CountedAutomaton> CountedAutomaton::restricted_to(const ByteSet& kept,
                                                                        ProductBudget& budget) const {
  CharacterAutomaton left{texts()->restricted_to(kept), {}};
  left.between.resize(left.texts->size(), 0);
  // Where a state of what is left is in the whole.
  std::vector<std::pair<uint32_t, uint32_t>> pairs;
  std::vector<uint8_t> is_known(left.texts->size(), 0);
  const auto add = [&](uint32_t state, uint32_t whole) {
    if (is_known[state] != 0) return;
    is_known[state] = 1;
    left.between[state] = characters_.between[whole];
    pairs.emplace_back(state, whole);
  };
  if (!is_known.empty()) add(Automaton::start, Automaton::start);
  for (size_t i = 0; i < pairs.size(); ++i) {
    const auto [state, whole] = pairs[i];
    for (size_t byte = 0; byte < 256; ++byte) {
      const uint32_t next = left.texts->next(state, static_cast<uint8_t>(byte));
      if (next != Automaton::none) add(next, texts()->next(whole, static_cast<uint8_t>(byte)));
    }
  }
  return create(std::move(left), bounds_, budget);
}

size_t CountedAutomaton::memory() const {
  return (next_begin_.size() + next_.size() + nearest_.size()) * 4 + rows_.size() * 8 + characters_.between.size() +
         sizeof(*this);
}

// From the ends backwards, where a step out of a state between characters is one character and any other none.
void CountedAutomaton::find_nearest() {
  const size_t count = texts()->size();
  nearest_.assign(count, UINT32_MAX);
  std::vector<std::vector<uint32_t>> before(count);
  for (uint32_t state = 0; state < count; ++state)
    for (uint32_t i = next_begin_[state]; i < next_begin_[state + 1]; ++i)
      before[next_[i]].push_back(state);
  std::vector<uint32_t> level;
  for (uint32_t state = 0; state < count; ++state)
    if (texts()->accepts(state)) level.push_back(state);
  for (uint32_t characters = 0; !level.empty(); ++characters) {
    std::vector<uint32_t> further;
    for (size_t i = 0; i < level.size(); ++i) {
      const uint32_t state = level[i];
      if (nearest_[state] != UINT32_MAX) continue;
      nearest_[state] = farthest_ = characters;
      for (const uint32_t earlier : before[state])
        (characters_.between[earlier] != 0 ? further : level).push_back(earlier);
    }
    level = std::move(further);
  }
}

bool CountedAutomaton::find_lengths(ProductBudget& budget) {
  const auto count = static_cast<uint32_t>(texts()->size());
  // A character's states in front of those that its end leads to: the last ones first.
  std::vector<uint32_t> within;
  std::vector<uint8_t> is_done(count, 0);
  const auto settle = [&](uint32_t root) {
    std::vector<uint32_t> stack{root};
    while (!stack.empty()) {
      const uint32_t state = stack.back();
      const size_t before = stack.size();
      if (is_done[state] == 0 && characters_.between[state] == 0) {
        for (uint32_t i = next_begin_[state]; i < next_begin_[state + 1]; ++i)
          if (is_done[next_[i]] == 0 && characters_.between[next_[i]] == 0) stack.push_back(next_[i]);
      }
      if (stack.size() > before) continue;
      stack.pop_back();
      if (is_done[state] == 0 && characters_.between[state] == 0) within.push_back(state);
      is_done[state] = 1;
    }
  };
  for (uint32_t state = 0; state < count; ++state)
    settle(state);
  words_ = (count + 63) / 64;
  std::map<std::vector<uint64_t>, size_t> seen;
  size_t steps = 0;
  std::vector<uint64_t> row;
  for (size_t characters = 0; characters <= bounds_.most; ++characters) {
    steps += next_.size() + words_;
    if (steps / steps_per_pair > budget.explored || rows_.size() + words_ > most_words || budget.stop.stop_requested())
      return false;
    row.assign(words_, 0);
    const uint64_t* before = characters == 0 ? nullptr : &rows_[(characters - 1) * words_];
    const auto leads_to = [&](uint32_t state, const uint64_t* set) {
      for (uint32_t i = next_begin_[state]; i < next_begin_[state + 1]; ++i)
        if (((set[next_[i] / 64] >> (next_[i] % 64)) & 1U) != 0) return true;
      return false;
    };
    for (uint32_t state = 0; state < count; ++state) {
      if (characters_.between[state] == 0) continue;
      const bool can = before == nullptr ? texts()->accepts(state) : leads_to(state, before);
      if (can) row[state / 64] |= uint64_t{1} << (state % 64);
    }
    for (const uint32_t state : within)
      if (leads_to(state, row.data())) row[state / 64] |= uint64_t{1} << (state % 64);
    const auto [found, is_new] = seen.try_emplace(row, characters);
    if (!is_new) {
      settled_ = found->second;
      period_ = characters - settled_;
      break;
    }
    rows_.insert(rows_.end(), row.begin(), row.end());
  }
  budget.explored -= std::min(budget.explored, steps / steps_per_pair);
  return true;
}

bool CountedAutomaton::can_take(uint32_t state, size_t characters) const {
  if (period_ > 0 && characters >= settled_) characters = settled_ + (characters - settled_) % period_;
  return ((rows_[characters * words_ + state / 64] >> (state % 64)) & 1U) != 0;
}

bool CountedAutomaton::lives(uint32_t state, uint32_t count) const {
  if (state >= nearest_.size() || count > bounds_.most) return false;
  const uint64_t most = bounds_.most == unbounded ? UINT64_MAX : bounds_.most - count;
  if (nearest_[state] > most) return false;
  const uint64_t least = count < bounds_.least ? bounds_.least - count : 0;
  if (least <= nearest_[state]) return true;
  const uint64_t last = std::min<uint64_t>(most, least + rows_.size() / words_);
  for (uint64_t characters = least; characters <= last; ++characters)
    if (can_take(state, characters)) return true;
  return false;
}

ByteSet CountedAutomaton::first(uint32_t state, uint32_t count) const {
  ByteSet bytes;
  const uint32_t behind = count_behind(state, count);
  uint32_t last = Automaton::none;
  bool last_lives = false;
  for (size_t byte = 0; byte < 256; ++byte) {
    const uint32_t next = texts()->next(state, static_cast<uint8_t>(byte));
    if (next == Automaton::none) continue;
    if (next != last) last_lives = lives(next, behind);
    last = next;
    bytes[byte] = last_lives;
  }
  return bytes;
}

bool CountedAutomaton::goes_on(uint32_t state, uint32_t count) const {
  const uint32_t behind = count_behind(state, count);
  return std::any_of(next_.begin() + next_begin_[state], next_.begin() + next_begin_[state + 1],
                     [&](uint32_t next) { return lives(next, behind); });
}

std::optional<uint32_t> CountedAutomaton::widened(uint32_t count, uint32_t longest) const {
  if (count >= bounds_.least) {
    const bool is_far = bounds_.most == unbounded || bounds_.most - count >= uint64_t{longest} + farthest_;
    return is_far ? std::nullopt : std::optional(count);
  }
  // Which states live depends on what is asked for, from settled_ on only by its place in the period.
  const uint64_t asked = bounds_.least - count;
  const uint64_t enough = uint64_t{longest} + settled_ + 1;
  if (period_ == 0 || asked <= enough) return count;
  return static_cast<uint32_t>(bounds_.least - (enough + (asked - enough) % period_));
}

}  // namespace tidemill::grammar
