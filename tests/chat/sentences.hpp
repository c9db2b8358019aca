// Random sentences of a grammar.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "grammar/counted_automaton.hpp"
#include "grammar/grammar.hpp"

namespace tidemill::chat::test {

// Control tokens are spelled by their names. Bytes that formats and JSON care about come more often than others.
class Sentences {
 public:
  Sentences(std::shared_ptr<const grammar::Grammar> grammar, uint32_t seed)
      : grammar_(std::move(grammar)), nodes_(grammar_->expressions()), random_(seed) {
    measure();
  }

  std::string next() {
    std::string sentence;
    write(grammar_->root(), 0, sentence);
    return sentence;
  }

 private:
  using Node = grammar::Node;
  using Kind = grammar::NodeKind;
  static constexpr uint64_t endless = std::numeric_limits<uint32_t>::max();

  uint64_t length(grammar::NodeIndex node) const { return lengths_[node]; }

  uint64_t computed(const Node& node) const {
    switch (node.kind) {
      case Kind::nothing:
        return endless;
      case Kind::empty:
        return 0;
      case Kind::bytes:
        return 1;
      case Kind::literal:
        return node.b;
      case Kind::special:
        return 1;
      case Kind::sequence:
        return std::min(endless, length(node.a) + length(node.b));
      case Kind::choice: {
        uint64_t least = endless;
        for (const grammar::NodeIndex member : nodes_.members(index_of(node)))
          least = std::min(least, length(member));
        return least;
      }
      case Kind::repeat:
        return std::min(endless, length(node.a) * node.b);
      case Kind::automaton:
      case Kind::counted:
        return node.nullable ? 0 : 1;
      case Kind::use:
        return length(nodes_.rule(node.a).body);
      case Kind::both:
        return endless;
    }
    return endless;
  }
  grammar::NodeIndex index_of(const Node& node) const { return static_cast<grammar::NodeIndex>(&node - &nodes_.at(0)); }

  // The shortest sentence of every node, so that what is nested deeply comes to an end.
  void measure() {
    lengths_.assign(nodes_.size(), endless);
    for (bool changed = true; changed;) {
      changed = false;
      for (grammar::NodeIndex node = 0; node < nodes_.size(); ++node) {
        const uint64_t now = computed(nodes_.at(node));
        changed = changed || now < lengths_[node];
        lengths_[node] = std::min(lengths_[node], now);
      }
    }
  }

  size_t below(size_t bound) { return random_() % bound; }

  uint8_t byte_of(const grammar::ByteSet& set) {
    static constexpr std::string_view favoured = "<<>/|[]{}\"\\:,\n aetool_clparmnu";
    for (int i = 0; i < 8; ++i) {
      const auto byte = static_cast<uint8_t>(favoured[below(favoured.size())]);
      if (set[byte]) return byte;
    }
    while (true) {
      const auto byte = static_cast<uint8_t>(below(256));
      if (set[byte]) return byte;
    }
  }

  void write(grammar::NodeIndex index, int depth, std::string& out) {
    const Node node = nodes_.at(index);
    switch (node.kind) {
      case Kind::bytes:
        out += static_cast<char>(byte_of(nodes_.set_of(index)));
        return;
      case Kind::literal:
        out += nodes_.text_of(index);
        return;
      case Kind::special:
        out += nodes_.name_of(index);
        return;
      case Kind::sequence:
        write(node.a, depth, out);
        write(node.b, depth, out);
        return;
      case Kind::choice:
        return write(member_of(index, depth), depth + 1, out);
      case Kind::repeat:
        return write_repeat(node, depth, out);
      case Kind::automaton:
        return write_automaton(node, out);
      case Kind::counted:
        return write_counted(node, out);
      case Kind::use:
        return write(nodes_.rule(node.a).body, depth + 1, out);
      default:
        return;
    }
  }

  grammar::NodeIndex member_of(grammar::NodeIndex choice, int depth) {
    const auto members = nodes_.members(choice);
    if (depth < 30) {
      const grammar::NodeIndex chosen = members[below(members.size())];
      if (length(chosen) < endless) return chosen;
    }
    return *std::min_element(members.begin(), members.end(), [&](auto a, auto b) { return length(a) < length(b); });
  }

  void write_repeat(const Node& node, int depth, std::string& out) {
    const uint32_t more = depth < 30 ? static_cast<uint32_t>(below(4) * below(4)) : 0;
    const uint32_t most = std::min(node.c, node.b + more);
    for (uint32_t i = 0; i < most; ++i)
      write(node.a, depth + 1, out);
  }

  // A walk that ends where it may, after some bytes.
  void write_automaton(const Node& node, std::string& out) {
    const grammar::Automaton& automaton = *nodes_.automata()[node.a];
    uint32_t state = node.b;
    for (size_t steps = 0; steps < 10'000; ++steps) {
      if (automaton.accepts(state) && below(16) == 0) return;
      const grammar::ByteSet first = automaton.first(state);
      if (first.none()) return;
      const uint8_t byte = byte_of(first);
      out += static_cast<char>(byte);
      state = automaton.next(state, byte);
    }
  }

  void write_counted(const Node& node, std::string& out) {
    const grammar::CountedAutomaton& counted = *nodes_.counted_automata()[node.a];
    uint32_t state = node.b;
    uint32_t count = node.c;
    for (size_t steps = 0; steps < 10'000; ++steps) {
      if (counted.accepts(state, count) && below(16) == 0) return;
      const grammar::ByteSet first = counted.first(state, count);
      if (first.none()) return;
      const uint8_t byte = byte_of(first);
      out += static_cast<char>(byte);
      count = counted.count_behind(state, count);
      state = counted.texts()->next(state, byte);
    }
  }

  std::shared_ptr<const grammar::Grammar> grammar_;
  const grammar::Expressions& nodes_;
  std::mt19937 random_;
  std::vector<uint64_t> lengths_;
};

}  // namespace tidemill::chat::test
