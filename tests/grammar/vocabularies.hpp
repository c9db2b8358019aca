// Vocabularies to match with.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "grammar/token_index.hpp"
#include "text/tokenizer.hpp"

namespace tidemill::test {

struct Vocabulary {
  std::unique_ptr<text::Tokenizer> tokenizer;
  std::shared_ptr<const grammar::TokenIndex> index;

  explicit Vocabulary(text::Vocabulary vocabulary)
      : tokenizer(*text::Tokenizer::create(std::move(vocabulary))),
        index(std::make_shared<grammar::TokenIndex>(*tokenizer)) {}
};

// SentencePiece-like: <s>, </s>, <unk>, the 256 bytes, then `pieces`; then the control tokens of `control`.
inline text::Vocabulary small_vocabulary(const std::vector<std::string>& pieces,
                                         const std::vector<std::string>& control = {}) {
  text::Vocabulary v = *text::Vocabulary::with_defaults("llama", "");
  const auto add = [&](std::string piece, text::TokenKind kind) {
    v.pieces.push_back(std::move(piece));
    v.kinds.push_back(kind);
  };
  add("<unk>", text::TokenKind::unknown);
  add("<s>", text::TokenKind::control);
  add("</s>", text::TokenKind::control);
  const char* digits = "0123456789ABCDEF";
  for (size_t byte = 0; byte < 256; ++byte)
    add(std::string("<0x") + digits[byte / 16] + digits[byte % 16] + ">", text::TokenKind::byte);
  for (const std::string& piece : pieces)
    add(piece, text::TokenKind::normal);
  for (const std::string& name : control)
    add(name, text::TokenKind::control);
  return v;
}

}  // namespace tidemill::test
