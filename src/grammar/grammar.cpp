#include "grammar/grammar.hpp"

#include <unordered_set>

#include "grammar/derivatives.hpp"
#include "grammar/grammar_check.hpp"

namespace tidemill::grammar {

base::Result<std::shared_ptr<const Grammar>> Grammar::restricted_to(const Restriction& restriction) const {
  std::vector<NodeIndex> bodies;
  for (uint32_t rule = 0; rule < expressions_.rule_count(); ++rule)
    bodies.push_back(expressions_.rule(rule).body);
  auto restricted = std::make_shared<Grammar>();
  restricted->limits_ = limits_;
  restricted->rule_names_ = rule_names_;
  GrammarCheck check(expressions_, bodies, root_, *restricted);
  TM_CHECK(check.run(&restriction));
  restricted->limits_.stop = {};  // which is of this time
  return std::shared_ptr<const Grammar>(std::move(restricted));
}

// All parts of a grammar are productive, so what is left behind a text is nothing only if no string goes on there.
bool Grammar::may_begin(std::string_view text) const {
  constexpr size_t max_starts = 4'096;
  constexpr size_t max_memory = size_t{16} << 20;  // beyond the expressions' own
  Derivatives derivatives(expressions_);
  std::vector<NodeIndex> starts{root_};  // behind white space
  std::unordered_set<NodeIndex> known{root_};
  const size_t most = derivatives.memory() + max_memory;
  for (size_t i = 0; i < starts.size(); ++i) {
    if (starts.size() > max_starts || derivatives.memory() > most) return true;
    NodeIndex node = starts[i];
    for (const char c : text)
      node = derivatives.by_byte(node, static_cast<uint8_t>(c));
    if (node != Expressions::nothing) return true;
    for (const char space : std::string_view(" \n\t\r")) {
      const NodeIndex next = derivatives.by_byte(starts[i], static_cast<uint8_t>(space));
      if (next != Expressions::nothing && known.insert(next).second) starts.push_back(next);
    }
  }
  return false;
}

}  // namespace tidemill::grammar
