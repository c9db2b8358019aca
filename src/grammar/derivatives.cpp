#include "grammar/derivatives.hpp"

#include <algorithm>
#include <bit>
#include <map>
#include <optional>
#include <utility>

#include "grammar/copy_expressions.hpp"
#include "grammar/counted_automaton.hpp"
#include "grammar/minimal_automaton.hpp"

namespace tidemill::grammar {

ByteClasses::ByteClasses(const Expressions& expressions) {
  size_t classes = 1;
  // Splits every class into its bytes with a mark and those without.
  const auto split = [&](const ByteSet& marked) {
    std::array<int, 256> split_off{};
    std::array<uint8_t, 256> has_others{};
    split_off.fill(-1);
    for (size_t byte = 0; byte < 256; ++byte)
      if (!marked[byte]) has_others[class_of[byte]] = 1;
    for (size_t byte = 0; byte < 256; ++byte) {
      const uint8_t old = class_of[byte];
      if (!marked[byte] || has_others[old] == 0) continue;
      if (split_off[old] < 0) split_off[old] = static_cast<int>(classes++);
      class_of[byte] = static_cast<uint8_t>(split_off[old]);
    }
  };
  for (const ByteSet& set : expressions.sets())
    split(set);
  ByteSet in_text;
  for (const char c : expressions.text())
    in_text.set(static_cast<uint8_t>(c));
  for (size_t byte = 0; byte < 256; ++byte)
    if (in_text[byte]) split(ByteSet().set(byte));
  for (const auto& automaton : expressions.automata())
    for (uint32_t state = 0; state < automaton->size() && classes < 256; ++state) {
      std::map<uint32_t, ByteSet> by_next;
      for (size_t byte = 0; byte < 256; ++byte)
        by_next[automaton->next(state, static_cast<uint8_t>(byte))].set(byte);
      for (const auto& [next, bytes] : by_next)
        split(bytes);
    }
  member.resize(classes);
  for (size_t byte = 256; byte-- > 0;)
    member[class_of[byte]] = static_cast<uint8_t>(byte);
}

Derivatives::Derivatives(Expressions expressions) : expressions_(std::move(expressions)), slots_(1024) {}

Derivatives::Slot& Derivatives::slot_of(uint64_t key) {
  const size_t mask = slots_.size() - 1;
  // The highest bits of the product: every bit of the key moves them, the node's too.
  size_t at = (key * 0x9E3779B97F4A7C15ULL) >> (64U - static_cast<unsigned>(std::countr_zero(slots_.size())));
  while (slots_[at].key != 0 && slots_[at].key != key)
    at = (at + 1) & mask;
  return slots_[at];
}

void Derivatives::remember(uint64_t key, NodeIndex value) {
  if (used_ * 2 > slots_.size()) {
    std::vector<Slot> old(slots_.size() * 2);
    old.swap(slots_);
    for (const Slot& slot : old)
      if (slot.key != 0) slot_of(slot.key) = slot;
  }
  slot_of(key) = {key, value};
  ++used_;
}

NodeIndex Derivatives::derive(NodeIndex node, uint32_t symbol) {
  if (!may_begin(node, symbol)) return Expressions::nothing;
  switch (expressions_.at(node).kind) {
    case NodeKind::sequence:
    case NodeKind::choice:
    case NodeKind::repeat: {
      // Both are at least 1 here: node 0 begins with nothing.
      const uint64_t key = (uint64_t{node} << 32U) | symbol;
      if (const Slot& slot = slot_of(key); slot.key != 0) return slot.value;
      const NodeIndex value = compute(node, symbol);
      remember(key, value);
      return value;
    }
    default:
      return compute(node, symbol);
  }
}

NodeIndex Derivatives::compute(NodeIndex node, uint32_t symbol) {
  const Node copy = expressions_.at(node);  // the arena moves when it grows
  switch (copy.kind) {
    case NodeKind::nothing:
    case NodeKind::empty:
    case NodeKind::both:
      return Expressions::nothing;
    case NodeKind::bytes:
      return Expressions::empty;
    case NodeKind::literal:
      return expressions_.literal_tail(node);
    case NodeKind::special:
      return copy.a + 256 == symbol ? Expressions::empty : Expressions::nothing;
    case NodeKind::use:
      return derive(expressions_.rule(copy.a).body, symbol);
    case NodeKind::automaton: {
      const std::shared_ptr<const Automaton> automaton = expressions_.automata()[copy.a];
      return expressions_.automaton(automaton, automaton->next(copy.b, static_cast<uint8_t>(symbol)));
    }
    case NodeKind::counted: {
      const std::shared_ptr<const CountedAutomaton> counted = expressions_.counted_automata()[copy.a];
      const uint32_t next = counted->texts()->next(copy.b, static_cast<uint8_t>(symbol));
      return expressions_.counted(counted, next, counted->count_behind(copy.b, copy.c));
    }
    case NodeKind::repeat: {
      const NodeIndex part = derive(copy.a, symbol);
      const uint32_t least = copy.b == 0 ? 0 : copy.b - 1;
      const uint32_t most = copy.c == Expressions::unbounded ? copy.c : copy.c - 1;
      return expressions_.sequence(part, expressions_.repeat(copy.a, least, most));
    }
    case NodeKind::sequence:
      return derive_sequence(node, symbol);
    case NodeKind::choice:
      return derive_choice(node, symbol);
  }
  return Expressions::nothing;
}

NodeIndex Derivatives::derive_sequence(NodeIndex node, uint32_t symbol) {
  std::vector<NodeIndex> alternatives;
  while (may_begin(node, symbol)) {
    const Node copy = expressions_.at(node);
    if (copy.kind != NodeKind::sequence) {
      alternatives.push_back(derive(node, symbol));
      break;
    }
    alternatives.push_back(expressions_.sequence(derive(copy.a, symbol), copy.b));
    if (!expressions_.at(copy.a).nullable) break;
    node = copy.b;
  }
  return alternatives.size() == 1 ? alternatives[0] : expressions_.choice(alternatives);
}

NodeIndex Derivatives::derive_choice(NodeIndex node, uint32_t symbol) {
  std::vector<NodeIndex> alternatives;
  const size_t count = expressions_.members(node).size();
  for (size_t i = 0; i < count; ++i) {
    const NodeIndex member = expressions_.members(node)[i];
    if (may_begin(member, symbol)) alternatives.push_back(derive(member, symbol));
  }
  return alternatives.size() == 1 ? alternatives[0] : expressions_.choice(alternatives);
}

namespace {

struct RegularLeaf {
  const Expressions& from;
  Expressions& to;
  ProductBudget budget;  // inner products do not stay
  bool over_limit = false;

  NodeIndex operator()(NodeIndex index) const {
    const Node& node = from.at(index);
    if (node.kind == NodeKind::bytes) return to.bytes(from.set_of(index));
    if (node.kind == NodeKind::literal) return to.literal(from.text_of(index));
    if (node.kind == NodeKind::counted) return to.counted(from.counted_automata()[node.a], node.b, node.c);
    return to.automaton(from.automata()[node.a], node.b);
  }
  // At once: derivatives know no others.
  NodeIndex both(NodeIndex left, NodeIndex right) {
    if (over_limit) return Expressions::nothing;
    const auto product = intersection(to, left, right, budget);
    over_limit = product == nullptr;
    if (over_limit) return Expressions::nothing;
    return to.automaton(product, Automaton::start);
  }
};

using NodePair = std::pair<NodeIndex, NodeIndex>;

// What is looked for: all pairs of states, also with those apart in which the second is as it was at the start; or
// whether none accepts, which the first that does decides.
enum class Search : uint8_t { whole, characters, emptiness };

// Goes through the pairs of states that `start` leads to. Whether they were `max_pairs` at most, it was not stopped,
// and what was looked for may still be so.
bool explore(Derivatives& derivatives, const ByteClasses& classes, NodePair start, bool within, Search search,
             size_t max_pairs, const std::stop_token& stop, ClassAutomaton& table) {
  const Expressions& expressions = derivatives.expressions();
  std::vector<NodePair> meaning;
  std::map<NodePair, uint32_t> numbers;
  size_t weight = 0;
  bool decided = false;
  const auto number_of = [&](const NodePair& pair) {
    const auto [found, is_new] = numbers.try_emplace(pair, static_cast<uint32_t>(meaning.size()));
    if (is_new) {
      const auto& [one, other] = pair;
      const bool accepts = expressions.at(one).nullable && expressions.at(other).nullable == within;
      table.accepting.push_back(accepts ? 1 : 0);
      if (search == Search::characters) table.kind.push_back(other == start.second ? 1 : 0);
      decided = decided || (accepts && search == Search::emptiness);
      meaning.push_back(pair);
      weight += expressions.at(one).weight + expressions.at(other).weight;
    }
    return found->second;
  };
  number_of(start);
  for (size_t i = 0; i < meaning.size(); ++i) {
    if (meaning.size() > max_pairs || weight > max_pairs * 16 || decided || stop.stop_requested()) return false;
    const auto [one, other] = meaning[i];
    for (const uint8_t byte : classes.member) {
      const bool goes_on = expressions.first(other)[byte];
      if (!expressions.first(one)[byte] || (within && !goes_on)) {
        table.next.push_back(Automaton::none);
        continue;
      }
      const NodeIndex next = derivatives.by_byte(one, byte);
      table.next.push_back(number_of({next, goes_on ? derivatives.by_byte(other, byte) : Expressions::nothing}));
    }
  }
  return true;
}

struct Explored {
  ClassAutomaton table;
  std::array<uint8_t, 256> class_of;
};

// What is of `left` and, as `within` says, of `right` or not. None if it takes more than `max_pairs`, or than are left,
// or is not empty where that is looked for.
std::optional<Explored> explored(const Expressions& source, NodeIndex left, NodeIndex right, bool within, Search search,
                                 size_t max_pairs, ProductBudget& budget) {
  Expressions alone;  // what else is in the source would cost time and split classes of bytes
  RegularLeaf leaf{source, alone, budget};
  CopyExpressions copy(source, alone, leaf);
  const NodeIndex left_start = copy(left);
  const NodePair start{left_start, copy(right)};
  budget.explored = leaf.budget.explored;
  if (leaf.over_limit) return std::nullopt;
  const ByteClasses classes(alone);
  alone.freeze();
  Derivatives derivatives(std::move(alone));
  Explored all;
  all.table.classes = classes.member.size();
  all.class_of = classes.class_of;
  const bool whole = explore(derivatives, classes, start, within, search, std::min(max_pairs, budget.explored),
                             budget.stop, all.table);
  budget.explored -= std::min(budget.explored, all.table.accepting.size());
  return whole ? std::optional(std::move(all)) : std::nullopt;
}

std::shared_ptr<const Automaton> product(const Expressions& source, NodeIndex left, NodeIndex right, bool within,
                                         ProductBudget& budget) {
  const std::optional<Explored> all = explored(source, left, right, within, Search::whole, budget.states, budget);
  if (!all) return nullptr;
  auto made = minimal_automaton(all->table, all->class_of, budget.stop);
  if (made == nullptr) return nullptr;
  budget.states -= made->size();
  return made;
}

}  // namespace

double ProductBudget::share_spent(size_t max_states) const {
  const auto spent = [](size_t left, size_t most) {
    return most == 0 ? 0.0 : 1.0 - static_cast<double>(left) / static_cast<double>(most);
  };
  return std::max(spent(states, max_states), spent(explored, max_states * explored_per_state));
}

std::shared_ptr<const Automaton> intersection(const Expressions& source, NodeIndex left, NodeIndex right,
                                              ProductBudget& budget) {
  return product(source, left, right, true, budget);
}

std::shared_ptr<const Automaton> difference(const Expressions& source, NodeIndex left, NodeIndex right,
                                            ProductBudget& budget) {
  return product(source, left, right, false, budget);
}

std::optional<CharacterAutomaton> character_automaton(const Expressions& source, NodeIndex texts, NodeIndex characters,
                                                      ProductBudget& budget) {
  const auto all = explored(source, texts, characters, true, Search::characters, budget.states, budget);
  if (!all) return std::nullopt;
  CharacterAutomaton made{minimal_automaton(all->table, all->class_of, budget.stop), {}};
  if (made.texts == nullptr) return std::nullopt;
  budget.states -= made.texts->size();
  // Each state is of the kind of all that it was made of.
  std::vector<uint32_t> made_of(made.texts->size(), Automaton::none);
  std::vector<uint32_t> states;
  const auto add = [&](uint32_t state, uint32_t from) {
    if (made_of[state] != Automaton::none) return;
    made_of[state] = from;
    states.push_back(state);
  };
  if (!made_of.empty()) add(Automaton::start, 0);
  for (size_t i = 0; i < states.size(); ++i) {
    for (size_t byte = 0; byte < 256; ++byte) {
      const uint32_t next = made.texts->next(states[i], static_cast<uint8_t>(byte));
      if (next != Automaton::none)
        add(next, all->table.next[made_of[states[i]] * all->table.classes + all->class_of[byte]]);
    }
  }
  for (const uint32_t from : made_of)
    made.between.push_back(all->table.kind[from]);
  return made;
}

bool are_apart(const Expressions& source, NodeIndex left, NodeIndex right, ProductBudget& budget) {
  constexpr size_t max_pairs = 1'000;
  return explored(source, left, right, true, Search::emptiness, max_pairs, budget).has_value();
}

}  // namespace tidemill::grammar
