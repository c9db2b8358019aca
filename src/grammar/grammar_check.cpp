#include "grammar/grammar_check.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "grammar/copy_expressions.hpp"
#include "grammar/counted_automaton.hpp"
#include "grammar/derivatives.hpp"

namespace tidemill::grammar {

using base::Error;
using base::ErrorCode;

GrammarCheck::GrammarCheck(const Expressions& source, std::vector<NodeIndex> bodies, NodeIndex root, Grammar& grammar,
                           std::vector<std::string> reasons)
    : source_(source), bodies_(std::move(bodies)), root_(root), grammar_(grammar), reasons_(std::move(reasons)) {}

namespace {

bool is_automaton(NodeKind kind) {
  return kind == NodeKind::automaton || kind == NodeKind::counted;
}

}  // namespace

base::Result<void> GrammarCheck::run(const Grammar::Restriction* restriction) {
  TM_CHECK(resolve(restriction));
  nullable_ = spread([this](NodeIndex index) {
    const Node& node = resolved_.at(index);
    return node.kind == NodeKind::empty || (is_automaton(node.kind) && node.nullable);
  });
  productive_ = spread([this](NodeIndex index) {
    const NodeKind kind = resolved_.at(index).kind;
    return kind == NodeKind::empty || kind == NodeKind::bytes || kind == NodeKind::literal ||
           kind == NodeKind::special || is_automaton(kind);
  });
  TM_CHECK(find_left_corners());
  return finish();
}

namespace {

// Applies the restriction, and computes intersections.
class ResolvedLeaf {
 public:
  ResolvedLeaf(const Expressions& from, Expressions& to, const Grammar::Restriction* restriction,
               const GrammarLimits& limits)
      : from_(from), to_(to), restriction_(restriction), budget_(limits.max_states, limits.stop) {}

  bool over_limit() const { return over_limit_; }
  const ProductBudget& budget() const { return budget_; }

  NodeIndex operator()(NodeIndex index) {
    const Node& node = from_.at(index);
    switch (node.kind) {
      case NodeKind::bytes:
        return to_.bytes(restriction_ != nullptr ? from_.set_of(index) & restriction_->bytes : from_.set_of(index));
      case NodeKind::literal:
        return is_spelt(from_.text_of(index)) ? to_.literal(from_.text_of(index)) : Expressions::nothing;
      case NodeKind::special:
        return restriction_ != nullptr ? restriction_->special(to_, from_.name_of(index))
                                       : to_.special(from_.name_of(index));
      case NodeKind::automaton:
        return automaton(node);
      case NodeKind::counted:
        return counted(node);
      default:
        return to_.use(node.a);
    }
  }

  NodeIndex both(NodeIndex left, NodeIndex right) {
    if (over_limit_) return Expressions::nothing;
    const auto product = intersection(to_, left, right, budget_);
    if (product == nullptr) {
      over_limit_ = true;
      return Expressions::nothing;
    }
    return to_.automaton(product, Automaton::start);
  }

 private:
  bool is_spelt(std::string_view text) const {
    return restriction_ == nullptr || std::all_of(text.begin(), text.end(), [this](char c) {
             return restriction_->bytes[static_cast<uint8_t>(c)];
           });
  }

  // In a grammar automata stand in their first state: the others are reached by derivatives.
  NodeIndex automaton(const Node& node) {
    std::shared_ptr<const Automaton> kept = from_.automata()[node.a];
    if (restriction_ != nullptr && !restriction_->bytes.all()) kept = kept->restricted_to(restriction_->bytes);
    return to_.automaton(kept, Automaton::start);
  }

  NodeIndex counted(const Node& node) {
    std::shared_ptr<const CountedAutomaton> kept = from_.counted_automata()[node.a];
    if (restriction_ != nullptr && !restriction_->bytes.all()) kept = kept->restricted_to(restriction_->bytes, budget_);
    over_limit_ = over_limit_ || kept == nullptr;
    return over_limit_ ? Expressions::nothing : to_.counted(kept, Automaton::start, 0);
  }

  const Expressions& from_;
  Expressions& to_;
  const Grammar::Restriction* restriction_;
  ProductBudget budget_;
  bool over_limit_ = false;
};

// Keeps what is productive.
struct ProductiveLeaf {
  const Expressions& from;
  Expressions& to;
  const std::vector<uint8_t>& productive;

  NodeIndex operator()(NodeIndex index) const {
    const Node& node = from.at(index);
    if (productive[index] == 0) return Expressions::nothing;
    if (node.kind == NodeKind::bytes) return to.bytes(from.set_of(index));
    if (node.kind == NodeKind::literal) return to.literal(from.text_of(index));
    if (node.kind == NodeKind::special) return to.special(from.name_of(index));
    if (node.kind == NodeKind::automaton) return to.automaton(from.automata()[node.a], node.b);
    if (node.kind == NodeKind::counted) return to.counted(from.counted_automata()[node.a], node.b, node.c);
    return to.use(node.a);
  }
  NodeIndex both(NodeIndex /*left*/, NodeIndex /*right*/) const { return Expressions::nothing; }  // there are none
};

}  // namespace

base::Result<void> GrammarCheck::resolve(const Grammar::Restriction* restriction) {
  for (size_t i = 0; i < bodies_.size(); ++i)
    resolved_.add_rule();
  const size_t max_states = grammar_.limits_.max_states;
  ResolvedLeaf leaf(source_, resolved_, restriction, grammar_.limits_);
  CopyExpressions copy(source_, resolved_, leaf);
  const auto charge = [&] {
    if (grammar_.limits_.spent) *grammar_.limits_.spent += leaf.budget().share_spent(max_states);
  };
  // Rules of schemas are named by JSON pointers.
  const auto over_limit = [&](const std::string& rule) {
    charge();
    if (grammar_.limits_.stop.stop_requested()) return stopped();
    const bool is_pointer = rule.find('#') != std::string::npos;
    return Error(
        ErrorCode::too_large,
        fmt::format("{}what must hold together, such as patterns and bounds of length, takes together with the others "
                    "more than {} states, or {} on the way to them{}: give fewer or simpler patterns, or "
                    "smaller bounds",
                    is_pointer ? fmt::format("JSON Schema, {}: ", rule) : "", max_states,
                    max_states * ProductBudget::explored_per_state,
                    rule.empty() || is_pointer ? "" : fmt::format(" (rule '{}')", rule)));
  };
  for (size_t rule = 0; rule < bodies_.size(); ++rule) {
    bodies_[rule] = copy(bodies_[rule]);
    if (leaf.over_limit()) return over_limit(grammar_.rule_names_[rule]);
  }
  root_ = copy(root_);
  if (leaf.over_limit()) return over_limit("");
  charge();
  return {};
}

std::vector<NodeIndex> GrammarCheck::parts(NodeIndex index) const {
  const Node& node = resolved_.at(index);
  switch (node.kind) {
    case NodeKind::sequence:
      return {node.a, node.b};
    case NodeKind::choice:
      return {resolved_.members(index).begin(), resolved_.members(index).end()};
    case NodeKind::repeat:
      return {node.a};
    case NodeKind::use:
      return {bodies_[node.a]};
    default:
      return {};
  }
}

template <typename Base>
std::vector<uint8_t> GrammarCheck::spread(const Base& base) const {
  const size_t count = resolved_.size();
  std::vector<uint32_t> begin(count + 1, 0);  // of each node's users
  for (NodeIndex node = 0; node < count; ++node)
    for (const NodeIndex part : parts(node))
      ++begin[part + 1];
  for (size_t i = 0; i < count; ++i)
    begin[i + 1] += begin[i];
  std::vector<NodeIndex> users(begin[count]);
  std::vector<uint32_t> at(begin.begin(), begin.end() - 1);
  for (NodeIndex node = 0; node < count; ++node)
    for (const NodeIndex part : parts(node))
      users[at[part]++] = node;

  std::vector<uint8_t> has(count, 0);
  std::vector<NodeIndex> work;
  const auto settle = [&](NodeIndex node) {
    has[node] = 1;
    work.push_back(node);
  };
  for (NodeIndex node = 0; node < count; ++node) {
    const bool optional = resolved_.at(node).kind == NodeKind::repeat && resolved_.at(node).b == 0;
    if (optional || base(node)) settle(node);
  }
  while (!work.empty()) {
    const NodeIndex part = work.back();
    work.pop_back();
    for (uint32_t i = begin[part]; i < begin[part + 1]; ++i) {
      const Node& user = resolved_.at(users[i]);
      const bool lacks_other = user.kind == NodeKind::sequence && (has[user.a] == 0 || has[user.b] == 0);
      if (has[users[i]] == 0 && !lacks_other) settle(users[i]);
    }
  }
  return has;
}

std::vector<NodeIndex> GrammarCheck::left_parts(NodeIndex index) const {
  const Node& node = resolved_.at(index);
  if (node.kind == NodeKind::sequence && nullable_[node.a] == 0) return {node.a};
  return parts(index);
}

Error GrammarCheck::left_recursion(NodeIndex node, const std::vector<NodeIndex>& path) const {
  // Every cycle passes through a rule.
  for (auto at = std::find(path.begin(), path.end(), node); at != path.end(); ++at)
    if (resolved_.at(*at).kind == NodeKind::use)
      return Error(ErrorCode::invalid_argument,
                   fmt::format("rule '{}' is left-recursive: it can begin with itself; write it with a repetition or "
                               "recursion at its end",
                               grammar_.rule_names_[resolved_.at(*at).a]));
  return Error(ErrorCode::internal, "a cycle without a rule");
}

// Goes depth first over what nodes begin with, without recursion; a node's facts follow from those of its parts.
base::Result<void> GrammarCheck::find_left_corners() {
  struct Frame {
    std::vector<NodeIndex> parts;
    size_t next = 0;
  };
  enum : uint8_t { kNew, kOpen, kDone };
  std::vector<uint8_t> color(resolved_.size(), kNew);
  corner_of_.assign(resolved_.size(), kUnseen);
  std::vector<NodeIndex> starts = bodies_;
  starts.push_back(root_);
  std::vector<NodeIndex> path;
  std::vector<Frame> frames;
  const auto open = [&](NodeIndex node) {
    color[node] = kOpen;
    path.push_back(node);
    frames.push_back({left_parts(node)});
  };
  for (const NodeIndex start : starts) {
    if (color[start] == kNew) open(start);
    while (!path.empty()) {
      Frame& frame = frames.back();
      if (frame.next < frame.parts.size()) {
        const NodeIndex part = frame.parts[frame.next++];
        if (color[part] == kOpen) return left_recursion(part, path);
        if (color[part] == kNew) open(part);
        continue;
      }
      const NodeIndex node = path.back();
      color[node] = kDone;
      corner_of_[node] = static_cast<uint32_t>(corners_.size());
      corners_.push_back(left_corner(node));
      path.pop_back();
      frames.pop_back();
    }
  }
  return {};
}

GrammarCheck::LeftCorner GrammarCheck::left_corner(NodeIndex index) const {
  LeftCorner corner;
  if (productive_[index] == 0) return corner;
  const Node& node = resolved_.at(index);
  const bool has_parts = node.kind == NodeKind::sequence || node.kind == NodeKind::choice ||
                         node.kind == NodeKind::repeat || node.kind == NodeKind::use;
  if (!has_parts) {
    corner.first = resolved_.first(index);
    corner.special_first = node.special_first;
    return corner;
  }
  for (const NodeIndex part : left_parts(index)) {
    const LeftCorner& inner = corners_[corner_of_[part]];
    corner.first |= inner.first;
    corner.special_first = corner.special_first || inner.special_first;
    const bool tail = node.kind == NodeKind::sequence && part == node.b &&
                      resolved_.at(part).kind == NodeKind::sequence;  // a loop, not a call
    corner.depth = std::max(corner.depth, inner.depth + (tail ? 0 : 1));
  }
  return corner;
}

// Follows what has no string from the root down, into rules, to one that it has been in: which needs itself.
Error GrammarCheck::nothing_matches() const {
  std::string message = "no string matches the grammar";
  std::vector<uint32_t> entered;
  std::vector<uint8_t> is_entered(bodies_.size(), 0);
  NodeIndex at = root_;
  for (;;) {
    const Node& node = resolved_.at(at);
    if (node.kind == NodeKind::use) {
      if (is_entered[node.a] != 0) {
        const bool through = entered.back() != node.a;
        message += fmt::format(": rule '{}' needs itself{}, so it has no end: what leads back to it must be optional",
                               grammar_.rule_names_[node.a],
                               through ? fmt::format(" through '{}'", grammar_.rule_names_[entered.back()]) : "");
        break;
      }
      is_entered[node.a] = 1;
      entered.push_back(node.a);
    }
    const std::vector<NodeIndex> inner = parts(at);
    const auto next = std::find_if(inner.begin(), inner.end(), [&](NodeIndex part) { return productive_[part] == 0; });
    if (next == inner.end()) {
      if (entered.empty()) break;
      const bool explained = entered.back() < reasons_.size() && !reasons_[entered.back()].empty();
      message += explained ? ": " + reasons_[entered.back()]
                           : fmt::format(": nothing matches rule '{}'", grammar_.rule_names_[entered.back()]);
      break;
    }
    at = *next;
  }
  return {ErrorCode::invalid_argument, std::move(message)};
}

base::Result<void> GrammarCheck::finish() {
  if (productive_[root_] == 0) return nothing_matches();
  Expressions& kept = grammar_.expressions_;
  const uint32_t max_depth = grammar_.limits_.max_left_depth;
  const std::string too_deep =
      fmt::format("the grammar enters more than {} parts before its first byte: nest less", max_depth);
  for (uint32_t rule = 0; rule < bodies_.size(); ++rule) {
    const LeftCorner& corner = corners_[corner_of_[bodies_[rule]]];
    if (corner.depth > max_depth)
      return Error(ErrorCode::too_large, fmt::format("{} (rule '{}')", too_deep, grammar_.rule_names_[rule]));
    kept.add_rule();
    kept.set_rule(rule, {.body = Expressions::nothing,
                         .nullable = nullable_[bodies_[rule]] != 0,
                         .special_first = corner.special_first,
                         .depth = corner.depth,
                         .first = corner.first});
  }
  if (corners_[corner_of_[root_]].depth > max_depth) return Error(ErrorCode::too_large, too_deep);
  ProductiveLeaf leaf{resolved_, kept, productive_};
  CopyExpressions copy(resolved_, kept, leaf);
  grammar_.root_ = copy(root_);
  for (uint32_t rule = 0; rule < bodies_.size(); ++rule) {
    RuleFacts facts = kept.rule(rule);
    if (productive_[bodies_[rule]] != 0) facts.body = copy(bodies_[rule]);
    kept.set_rule(rule, facts);
  }
  for (NodeIndex node = 0; node < kept.size(); ++node)
    if (kept.at(node).depth > 2 * max_depth) return Error(ErrorCode::too_large, too_deep);
  kept.freeze();
  return {};
}

}  // namespace tidemill::grammar
