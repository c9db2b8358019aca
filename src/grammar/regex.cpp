#include "grammar/regex.hpp"

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

base::Result<Expression> regular_expression(GrammarBuilder& builder, std::string_view pattern) {
  TM_TRY(const Regex regex, parse_regex(pattern, builder.limits()));
  const CharacterLeaf leaf = [&builder](const CodePointSet& set) { return builder.code_points(set); };
  std::vector<Expression> alternatives;
  for (const Regex::Alternative& one : regex.alternatives)
    alternatives.push_back(translate_regex(builder, one.root, leaf));
  return builder.choice(alternatives);
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
