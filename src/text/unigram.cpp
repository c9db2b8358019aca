// SentencePiece's unigram model (Kudo 2018, "Subword Regularization"): text is normalised and cut into the pieces whose
// scores, which are logarithms of probabilities, have the largest sum. A character that no piece spells costs more than
// any, and is spelt in bytes where the vocabulary has them; else a run of such characters is one unknown token.
//
// Normalising is that of SentencePiece's normalizer.cc: the map of characters, one space for several, none at the ends,
// one before the text, and U+2581 for spaces.
#include <algorithm>
#include <array>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "base/utf8.hpp"
#include "text/characters_map.hpp"
#include "text/piece_trie.hpp"
#include "text/space_mark.hpp"
#include "text/text_encoder.hpp"

namespace tidemill::text {
namespace {

// How much less than the worst piece a character is worth that is none; SentencePiece's own number.
constexpr double unknown_penalty = 10;

class UnigramEncoder : public TextEncoder {
 public:
  UnigramEncoder(const Vocabulary& vocabulary, CharactersMap characters)
      : characters_(std::move(characters)),
        pieces_(text_pieces(vocabulary)),
        scores_(vocabulary.scores),
        space_prefix_(vocabulary.add_space_prefix),
        single_spaces_(vocabulary.single_spaces),
        unknown_(vocabulary.unknown.value_or(-1)) {
    double least = std::numeric_limits<double>::max();
    bytes_.fill(-1);
    for (size_t i = 0; i < vocabulary.size(); ++i) {
      const auto token = static_cast<Token>(i);
      if (vocabulary.kinds[i] == TokenKind::byte) {
        if (const int byte = byte_of_piece(vocabulary.pieces[i]); byte >= 0) bytes_[static_cast<size_t>(byte)] = token;
      }
      if (vocabulary.kinds[i] != TokenKind::normal) continue;
      least = std::min<double>(least, scores_[i]);
      words_join_ = words_join_ || joins_words(vocabulary.pieces[i]);
    }
    unknown_score_ = (least == std::numeric_limits<double>::max() ? 0 : least) - unknown_penalty;
  }

  void encode(std::string_view text, std::vector<Token>& out) const override {
    const std::string normalised = normalise(text);
    const std::string_view whole = normalised;
    Work work;
    // Where no piece has a mark but at its start, the best pieces of each word are the best of the whole.
    for (size_t at = 0; at < whole.size();) {
      const size_t end = words_join_ ? whole.size() : word_end(whole, at);
      encode_word(whole.substr(at, end - at), work, out);
      at = end;
    }
  }

 private:
  // How the best pieces of a word's first bytes end.
  struct Best {
    double score = 0;
    uint32_t begin = 0;  // of the last piece
    Token token = -1;    // of it; -1: a character that is none
    bool reached = false;
  };
  struct Work {
    std::vector<Best> best;  // [bytes of the word + 1]
    std::vector<size_t> ends;
    bool behind_unknown = false;
  };

  static std::vector<PieceTrie::Piece> text_pieces(const Vocabulary& vocabulary) {
    std::vector<PieceTrie::Piece> pieces;
    for (size_t i = 0; i < vocabulary.size(); ++i) {
      if (vocabulary.kinds[i] == TokenKind::normal && !vocabulary.pieces[i].empty())
        pieces.push_back({vocabulary.pieces[i], static_cast<Token>(i)});
    }
    return pieces;
  }

  std::string normalise(std::string_view text) const {
    std::string out;
    out.reserve(text.size() + text.size() / 4 + space_mark.size());
    if (space_prefix_) out += space_mark;
    bool behind_space = single_spaces_;
    while (!text.empty()) {
      const CharactersMap::Step step = characters_.next(text);
      text.remove_prefix(step.length);
      std::string_view put = step.text;
      while (behind_space && put.starts_with(' '))
        put.remove_prefix(1);
      for (const char c : put) {
        if (c == ' ') {
          out += space_mark;
        } else {
          out += c;
        }
      }
      if (!put.empty()) behind_space = single_spaces_ && put.ends_with(' ');
    }
    while (single_spaces_ && std::string_view(out).ends_with(space_mark))
      out.resize(out.size() - space_mark.size());
    return out;
  }

  static size_t character_length(std::string_view text) {
    const base::utf8::Decoded decoded = base::utf8::decode(text);
    return decoded.valid ? decoded.length : 1;
  }

  // Viterbi's algorithm, from the left: the best way to each byte is known when pieces are looked for that begin there.
  void encode_word(std::string_view word, Work& work, std::vector<Token>& out) const {
    std::vector<Best>& best = work.best;
    best.assign(word.size() + 1, {});
    for (size_t at = 0; at < word.size();) {
      const double before = best[at].score;
      const auto begin = static_cast<uint32_t>(at);
      const auto offer = [&](Token token, size_t length, double score) {
        Best& there = best[at + length];
        if (!there.reached || before + score > there.score) there = {before + score, begin, token, true};
      };
      const size_t length = character_length(word.substr(at));
      bool spelt = false;
      pieces_.for_prefixes(word.substr(at), [&](Token token, size_t size) {
        offer(token, size, scores_[static_cast<size_t>(token)]);
        spelt = spelt || size == length;
      });
      if (!spelt) offer(-1, length, unknown_score_);
      at += length;
    }
    work.ends.clear();
    for (size_t end = word.size(); end > 0; end = best[end].begin)
      work.ends.push_back(end);
    for (auto end = work.ends.rbegin(); end != work.ends.rend(); ++end) {
      const Best& piece = best[*end];
      if (piece.token >= 0) {
        out.push_back(piece.token);
        work.behind_unknown = false;
      } else {
        spell(word.substr(piece.begin, *end - piece.begin), work, out);
      }
    }
  }

  // A character that is no piece: its bytes, or the unknown token where the vocabulary lacks one of them.
  void spell(std::string_view character, Work& work, std::vector<Token>& out) const {
    const auto token_of = [this](char c) { return bytes_[static_cast<uint8_t>(c)]; };
    if (std::all_of(character.begin(), character.end(), [&](char c) { return token_of(c) >= 0; })) {
      for (const char c : character)
        out.push_back(token_of(c));
      work.behind_unknown = false;
      return;
    }
    if (unknown_ >= 0 && !work.behind_unknown) out.push_back(unknown_);
    work.behind_unknown = true;
  }

  CharactersMap characters_;
  PieceTrie pieces_;
  const std::vector<float>& scores_;  // [vocabulary]
  std::array<Token, 256> bytes_{};
  double unknown_score_ = 0;
  bool space_prefix_;
  bool single_spaces_;
  bool words_join_ = false;
  Token unknown_;
};

}  // namespace

base::Result<std::unique_ptr<TextEncoder>> make_unigram_encoder(const Vocabulary& vocabulary) {
  TM_TRY(CharactersMap characters, CharactersMap::parse(vocabulary.characters_map));
  return std::unique_ptr<TextEncoder>(std::make_unique<UnigramEncoder>(vocabulary, std::move(characters)));
}

}  // namespace tidemill::text
