// The scanners against the regular expressions they stand for, run by PCRE2.
#include "text/pre_tokenizer.hpp"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <gtest/gtest.h>
#include <pcre2.h>

#include "base/utf8.hpp"
#include "text/characters.hpp"
#include "text/random_text.hpp"
#include "words_of.hpp"

namespace tidemill::text {
namespace {

using test::words_of;

// `parts` cut at every match of `expression`, the matches being parts too.
std::vector<std::string> split(const std::vector<std::string>& parts, const char* expression) {
  int error = 0;
  size_t error_at = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(expression), PCRE2_ZERO_TERMINATED,
                                   PCRE2_UTF | PCRE2_UCP | PCRE2_DOLLAR_ENDONLY, &error, &error_at, nullptr);
  EXPECT_NE(code, nullptr) << expression << " at " << error_at;
  pcre2_match_data* match = pcre2_match_data_create_from_pattern(code, nullptr);
  std::vector<std::string> out;
  for (const std::string& part : parts) {
    size_t gap = 0;
    while (gap < part.size() &&
           pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(part.data()), part.size(), gap, 0, match, nullptr) > 0) {
      const size_t* bounds = pcre2_get_ovector_pointer(match);
      if (bounds[0] > gap) out.push_back(part.substr(gap, bounds[0] - gap));
      out.push_back(part.substr(bounds[0], bounds[1] - bounds[0]));
      gap = bounds[1];
    }
    if (gap < part.size()) out.push_back(part.substr(gap));
  }
  pcre2_match_data_free(match);
  pcre2_code_free(code);
  return out;
}

constexpr const char* gpt2 = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr const char* llama3 =
    R"((?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|)"
    R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* qwen2 =
    R"((?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|)"
    R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// o200k's, and Mistral's, which has no contractions and takes each number alone.
std::string cased_words(std::string_view contraction, std::string_view numbers) {
  std::string expression;
  for (const std::string_view cases : {R"([\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)",
                                       R"([\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"})
    expression.append(R"([^\r\n\p{L}\p{N}]?)").append(cases).append(contraction).append("|");
  return expression.append(numbers).append(R"(| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)");
}

// Kimi K2's, of which PCRE has no intersection of sets: a character is looked at twice.
std::string kimi_words() {
  const std::string apart = R"((?:(?!\p{sc:Han}))";
  const std::string upper = apart + R"([\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]))";
  const std::string lower = apart + R"([\p{Ll}\p{Lm}\p{Lo}\p{M}]))";
  const std::string before = R"([^\r\n\p{L}\p{N}]?)";
  const std::string behind = R"((?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|)";
  return R"(\p{sc:Han}+|)" + before + upper + "*" + lower + "+" + behind + before + upper + "+" + lower + "*" + behind +
         R"(\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
}

struct Case {
  const char* name;
  std::vector<const char*> expressions;
};

TEST(PreTokenizer, CutsWhereItsExpressionsDo) {
  const std::string gpt4o =
      cased_words(R"((?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?)", R"(\p{N}{1,3})");
  const std::string tekken = cased_words("", R"(\p{N})");
  const std::string kimi = kimi_words();
  const std::vector<Case> cases{
      {"gpt-2", {gpt2}},
      {"llama-bpe", {llama3}},
      {"qwen2", {qwen2}},
      {"gpt-4o", {gpt4o.c_str()}},
      {"tekken", {tekken.c_str()}},
      {"kimi-k2", {kimi.c_str()}},
      {"starcoder", {R"(\p{N})", gpt2}},
      {"refact", {R"(\p{N})", gpt2}},
      {"falcon", {R"([\p{P}\$\+<=>\^~\|`]+)", gpt2, "[0-9][0-9][0-9]"}},
      {"default", {R"([\p{P}\$\+<=>\^~\|]+)", gpt2, R"(\p{N}+)", "[0-9][0-9][0-9]"}},
      {"deepseek-coder",
       {R"([\r\n])", R"(\s?\p{L}+)", R"(\s?\p{P}+)",
        R"((?:(?!\s)[\x{4E00}-\x{9FA5}\x{0800}-\x{4E00}\x{AC00}-\x{D7FF}])+)", R"(\p{N})"}},
      {"deepseek-v3",
       {R"(\p{N}{1,3})", R"([\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+)",
        R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|)"
        R"( ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"}},
  };
  std::mt19937 random(7);
  for (int i = 0; i < 1500; ++i) {
    const std::string text = test::random_text(random);
    for (const Case& one : cases) {
      std::vector<std::string> expected{text};
      if (text.empty()) expected.clear();
      for (const char* expression : one.expressions)
        expected = split(expected, expression);
      EXPECT_EQ(words_of(one.name, text), expected) << one.name << ": '" << text << "'";
    }
  }
}

TEST(PreTokenizer, HanCharactersStandByThemselves) {
  using Words = std::vector<std::string>;
  EXPECT_EQ(words_of("kimi-k2", "Hello中文World's日々"), (Words{"Hello", "中文", "World's", "日々"}));
  EXPECT_EQ(words_of("kimi-k2", " 中文"), (Words{" ", "中文"}));
  EXPECT_EQ(words_of("kimi-k2", "テスト中한국어"), (Words{"テスト", "中", "한국어"}));
  // A Han number is a number too, and a radical a symbol.
  EXPECT_EQ(words_of("kimi-k2", "〇12 1〇2x"), (Words{"〇", "12", " ", "1〇2", "x"}));
  EXPECT_EQ(words_of("kimi-k2", "!⺀⺀!"), (Words{"!⺀⺀!"}));
  EXPECT_EQ(words_of("kimi-k2", "!\n/x"), (Words{"!\n", "/x"}));
  EXPECT_EQ(words_of("gpt-4o", "!\n/x"), (Words{"!\n/", "x"}));
}

// All characters but those that are younger than PCRE may be, in one text.
TEST(PreTokenizer, HanIsTheScript) {
  const auto is_young = [](char32_t c) {
    return c == 0x2B739 || (c >= 0x2EBF0 && c <= 0x2EE5D) || (c >= 0x31350 && c <= 0x323AF);
  };
  std::string text;
  std::vector<std::string> runs;
  bool in_han = false;
  for (char32_t c = 1; c <= 0x10FFFF; ++c) {
    if ((c >= 0xD800 && c <= 0xDFFF) || is_young(c)) continue;
    std::string character;
    base::utf8::append(character, c);
    text += character;
    if (runs.empty() || is_han(c) != in_han) runs.emplace_back();
    runs.back() += character;
    in_han = is_han(c);
  }
  const std::vector<std::string> expected = split({text}, R"(\p{sc:Han}+)");
  EXPECT_EQ(runs.size(), expected.size());
  EXPECT_TRUE(runs == expected);
  EXPECT_TRUE(is_han(0x2B739) && is_han(0x2EBF0) && is_han(0x2EE5D) && is_han(0x31350) && is_han(0x323AF));
  EXPECT_FALSE(is_han(0x2EE5E) || is_han(0x323B0) || is_han(0x10FFFF) || is_han(0));
}

TEST(PreTokenizer, CaseBeginsWords) {
  using Words = std::vector<std::string>;
  EXPECT_EQ(words_of("gpt-4o", "HelloWorld HTTPServer's JSON"), (Words{"Hello", "World", " HTTPServer's", " JSON"}));
  EXPECT_EQ(words_of("tekken", "HelloWorld it's 123"), (Words{"Hello", "World", " it", "'s", " ", "1", "2", "3"}));
  EXPECT_EQ(words_of("gpt-4o", "1234 (I'LL)\n//\nx"), (Words{"123", "4", " (", "I'LL", ")\n//\n", "x"}));
  // Letters without case end a word only where nothing lower comes behind.
  EXPECT_EQ(words_of("gpt-4o", "AB中C"), (Words{"AB中", "C"}));
  EXPECT_EQ(words_of("gpt-4o", "AB中Cd"), (Words{"AB中Cd"}));
  EXPECT_EQ(words_of("gpt-4o", "中文"), (Words{"中文"}));
}

// Its expressions cut words that earlier ones made: ASCII letters are among its signs.
TEST(PreTokenizer, DeepseekLlmCutsInTurn) {
  using Words = std::vector<std::string>;
  EXPECT_EQ(words_of("deepseek-llm", " caf\u00E9\n 123  "), (Words{" caf", "\u00E9", "\n", " ", "123", "  "}));
  EXPECT_EQ(words_of("deepseek-llm", "a  b"), (Words{"a", " ", " b"}));
  EXPECT_EQ(words_of("deepseek-llm", "нещо中文。"), (Words{"нещо", "中文", "。"}));
}

TEST(PreTokenizer, DeepseekV3PutsSignsBeforeLatinWords) {
  using Words = std::vector<std::string>;
  EXPECT_EQ(words_of("deepseek-v3", "It's 12345 o'clock."), (Words{"It", "'s", " ", "123", "45", " o", "'clock", "."}));
  EXPECT_EQ(words_of("deepseek-v3", "x.com ..y  z\n\n  a"),
            (Words{"x", ".com", " ..", "y", " ", " z", "\n\n", " ", " a"}));
  EXPECT_EQ(words_of("deepseek-v3", "_name __init__(self)"), (Words{"_name", " __", "init", "__(", "self", ")"}));
}

TEST(PreTokenizer, AnUnknownNameIsAnErrorThatListsTheKnown) {
  const auto found = find_pre_tokenizer("zebra");
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code(), base::ErrorCode::unsupported);
  EXPECT_NE(found.error().message().find("'zebra'"), std::string::npos);
  EXPECT_NE(found.error().message().find("qwen2"), std::string::npos);
}

}  // namespace
}  // namespace tidemill::text
