// The normal form of choices.
#include <algorithm>

#include "grammar/expressions.hpp"

namespace tidemill::grammar {

namespace {

constexpr int kMaxFactorDepth = 32;        // how far common fronts are followed
constexpr size_t kMaxFactorMembers = 256;  // larger choices keep their backs: looking for a common one would cost more
constexpr uint32_t kMaxBack = 64;          // how far from their fronts members may join

}  // namespace

NodeIndex Expressions::choice(NodeIndex left, NodeIndex right) {
  const std::array<NodeIndex, 2> parts{left, right};
  return choice(parts, 0);
}

NodeIndex Expressions::intern_choice(std::vector<NodeIndex> parts) {
  std::sort(parts.begin(), parts.end());
  parts.erase(std::unique(parts.begin(), parts.end()), parts.end());
  if (parts.empty()) return nothing;
  if (parts.size() == 1) return parts[0];
  const size_t offset = members_.size();
  members_.insert(members_.end(), parts.begin(), parts.end());
  const size_t before = nodes_.size();
  const NodeIndex node =
      intern({.kind = NodeKind::choice, .a = static_cast<uint32_t>(offset), .b = static_cast<uint32_t>(parts.size())});
  if (nodes_.size() == before) members_.resize(offset);
  return node;
}

NodeIndex Expressions::choice(std::span<const NodeIndex> parts, int depth) {
  std::vector<Alternative> alternatives;
  bool has_empty = false;
  const auto add = [&](NodeIndex part) {
    if (part == nothing) return;
    if (part == empty) {
      has_empty = true;
      return;
    }
    const Node& node = nodes_[part];
    if (node.kind == NodeKind::sequence)
      alternatives.push_back({node.a, node.b});
    else
      alternatives.push_back({part, empty});
  };
  for (const NodeIndex part : parts) {
    if (nodes_[part].kind != NodeKind::choice) {
      add(part);
      continue;
    }
    for (const NodeIndex member : members(part))
      add(member);
  }
  std::sort(alternatives.begin(), alternatives.end());
  alternatives.erase(std::unique(alternatives.begin(), alternatives.end()), alternatives.end());
  if (alternatives.size() + (has_empty ? 1 : 0) > 1) {
    merge_repeats(alternatives, has_empty);
    merge_bytes(alternatives);
    if (depth < kMaxFactorDepth) {
      merge_heads(alternatives, depth);
      if (const NodeIndex node = factor_back(alternatives, has_empty, depth); node != nothing) return node;
    }
  }
  std::vector<NodeIndex> members;
  bool nullable = false;
  for (const auto& [head, tail] : alternatives) {
    members.push_back(sequence(head, tail));
    nullable = nullable || nodes_[members.back()].nullable;
  }
  if (has_empty && !nullable) members.push_back(empty);
  return intern_choice(std::move(members));
}

// x{2,3} t and x{4,9} t are x{2,9} t.
void Expressions::merge_repeats(std::vector<Alternative>& alternatives, bool& has_empty) {
  struct Counted {
    NodeIndex part, tail;
    uint32_t least, most;
    auto operator<=>(const Counted&) const = default;
  };
  std::vector<Counted> counted;
  for (const auto& [head, tail] : alternatives)
    if (const Node& node = nodes_[head]; node.kind == NodeKind::repeat)
      counted.push_back({node.a, tail, node.b, node.c});
  if (counted.empty() || (counted.size() == 1 && !has_empty)) return;
  std::erase_if(alternatives, [this](const Alternative& one) { return nodes_[one.head].kind == NodeKind::repeat; });
  std::sort(counted.begin(), counted.end());
  for (size_t i = 0; i < counted.size();) {
    Counted merged = counted[i++];
    for (; i < counted.size() && counted[i].part == merged.part && counted[i].tail == merged.tail &&
           (merged.most == unbounded || counted[i].least <= merged.most + 1);
         ++i)
      merged.most = std::max(merged.most, counted[i].most);
    if (has_empty && merged.least == 1 && merged.tail == empty) merged.least = 0;
    alternatives.push_back({repeat(merged.part, merged.least, merged.most), merged.tail});
  }
  std::sort(alternatives.begin(), alternatives.end());
}

// [a] t and [b] t are [ab] t.
void Expressions::merge_bytes(std::vector<Alternative>& alternatives) {
  std::vector<Alternative> sets;
  for (const Alternative& one : alternatives)
    if (nodes_[one.head].kind == NodeKind::bytes) sets.push_back(one);
  if (sets.size() < 2) return;
  std::erase_if(alternatives, [this](const Alternative& one) { return nodes_[one.head].kind == NodeKind::bytes; });
  std::sort(sets.begin(), sets.end(),
            [](const Alternative& left, const Alternative& right) { return left.tail < right.tail; });
  for (size_t i = 0; i < sets.size();) {
    ByteSet merged;
    const NodeIndex tail = sets[i].tail;
    for (; i < sets.size() && sets[i].tail == tail; ++i)
      merged |= set_of(sets[i].head);
    alternatives.push_back({bytes(merged), tail});
  }
  std::sort(alternatives.begin(), alternatives.end());
}

// h t and h u are h (t | u).
void Expressions::merge_heads(std::vector<Alternative>& alternatives, int depth) {
  std::vector<Alternative> merged;
  for (size_t i = 0; i < alternatives.size();) {
    const NodeIndex head = alternatives[i].head;
    std::vector<NodeIndex> tails;
    for (; i < alternatives.size() && alternatives[i].head == head; ++i)
      tails.push_back(alternatives[i].tail);
    merged.push_back({head, tails.size() == 1 ? tails[0] : choice(tails, depth + 1)});
  }
  alternatives = std::move(merged);
}

uint32_t Expressions::length_of(NodeIndex node) const {
  uint32_t length = 0;
  for (; nodes_[node].kind == NodeKind::sequence && length <= kMaxBack; node = nodes_[node].b)
    ++length;
  return length;
}

// a t and b t are (a | b) t. `nothing` where the members have no common back.
NodeIndex Expressions::factor_back(const std::vector<Alternative>& alternatives, bool has_empty, int depth) {
  const size_t count = alternatives.size();
  if (has_empty || count < 2 || count > kMaxFactorMembers) return nothing;
  // The back is a tail of the first member; walk along the first, and see in which of its tails all others end.
  std::vector<NodeIndex> backs;
  NodeIndex at = alternatives[0].tail;
  for (uint32_t i = 0; i < kMaxBack && at != empty; ++i) {
    backs.push_back(at);
    at = nodes_[at].kind == NodeKind::sequence ? nodes_[at].b : empty;
  }
  if (backs.empty()) return nothing;
  size_t common = 0;  // of `backs`
  for (size_t i = 1; i < count; ++i) {
    size_t found = backs.size();
    at = alternatives[i].tail;
    for (uint32_t steps = 0; steps < kMaxBack && at != empty && found == backs.size(); ++steps) {
      found = static_cast<size_t>(std::find(backs.begin(), backs.end(), at) - backs.begin());
      at = nodes_[at].kind == NodeKind::sequence ? nodes_[at].b : empty;
    }
    if (found == backs.size()) return nothing;
    common = std::max(common, found);
  }
  const NodeIndex back = backs[common];
  std::vector<NodeIndex> fronts;
  for (const Alternative& one : alternatives) {
    std::vector<NodeIndex> items{one.head};
    for (at = one.tail; at != back; at = nodes_[at].b)
      items.push_back(nodes_[at].a);
    NodeIndex front = empty;
    for (; !items.empty(); items.pop_back())
      front = sequence(items.back(), front);
    fronts.push_back(front);
  }
  return sequence(choice(fronts, depth + 1), back);
}

}  // namespace tidemill::grammar
