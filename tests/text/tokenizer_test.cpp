#include "text/tokenizer.hpp"

#include <algorithm>

#include <gtest/gtest.h>

#include "base/utf8.hpp"
#include "data.hpp"
#include "sanitized.hpp"
#include "text/detokenizer.hpp"
#include "text/encode_again.hpp"
#include "text/gguf_vocabulary.hpp"
#include "text/random_text.hpp"

namespace tidemill::text {
namespace {

using Tokens = std::vector<Token>;

std::unique_ptr<Tokenizer> load(const std::filesystem::path& path) {
  auto tokenizer = Tokenizer::create(test::read_gguf_vocabulary(path));
  EXPECT_TRUE(tokenizer) << tokenizer.error().to_string();
  return std::move(tokenizer).value();
}

std::filesystem::path vocabulary_file(const std::string& name) {
  return test::data_root() / "tokenizers" / ("ggml-vocab-" + name + ".gguf");
}

// A byte-level vocabulary of some words beside the 94 printable ASCII bytes.
Vocabulary small_bpe() {
  Vocabulary vocabulary = Vocabulary::with_defaults("gpt2", "gpt-2").value();
  for (char c = '!'; c <= '~'; ++c)
    vocabulary.pieces.emplace_back(1, c);
  vocabulary.kinds.assign(vocabulary.pieces.size(), TokenKind::normal);
  for (const char* piece : {"he", "ll", "hell", "hello"})
    vocabulary.pieces.emplace_back(piece);
  vocabulary.kinds.resize(vocabulary.pieces.size(), TokenKind::normal);
  vocabulary.pieces.emplace_back("<|im_end|>");
  vocabulary.kinds.push_back(TokenKind::control);
  vocabulary.pieces.emplace_back("<tool>");
  vocabulary.kinds.push_back(TokenKind::user_defined);
  vocabulary.merges = {"h e", "l l", "he ll", "hell o"};
  return vocabulary;
}

// Released code models mark these as ordinary or user-defined tokens.
TEST(Tokenizer, ReadsTheMarksOfCodeModelsOnlyWhereAsked) {
  for (const TokenKind kind : {TokenKind::normal, TokenKind::user_defined}) {
    for (const auto& [name, ends] : {std::pair{"<｜fim▁begin｜>", false},
                                     {"<|fim_middle|>", false},
                                     {"<SUF>", false},
                                     {"<fim_pad>", true},
                                     {"<reponame>", true}}) {
      Vocabulary vocabulary = small_bpe();
      const auto mark = static_cast<Token>(vocabulary.size());
      vocabulary.pieces.emplace_back(name);
      vocabulary.kinds.push_back(kind);
      const auto tokenizer = Tokenizer::create(std::move(vocabulary)).value();
      const Tokens spelt = tokenizer->encode(name).value();
      EXPECT_EQ(std::count(spelt.begin(), spelt.end(), mark), 0) << name;
      EXPECT_EQ(tokenizer->encode(name, {.parse_special = true}).value(), Tokens{mark}) << name;
      EXPECT_EQ(tokenizer->ends_generation(mark), ends) << name;
    }
  }
}

// gpt-oss writes several messages in one answer, with "<|end|>" between them.
TEST(Tokenizer, AHarmonyAnswerGoesOnBehindItsMessages) {
  const auto ends = [](std::initializer_list<const char*> names, const char* name) {
    Vocabulary vocabulary = small_bpe();
    Token wanted = -1;
    for (const char* piece : names) {
      if (std::string_view(piece) == name) wanted = static_cast<Token>(vocabulary.size());
      vocabulary.pieces.emplace_back(piece);
      vocabulary.kinds.push_back(TokenKind::control);
    }
    return Tokenizer::create(std::move(vocabulary)).value()->ends_generation(wanted);
  };
  EXPECT_TRUE(ends({"<|end|>"}, "<|end|>"));
  EXPECT_TRUE(ends({"<|end|>", "<|call|>"}, "<|end|>"));
  EXPECT_FALSE(ends({"<|end|>", "<|call|>", "<|return|>"}, "<|end|>"));
  EXPECT_TRUE(ends({"<|end|>", "<|call|>", "<|return|>"}, "<|call|>"));
  EXPECT_TRUE(ends({"<|end|>", "<|call|>", "<|return|>"}, "<|return|>"));
}

TEST(Tokenizer, MergesByRankAndFindsItsSpecialTokens) {
  const auto tokenizer = Tokenizer::create(small_bpe()).value();
  const Token hello = 97, end = 98, tool = 99;
  EXPECT_EQ(tokenizer->encode("hello<tool>hello").value(), (Tokens{hello, tool, hello}));
  EXPECT_EQ(tokenizer->encode("hello<|im_end|>", {.parse_special = true}).value(), (Tokens{hello, end}));
  const Tokens spelt = tokenizer->encode("<|im_end|>").value();
  EXPECT_EQ(std::count(spelt.begin(), spelt.end(), end), 0);
  EXPECT_EQ(tokenizer->decode(spelt), "<|im_end|>");
  EXPECT_TRUE(tokenizer->ends_generation(end));
  EXPECT_EQ(tokenizer->vocabulary().eot, end);
  EXPECT_EQ(tokenizer->decode(Tokens{hello, end}), "hello");
  EXPECT_EQ(tokenizer->decode(Tokens{hello, end}, true), "hello<|im_end|>");
  EXPECT_EQ(tokenizer->encode("").value(), Tokens{});
  EXPECT_EQ(tokenizer->encode("\xC3\xA9").value(),
            Tokens{});  // bytes that the vocabulary cannot spell, no unknown token
  EXPECT_EQ(tokenizer->piece_bytes(-1), "");
  EXPECT_EQ(tokenizer->piece_bytes(1000), "");
}

TEST(Tokenizer, ABoundOnTheTokensNeedsNoEncoding) {
  const auto tokenizer = Tokenizer::create(small_bpe()).value();
  EXPECT_EQ(tokenizer->least_tokens(""), 0U);
  for (const std::string text : {"x", "hello", "hellohellohello", "<|im_end|><|im_end|>", "<tool>he"}) {
    const size_t count = tokenizer->encode(text, {.parse_special = true, .literal = {}}).value().size();
    EXPECT_LE(tokenizer->least_tokens(text), count) << text;
  }
  // "<|im_end|>" is the longest, of ten bytes.
  EXPECT_EQ(tokenizer->least_tokens(std::string(1001, 'x')), 101U);
  EXPECT_EQ(tokenizer->least_tokens("<|im_end|><|im_end|>"), 2U);
}

TEST(Tokenizer, AVocabularyThatContradictsItselfIsAnError) {
  const auto error_of = [](auto&& change) {
    Vocabulary vocabulary = small_bpe();
    change(vocabulary);
    const auto made = Tokenizer::create(std::move(vocabulary));
    return made ? std::string("none") : made.error().message();
  };
  EXPECT_NE(error_of([](Vocabulary& v) { v.pieces.clear(); }).find("no pieces"), std::string::npos);
  EXPECT_NE(error_of([](Vocabulary& v) { v.kinds.pop_back(); }).find("token types"), std::string::npos);
  EXPECT_NE(error_of([](Vocabulary& v) { v.scores = {1.0f}; }).find("scores"), std::string::npos);
  EXPECT_NE(error_of([](Vocabulary& v) { v.bos = 100; }).find("bos token is 100"), std::string::npos);
  EXPECT_NE(error_of([](Vocabulary& v) { v.end_of_generation = {-1}; }).find("-1"), std::string::npos);
  EXPECT_NE(error_of([](Vocabulary& v) { v.add_bos = true; }).find("names none"), std::string::npos);
  EXPECT_NE(error_of([](Vocabulary& v) { v.merges.push_back("nospace"); }).find("'nospace'"), std::string::npos);
  EXPECT_NE(error_of([](Vocabulary& v) { v.pre = "zebra"; }).find("'zebra'"), std::string::npos);
  EXPECT_NE(Vocabulary::with_defaults("unigram", "").error().message().find("'unigram'"), std::string::npos);
}

TEST(Tokenizer, TheEmbeddedModelSpeaks) {
  const auto tokenizer = load(test::nano_coder());
  EXPECT_EQ(tokenizer->encode("").value(), Tokens{1});
  EXPECT_EQ(tokenizer->encode("<|user|>", {.add_special = false, .parse_special = true}).value(), Tokens{3});
  const Tokens tokens = tokenizer->encode("def main():\n    return 0\n").value();
  EXPECT_EQ(tokens.front(), 1);
  EXPECT_LT(tokens.size(), 16u);
  EXPECT_EQ(tokenizer->decode(tokens), "def main():\n    return 0\n");
  EXPECT_TRUE(tokenizer->ends_generation(2));
  EXPECT_TRUE(tokenizer->ends_generation(5));  // <|end|>
}

TEST(Tokenizer, APrefixSpaceComesAndGoes) {
  const auto path = vocabulary_file("llama-spm");
  TM_SKIP_WITHOUT(path);
  const auto tokenizer = load(path);
  EXPECT_EQ(tokenizer->encode("Hello").value(), (Tokens{1, 15043}));
  EXPECT_EQ(tokenizer->encode("Hello</s>Hello", {.parse_special = true}).value(), (Tokens{1, 15043, 2, 15043}));
  EXPECT_EQ(tokenizer->decode(Tokens{1, 15043, 2, 15043}, true), "<s>Hello</s>Hello");
  EXPECT_EQ(tokenizer->decode(Tokens{1, 15043, 15043}), "Hello Hello");
  Detokenizer after_bos(*tokenizer, Tokens{1});
  EXPECT_EQ(after_bos.push(15043), "Hello");
  EXPECT_EQ(after_bos.push(15043), " Hello");
  Detokenizer after_text(*tokenizer, Tokens{1, 15043});
  EXPECT_EQ(after_text.push(15043), " Hello");
}

TEST(Tokenizer, Phi3SpecialTokensSwallowTheSpaceBehindThem) {
  const auto path = vocabulary_file("phi-3");
  TM_SKIP_WITHOUT(path);
  const auto tokenizer = load(path);
  const EncodeOptions parse{.add_special = false, .parse_special = true};
  EXPECT_EQ(tokenizer->encode("<|user|> \nHello<|end|>\n<|assistant|>\n", parse).value(),
            (Tokens{32010, 15043, 32007, 32001}));
  EXPECT_EQ(tokenizer->encode("<|endoftext|> ", parse).value().size(), 2u);
}

class EveryVocabulary : public testing::TestWithParam<const char*> {
 protected:
  static std::filesystem::path path() {
    const std::string name = GetParam();
    return name == "nano-coder" ? test::nano_coder() : vocabulary_file(name);
  }
  // The others lack tokens for the bytes that UTF-8 never has, Falcon for the vertical tab too.
  static bool spells_every_byte() {
    const std::string name = GetParam();
    return name == "nano-coder" || name == "llama-spm" || name == "gpt-2" || name == "qwen2";
  }
  // WordPiece takes any bytes, but keeps no more of them than words.
  static bool keeps_words_only() { return GetParam() == std::string_view("bert-bge"); }
};

TEST_P(EveryVocabulary, DecodingGivesBackAnyBytes) {
  TM_SKIP_WITHOUT(path());
  const auto tokenizer = load(path());
  std::mt19937 random(3);
  for (int i = 0; i < 400; ++i) {
    const bool any_bytes = i % 2 != 0 && (spells_every_byte() || keeps_words_only());
    std::string text = any_bytes ? test::random_bytes(random, random() % 100) : test::random_text(random);
    if (!spells_every_byte()) std::erase(text, '\v');
    const Tokens tokens = tokenizer->encode(text, {.add_special = i % 3 == 0}).value();
    if (keeps_words_only()) {
      ASSERT_EQ(test::encode_again(*tokenizer, tokens), tokens) << text;
      text = tokenizer->decode(tokens, false);
    }
    ASSERT_EQ(tokenizer->decode(tokens, false), text);

    Detokenizer stream(*tokenizer);
    std::string streamed;
    for (const Token token : tokens) {
      const std::string piece = stream.push(token);
      ASSERT_TRUE(base::utf8::is_valid(piece));
      streamed += piece;
    }
    ASSERT_EQ(streamed + stream.flush(), base::utf8::sanitize(text));
  }
}

// A quadratic step anywhere makes these run for minutes, into the suite's time limit.
TEST_P(EveryVocabulary, AMegabyteOfAnythingIsQuick) {
  TM_SKIP_WITHOUT(path());
  const auto tokenizer = load(path());
  constexpr size_t size = size_t{1} << (test::sanitized ? 16 : 20);
  std::mt19937 random(5);
  std::vector<std::string> texts{test::random_bytes(random, size)};
  for (const char* unit : {"a", " ", "\n", "7", "=", "ab", "'", "🚀", "é", " \n", "<|im_start", "\xE4", "\u3000x"}) {
    texts.emplace_back();
    while (texts.back().size() < size)
      texts.back() += unit;
  }
  texts.emplace_back();
  while (texts.back().size() < size)
    texts.back() += static_cast<char>('a' + random() % 26);
  for (const std::string& text : texts) {
    const Tokens tokens = tokenizer->encode(text, {.add_special = false, .parse_special = true}).value();
    if (keeps_words_only()) {
      ASSERT_TRUE(test::encode_again(*tokenizer, tokens) == tokens) << text.substr(0, 16);
    } else if (spells_every_byte() || base::utf8::is_valid(text)) {
      ASSERT_TRUE(tokenizer->decode(tokens, true) == text) << text.substr(0, 16);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Vocabularies, EveryVocabulary,
                         testing::Values("nano-coder", "llama-spm", "gpt-2", "qwen2", "starcoder", "falcon",
                                         "deepseek-llm", "deepseek-coder", "bert-bge"),
                         [](const auto& instance) {
                           std::string name = instance.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(Detokenizer, HoldsBackHalfCharacters) {
  const auto tokenizer = load(test::nano_coder());
  Detokenizer stream(*tokenizer);
  const Tokens tokens = tokenizer->encode("\U0001F680", {.add_special = false}).value();
  ASSERT_EQ(tokens.size(), 4u);
  EXPECT_EQ(stream.push(tokens[0]), "");
  EXPECT_EQ(stream.push(tokens[1]), "");
  EXPECT_EQ(stream.push(tokens[2]), "");
  EXPECT_EQ(stream.push(tokens[3]), "\U0001F680");
  EXPECT_EQ(stream.push(tokens[0]), "");
  EXPECT_EQ(stream.push(1), "");  // a control token is no text
  EXPECT_EQ(stream.flush(), "\uFFFD");
  EXPECT_EQ(stream.flush(), "");
}

}  // namespace
}  // namespace tidemill::text
