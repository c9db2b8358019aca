// A grammar: the language of an output, checked and ready to be bound to a vocabulary.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "grammar/expressions.hpp"

namespace tidemill::grammar {

// What compiling may spend; going over is `too_large` and says which limit. All are counts, so that what is refused
// does not depend on the machine. When `stop` is asked to, compiling ends soon, with stopped().
struct GrammarLimits {
  size_t max_nodes = 200'000;
  size_t max_alternatives = 1'000'000;  // of choices, together; objects with many optional properties are of many
  size_t max_repeat = 100'000;          // largest bound of a counted repetition (counted ones are not unrolled)
  int max_depth = 200;                  // nesting of the source (schema, regex, GBNF)
  size_t max_source_bytes = 1 << 20;
  size_t max_states = 20'000;         // of automata: intersections, searches for triggers; together (ProductBudget)
  size_t max_text_bytes = 4U << 20U;  // of literals, together
  uint32_t max_left_depth = 1'000;    // expressions and rules entered before the first byte is read
  std::stop_token stop = {};
  // What compiling takes is added here, as shares of these limits together: about 1 where it goes up to one of them.
  std::shared_ptr<double> spent = {};
};

inline base::Error stopped() {
  return {base::ErrorCode::cancelled, "compiling the grammar was stopped"};
}

// Immutable; thread-safe; shared.
class Grammar {
 public:
  const Expressions& expressions() const { return expressions_; }
  NodeIndex root() const { return root_; }
  std::string_view rule_name(uint32_t rule) const { return rule_names_[rule]; }
  const GrammarLimits& limits() const { return limits_; }

  // The same language over fewer bytes, for a vocabulary: strings with other bytes are left out, and what a control
  // token's name stands for is decided by `special`, which makes a node in the arena given. Errors: `invalid_argument`
  // if no string is left.
  struct Restriction {
    ByteSet bytes;
    std::function<NodeIndex(Expressions&, const std::string& name)> special;
  };
  base::Result<std::shared_ptr<const Grammar>> restricted_to(const Restriction& restriction) const;

  // Whether one of its strings begins with `text`, behind white space or not. True as well where telling takes
  // too many states or too much memory.
  bool may_begin(std::string_view text) const;

 private:
  friend class GrammarBuilder;
  friend class GrammarCheck;

  Expressions expressions_;  // frozen; facts of all nodes are true
  NodeIndex root_ = 0;
  std::vector<std::string> rule_names_;
  GrammarLimits limits_;
};

}  // namespace tidemill::grammar
