#include "grammar/regex.hpp"

#include <algorithm>
#include <string>

#include "grammar/look_ahead_patterns.hpp"

namespace tidemill::grammar {

Expression translate_regex(GrammarBuilder& builder, const RegexNode& node, const CharacterLeaf& leaf) {
  if (builder.failed()) return builder.nothing();
  std::vector<Expression> parts;
  for (const RegexNode& part : node.parts)
    parts.push_back(translate_regex(builder, part, leaf));
  switch (node.kind) {
    case RegexNode::Kind::characters:
      return leaf(node.set);
    case RegexNode::Kind::sequence:
      return builder.sequence(parts);
    case RegexNode::Kind::choice:
      return builder.choice(parts);
    case RegexNode::Kind::repeat:
      return builder.repeat(parts[0], node.least, node.most);
  }
  return builder.nothing();
}

Expression under_conditions(GrammarBuilder& builder, const Conditions& conditions) {
  const auto without_excluded = [&](Expression texts) {
    return conditions.excluded.empty() ? texts : builder.except(texts, builder.choice(conditions.excluded));
  };
  if (conditions.required.empty()) return without_excluded(conditions.whole);
  Expression all = conditions.required.front();
  for (const Expression one : conditions.required)
    all = builder.both(all, one);
  return builder.both(without_excluded(all), conditions.whole);
}

namespace {

base::Result<Expression> whole_texts(GrammarBuilder& builder, std::string_view pattern, const CharacterLeaf& leaf) {
  TM_TRY(const Regex regex, parse_regex(pattern, builder.limits()));
  std::vector<Expression> alternatives;
  for (const Regex::Alternative& one : regex.alternatives)
    alternatives.push_back(translate_regex(builder, one.root, leaf));
  return builder.choice(alternatives);
}

}  // namespace

base::Result<Expression> regular_expression(GrammarBuilder& builder, std::string_view pattern) {
  const CharacterLeaf leaf = [&builder](const CodePointSet& set) { return builder.code_points(set); };
  // A whole text begins where the pattern does, with ^ or without.
  LookAheads parts = split_look_aheads(pattern, false);
  if (!can_be_split(parts, builder.limits())) {
    auto texts = whole_texts(builder, pattern, leaf);
    return texts ? texts : told_of_part(pattern, false, std::move(texts).error(), builder.limits());
  }
  Conditions conditions;
  TM_TRY(conditions.whole, whole_texts(builder, parts.required.back(), leaf));
  parts.required.pop_back();
  for (const std::string& part : parts.required) {
    TM_TRY(const Expression one, regular_expression_search(builder, part, leaf));
    conditions.required.push_back(one);
  }
  for (const std::string& part : parts.excluded) {
    TM_TRY(const Expression one, regular_expression_search(builder, part, leaf));
    conditions.excluded.push_back(one);
  }
  return under_conditions(builder, conditions);
}

base::Result<Expression> regular_expression_search(GrammarBuilder& builder, std::string_view pattern,
                                                   const CharacterLeaf& leaf) {
  TM_TRY(const Regex regex, parse_regex(pattern, builder.limits()));
  const Expression any = builder.repeat(leaf(CodePointSet::all()), 0, std::nullopt);
  std::vector<Expression> alternatives;
  for (const Regex::Alternative& one : regex.alternatives)
    alternatives.push_back(
        builder.sequence({one.anchored_start ? builder.empty() : any, translate_regex(builder, one.root, leaf),
                          one.anchored_end ? builder.empty() : any}));
  return builder.choice(alternatives);
}

}  // namespace tidemill::grammar
