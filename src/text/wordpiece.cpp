// BERT's tokenizer (Devlin et al. 2018, "WordPiece" of Wu et al. 2016): text is cleaned and cut into words, and each
// word is spelt in the longest pieces that fit, from the left. What counts as a word is as in the models' own
// tokenizers (BertNormalizer and BertPreTokenizer of Hugging Face's tokenizers, which they were trained with).
//
// GGUF writes pieces the other way round than BERT: those that begin a word have U+2581 in front ("phantom space"),
// those that go on with one have nothing where BERT writes "##".
#include <algorithm>
#include <array>
#include <span>

#include <utf8proc.h>

#include "base/utf8.hpp"
#include "text/characters.hpp"
#include "text/space_mark.hpp"
#include "text/text_encoder.hpp"

namespace tidemill::text {
namespace {

// A longer word is unknown as a whole; BERT's own limit.
constexpr size_t max_word_characters = 100;

// The controls that are white space; the others are dropped, the vertical tab and the form feed with them.
bool is_kept_control(char32_t c) {
  return c == '\t' || c == '\n' || c == '\r';
}

bool is_dropped(char32_t c) {
  if (c == 0 || c == base::utf8::replacement) return true;
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  const bool control = category == UTF8PROC_CATEGORY_CC || category == UTF8PROC_CATEGORY_CF ||
                       category == UTF8PROC_CATEGORY_CO || category == UTF8PROC_CATEGORY_CS;
  return control && !is_kept_control(c);
}

// Ideographs, each of which is a word. The gap from 0x2B820 to 0x2B91F is in the tokenizers that models were trained
// with, whatever its reason.
bool is_ideograph(char32_t c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
         (c >= 0x2A700 && c <= 0x2B73F) || (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
         (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

// BERT takes ASCII's symbols for punctuation, but not those beyond.
bool is_punctuation(char32_t c) {
  if (c < 0x80)
    return c > ' ' && c < 0x7F && class_of(c) != CharacterClass::letter && class_of(c) != CharacterClass::number;
  return class_of(c) == CharacterClass::punctuation;
}

// Characters as an uncased vocabulary spells them: decomposed (Unicode's NFD), without marks that take no width, in
// lower case. A character at a time, so that nothing sorts long runs of marks: all that NFD would reorder are marks, of
// which only a few rare ones with width are left.
class Folding {
 public:
  // The characters that `c` becomes, none to a few; valid until the next call.
  std::span<const char32_t> fold(char32_t c) {
    if (c < 0x80) {
      folded_[0] = c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c;
      return std::span(folded_).first(1);
    }
    std::array<utf8proc_int32_t, most> parts{};
    int boundary_class = 0;
    const utf8proc_ssize_t count = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), parts.data(), most,
                                                           UTF8PROC_DECOMPOSE, &boundary_class);
    size_t kept = 0;
    for (const utf8proc_int32_t part : std::span(parts).first(static_cast<size_t>(count))) {
      if (utf8proc_category(part) != UTF8PROC_CATEGORY_MN)
        folded_[kept++] = static_cast<char32_t>(utf8proc_tolower(part));
    }
    return std::span(folded_).first(kept);
  }

 private:
  static constexpr size_t most = 8;  // no character has a canonical decomposition of more than 4
  std::array<char32_t, most> folded_{};
};

class WordPieceEncoder : public TextEncoder {
 public:
  explicit WordPieceEncoder(const Vocabulary& vocabulary)
      : first_(vocabulary.size()), next_(vocabulary.size()), lower_case_(*vocabulary.lower_case) {
    for (size_t i = 0; i < vocabulary.size(); ++i) {
      const TokenKind kind = vocabulary.kinds[i];
      if (kind != TokenKind::normal && kind != TokenKind::unused) continue;
      std::string_view piece = vocabulary.pieces[i];
      const bool begins = piece.starts_with(space_mark);
      if (begins) piece.remove_prefix(space_mark.size());
      if (piece.empty()) continue;
      (begins ? first_ : next_).insert(piece, static_cast<Token>(i));
      longest_ = std::max(longest_, piece.size());
    }
    unknown_ = vocabulary.unknown.value_or(-1);
  }

  void encode(std::string_view text, std::vector<Token>& out) const override {
    for_words(text, [&](const Word& word) {
      const bool spelt = word.characters <= max_word_characters && spell(word.text, out);
      if (!spelt && unknown_ >= 0) out.push_back(unknown_);
      return true;
    });
  }

  size_t count_words(std::string_view text, size_t enough) const override {
    size_t words = 0;
    if (enough > 0) for_words(text, [&](const Word& /*word*/) { return ++words < enough; });
    return words;
  }

 private:
  struct Word {
    std::string text;  // not all of it where it is too long
    size_t characters = 0;
  };

  // Calls each(word) for one word after the other, until that gives false.
  template <typename Each>
  void for_words(std::string_view text, Each&& each) const {
    Word word;
    bool wanted = true;
    const auto end = [&] {
      if (word.characters == 0 || !wanted) return;
      wanted = each(word);
      word.text.clear();
      word.characters = 0;
    };
    const auto add = [&](char32_t c) {
      if (class_of(c) == CharacterClass::white_space) return end();
      const bool alone = is_punctuation(c);
      if (alone) end();
      // Of a word that is too long nothing but its length matters.
      if (++word.characters <= max_word_characters) base::utf8::append(word.text, c);
      if (alone) end();
    };
    Folding folding;
    for (size_t at = 0; at < text.size() && wanted;) {
      const base::utf8::Decoded decoded = base::utf8::decode(text.substr(at));
      at += decoded.length;
      const char32_t c = decoded.code_point;
      if (is_dropped(c)) continue;
      const bool alone = is_ideograph(c);
      if (alone) end();
      if (lower_case_) {
        for (const char32_t folded : folding.fold(c))
          add(folded);
      } else {
        add(c);
      }
      if (alone) end();
    }
    end();
  }

  // Appends the pieces of `word`; false, and nothing is appended, where they do not reach its end.
  bool spell(std::string_view word, std::vector<Token>& out) const {
    const size_t before = out.size();
    for (size_t at = 0; at < word.size();) {
      const PieceTable& pieces = at == 0 ? first_ : next_;
      Token token = -1;
      size_t length = std::min(longest_, word.size() - at);
      for (; length > 0; --length) {
        const bool within_character =
            at + length < word.size() && (static_cast<uint8_t>(word[at + length]) & 0xC0) == 0x80;
        if (within_character) continue;
        token = pieces.find(word.substr(at, length));
        if (token >= 0) break;
      }
      if (token < 0) {
        out.resize(before);
        return false;
      }
      out.push_back(token);
      at += length;
    }
    return true;
  }

  PieceTable first_;  // the pieces that begin a word, without their mark
  PieceTable next_;   // those that go on with one
  bool lower_case_;
  Token unknown_ = -1;
  size_t longest_ = 0;  // bytes of the longest piece
};

}  // namespace

base::Result<std::unique_ptr<TextEncoder>> make_wordpiece_encoder(const Vocabulary& vocabulary) {
  return std::unique_ptr<TextEncoder>(std::make_unique<WordPieceEncoder>(vocabulary));
}

std::string wordpiece_bytes(std::string_view piece, TokenKind kind) {
  if ((kind != TokenKind::normal && kind != TokenKind::unused) || !piece.starts_with(space_mark))
    return std::string(piece);
  return ' ' + std::string(piece.substr(space_mark.size()));
}

}  // namespace tidemill::text
