// What the kinds of tokenizers have in common: text without special tokens becomes tokens.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "text/piece_table.hpp"
#include "text/vocabulary.hpp"

namespace tidemill::text {

class TextEncoder {
 public:
  virtual ~TextEncoder() = default;

  // Appends the tokens of `text`, any bytes of at most Tokenizer::max_text_bytes. Thread-safe.
  virtual void encode(std::string_view text, std::vector<Token>& out) const = 0;

  // How many words `text` has that are each a token at least, or unknown; counted up to `enough`. 0 where tokens know
  // no words. Thread-safe.
  virtual size_t count_words(std::string_view /*text*/, size_t /*enough*/) const { return 0; }
};

// SentencePiece's BPE. The vocabulary must outlive the encoder, unmoved, as for the next one.
base::Result<std::unique_ptr<TextEncoder>> make_spm_encoder(const Vocabulary& vocabulary);
// The bytes that a piece of such a vocabulary stands for.
std::string spm_piece_bytes(std::string_view piece, TokenKind kind);

// SentencePiece's unigram model, whose pieces stand for the same bytes. Errors of CharactersMap::parse.
base::Result<std::unique_ptr<TextEncoder>> make_unigram_encoder(const Vocabulary& vocabulary);

// GPT-2's byte-level BPE.
base::Result<std::unique_ptr<TextEncoder>> make_bpe_encoder(const Vocabulary& vocabulary);
std::string bpe_piece_bytes(std::string_view piece, TokenKind kind);
// The piece that stands for these bytes: the other way round, of a normal token.
std::string bpe_piece(std::string_view bytes);

// BERT's WordPiece. A piece that begins a word stands for a space as well.
base::Result<std::unique_ptr<TextEncoder>> make_wordpiece_encoder(const Vocabulary& vocabulary);
std::string wordpiece_bytes(std::string_view piece, TokenKind kind);

// The byte that a piece named like <0x0A> stands for, or -1.
int byte_of_piece(std::string_view piece);

}  // namespace tidemill::text
