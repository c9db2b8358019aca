#include "grammar/grammar.hpp"

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
  return std::shared_ptr<const Grammar>(std::move(restricted));
}

}  // namespace tidemill::grammar
