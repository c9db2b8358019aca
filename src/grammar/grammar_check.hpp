// From expressions as a builder left them to a grammar: computes intersections, finds what is wrong, works out the
// facts of rules, and leaves out what no string can come of.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "grammar/grammar.hpp"

namespace tidemill::grammar {

class GrammarCheck {
 public:
  // Fills `grammar`, whose names and limits are set, from `source`; `bodies` are the rules'. `reasons`, where there are
  // any, say of rules why nothing matches them.
  GrammarCheck(const Expressions& source, std::vector<NodeIndex> bodies, NodeIndex root, Grammar& grammar,
               std::vector<std::string> reasons = {});

  // Errors as of GrammarBuilder::build and Grammar::restricted_to. Time is linear in the source but for intersections.
  base::Result<void> run(const Grammar::Restriction* restriction);

 private:
  static constexpr uint32_t kUnseen = UINT32_MAX;

  // What a choice, sequence, ... of the resolved arena begins with.
  struct LeftCorner {
    ByteSet first;
    bool special_first = false;
    uint32_t depth = 1;
  };

  base::Result<void> resolve(const Grammar::Restriction* restriction);
  // Which nodes have a property that `base` has and that spreads from parts as being nullable does.
  template <typename Base>
  std::vector<uint8_t> spread(const Base& base) const;
  std::vector<NodeIndex> parts(NodeIndex node) const;
  std::vector<NodeIndex> left_parts(NodeIndex node) const;
  base::Result<void> find_left_corners();
  LeftCorner left_corner(NodeIndex node) const;
  base::Error left_recursion(NodeIndex node, const std::vector<NodeIndex>& path) const;
  base::Error nothing_matches() const;
  base::Result<void> finish();

  const Expressions& source_;
  std::vector<NodeIndex> bodies_;  // by rule; of source_, then of resolved_
  NodeIndex root_;                 // likewise
  Grammar& grammar_;
  std::vector<std::string> reasons_;  // by rule, or none
  Expressions resolved_;              // without intersections; restricted
  std::vector<uint8_t> nullable_;     // by node of resolved_
  std::vector<uint8_t> productive_;   // likewise: some string belongs to it
  std::vector<uint32_t> corner_of_;   // likewise: index into corners_, or kUnseen
  std::vector<LeftCorner> corners_;
};

}  // namespace tidemill::grammar
