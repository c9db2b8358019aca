// What BERT's tokenizer makes of single texts, written out by hand after the definition of its models' own.
#include <initializer_list>
#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "text/detokenizer.hpp"
#include "text/tokenizer.hpp"
#include "text/tokenizer_of.hpp"

namespace tidemill::text {
namespace {

using test::tokenizer_of;
using Tokens = std::vector<Token>;

constexpr Token unknown = 1, begin = 2, separator = 3;

// Every lower-case letter, at the start of a word and within one, and `more`.
Vocabulary letters(std::initializer_list<const char*> more = {}) {
  Vocabulary vocabulary = Vocabulary::with_defaults("bert", "").value();
  vocabulary.pieces = {"[PAD]", "[UNK]", "[CLS]", "[SEP]"};
  vocabulary.kinds.assign(4, TokenKind::control);
  for (char c = 'a'; c <= 'z'; ++c) {
    vocabulary.pieces.push_back("▁" + std::string(1, c));
    vocabulary.pieces.emplace_back(1, c);
  }
  for (const char* piece : more)
    vocabulary.pieces.emplace_back(piece);
  vocabulary.kinds.resize(vocabulary.pieces.size(), TokenKind::normal);
  vocabulary.padding = 0;
  vocabulary.unknown = unknown;
  vocabulary.bos = begin;
  vocabulary.eos = separator;
  return vocabulary;
}

// The pieces of `text`, "|" between them.
std::string pieces(const Tokenizer& tokenizer, std::string_view text) {
  std::string joined;
  for (const Token token : tokenizer.encode(text, {.add_special = false}).value()) {
    if (!joined.empty()) joined += '|';
    joined += tokenizer.vocabulary().pieces[static_cast<size_t>(token)];
  }
  return joined;
}

TEST(WordPiece, TakesTheLongestPiecesFromTheLeft) {
  const auto tokenizer = tokenizer_of(letters({"▁un", "aff", "able", "affa", "▁una"}));
  EXPECT_EQ(pieces(*tokenizer, "unaffable"), "▁una|f|f|able");
  EXPECT_EQ(pieces(*tokenizer, "un affable"), "▁un|▁a|f|f|able");
  EXPECT_EQ(pieces(*tokenizer, "xaffable"), "▁x|affa|b|l|e");
  EXPECT_EQ(pieces(*tokenizer, ""), "");
  EXPECT_EQ(pieces(*tokenizer, " \n\t "), "");
}

// A word is known as a whole or not at all, as a piece that only begins words does not go on with one.
TEST(WordPiece, AWordThatPiecesDoNotSpellIsUnknown) {
  const auto tokenizer = tokenizer_of(letters({"▁ж", "▁ab▁c"}));
  EXPECT_EQ(pieces(*tokenizer, "ж"), "▁ж");
  EXPECT_EQ(pieces(*tokenizer, "a aж b"), "▁a|[UNK]|▁b");
  EXPECT_EQ(pieces(*tokenizer, "a▁b"), "[UNK]");
  EXPECT_EQ(pieces(*tokenizer, "▁a"), "[UNK]");
  EXPECT_EQ(pieces(*tokenizer, std::string(100, 'a')).size(), std::string("▁a").size() + 99 * 2);
  EXPECT_EQ(pieces(*tokenizer, std::string(101, 'a')), "[UNK]");
  EXPECT_EQ(pieces(*tokenizer, "b" + std::string(1000, 'a') + " c"), "[UNK]|▁c");
}

TEST(WordPiece, WithoutAnUnknownTokenUnknownWordsVanish) {
  Vocabulary vocabulary = letters();
  vocabulary.unknown.reset();
  EXPECT_EQ(pieces(*tokenizer_of(std::move(vocabulary)), "a 1 b"), "▁a|▁b");
}

TEST(WordPiece, CapitalsAndAccentsGo) {
  const auto tokenizer = tokenizer_of(letters({"▁ö", "▁ж", "▁ᄒ", "ᅡ", "ᆫ", "▁ß"}));
  EXPECT_EQ(pieces(*tokenizer, "É"), "▁e");
  EXPECT_EQ(pieces(*tokenizer, "e\u0301\u0323A"), "▁e|a");
  EXPECT_EQ(pieces(*tokenizer, "Ö"), "▁o");
  EXPECT_EQ(pieces(*tokenizer, "Ж"), "▁ж");
  EXPECT_EQ(pieces(*tokenizer, "\u0130"), "▁i");  // the Turkish capital with a dot
  EXPECT_EQ(pieces(*tokenizer, "\u212A"), "▁k");  // the sign of the kelvin
  EXPECT_EQ(pieces(*tokenizer, "\u1E9E"), "▁ß");
  EXPECT_EQ(pieces(*tokenizer, "한"), "▁ᄒ|ᅡ|ᆫ");
  EXPECT_EQ(pieces(*tokenizer, "\u0301"), "");
}

TEST(WordPiece, PunctuationAndIdeographsStandAlone) {
  const auto tokenizer = tokenizer_of(letters({"▁.", "▁$", "▁=", "▁`", "▁;", "▁中", "▁文", "▁、", "ab.", "€", "▁豈"}));
  EXPECT_EQ(pieces(*tokenizer, "a..b"), "▁a|▁.|▁.|▁b");
  EXPECT_EQ(pieces(*tokenizer, "$a=b`"), "▁$|▁a|▁=|▁b|▁`");
  EXPECT_EQ(pieces(*tokenizer, "a€"), "▁a|€");  // a symbol, but not one of ASCII's
  EXPECT_EQ(pieces(*tokenizer, "a中文、b"), "▁a|▁中|▁文|▁、|▁b");
  EXPECT_EQ(pieces(*tokenizer, "a\uF900b"), "▁a|▁豈|▁b");  // becomes U+8C48
  // What a character decomposes to counts: the Greek question mark, and "not equal".
  EXPECT_EQ(pieces(*tokenizer, "a\u037Eb"), "▁a|▁;|▁b");
  EXPECT_EQ(pieces(*tokenizer, "a\u2260b"), "▁a|▁=|▁b");
}

TEST(WordPiece, ControlsAndWhatIsNoTextAreDropped) {
  const auto tokenizer = tokenizer_of(letters());
  using namespace std::string_view_literals;
  EXPECT_EQ(pieces(*tokenizer, "a\0b\u200Bc\uFEFF\uFFFDd\x7F"sv), "▁a|b|c|d");
  EXPECT_EQ(pieces(*tokenizer, "a\xFF\xE4\xBD\x62"), "▁a|b");
  EXPECT_EQ(pieces(*tokenizer, "a\vb\fc\u0085d"), "▁a|b|c|d");
  EXPECT_EQ(pieces(*tokenizer, "a\tb\rc\nd\u00A0e\u3000f\u2028g"), "▁a|▁b|▁c|▁d|▁e|▁f|▁g");
}

// Nothing in a file says whether a model knows capitals; its pieces do.
TEST(WordPiece, AVocabularyWithAllCapitalsKeepsThem) {
  Vocabulary cased = letters({"▁é"});
  for (char c = 'A'; c <= 'Z'; ++c)
    cased.pieces.push_back("▁" + std::string(1, c));
  cased.kinds.resize(cased.pieces.size(), TokenKind::normal);
  Vocabulary uncased = cased;
  uncased.lower_case = true;
  EXPECT_EQ(pieces(*tokenizer_of(std::move(cased)), "Ab é"), "▁A|b|▁é");
  EXPECT_EQ(pieces(*tokenizer_of(std::move(uncased)), "Ab é"), "▁a|b|▁e");
  EXPECT_EQ(pieces(*tokenizer_of(letters({"▁A", "▁B"})), "AB"), "▁a|b");
}

TEST(WordPiece, SpecialTokensStandAroundTheTextAndOnlyThere) {
  const auto tokenizer = tokenizer_of(letters());
  const Token a = 4;
  EXPECT_EQ(tokenizer->encode("a").value(), (Tokens{begin, a, separator}));
  EXPECT_EQ(tokenizer->encode("").value(), (Tokens{begin, separator}));
  EXPECT_EQ(tokenizer->encode("a[SEP]a", {.parse_special = true}).value(), (Tokens{begin, a, separator, a, separator}));
  const Tokens spelt = tokenizer->encode("[SEP]", {.add_special = false}).value();
  EXPECT_EQ(spelt, (Tokens{unknown, a + 2 * ('s' - 'a'), a + 2 * ('e' - 'a') + 1, a + 2 * ('p' - 'a') + 1, unknown}));
}

TEST(WordPiece, PairsAreMadeOfTwoHalves) {
  const auto tokenizer = tokenizer_of(letters());
  const Token a = 4;
  EXPECT_EQ(tokenizer->encode_first_of_pair("A a").value(), (Tokens{begin, a, a, separator}));
  EXPECT_EQ(tokenizer->encode_second_of_pair("a").value(), (Tokens{a, separator}));
  EXPECT_EQ(tokenizer->encode_first_of_pair(" ").value(), (Tokens{begin, separator}));
  EXPECT_EQ(tokenizer->encode_second_of_pair("\u200B").value(), (Tokens{separator}));
  EXPECT_EQ(tokenizer->encode_second_of_pair("[SEP]")->size(), 5U + 1) << "a user's words";
  Vocabulary endless = letters();
  endless.eos.reset();
  endless.add_eos = false;
  const auto none = tokenizer_of(std::move(endless));
  EXPECT_EQ(none->encode_first_of_pair("a").error().code(), base::ErrorCode::unsupported);
  EXPECT_EQ(none->encode_second_of_pair("a").error().code(), base::ErrorCode::unsupported);
}

TEST(WordPiece, DecodingPutsWordsBehindOneSpace) {
  const auto tokenizer = tokenizer_of(letters({"▁."}));
  const Tokens tokens = tokenizer->encode("  Ab  ?c.").value();
  EXPECT_EQ(tokenizer->decode(tokens), "ab c .");
  EXPECT_EQ(tokenizer->decode(tokens, true), "[CLS]ab[UNK] c .[SEP]");
  const Tokens pair = tokenizer->encode("a[SEP]b", {.parse_special = true}).value();
  EXPECT_EQ(tokenizer->decode(pair), "a b");
  Detokenizer stream(*tokenizer);
  std::string streamed;
  for (const Token token : pair)
    streamed += stream.push(token);
  EXPECT_EQ(streamed, "a b");
  EXPECT_EQ(Detokenizer(*tokenizer, Tokens{begin}).push(4), "a");
  EXPECT_EQ(Detokenizer(*tokenizer, Tokens{begin, 4}).push(4), " a");
}

// So that a text that is far too long is seen to be so without being spelt.
TEST(WordPiece, CountsWordsForABoundFromBelow) {
  const auto tokenizer = tokenizer_of(letters({"▁."}));
  EXPECT_EQ(tokenizer->least_tokens(""), 0U);
  EXPECT_EQ(tokenizer->least_tokens(std::string(1000, ' ')), 0U);
  EXPECT_EQ(tokenizer->least_tokens(std::string(1000, 'x')), 1U);
  std::string words;
  for (int i = 0; i < 1000; ++i)
    words += std::string(100, 'x') + (i % 2 == 0 ? " " : "\u4E2D\u0301");
  // 1500 words, with 500 ideographs; "[CLS]" is three, and would be one token.
  EXPECT_EQ(tokenizer->least_tokens(words), 500U);
  EXPECT_EQ(tokenizer->least_tokens(words, 10), 10U);
  EXPECT_EQ(tokenizer->least_tokens(words, 0), 0U);
  for (const char* text : {"[CLS][SEP][PAD]", "[CLS] a.b", "a..\u200B.b", "\u0301", " \xFF ", "a\u0301b c", "[MASK]"}) {
    for (const bool parse : {false, true}) {
      EXPECT_LE(tokenizer->least_tokens(text),
                tokenizer->encode(text, {.add_special = false, .parse_special = parse})->size())
          << text;
    }
  }
  Vocabulary vocabulary = letters();
  vocabulary.unknown.reset();
  EXPECT_EQ(tokenizer_of(std::move(vocabulary))->least_tokens(words), 0U);
}

TEST(WordPiece, SpecialTokensThatAreNotThereAreAnError) {
  Vocabulary vocabulary = letters();
  vocabulary.eos = Vocabulary::with_defaults("bert", "").value().eos;  // 102, of BERT's own vocabulary
  const auto made = Tokenizer::create(std::move(vocabulary));
  ASSERT_FALSE(made);
  EXPECT_NE(made.error().message().find("eos token is 102"), std::string::npos) << made.error().message();
}

}  // namespace
}  // namespace tidemill::text
