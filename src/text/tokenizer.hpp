// Text to tokens and back.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "text/special_tokens.hpp"
#include "text/vocabulary.hpp"

namespace tidemill::text {

class TextEncoder;

struct EncodeOptions {
  bool add_special = true;     // put bos before and eos behind, where the vocabulary asks for them
  bool parse_special = false;  // read control tokens written out in the text (a rendered chat template) as tokens;
                               // never set it for text that a user wrote
  // With parse_special: byte offsets into the text, ascending. A control token's name that covers one of them is plain
  // text: this is how the words of users inside a rendered template stay words.
  std::span<const size_t> literal = {};
};

// Immutable once made; every call may be made from any thread at once.
//
// What it computes is what llama.cpp's tokenizers compute for the same vocabularies, with three differences on purpose.
// Bytes that are not UTF-8 keep their value (llama.cpp turns each into U+FFFD), so that decode(encode(x)) == x for
// vocabularies that can spell every byte; WordPiece, which can spell none, drops them, and unigram vocabularies have
// SentencePiece's U+FFFD. Text alone never merges into a control token. And WordPiece follows the models' own
// tokenizers where llama.cpp's does not (Hangul, vertical tabs, words of over 100 characters). What they share: to spm
// and unigram vocabularies, U+2581 in a text is a space.
//
// Of text in WordPiece, decode gives back words as the vocabulary has them, one space before each: case, accents and
// white space are gone, and what was unknown. Encoding that again gives the same tokens, but for the unknown ones. Of
// unigram vocabularies it gives back the text as it was normalised.
class Tokenizer {
 public:
  ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // `corrupt` for a vocabulary that contradicts itself (no pieces, arrays of different lengths, a token id out of
  // range, a malformed merge), `unsupported` for an unknown pre-tokenizer.
  static base::Result<std::unique_ptr<Tokenizer>> create(Vocabulary vocabulary);

  // Time grows as n log n at worst in the length of `text`, whatever it holds. Any bytes are accepted; over
  // `max_text_bytes` is `too_large`.
  base::Result<std::vector<Token>> encode(std::string_view text, EncodeOptions options = {}) const;
  static constexpr size_t max_text_bytes = size_t{1} << 28;

  // Two texts that a model reads together, "[CLS] first [SEP] second [SEP]" as BERT has it, as two halves, of which one
  // first may go before many seconds. Both are users' words, in which no special token is read. Errors: encode()'s, and
  // `unsupported` where the vocabulary names no tokens to begin a pair with and to part it.
  base::Result<std::vector<Token>> encode_first_of_pair(std::string_view text) const;
  base::Result<std::vector<Token>> encode_second_of_pair(std::string_view text) const;

  // A bound from below on the tokens of `text`, found without encoding it: none stands for more bytes than the longest.
  // Holds where the vocabulary can spell the text; bytes that it cannot, and for which it has no unknown token, vanish.
  // To WordPiece white space is nothing and any long word may be one token: there words are counted, until the bound is
  // `enough`, and it is 0 where unknown words vanish. Of unigram vocabularies it is 0, since normalising may leave
  // nothing of a text.
  size_t least_tokens(std::string_view text, size_t enough = max_text_bytes) const;

  // The bytes that a token stands for, not always whole UTF-8 characters; of special tokens, their name. Empty for an
  // id that is not in the vocabulary.
  std::string_view piece_bytes(Token token) const;

  // The bytes of `tokens`, without the space that encode puts before text. Control and unknown tokens are left out
  // unless `show_special`. Not always valid UTF-8: a Detokenizer sees to that.
  std::string decode(std::span<const Token> tokens, bool show_special = false) const;

  // Where the next name of a special token begins in `text` at or after `from`; npos if there is none.
  size_t find_special_name(std::string_view text, size_t from = 0) const;

  bool is_special(Token token) const;  // control or unknown: of the protocol, not of the text
  bool ends_generation(Token token) const;

  // True if text after `previous` starts with the space that encode puts there and decode takes away.
  bool prefixed_after(std::span<const Token> previous) const;
  // The same one token further: after `token`, where `prefixed` is what held before it.
  bool prefixed_after(bool prefixed, Token token) const;

  const Vocabulary& vocabulary() const { return vocabulary_; }

 private:
  explicit Tokenizer(Vocabulary vocabulary);

  bool is(TokenKind kind, Token token) const;
  void build_piece_bytes();
  void count_special_words();
  void encode_fragment(std::string_view text, std::vector<Token>& out) const;
  size_t skip_after_special(std::string_view text, size_t at, Token special) const;

  Vocabulary vocabulary_;
  std::string bytes_;              // every token's bytes, end to end
  std::vector<uint32_t> offsets_;  // [size + 1] into bytes_
  size_t longest_ = 4;             // bytes of the longest token; an unknown one may stand for any character
  size_t most_words_ = 1;          // that the name of one special token is to WordPiece
  SpecialTokens specials_;
  std::unique_ptr<TextEncoder> encoder_;
};

}  // namespace tidemill::text
