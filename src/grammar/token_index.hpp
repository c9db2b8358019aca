// The vocabulary arranged for walking it together with a grammar.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "grammar/automaton.hpp"
#include "text/tokenizer.hpp"

namespace tidemill::grammar {

// Text tokens in a trie of bytes, control tokens by name, and the tokens that end a generation. Tokens without bytes,
// unused and unknown ones are nowhere in it. Made once per tokenizer (tens of milliseconds for 128,000 tokens).
// Immutable; thread-safe.
class TokenIndex {
 public:
  explicit TokenIndex(const text::Tokenizer& tokenizer);  // the tokenizer must outlive it

  // A node of the trie: the bytes on the way to it. Nodes lie in preorder, so that those below `node` are the ones from
  // node + 1 up to end. Node 0 is the root.
  struct Node {
    uint32_t end = 0;          // behind the last node below
    uint32_t first_token = 0;  // into tokens(); the node's own come first, then those below, up to first_token of `end`
    uint32_t own_tokens = 0;
    uint32_t groups = 0;  // of bytes on the ways below; see group_of
    uint8_t byte = 0;     // the last on the way to it
  };

  const text::Tokenizer& tokenizer() const { return tokenizer_; }
  size_t vocabulary_size() const { return tokenizer_.vocabulary().size(); }
  std::span<const Node> nodes() const { return nodes_; }  // and one behind the last, for first_token
  std::span<const text::Token> tokens() const { return tokens_; }
  std::span<const text::Token> tokens_below(uint32_t node) const {  // its own too
    return std::span(tokens_).subspan(nodes_[node].first_token,
                                      nodes_[nodes_[node].end].first_token - nodes_[node].first_token);
  }
  std::span<const text::Token> tokens_of(uint32_t node) const {
    return std::span(tokens_).subspan(nodes_[node].first_token, nodes_[node].own_tokens);
  }
  // The node behind `byte`; 0 if there is none.
  uint32_t child(uint32_t node, uint8_t byte) const;

  // Bytes in 32 groups that grammars tend to treat alike, a bit each.
  static uint32_t group_of(uint8_t byte);

  bool is_text(text::Token token) const;
  std::optional<text::Token> control_token(std::string_view name) const;  // one that does not end a generation
  bool is_ending(std::string_view name) const;                            // the name of one that does
  std::span<const text::Token> end_tokens() const { return tokenizer_.vocabulary().end_of_generation; }
  const ByteSet& single_bytes() const { return single_bytes_; }  // that are a token alone
  size_t longest_token() const { return longest_; }              // bytes

 private:
  void build_trie();

  const text::Tokenizer& tokenizer_;
  std::vector<Node> nodes_;
  std::vector<text::Token> tokens_;
  std::unordered_map<std::string_view, text::Token> control_;
  std::unordered_map<std::string_view, text::Token> ending_;
  ByteSet single_bytes_;
  size_t longest_ = 0;
};

}  // namespace tidemill::grammar
