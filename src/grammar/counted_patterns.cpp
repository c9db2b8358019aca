#include "grammar/counted_patterns.hpp"

#include <algorithm>
#include <utility>
#include <vector>

#include "grammar/regex_match.hpp"

namespace tidemill::grammar {
namespace {

using Kind = RegexNode::Kind;

constexpr size_t most_lengths = 16;        // of a head, or of a tail
constexpr size_t longest_of_several = 64;  // characters of a head or tail that has several lengths

// The head and the tail are sequences; between them stand characters of `set`.
struct Parts {
  RegexNode head;
  CodePointSet set;
  size_t least = 0;
  RegexNode tail;
};

void append_flat(std::vector<RegexNode>& out, const RegexNode& node) {
  if (node.kind != Kind::sequence) return out.push_back(node);
  for (const RegexNode& part : node.parts)
    append_flat(out, part);
}

// Characters of one set, as many as they like.
bool is_open(const RegexNode& node) {
  return node.kind == Kind::repeat && !node.most && node.parts[0].kind == Kind::characters;
}

RegexNode sequence_of(std::vector<RegexNode> parts) {
  RegexNode node;
  node.parts = std::move(parts);
  return node;
}

// At an end behind or before which anything may stand, no more than the least need be asked for.
void close(RegexNode& node) {
  if (is_open(node)) node.most = node.least;
}

std::optional<Parts> parts_of(const Regex::Alternative& alternative) {
  std::vector<RegexNode> nodes;
  append_flat(nodes, alternative.root);
  Parts parts{.head = {}, .set = CodePointSet::all(), .least = 0, .tail = {}};
  if (alternative.anchored_start && alternative.anchored_end) {
    const auto open = std::find_if(nodes.begin(), nodes.end(), is_open);
    if (open == nodes.end()) return std::nullopt;
    parts.set = open->parts[0].set;
    parts.least = open->least;
    parts.head = sequence_of({nodes.begin(), open});
    parts.tail = sequence_of({open + 1, nodes.end()});
  } else if (alternative.anchored_start) {
    if (!nodes.empty()) close(nodes.back());
    parts.head = sequence_of(std::move(nodes));
  } else if (alternative.anchored_end) {
    if (!nodes.empty()) close(nodes.front());
    parts.tail = sequence_of(std::move(nodes));
  } else {
    return std::nullopt;
  }
  return parts;
}

bool has_few_lengths(const LengthRange& lengths) {
  if (!lengths.most) return false;
  return *lengths.most == lengths.least ||
         (*lengths.most <= longest_of_several && *lengths.most - lengths.least < most_lengths);
}

class Counting {
 public:
  Counting(GrammarBuilder& builder, size_t least, std::optional<size_t> most, const CharacterLeaf& leaf)
      : builder_(builder), least_(least), most_(most), leaf_(leaf) {}

  std::optional<Expression> alternative(const Regex::Alternative& one) {
    const std::optional<Parts> parts = parts_of(one);
    return parts ? around_a_middle(*parts) : std::nullopt;
  }

 private:
  // What is asked for behind so many characters.
  size_t least_behind(size_t count) const { return least_ - std::min(least_, count); }

  Expression of_length(const RegexNode& node, const LengthRange& lengths, size_t length) {
    const Expression all = translate_regex(builder_, node, leaf_);
    if (lengths.least == lengths.most) return all;
    return builder_.both(all, builder_.repeat(leaf_(CodePointSet::all()), length, length));
  }

  std::optional<Expression> around_a_middle(const Parts& parts) {
    const LengthRange heads = lengths_of(parts.head);
    const LengthRange tails = lengths_of(parts.tail);
    if (!has_few_lengths(heads) || !has_few_lengths(tails)) return std::nullopt;
    const Expression character = leaf_(parts.set);
    std::vector<Expression> ways;
    for (size_t head = heads.least; head <= *heads.most; ++head) {
      for (size_t tail = tails.least; tail <= *tails.most; ++tail) {
        const size_t around = head + tail;
        if (most_ && around > *most_) continue;
        const std::optional<size_t> room = most_ ? std::optional(*most_ - around) : std::nullopt;
        ways.push_back(builder_.sequence({of_length(parts.head, heads, head),
                                          builder_.repeat(character, std::max(parts.least, least_behind(around)), room),
                                          of_length(parts.tail, tails, tail)}));
      }
    }
    return builder_.choice(ways);
  }

  GrammarBuilder& builder_;
  const size_t least_;
  const std::optional<size_t> most_;
  const CharacterLeaf& leaf_;
};

}  // namespace

std::optional<Expression> counted_texts(GrammarBuilder& builder, const Regex& regex, size_t least,
                                        std::optional<size_t> most, const CharacterLeaf& leaf) {
  Counting counting(builder, least, most, leaf);
  std::vector<Expression> ways;
  for (const Regex::Alternative& one : regex.alternatives) {
    const std::optional<Expression> way = counting.alternative(one);
    if (!way) return std::nullopt;
    ways.push_back(*way);
  }
  return builder.choice(ways);
}

}  // namespace tidemill::grammar
