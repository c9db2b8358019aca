// Copying expressions from one arena to another, with something done to the leaves.
#pragma once

#include <vector>

#include "grammar/expressions.hpp"

namespace tidemill::grammar {

// `leaf(node)` gives the copy of nodes of `from` that have no parts; `leaf.both(left, right)` makes an intersection of
// two copies. Without recursion.
template <typename Leaf>
class CopyExpressions {
 public:
  CopyExpressions(const Expressions& from, Expressions& to, Leaf& leaf)
      : from_(from), to_(to), leaf_(leaf), copies_(from.size(), kUnknown) {}

  NodeIndex operator()(NodeIndex root) {
    stack_.push_back(root);
    while (!stack_.empty()) {
      const NodeIndex node = stack_.back();
      if (copies_[node] == kUnknown && !wait_for_parts(node)) copies_[node] = made(node);
      if (copies_[node] != kUnknown) stack_.pop_back();
    }
    return copies_[root];
  }

 private:
  static constexpr NodeIndex kUnknown = UINT32_MAX;

  void need(NodeIndex part) {
    if (copies_[part] == kUnknown) stack_.push_back(part);
  }

  bool wait_for_parts(NodeIndex index) {
    const Node& node = from_.at(index);
    const size_t before = stack_.size();
    const bool pair = node.kind == NodeKind::sequence || node.kind == NodeKind::both;
    if (pair || node.kind == NodeKind::repeat) need(node.a);
    if (pair) need(node.b);
    if (node.kind == NodeKind::choice)
      for (const NodeIndex member : from_.members(index))
        need(member);
    return stack_.size() > before;
  }

  NodeIndex made(NodeIndex index) {
    const Node& node = from_.at(index);
    switch (node.kind) {
      case NodeKind::sequence:
        return to_.sequence(copies_[node.a], copies_[node.b]);
      case NodeKind::repeat:
        return to_.repeat(copies_[node.a], node.b, node.c);
      case NodeKind::choice: {
        std::vector<NodeIndex> members;
        for (const NodeIndex member : from_.members(index))
          members.push_back(copies_[member]);
        return to_.choice(members);
      }
      case NodeKind::both:
        return leaf_.both(copies_[node.a], copies_[node.b]);
      case NodeKind::nothing:
      case NodeKind::empty:
        return index;  // the same in every arena
      default:
        return leaf_(index);
    }
  }

  const Expressions& from_;
  Expressions& to_;
  Leaf& leaf_;
  std::vector<NodeIndex> copies_;  // by node of from_
  std::vector<NodeIndex> stack_;
};

}  // namespace tidemill::grammar
