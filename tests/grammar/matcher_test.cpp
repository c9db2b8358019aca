// Matchers: the tokens that they allow against a trial of every token of the vocabulary, byte by byte.
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "data.hpp"
#include "grammar/acceptor.hpp"
#include "grammar/regex.hpp"
#include "grammar/token_grammar.hpp"
#include "grammar/vocabularies.hpp"
#include "sanitized.hpp"
#include "text/gguf_vocabulary.hpp"

using namespace tidemill;           // NOLINT(google-build-using-namespace)
using namespace tidemill::grammar;  // NOLINT(google-build-using-namespace)
using test::Acceptor;
using text::Token;

namespace {

std::shared_ptr<const Grammar> build(GrammarBuilder&& builder, Expression root) {
  auto built = std::move(builder).build(root);
  if (built) return *built;
  ADD_FAILURE() << built.error().message();
  return nullptr;
}

Expression json_string(GrammarBuilder& b, size_t least, std::optional<size_t> most) {
  const Expression plain = b.code_points(
      CodePointSet({{0x20, CodePointSet::last_code_point}}).without(CodePointSet({{'"', '"'}, {'\\', '\\'}})));
  ByteSet short_escapes;
  for (const char c : {'"', '\\', '/', 'b', 'f', 'n', 'r', 't'})
    short_escapes.set(static_cast<uint8_t>(c));
  const Expression hex = b.code_points(CodePointSet({{'0', '9'}, {'a', 'f'}, {'A', 'F'}}));
  const Expression escape = b.sequence(
      {b.literal("\\"), b.choice({b.bytes(short_escapes), b.sequence({b.literal("u"), b.repeat(hex, 4, 4)})})});
  return b.sequence({b.literal("\""), b.repeat(b.choice({plain, escape}), least, most), b.literal("\"")});
}

std::shared_ptr<const Grammar> json() {
  GrammarBuilder b;
  const Expression space = b.repeat(b.code_points(CodePointSet({{' ', ' '}, {'\n', '\n'}})), 0, 4);
  const Expression digit = b.code_points(CodePointSet::digits());
  const Expression number = b.sequence({b.optional(b.literal("-")), b.repeat(digit, 1, 15),
                                        b.optional(b.sequence({b.literal("."), b.repeat(digit, 1, 15)}))});
  const Expression string = json_string(b, 0, std::nullopt);
  const Rule value = b.declare("value");
  const auto list = [&](const char* open, Expression item, const char* close) {
    const Expression more = b.repeat(b.sequence({space, b.literal(","), space, item}), 0, std::nullopt);
    return b.sequence({b.literal(open), space, b.optional(b.sequence({item, more, space})), b.literal(close)});
  };
  const Expression pair = b.sequence({string, space, b.literal(":"), space, b.use(value)});
  b.define(value, b.choice({string, number, b.literal("true"), b.literal("false"), b.literal("null"),
                            list("{", pair, "}"), list("[", b.use(value), "]")}));
  return build(std::move(b), b.use(value));
}

std::shared_ptr<const Grammar> counted_strings() {
  GrammarBuilder b;
  const Expression root = b.sequence({b.literal("{\"name\": "), json_string(b, 3, 40), b.literal(", \"all\": "),
                                      json_string(b, 1, 1000), b.literal("}")});
  return build(std::move(b), root);
}

// The bounds are near and far, above and below; the first pattern takes texts of even lengths alone.
std::shared_ptr<const Grammar> counted_patterns() {
  GrammarBuilder b;
  const Expression character = b.any_character();
  const Expression any = b.repeat(character, 0, std::nullopt);
  const Expression plain = b.code_points(CodePointSet::all().without(CodePointSet::of('"')));
  const Expression pairs = b.repeat(b.choice({b.literal("ab"), b.literal("éb")}), 0, std::nullopt);
  const Expression found = b.both(b.sequence({any, b.literal("a1"), any}), b.repeat(plain, 0, std::nullopt));
  const Expression quote = b.literal("\"");
  return build(std::move(b),
               b.sequence({b.counted(pairs, character, 3, 7), quote, b.counted(pairs, character, 31, std::nullopt),
                           quote, b.counted(found, character, 5, 9), quote, b.counted(found, character, 0, 300), quote,
                           b.counted(found, character, 200, 100'000), quote}));
}

std::shared_ptr<const Grammar> tool_calls() {
  GrammarBuilder b;
  const std::vector<std::string> triggers{"<tool>", "<t>"};
  const Expression call = b.sequence({b.special("<|call|>"), json_string(b, 0, 20), b.special("<|done|>")});
  const Expression text = b.sequence({b.text_through(triggers), b.literal("x")});
  return build(std::move(b), b.repeat(b.choice({call, text}), 1, 4));
}

std::shared_ptr<const Grammar> of_regex(std::string_view pattern) {
  GrammarBuilder b;
  const Expression root = *regular_expression(b, pattern);
  return build(std::move(b), root);
}

// Walks at random, and compares what is allowed with a trial of every token.
class Comparison {
 public:
  Comparison(const test::Vocabulary& vocabulary, std::shared_ptr<const Grammar> grammar, MatchLimits limits = {})
      : vocabulary_(vocabulary), accepts_(grammar) {
    auto bound = TokenGrammar::create(std::move(grammar), vocabulary.index, limits);
    EXPECT_TRUE(bound) << bound.error().message();
    bound_ = *bound;
  }

  void walk(uint32_t seed, int steps, int compared_of) {
    std::mt19937 random(seed);
    Matcher matcher = bound_->start();
    NodeIndex node = accepts_.grammar().root();
    for (int i = 0; i < steps; ++i) {
      const auto allowed = matcher.allowed();
      ASSERT_TRUE(allowed) << allowed.error().message();
      ASSERT_GT((*allowed)->count(), 0U);
      ASSERT_EQ(matcher.can_end(), accepts_.derivatives().expressions().at(node).nullable);
      if (static_cast<int>(random() % 100) < compared_of) compare(**allowed, node);
      const Token token = choose(**allowed, random);
      if (vocabulary_.tokenizer->ends_generation(token)) return;
      Matcher copy = matcher;
      ASSERT_TRUE(copy.accept(token)) << token;
      matcher = std::move(copy);
      node = after(node, token);
      ASSERT_NE(node, Expressions::nothing);
      ASSERT_FALSE(matcher.accept(-1));
    }
  }

 private:
  NodeIndex after(NodeIndex node, Token token) {
    const text::Tokenizer& tokenizer = *vocabulary_.tokenizer;
    const auto kind = tokenizer.vocabulary().kinds[token];
    const std::string_view bytes = tokenizer.piece_bytes(token);
    if (kind == text::TokenKind::control) {
      const std::vector<std::string>& names = accepts_.grammar().expressions().names();
      for (uint32_t name = 0; name < names.size(); ++name)
        if (names[name] == bytes) return accepts_.derivatives().by_special(node, name);
      return Expressions::nothing;
    }
    if (kind == text::TokenKind::unknown || kind == text::TokenKind::unused || bytes.empty())
      return Expressions::nothing;
    for (const char c : bytes)
      node = accepts_.derivatives().by_byte(node, static_cast<uint8_t>(c));
    return node;
  }

  void compare(const TokenMask& allowed, NodeIndex node) {
    const bool can_end = accepts_.derivatives().expressions().at(node).nullable;
    const auto count = static_cast<Token>(vocabulary_.tokenizer->vocabulary().size());
    for (Token token = 0; token < count; ++token) {
      const bool expected =
          vocabulary_.tokenizer->ends_generation(token) ? can_end : after(node, token) != Expressions::nothing;
      ASSERT_EQ(allowed.test(token), expected) << token << " '" << vocabulary_.tokenizer->piece_bytes(token) << "'";
    }
  }

  // Mostly at random, but structure would drown in text: often the allowed token of the fewest bytes that comes first.
  Token choose(const TokenMask& allowed, std::mt19937& random) {
    std::vector<Token> tokens;
    for (Token token = 0; static_cast<size_t>(token) < allowed.size(); ++token)
      if (allowed.test(token)) tokens.push_back(token);
    if (random() % 3 == 0)
      for (const char* wished : {"\"", "}", "]", ",", ":", "<tool>", "[", "x"})
        for (const Token token : tokens)
          if (random() % 3 == 0 && vocabulary_.tokenizer->piece_bytes(token) == wished) return token;
    return tokens[random() % tokens.size()];
  }

  const test::Vocabulary& vocabulary_;
  Acceptor accepts_;
  std::shared_ptr<const TokenGrammar> bound_;
};

const test::Vocabulary& small() {
  static const test::Vocabulary vocabulary(test::small_vocabulary(
      {"a", "b",     "ab",    "ba",    "aaaa",     "\"",   "\",",       "\"}", "{\"", "true", "▁",  "▁▁",       ",▁\"",
       "é", "\\u00", "<tool", "tool>", "<tool>x<", "name", "\"name\":", "]]",  "[[",  "1",    "12", "123456789"},
      {"<|call|>", "<|done|>", "<|other|>"}));
  return vocabulary;
}

const std::vector<std::pair<const char*, std::shared_ptr<const Grammar> (*)()>> grammars{
    {"json", json},
    {"counted strings", counted_strings},
    {"counted patterns", counted_patterns},
    {"tool calls", tool_calls}};

TEST(Matcher, AllowsWhatEveryTokenAloneShows) {
  for (const auto& [name, make] : grammars) {
    SCOPED_TRACE(name);
    Comparison comparison(small(), make());
    for (uint32_t seed = 0; seed < 100; ++seed)
      comparison.walk(seed, 60, 100);
  }
}

TEST(Matcher, AllowsTheSameWhenItForgets) {
  MatchLimits tight;
  tight.max_memory = 1;  // every call starts from a fresh store
  for (const auto& [name, make] : grammars) {
    SCOPED_TRACE(name);
    Comparison comparison(small(), make(), tight);
    for (uint32_t seed = 0; seed < 10; ++seed)
      comparison.walk(seed, 40, 100);
  }
}

TEST(Matcher, AllowsWhatEveryTokenAloneShowsInRealVocabularies) {
  for (const char* file : {"ggml-vocab-llama-spm.gguf", "ggml-vocab-phi-3.gguf", "ggml-vocab-qwen2.gguf"}) {
    const auto path = test::data_root() / "tokenizers" / file;
    TM_SKIP_WITHOUT(path);
    SCOPED_TRACE(file);
    const test::Vocabulary vocabulary(test::read_gguf_vocabulary(path));
    for (const auto& [name, make] : grammars) {
      SCOPED_TRACE(name);
      Comparison comparison(vocabulary, make());
      for (uint32_t seed = 0; seed < (test::sanitized ? 1 : 3); ++seed)
        comparison.walk(seed, 50, 20);
    }
  }
}

TEST(Matcher, RandomRegularExpressions) {
  for (const char* pattern : {"(a|aa){3,9}b?", "(ab|a|b)*", "[^\"]{2,5}(true)+", "(a{0,3}b){2}|.*é", "(\\w+ ?){1,3}"}) {
    SCOPED_TRACE(pattern);
    Comparison comparison(small(), of_regex(pattern));
    for (uint32_t seed = 0; seed < 20; ++seed)
      comparison.walk(seed, 30, 100);
  }
}

}  // namespace
