// The arena of expressions: immutable nodes, equal ones stored once. What the builder, a grammar and the states that a
// matcher goes through are made of.
//
// Constructors normalise, so that languages that are easily seen to be equal get one node: choices are flat, sorted and
// without doubles, their members share what they have in common at the front and at the back, bytes merge into sets,
// and counted repetitions of the same thing into one. What a constructor returns depends on the structure of its
// arguments alone, never on the order in which nodes came to be.
#pragma once

#include <array>
#include <bitset>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "grammar/automaton.hpp"

namespace tidemill::grammar {

class CountedAutomaton;

using NodeIndex = uint32_t;

enum class NodeKind : uint8_t {
  nothing,    // the empty language
  empty,      // the empty string
  bytes,      // one byte of a set
  literal,    // two bytes or more
  special,    // a control token
  sequence,   // head, then tail
  choice,     // one of at least two
  repeat,     // least to most times
  both,       // left and right; only in a builder
  automaton,  // the language of an automaton from one of its states
  counted,    // the same within bounds of its texts' length, when so many characters have begun
  use,        // a rule
};

// Sixteen bytes of structure, then facts that follow from it. Facts of nodes with rules inside are true once the rules'
// facts are set (`set_rule`) before the nodes are made.
struct Node {
  NodeKind kind;
  bool nullable = false;       // the empty string belongs to it
  bool special_first = false;  // a control token may come first
  bool irregular = false;      // holds a rule or a control token
  uint32_t a = 0;              // bytes: set; literal: offset; special: name; sequence: head; choice: offset;
                               // repeat, both: part; automaton, counted: which; use: rule
  uint32_t b = 0;              // literal, choice: length; sequence: tail; repeat: least; both: part; automaton,
                               // counted: state
  uint32_t c = 0;              // repeat: most; counted: characters
  uint32_t hash = 0;
  uint32_t weight = 1;  // nodes in it, as a tree; frozen ones count 1. Saturates.
  uint32_t depth = 1;   // how deep computing a derivative recurses. Saturates.
};

struct RuleFacts {
  NodeIndex body = 0;
  bool nullable = false;
  bool special_first = false;
  uint32_t depth = 1;
  ByteSet first;
};

// Not thread-safe; copying gives an independent arena with the same node numbers.
class Expressions {
 public:
  static constexpr NodeIndex nothing = 0;
  static constexpr NodeIndex empty = 1;
  static constexpr uint32_t unbounded = UINT32_MAX;

  Expressions();

  NodeIndex bytes(const ByteSet& set);
  NodeIndex byte(uint8_t value);
  NodeIndex literal(std::string_view text);
  NodeIndex special(std::string_view name);
  NodeIndex sequence(NodeIndex head, NodeIndex tail);
  NodeIndex choice(std::span<const NodeIndex> parts) { return choice(parts, 0); }
  NodeIndex choice(NodeIndex left, NodeIndex right);
  NodeIndex repeat(NodeIndex part, uint32_t least, uint32_t most);  // `most` may be `unbounded`
  NodeIndex both(NodeIndex left, NodeIndex right);
  NodeIndex automaton(const std::shared_ptr<const Automaton>& automaton, uint32_t state);
  NodeIndex counted(const std::shared_ptr<const CountedAutomaton>& counted, uint32_t state, uint32_t count);
  NodeIndex use(uint32_t rule);

  uint32_t add_rule();
  void set_rule(uint32_t rule, const RuleFacts& facts) { rules_[rule] = facts; }
  const RuleFacts& rule(uint32_t rule) const { return rules_[rule]; }
  size_t rule_count() const { return rules_.size(); }

  const Node& at(NodeIndex node) const { return nodes_[node]; }
  const ByteSet& first(NodeIndex node) const { return firsts_[node]; }  // the bytes with which its strings begin
  std::span<const NodeIndex> members(NodeIndex choice) const { return members(nodes_[choice]); }
  const ByteSet& set_of(NodeIndex bytes) const { return sets_[nodes_[bytes].a]; }
  std::string_view text_of(NodeIndex literal) const;
  const std::string& name_of(NodeIndex special) const { return names_[nodes_[special].a]; }
  const std::vector<std::string>& names() const { return names_; }
  std::string_view text() const { return text_; }  // of literals, together
  // Those that are counted among them.
  std::span<const std::shared_ptr<const Automaton>> automata() const { return automata_; }
  std::span<const std::shared_ptr<const CountedAutomaton>> counted_automata() const { return counted_; }
  std::span<const ByteSet> sets() const { return sets_; }

  // The literal behind its first byte.
  NodeIndex literal_tail(NodeIndex literal);

  size_t alternatives() const { return members_.size(); }  // of all choices together
  size_t size() const { return nodes_.size(); }
  size_t memory() const;  // bytes, roughly; without those of automata, which copies share
  size_t automata_memory() const;

  // Until freeze() every node counts as frozen, and after it those made before: frozen nodes weigh 1 as parts of
  // others, and sequences among them are not taken apart.
  void freeze() { frozen_ = static_cast<NodeIndex>(nodes_.size()); }
  NodeIndex frozen() const { return frozen_; }

  // The node of `other` in this arena; both arenas are copies of one that was frozen at frozen(). `memory` maps what
  // was imported before.
  NodeIndex import(const Expressions& other, NodeIndex node, std::unordered_map<NodeIndex, NodeIndex>& memory);

 private:
  struct Alternative {
    NodeIndex head;
    NodeIndex tail;
    auto operator<=>(const Alternative&) const = default;
  };

  std::span<const NodeIndex> members(const Node& node) const {
    return std::span<const NodeIndex>(members_).subspan(node.a, node.b);
  }
  uint32_t number_of(const std::shared_ptr<const Automaton>& automaton);
  NodeIndex intern(Node node);
  bool same(const Node& left, const Node& right) const;
  uint32_t hash_of(const Node& node) const;
  void complete(Node& node, ByteSet& first) const;
  void complete_sequence(Node& node, ByteSet& first) const;
  void complete_choice(Node& node, ByteSet& first) const;
  uint32_t weight_of(NodeIndex node) const { return node < frozen_ ? 1 : nodes_[node].weight; }
  void grow_slots();

  NodeIndex choice(std::span<const NodeIndex> parts, int depth);
  NodeIndex intern_choice(std::vector<NodeIndex> parts);
  void merge_repeats(std::vector<Alternative>& alternatives, bool& has_empty);
  void merge_bytes(std::vector<Alternative>& alternatives);
  void merge_heads(std::vector<Alternative>& alternatives, int depth);
  NodeIndex factor_back(const std::vector<Alternative>& alternatives, bool has_empty, int depth);
  uint32_t length_of(NodeIndex node) const;

  std::vector<Node> nodes_;
  std::vector<ByteSet> firsts_;     // [nodes]
  std::vector<uint32_t> slots_;     // hash table of node numbers + 1, a power of two
  std::vector<NodeIndex> members_;  // of choices
  std::vector<ByteSet> sets_;
  std::unordered_map<ByteSet, uint32_t> set_numbers_;
  std::string text_;  // of literals
  std::unordered_map<std::string, uint32_t> text_offsets_;
  std::vector<std::string> names_;
  std::unordered_map<std::string, uint32_t> name_numbers_;
  std::vector<std::shared_ptr<const Automaton>> automata_;
  std::unordered_map<const Automaton*, uint32_t> automaton_numbers_;
  std::vector<std::shared_ptr<const CountedAutomaton>> counted_;
  std::unordered_map<const CountedAutomaton*, uint32_t> counted_numbers_;
  std::vector<RuleFacts> rules_;
  std::array<NodeIndex, 256> single_{};  // the node of one byte; 0 where there is none yet
  NodeIndex frozen_ = UINT32_MAX;
};

}  // namespace tidemill::grammar
