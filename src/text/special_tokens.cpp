#include "text/special_tokens.hpp"

#include <algorithm>

namespace tidemill::text {

SpecialTokens::SpecialTokens(const Vocabulary& vocabulary) : nodes_(1) {
  for (size_t i = 0; i < vocabulary.size(); ++i) {
    const TokenKind kind = vocabulary.kinds[i];
    const bool special = kind == TokenKind::user_defined || kind == TokenKind::control || kind == TokenKind::unknown;
    if (special && !vocabulary.pieces[i].empty())
      insert(vocabulary.pieces[i], static_cast<Token>(i), kind == TokenKind::user_defined);
  }
  for (const auto& [byte, node] : nodes_[0].next)
    starts_[byte] = node;
}

void SpecialTokens::insert(std::string_view name, Token token, bool always) {
  uint32_t node = 0;
  for (const char c : name) {
    const auto byte = static_cast<uint8_t>(c);
    uint32_t next = step(node, byte);
    if (next == 0) {
      next = static_cast<uint32_t>(nodes_.size());
      nodes_.emplace_back();
      auto& edges = nodes_[node].next;
      edges.insert(std::lower_bound(edges.begin(), edges.end(), std::pair{byte, uint32_t{0}}), {byte, next});
    }
    node = next;
  }
  if (nodes_[node].token >= 0) return;  // the first token of a name counts
  nodes_[node].token = token;
  nodes_[node].always = always;
}

uint32_t SpecialTokens::step(uint32_t node, uint8_t byte) const {
  const auto& edges = nodes_[node].next;
  const auto edge = std::lower_bound(edges.begin(), edges.end(), std::pair{byte, uint32_t{0}});
  return edge != edges.end() && edge->first == byte ? edge->second : 0;
}

std::optional<SpecialTokens::Match> SpecialTokens::find(std::string_view text, size_t from, bool parse_special,
                                                        std::span<const size_t> literal) const {
  const auto is_literal = [literal](size_t begin, size_t end) {
    const auto first = std::lower_bound(literal.begin(), literal.end(), begin);
    return first != literal.end() && *first < end;
  };
  for (size_t begin = from; begin < text.size(); ++begin) {
    uint32_t node = starts_[static_cast<uint8_t>(text[begin])];
    std::optional<Match> longest;
    for (size_t at = begin + 1; node != 0; ++at) {
      if (nodes_[node].token >= 0 && (nodes_[node].always || (parse_special && !is_literal(begin, at))))
        longest = Match{begin, at, nodes_[node].token};
      if (at == text.size()) break;
      node = step(node, static_cast<uint8_t>(text[at]));
    }
    if (longest) return longest;
  }
  return std::nullopt;
}

}  // namespace tidemill::text
