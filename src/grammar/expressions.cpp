#include "grammar/expressions.hpp"

#include <algorithm>

#include "grammar/counted_automaton.hpp"

namespace tidemill::grammar {

namespace {

constexpr uint32_t kSaturated = uint32_t{1} << 30;

uint32_t saturating_sum(uint32_t left, uint32_t right) {
  return std::min(left + right, kSaturated);  // neither is over 2^30
}

uint32_t mix(uint32_t hash, uint32_t value) {
  const uint64_t product = (uint64_t{hash} ^ value) * 0x9E3779B97F4A7C15ULL;
  return static_cast<uint32_t>(product >> 32) ^ static_cast<uint32_t>(product);
}

}  // namespace

Expressions::Expressions() : slots_(1024, 0) {
  intern({.kind = NodeKind::nothing});
  intern({.kind = NodeKind::empty, .nullable = true});
}

size_t Expressions::memory() const {
  return nodes_.capacity() * (sizeof(Node) + sizeof(ByteSet)) + (slots_.capacity() + members_.capacity()) * 4 +
         sets_.size() * 96 + text_.size() * 2;
}

size_t Expressions::automata_memory() const {
  size_t bytes = 0;
  for (const auto& automaton : automata_)
    bytes += automaton->memory();
  for (const auto& counted : counted_)
    bytes += counted->memory();
  return bytes;
}

std::string_view Expressions::text_of(NodeIndex literal) const {
  return std::string_view(text_).substr(nodes_[literal].a, nodes_[literal].b);
}

uint32_t Expressions::hash_of(const Node& node) const {
  uint32_t hash = mix(0x51ED270B, static_cast<uint32_t>(node.kind));
  if (node.kind == NodeKind::choice) {
    for (const NodeIndex member : members(node))
      hash = mix(hash, member);
    return hash;
  }
  return mix(mix(mix(hash, node.a), node.b), node.c);
}

bool Expressions::same(const Node& left, const Node& right) const {
  if (left.kind != right.kind || left.b != right.b) return false;
  if (left.kind != NodeKind::choice) return left.a == right.a && left.c == right.c;
  return std::equal(members(left).begin(), members(left).end(), members(right).begin());
}

NodeIndex Expressions::intern(Node node) {
  node.hash = hash_of(node);
  const size_t mask = slots_.size() - 1;
  size_t slot = node.hash & mask;
  for (; slots_[slot] != 0; slot = (slot + 1) & mask) {
    const NodeIndex found = slots_[slot] - 1;
    if (nodes_[found].hash == node.hash && same(nodes_[found], node)) return found;
  }
  ByteSet first;
  complete(node, first);
  const auto index = static_cast<NodeIndex>(nodes_.size());
  slots_[slot] = index + 1;
  nodes_.push_back(node);
  firsts_.push_back(first);
  if (nodes_.size() * 2 > slots_.size()) grow_slots();
  return index;
}

void Expressions::grow_slots() {
  slots_.assign(slots_.size() * 2, 0);
  const size_t mask = slots_.size() - 1;
  for (NodeIndex i = 0; i < nodes_.size(); ++i) {
    size_t slot = nodes_[i].hash & mask;
    while (slots_[slot] != 0)
      slot = (slot + 1) & mask;
    slots_[slot] = i + 1;
  }
}

void Expressions::complete(Node& node, ByteSet& first) const {
  switch (node.kind) {
    case NodeKind::nothing:
    case NodeKind::empty:
      break;
    case NodeKind::bytes:
      first = sets_[node.a];
      break;
    case NodeKind::literal:
      first.set(static_cast<uint8_t>(text_[node.a]));
      break;
    case NodeKind::special:
      node.special_first = node.irregular = true;
      break;
    case NodeKind::sequence:
      complete_sequence(node, first);
      break;
    case NodeKind::choice:
      complete_choice(node, first);
      break;
    case NodeKind::repeat: {
      const Node& part = nodes_[node.a];
      node.nullable = node.b == 0 || part.nullable;
      node.special_first = part.special_first;
      node.irregular = part.irregular;
      node.weight = saturating_sum(1, weight_of(node.a));
      node.depth = saturating_sum(1, part.depth);
      first = firsts_[node.a];
      break;
    }
    case NodeKind::both:
      node.irregular = nodes_[node.a].irregular || nodes_[node.b].irregular;
      node.weight = saturating_sum(weight_of(node.a), weight_of(node.b));
      node.depth = saturating_sum(1, std::max(nodes_[node.a].depth, nodes_[node.b].depth));
      break;
    case NodeKind::automaton:
      node.nullable = automata_[node.a]->accepts(node.b);
      first = automata_[node.a]->first(node.b);
      break;
    case NodeKind::counted:
      node.nullable = counted_[node.a]->accepts(node.b, node.c);
      first = counted_[node.a]->first(node.b, node.c);
      break;
    case NodeKind::use: {
      const RuleFacts& facts = rules_[node.a];
      node.nullable = facts.nullable;
      node.special_first = facts.special_first;
      node.irregular = true;
      node.depth = saturating_sum(1, facts.depth);
      first = facts.first;
      break;
    }
  }
}

void Expressions::complete_sequence(Node& node, ByteSet& first) const {
  const Node& head = nodes_[node.a];
  const Node& tail = nodes_[node.b];
  node.nullable = head.nullable && tail.nullable;
  node.special_first = head.special_first || (head.nullable && tail.special_first);
  node.irregular = head.irregular || tail.irregular;
  node.weight = saturating_sum(1, saturating_sum(weight_of(node.a), weight_of(node.b)));
  node.depth = saturating_sum(1, head.depth);
  first = firsts_[node.a];
  if (!head.nullable) return;
  // The derivative walks along tails that are sequences, and recurses into others.
  const uint32_t behind = tail.kind == NodeKind::sequence ? tail.depth : saturating_sum(1, tail.depth);
  node.depth = std::max(node.depth, behind);
  first |= firsts_[node.b];
}

void Expressions::complete_choice(Node& node, ByteSet& first) const {
  for (const NodeIndex member : members(node)) {
    const Node& part = nodes_[member];
    node.nullable = node.nullable || part.nullable;
    node.special_first = node.special_first || part.special_first;
    node.irregular = node.irregular || part.irregular;
    node.weight = saturating_sum(node.weight, weight_of(member));
    node.depth = std::max(node.depth, part.depth);
    first |= firsts_[member];
  }
  node.depth = saturating_sum(1, node.depth);
}

NodeIndex Expressions::bytes(const ByteSet& set) {
  if (set.none()) return nothing;
  const auto [found, is_new] = set_numbers_.try_emplace(set, static_cast<uint32_t>(sets_.size()));
  if (is_new) sets_.push_back(set);
  return intern({.kind = NodeKind::bytes, .a = found->second});
}

NodeIndex Expressions::byte(uint8_t value) {
  if (single_[value] == 0) single_[value] = bytes(ByteSet().set(value));
  return single_[value];
}

NodeIndex Expressions::literal(std::string_view text) {
  if (text.empty()) return empty;
  if (text.size() == 1) return byte(static_cast<uint8_t>(text[0]));
  const auto [found, is_new] = text_offsets_.try_emplace(std::string(text), static_cast<uint32_t>(text_.size()));
  if (is_new) text_ += text;
  return intern({.kind = NodeKind::literal, .a = found->second, .b = static_cast<uint32_t>(text.size())});
}

NodeIndex Expressions::literal_tail(NodeIndex literal) {
  const Node node = nodes_[literal];
  if (node.b == 2) return byte(static_cast<uint8_t>(text_[node.a + 1]));
  return intern({.kind = NodeKind::literal, .a = node.a + 1, .b = node.b - 1});
}

NodeIndex Expressions::special(std::string_view name) {
  if (name.empty()) return empty;
  const auto [found, is_new] = name_numbers_.try_emplace(std::string(name), static_cast<uint32_t>(names_.size()));
  if (is_new) names_.emplace_back(name);
  return intern({.kind = NodeKind::special, .a = found->second});
}

NodeIndex Expressions::sequence(NodeIndex head, NodeIndex tail) {
  if (head == nothing || tail == nothing) return nothing;
  if (head == empty) return tail;
  if (tail == empty) return head;
  // Sequences lean to the right, so that a stack of what is still to come grows by a node per rule entered. A frozen
  // one stays whole as a head: taking it apart would copy it.
  std::vector<NodeIndex> fronts;
  while (head >= frozen_ && nodes_[head].kind == NodeKind::sequence) {
    fronts.push_back(nodes_[head].a);
    head = nodes_[head].b;
  }
  NodeIndex result = intern({.kind = NodeKind::sequence, .a = head, .b = tail});
  for (; !fronts.empty(); fronts.pop_back())
    result = intern({.kind = NodeKind::sequence, .a = fronts.back(), .b = result});
  return result;
}

NodeIndex Expressions::repeat(NodeIndex part, uint32_t least, uint32_t most) {
  if (most == 0 || part == empty) return empty;
  if (part == nothing) return least == 0 ? empty : nothing;
  if (least == 1 && most == 1) return part;
  const Node& inner = nodes_[part];
  if (inner.nullable) least = 0;
  if (inner.kind == NodeKind::repeat && inner.b <= 1 && inner.c == unbounded && least <= 1)
    return repeat(inner.a, inner.b == 0 ? 0 : least, unbounded);
  return intern({.kind = NodeKind::repeat, .a = part, .b = least, .c = most});
}

NodeIndex Expressions::both(NodeIndex left, NodeIndex right) {
  if (left == right) return left;
  if (left == nothing || right == nothing) return nothing;
  return intern({.kind = NodeKind::both, .a = std::min(left, right), .b = std::max(left, right)});
}

NodeIndex Expressions::automaton(const std::shared_ptr<const Automaton>& automaton, uint32_t state) {
  if (automaton->size() == 0) return nothing;
  if (automaton->first(state).none()) return empty;  // trimmed: it accepts
  return intern({.kind = NodeKind::automaton, .a = number_of(automaton), .b = state});
}

uint32_t Expressions::number_of(const std::shared_ptr<const Automaton>& automaton) {
  const auto [found, is_new] = automaton_numbers_.try_emplace(automaton.get(), static_cast<uint32_t>(automata_.size()));
  if (is_new) automata_.push_back(automaton);
  return found->second;
}

NodeIndex Expressions::counted(const std::shared_ptr<const CountedAutomaton>& counted, uint32_t state, uint32_t count) {
  if (!counted->lives(state, count)) return nothing;
  const auto [found, is_new] = counted_numbers_.try_emplace(counted.get(), static_cast<uint32_t>(counted_.size()));
  if (is_new) {
    counted_.push_back(counted);
    number_of(counted->texts());  // which derivatives may come to: copies have the same numbers
  }
  if (!counted->goes_on(state, count)) return empty;
  if (counted->is_free(count)) return automaton(counted->texts(), state);
  return intern({.kind = NodeKind::counted, .a = found->second, .b = state, .c = count});
}

uint32_t Expressions::add_rule() {
  rules_.emplace_back();
  return static_cast<uint32_t>(rules_.size() - 1);
}

NodeIndex Expressions::use(uint32_t rule) {
  return intern({.kind = NodeKind::use, .a = rule});
}

NodeIndex Expressions::import(const Expressions& other, NodeIndex node,
                              std::unordered_map<NodeIndex, NodeIndex>& memory) {
  std::vector<NodeIndex> stack{node};
  const auto known = [&](NodeIndex part) { return part < frozen_ || memory.contains(part); };
  const auto here = [&](NodeIndex part) { return part < frozen_ ? part : memory.at(part); };
  while (!stack.empty()) {
    const NodeIndex top = stack.back();
    if (known(top)) {
      stack.pop_back();
      continue;
    }
    Node copy = other.nodes_[top];
    std::vector<NodeIndex> parts;
    if (copy.kind == NodeKind::choice) parts.assign(other.members(top).begin(), other.members(top).end());
    if (copy.kind == NodeKind::sequence || copy.kind == NodeKind::repeat) parts.push_back(copy.a);
    if (copy.kind == NodeKind::sequence) parts.push_back(copy.b);
    const size_t before = stack.size();
    for (const NodeIndex part : parts)
      if (!known(part)) stack.push_back(part);
    if (stack.size() > before) continue;
    stack.pop_back();
    for (NodeIndex& part : parts)
      part = here(part);
    NodeIndex made = nothing;
    switch (copy.kind) {
      case NodeKind::choice:
        made = intern_choice(std::move(parts));
        break;
      case NodeKind::bytes:
        made = bytes(other.sets_[copy.a]);
        break;
      case NodeKind::sequence:
        copy.b = parts[1];
        [[fallthrough]];
      case NodeKind::repeat:
        copy.a = parts[0];
        [[fallthrough]];
      default:  // literals, automata, rules and names have the same numbers in every copy
        made = intern({.kind = copy.kind, .a = copy.a, .b = copy.b, .c = copy.c});
    }
    memory.emplace(top, made);
  }
  return here(node);
}

}  // namespace tidemill::grammar
