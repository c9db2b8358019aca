// Grammars over bytes, put together from parts: what the front ends (JSON Schema, regular expressions, GBNF, tool-call
// formats) are translated to.
//
// An expression is a node in a builder's arena, named by a small handle; equal nodes are one. Recursion goes through
// rules. There is no ambiguity to resolve: a grammar says which byte strings belong to the language and nothing else.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.hpp"
#include "grammar/code_points.hpp"
#include "grammar/derivatives.hpp"
#include "grammar/expressions.hpp"
#include "grammar/grammar.hpp"

namespace tidemill::grammar {

// Handles: of the builder that made them alone. Expression{} is nothing().
struct Expression {
  uint32_t index = 0;
  auto operator<=>(const Expression&) const = default;
};
struct Rule {
  uint32_t index = 0;
};

// Not thread-safe. Calls never fail on their own: what goes wrong (a limit, a misused part) is kept, parts made after
// it are nothing(), and build() returns the first error.
class GrammarBuilder {
 public:
  explicit GrammarBuilder(GrammarLimits limits = {});

  const GrammarLimits& limits() const { return limits_; }
  // Whether build() can only return an error by now, and which: front ends may stop early.
  bool failed() const { return error_.has_value(); }
  const base::Error* failure() const { return error_ ? &*error_ : nullptr; }

  Expression nothing() { return {Expressions::nothing}; }          // the empty language
  Expression empty() { return {Expressions::empty}; }              // the empty string
  Expression bytes(const ByteSet& set);                            // one byte of the set
  Expression code_points(std::span<const CodePointRange> ranges);  // one character of these, in UTF-8; surrogates never
  Expression code_points(const CodePointSet& set) { return code_points(set.ranges()); }
  Expression any_character();
  Expression literal(std::string_view text);
  // One of the texts, which share what they begin and end with: tens of thousands are fine.
  Expression one_of(std::span<const std::string> texts);
  // A control token of the vocabulary by its name ("<|python_tag|>"). Where the vocabulary has no such control token
  // its name is plain text. One that ends generation stands for the empty string: such tokens come exactly where the
  // output may end. Control tokens match nowhere else.
  Expression special(std::string_view name);
  Expression sequence(std::span<const Expression> parts);
  Expression sequence(std::initializer_list<Expression> parts) {
    return sequence(std::span(parts.begin(), parts.size()));
  }
  Expression choice(std::span<const Expression> parts);
  Expression choice(std::initializer_list<Expression> parts) { return choice(std::span(parts.begin(), parts.size())); }
  Expression repeat(Expression part, size_t least, std::optional<size_t> most);  // nothing() if most < least
  Expression optional(Expression part) { return choice({empty(), part}); }
  // Both must match the whole; only of expressions without rules and specials, else `unsupported` at build(). Costs an
  // automaton of the product's size, the least there is, which is bounded by GrammarLimits::max_states.
  Expression both(Expression left, Expression right);
  // What is of `left` and not of `right`, under the same terms.
  Expression except(Expression left, Expression right);
  // Those of `texts`, which consist of characters as `character` writes each, that have at least `least` and at most
  // `most` of them. Under the same terms, but for an automaton of the size of `texts` alone, whatever the bounds: the
  // characters are counted beside it.
  Expression counted(Expression texts, Expression character, size_t least, std::optional<size_t> most);
  // Whether no string belongs to both; false too where a look at a thousand pairs of states, which count as looked at,
  // does not tell, and of parts with rules or control tokens.
  bool apart(Expression left, Expression right);
  // Any UTF-8 text up to and including the first occurrence of one of `triggers` (which are UTF-8).
  Expression text_through(std::span<const std::string> triggers);
  // Any UTF-8 text in which none of `triggers` occurs.
  Expression text_without(std::span<const std::string> triggers);

  Rule declare(std::string name);  // for recursion: declare, use, then define once
  void define(Rule rule, Expression body);
  void explain(Rule rule, std::string why);  // why nothing matches it, for the error of a grammar that it leaves empty
  Expression use(Rule rule);

  // Errors: stopped(); `invalid_argument` for a rule that was declared and not defined, or is left-recursive (names
  // it), and for a grammar to which no string belongs; `unsupported`; `too_large` says which limit, and what to do.
  base::Result<std::shared_ptr<const Grammar>> build(Expression root) &&;

 private:
  struct Definition {
    std::string name;
    std::optional<NodeIndex> body;
    std::string why_nothing = {};
  };

  Expression keep(NodeIndex node);
  void fail(base::ErrorCode code, std::string message);
  bool stops();
  void charge();
  bool may_repeat(size_t times);
  void fail_over_states(std::string_view what);
  NodeIndex continuation(std::span<const CodePointRange> ranges, char32_t base, int bits);
  NodeIndex lead_bytes(const CodePointSet& set, char32_t first, char32_t last, unsigned lead, int bits);
  bool check_triggers(std::span<const std::string> triggers);

  GrammarLimits limits_;
  Expressions expressions_;
  std::vector<Definition> rules_;
  ProductBudget budget_;
  std::map<std::pair<Expression, Expression>, Expression> differences_;
  std::map<std::pair<Expression, Expression>, CharacterAutomaton> characters_;  // of texts, by texts and character
  std::map<std::vector<std::string>, Expression> without_;                      // by triggers
  std::optional<base::Error> error_;
  double charged_ = 0;  // of GrammarLimits::spent
};

}  // namespace tidemill::grammar
