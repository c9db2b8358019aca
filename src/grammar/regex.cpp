#include "grammar/regex.hpp"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "grammar/look_ahead_patterns.hpp"
#include "grammar/regex_match.hpp"

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

Expression under_conditions(GrammarBuilder& builder, Conditions conditions) {
  std::vector<Conditions::Required>& required = conditions.required;
  std::stable_sort(required.begin(), required.end(),
                   [](const auto& one, const auto& other) { return one.states < other.states; });
  Expression all = required.front().texts;
  for (size_t i = 1; i + 1 < required.size(); ++i)
    all = builder.both(all, required[i].texts);
  if (!conditions.excluded.empty()) all = builder.except(all, builder.choice(conditions.excluded));
  return required.size() == 1 ? all : builder.both(all, required.back().texts);
}

namespace {

Expression whole_texts(GrammarBuilder& builder, const Regex& regex, const CharacterLeaf& leaf) {
  std::vector<Expression> alternatives;
  for (const Regex::Alternative& one : regex.alternatives)
    alternatives.push_back(translate_regex(builder, one.root, leaf));
  return builder.choice(alternatives);
}

Expression searched_texts(GrammarBuilder& builder, const Regex& regex, const CharacterLeaf& leaf) {
  const Expression any = builder.repeat(leaf(CodePointSet::all()), 0, std::nullopt);
  std::vector<Expression> alternatives;
  for (const Regex::Alternative& one : regex.alternatives)
    alternatives.push_back(
        builder.sequence({one.anchored_start ? builder.empty() : any, translate_regex(builder, one.root, leaf),
                          one.anchored_end ? builder.empty() : any}));
  return builder.choice(alternatives);
}

}  // namespace

base::Result<Expression> regular_expression(GrammarBuilder& builder, std::string_view pattern) {
  const CharacterLeaf leaf = [&builder](const CodePointSet& set) { return builder.code_points(set); };
  // A whole text begins where the pattern does, with ^ or without.
  const LookAheads parts = split_look_aheads(pattern, false);
  if (!can_be_split(parts, builder.limits())) {
    auto regex = parse_regex(pattern, builder.limits());
    if (!regex) return told_of_part(pattern, false, std::move(regex).error(), builder.limits());
    return whole_texts(builder, *regex, leaf);
  }
  Conditions conditions;
  for (const std::string& part : parts.required) {
    TM_TRY(const Regex regex, parse_regex(part, builder.limits()));
    const bool is_rest = &part == &parts.required.back();
    conditions.required.push_back(
        {is_rest ? whole_texts(builder, regex, leaf) : searched_texts(builder, regex, leaf), likely_states(regex)});
  }
  for (const std::string& part : parts.excluded) {
    TM_TRY(const Expression one, regular_expression_search(builder, part, leaf));
    conditions.excluded.push_back(one);
  }
  return under_conditions(builder, std::move(conditions));
}

base::Result<Expression> regular_expression_search(GrammarBuilder& builder, std::string_view pattern,
                                                   const CharacterLeaf& leaf) {
  TM_TRY(const Regex regex, parse_regex(pattern, builder.limits()));
  return searched_texts(builder, regex, leaf);
}

}  // namespace tidemill::grammar
