// SentencePiece's unigram model against SentencePiece's own tokens and against all ways to cut a text, and its map of
// characters against one that is put together here.
#include <algorithm>
#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "text/characters_map.hpp"
#include "text/detokenizer.hpp"
#include "text/piece_trie.hpp"
#include "text/random_text.hpp"
#include "text/tokenizer.hpp"
#include "text/tokenizer_of.hpp"
#include "text/unigram_golden.hpp"

namespace tidemill::text {
namespace {

using test::tokenizer_of;
using Tokens = std::vector<Token>;

TEST(Unigram, TokensAreSentencePiecesOwn) {
  for (test::UnigramGolden& golden : test::read_unigram_golden()) {
    const auto tokenizer = tokenizer_of(std::move(golden.vocabulary));
    EXPECT_GE(golden.cases.size(), 100U);
    for (const auto& [text, expected] : golden.cases)
      EXPECT_EQ(tokenizer->encode(text, {.add_special = false}).value(), expected)
          << golden.name << ": '" << text << "'";
  }
}

// Unknown, both marks, and pieces over few letters; `joins` has some with a mark inside.
Vocabulary random_vocabulary(std::mt19937& random, bool joins) {
  Vocabulary vocabulary = Vocabulary::with_defaults("t5", "").value();
  vocabulary.pieces = {"<unk>", "<s>", "</s>"};
  vocabulary.kinds = {TokenKind::unknown, TokenKind::control, TokenKind::control};
  vocabulary.scores = {0, 0, 0};
  vocabulary.unknown = 0;
  vocabulary.bos = 1;
  vocabulary.eos = 2;
  vocabulary.padding.reset();
  vocabulary.add_space_prefix = false;
  vocabulary.single_spaces = false;
  const std::vector<std::string> letters = {"a", "b", "▁", "é"};
  std::uniform_real_distribution<float> score(-12, -1);
  for (int i = 0; i < 30; ++i) {
    std::string piece;
    for (size_t length = 1 + random() % 4; length > 0; --length) {
      const std::string& letter = letters[random() % letters.size()];
      if (letter != "▁" || joins || piece.empty()) piece += letter;
    }
    vocabulary.pieces.push_back(piece);
    vocabulary.kinds.push_back(TokenKind::normal);
    vocabulary.scores.push_back(score(random));
  }
  return vocabulary;
}

struct Cut {
  double score = 0;
  Tokens tokens;
};

// The best of all ways to cut `text`, whose characters are `letters` long each. Tokens stand from the end on.
Cut best_cut(const Vocabulary& vocabulary, double unknown_score, const std::vector<std::string>& text, size_t from) {
  Cut best;
  if (from == text.size()) return best;
  const auto consider = [&](double score, Token token, size_t next) {
    Cut rest = best_cut(vocabulary, unknown_score, text, next);
    if (!best.tokens.empty() && best.score >= score + rest.score) return;
    rest.score += score;
    rest.tokens.push_back(token);
    best = std::move(rest);
  };
  consider(unknown_score, 0, from + 1);
  std::string piece;
  for (size_t end = from; end < text.size(); ++end) {
    piece += text[end];
    for (size_t i = 3; i < vocabulary.size(); ++i) {
      if (vocabulary.pieces[i] != piece) continue;
      consider(vocabulary.scores[i], static_cast<Token>(i), end + 1);
      break;  // of pieces with the same text the first counts
    }
  }
  return best;
}

TEST(Unigram, PiecesHaveTheLargestSumOfScores) {
  std::mt19937 random(11);
  for (int round = 0; round < 60; ++round) {
    const Vocabulary vocabulary = random_vocabulary(random, round % 3 == 0);
    const auto tokenizer = tokenizer_of(vocabulary);
    const float least = *std::min_element(vocabulary.scores.begin() + 3, vocabulary.scores.end());
    const std::vector<std::string> letters = {"a", "b", "▁", "é", "x"};
    for (int i = 0; i < 20; ++i) {
      std::vector<std::string> characters;
      std::string text;
      for (size_t length = random() % 9; length > 0; --length) {
        characters.push_back(letters[random() % letters.size()]);
        text += characters.back() == "▁" ? " " : characters.back();
      }
      const Cut best = best_cut(vocabulary, static_cast<double>(least) - 10, characters, 0);
      Tokens expected;
      for (auto token = best.tokens.rbegin(); token != best.tokens.rend(); ++token) {
        const bool again = *token == 0 && !expected.empty() && expected.back() == 0;
        if (!again) expected.push_back(*token);  // a run of unknown characters is one token
      }
      EXPECT_EQ(tokenizer->encode(text, {.add_special = false}).value(), expected) << round << " '" << text << "'";
    }
  }
}

TEST(Unigram, SpecialTokensStandAroundTextsAndBetweenPairs) {
  std::vector<test::UnigramGolden> goldens = test::read_unigram_golden();
  const auto tokenizer = tokenizer_of(std::move(goldens.front().vocabulary));
  const Tokens text = tokenizer->encode("the sea", {.add_special = false}).value();
  Tokens whole = text;
  whole.insert(whole.begin(), 1);
  whole.push_back(2);
  EXPECT_EQ(tokenizer->encode("the sea").value(), whole);
  EXPECT_EQ(tokenizer->encode("<s>the sea</s>", {.add_special = false, .parse_special = true}).value(), whole);
  whole.push_back(2);
  EXPECT_EQ(tokenizer->encode_first_of_pair("the sea").value(), whole);
  Tokens second = text;
  second.push_back(2);
  EXPECT_EQ(tokenizer->encode_second_of_pair("the sea").value(), second);
  EXPECT_EQ(tokenizer->encode_first_of_pair(" \t ").value(), (Tokens{1, 2, 2}));
  EXPECT_EQ(tokenizer->least_tokens(std::string(1000, ' ')), 0U);
}

TEST(Unigram, DecodesToTheTextAsItWasNormalised) {
  std::vector<test::UnigramGolden> goldens = test::read_unigram_golden();
  const auto tokenizer = tokenizer_of(std::move(goldens.front().vocabulary));
  const auto again = [&](std::string_view text) {
    const Tokens tokens = tokenizer->encode(text).value();
    Detokenizer stream(*tokenizer);
    std::string streamed;
    for (const Token token : tokens)
      streamed += stream.push(token);
    EXPECT_EQ(streamed, tokenizer->decode(tokens)) << text;
    return streamed;
  };
  EXPECT_EQ(again("  the\t sea  "), "the sea");
  EXPECT_EQ(again("Ａ\u200B ﬁsh …"), "A fish ...");
  EXPECT_EQ(again("🦙 \u4E00"), "🦙 \u4E00");  // in bytes
  EXPECT_EQ(again("a\xFF\xE4\xBDz"), "a\uFFFD\uFFFD\uFFFDz");
  std::mt19937 random(5);
  for (int i = 0; i < 200; ++i) {
    const std::string text = again(test::random_text(random));
    EXPECT_EQ(again(text), text);
  }
}

// A double array as darts-clone lays it out, of the plainest kind: each node has 256 places of its own.
class MapBuilder {
 public:
  MapBuilder& add(const std::string& from, const std::string& to) {
    values_[from] = static_cast<uint32_t>(texts_.size());
    texts_ += to;
    texts_ += '\0';
    return *this;
  }

  std::string bytes() const {
    std::vector<uint32_t> units(1);
    place(units, 0, "");
    const auto trie_bytes = static_cast<uint32_t>(units.size() * sizeof(uint32_t));
    std::string out(reinterpret_cast<const char*>(&trie_bytes), sizeof trie_bytes);
    out.append(reinterpret_cast<const char*>(units.data()), trie_bytes);
    return out + texts_;
  }

 private:
  // The node of `prefix` is units[at].
  void place(std::vector<uint32_t>& units, size_t at, const std::string& prefix) const {
    const size_t base = (units.size() + 255) / 256 * 256;
    units.resize(base + 256);
    const auto own = values_.find(prefix);
    if (own != values_.end()) units[base] = own->second | (uint32_t{1} << 31);
    units[at] |= (static_cast<uint32_t>(at ^ base) << 10) | (own != values_.end() ? 1U << 8 : 0U);
    for (int byte = 1; byte < 256; ++byte) {
      const std::string next = prefix + static_cast<char>(byte);
      const auto first = values_.lower_bound(next);
      if (first == values_.end() || !first->first.starts_with(next)) continue;
      units[base + static_cast<size_t>(byte)] = static_cast<uint32_t>(byte);
      place(units, base + static_cast<size_t>(byte), next);
    }
  }

  std::map<std::string, uint32_t> values_;
  std::string texts_;
};

std::string mapped(const CharactersMap& map, std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const CharactersMap::Step step = map.next(text);
    out += step.text;
    text.remove_prefix(step.length);
  }
  return out;
}

TEST(CharactersMap, TakesTheLongestEntry) {
  const std::string bytes = MapBuilder()
                                .add("e\u0301", "é")
                                .add("e\u0301\u0323", "ẹ́")
                                .add("\t", " ")
                                .add("\u200B", "")
                                .add("ab", "x")
                                .bytes();
  const auto map = CharactersMap::parse(bytes);
  ASSERT_TRUE(map) << map.error().to_string();
  EXPECT_EQ(mapped(*map, "ae\u0301b"), "aéb");
  EXPECT_EQ(mapped(*map, "e\u0301\u0323e\u0301e"), "ẹ́ée");
  EXPECT_EQ(mapped(*map, "a\tb\u200Bab\u4E00"), "a bx\u4E00");
  EXPECT_EQ(mapped(*map, "aab"), "ax");
  EXPECT_EQ(mapped(*map, "\xFF\xE2\x80"), "\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(mapped(CharactersMap(), "e\u0301\t"), "e\u0301\t");
  EXPECT_EQ(mapped(CharactersMap::parse("").value(), "\xC3"), "\uFFFD");
}

TEST(CharactersMap, RefusesWhatIsNoMap) {
  const std::string good = MapBuilder().add("a", "b").bytes();
  ASSERT_TRUE(CharactersMap::parse(good));
  for (const size_t size : {1, 3, 5, 100})
    EXPECT_EQ(CharactersMap::parse(std::string_view(good).substr(0, size)).error().code(), base::ErrorCode::corrupt);
  EXPECT_EQ(CharactersMap::parse(std::string_view(good).substr(0, good.size() - 2)).error().code(),
            base::ErrorCode::corrupt)
      << "an entry behind the texts";
  EXPECT_EQ(CharactersMap::parse(MapBuilder().add("a", std::string(257, 'b')).bytes()).error().code(),
            base::ErrorCode::unsupported);
  Vocabulary vocabulary = Vocabulary::with_defaults("t5", "").value();
  vocabulary.pieces = {"<pad>", "</s>", "<unk>", "a"};
  vocabulary.characters_map = "abc";
  const auto made = Tokenizer::create(std::move(vocabulary));
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code(), base::ErrorCode::corrupt);
}

// Whatever the units say, a walk ends within them.
TEST(CharactersMap, AnyUnitsGiveSomeText) {
  std::mt19937 random(3);
  for (int round = 0; round < 200; ++round) {
    std::string bytes(4 + 4 * 64 + 16, '\0');
    for (char& byte : bytes)
      byte = static_cast<char>(random());
    const uint32_t trie_bytes = 4 * 64;
    bytes.replace(0, 4, reinterpret_cast<const char*>(&trie_bytes), 4);
    // No values but small ones.
    for (size_t unit = 4; unit < 4 + trie_bytes; unit += 4)
      bytes[unit + 3] = static_cast<char>(bytes[unit + 3] & 0x7F);
    const auto map = CharactersMap::parse(bytes);
    ASSERT_TRUE(map) << map.error().to_string();
    (void)mapped(*map, test::random_bytes(random, 200));
  }
}

TEST(PieceTrie, FindsEveryPieceThatATextBeginsWith) {
  const PieceTrie trie({{"a", 4}, {"abc", 1}, {"b", 2}, {"abc", 3}, {"\xFF", 5}});
  const auto found = [&](std::string_view text) {
    std::vector<std::pair<Token, size_t>> pieces;
    trie.for_prefixes(text, [&](Token token, size_t length) { pieces.emplace_back(token, length); });
    return pieces;
  };
  using Pieces = std::vector<std::pair<Token, size_t>>;
  EXPECT_EQ(found("abcd"), (Pieces{{4, 1}, {1, 3}}));
  EXPECT_EQ(found("b"), (Pieces{{2, 1}}));
  EXPECT_EQ(found("\xFF\xFF"), (Pieces{{5, 1}}));
  EXPECT_EQ(found("c"), Pieces());
  EXPECT_EQ(found(""), Pieces());
  PieceTrie(std::vector<PieceTrie::Piece>()).for_prefixes("a", [](Token /*token*/, size_t /*length*/) { FAIL(); });
}

}  // namespace
}  // namespace tidemill::text
