#include "grammar/token_index.hpp"

#include <algorithm>
#include <array>
#include <numeric>

namespace tidemill::grammar {

namespace {

using text::Token;
using text::TokenKind;

// Letters, digits, the bytes of characters past ASCII, and most punctuation on its own: grammars give a meaning to few
// of them, and everywhere else they are all text.
constexpr std::array<uint8_t, 256> make_groups() {
  std::array<uint8_t, 256> groups{};
  constexpr std::string_view alone = "\"\\/{}[]:,<>|-+.eE \n\t'`&";  // 1, 2, ...
  for (size_t byte = 0; byte < 256; ++byte) {
    uint8_t group = 0;  // control characters
    if (byte >= 0x80) group = 31;
    if (byte >= 0xC0) group = 30;
    if (byte > ' ' && byte < 0x7F) group = 29;
    if (byte >= '0' && byte <= '9') group = 28;
    if ((byte >= 'a' && byte <= 'z')) group = 27;
    if (byte >= 'A' && byte <= 'Z') group = 26;
    if (byte < 0x80) {
      for (size_t i = 0; i < alone.size(); ++i)
        if (static_cast<size_t>(alone[i]) == byte) group = static_cast<uint8_t>(i + 1);
    }
    groups[byte] = group;
  }
  return groups;
}

constexpr auto kGroups = make_groups();

}  // namespace

uint32_t TokenIndex::group_of(uint8_t byte) {
  return uint32_t{1} << kGroups[byte];
}

bool TokenIndex::is_text(Token token) const {
  const TokenKind kind = tokenizer_.vocabulary().kinds[token];
  const bool is_kind = kind == TokenKind::normal || kind == TokenKind::user_defined || kind == TokenKind::byte;
  return is_kind && !tokenizer_.ends_generation(token) && !tokenizer_.piece_bytes(token).empty();
}

TokenIndex::TokenIndex(const text::Tokenizer& tokenizer) : tokenizer_(tokenizer) {
  const text::Vocabulary& vocabulary = tokenizer.vocabulary();
  for (Token token = 0; static_cast<size_t>(token) < vocabulary.size(); ++token) {
    const std::string_view bytes = tokenizer.piece_bytes(token);
    if (is_text(token)) {
      tokens_.push_back(token);
      if (bytes.size() == 1) single_bytes_.set(static_cast<uint8_t>(bytes[0]));
      longest_ = std::max(longest_, bytes.size());
    } else if (tokenizer.ends_generation(token)) {
      ending_.emplace(bytes, token);
    } else if (vocabulary.kinds[token] == TokenKind::control) {
      control_.emplace(bytes, token);
    }
  }
  std::sort(tokens_.begin(), tokens_.end(), [&](Token left, Token right) {
    const int order = tokenizer.piece_bytes(left).compare(tokenizer.piece_bytes(right));
    return order != 0 ? order < 0 : left < right;
  });
  build_trie();
}

void TokenIndex::build_trie() {
  std::vector<uint32_t> path{0};  // nodes from the root to the last token's
  nodes_.push_back({});
  const auto close = [&](size_t depth) {
    for (; path.size() > depth + 1; path.pop_back()) {
      Node& node = nodes_[path.back()];
      node.end = static_cast<uint32_t>(nodes_.size());
      Node& parent = nodes_[path[path.size() - 2]];
      parent.groups |= node.groups | group_of(node.byte);
    }
  };
  std::string_view before;
  for (size_t i = 0; i < tokens_.size(); ++i) {
    const std::string_view bytes = tokenizer_.piece_bytes(tokens_[i]);
    const auto parting = std::mismatch(before.begin(), before.end(), bytes.begin(), bytes.end());
    const auto shared = static_cast<size_t>(parting.second - bytes.begin());
    close(shared);
    for (size_t depth = shared; depth < bytes.size(); ++depth) {
      path.push_back(static_cast<uint32_t>(nodes_.size()));
      nodes_.push_back({.first_token = static_cast<uint32_t>(i), .byte = static_cast<uint8_t>(bytes[depth])});
    }
    ++nodes_[path.back()].own_tokens;
    before = bytes;
  }
  close(0);
  nodes_[0].end = static_cast<uint32_t>(nodes_.size());
  nodes_.push_back({.first_token = static_cast<uint32_t>(tokens_.size())});
}

uint32_t TokenIndex::child(uint32_t node, uint8_t byte) const {
  for (uint32_t at = node + 1; at < nodes_[node].end; at = nodes_[at].end)
    if (nodes_[at].byte == byte) return at;
  return 0;
}

std::optional<Token> TokenIndex::control_token(std::string_view name) const {
  const auto found = control_.find(name);
  if (found == control_.end()) return std::nullopt;
  return found->second;
}

bool TokenIndex::is_ending(std::string_view name) const {
  return ending_.contains(name);
}

}  // namespace tidemill::grammar
