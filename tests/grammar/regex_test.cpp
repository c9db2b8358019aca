// Regular expressions against PCRE2, over all short strings of a small alphabet.
#include "grammar/regex.hpp"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <pcre2.h>

#include "base/utf8.hpp"
#include "grammar/acceptor.hpp"
#include "grammar/regex_match.hpp"

using namespace tidemill;           // NOLINT(google-build-using-namespace)
using namespace tidemill::grammar;  // NOLINT(google-build-using-namespace)
using test::Acceptor;

namespace {

class Oracle {
 public:
  explicit Oracle(const std::string& pattern) {
    int error = 0;
    size_t at = 0;
    code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                              PCRE2_UTF | PCRE2_DOLLAR_ENDONLY, &error, &at, nullptr));
    data_.reset(pcre2_match_data_create(1, nullptr));
    if (code_ == nullptr) ADD_FAILURE() << "PCRE2 refuses " << pattern << " at " << at;
  }
  // By PCRE2's automaton: its backtracking matcher gives up on some of these.
  bool matches(const std::string& text) {
    const int found = pcre2_dfa_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), 0, 0,
                                      data_.get(), nullptr, space_.data(), space_.size());
    EXPECT_TRUE(found >= 0 || found == PCRE2_ERROR_NOMATCH) << found;
    return found >= 0;
  }

 private:
  struct Free {
    void operator()(pcre2_code* code) const { pcre2_code_free(code); }
    void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
  };
  std::unique_ptr<pcre2_code, Free> code_;
  std::unique_ptr<pcre2_match_data, Free> data_;
  std::vector<int> space_ = std::vector<int>(20'000);
};

// All strings of at most `length` characters.
std::vector<std::string> all_strings(const std::vector<std::string>& alphabet, int length) {
  std::vector<std::string> all{""};
  for (size_t begin = 0; length > 0; --length) {
    const size_t end = all.size();
    for (; begin < end; ++begin)
      for (const std::string& letter : alphabet)
        all.push_back(all[begin] + letter);
  }
  return all;
}

class RandomPattern {
 public:
  explicit RandomPattern(uint32_t seed) : random_(seed) {}

  std::string choice(int depth) {
    std::string text = sequence(depth);
    while (pick(3) == 0)
      text += "|" + sequence(depth);
    return text;
  }

 private:
  uint32_t pick(uint32_t count) { return static_cast<uint32_t>(random_() % count); }

  std::string sequence(int depth) {
    std::string text;
    for (uint32_t parts = pick(4); parts > 0; --parts)
      text += quantified(depth);
    return text;
  }
  std::string quantified(int depth) {
    static const std::vector<std::string> quantifiers{"",  "",   "",    "",      "*",     "+",
                                                      "?", "*?", "{2}", "{1,3}", "{0,2}", "{2,}"};
    return atom(depth) + quantifiers[pick(static_cast<uint32_t>(quantifiers.size()))];
  }
  std::string atom(int depth) {
    static const std::vector<std::string> leaves{"a", "b", "é", "[ab]", "[^a]", ".", "[b-é]", "\\x61", "\\w", "\\W"};
    if (depth > 0 && pick(3) == 0) return (pick(2) == 0 ? "(" : "(?:") + choice(depth - 1) + ")";
    return leaves[pick(static_cast<uint32_t>(leaves.size()))];
  }

  std::mt19937 random_;
};

std::shared_ptr<const Grammar> compile(const std::string& pattern, bool search) {
  GrammarBuilder b;
  const CharacterLeaf leaf = [&b](const CodePointSet& set) { return b.code_points(set); };
  const auto root = search ? regular_expression_search(b, pattern, leaf) : regular_expression(b, pattern);
  if (!root) {
    ADD_FAILURE() << pattern << ": " << root.error().message();
    return nullptr;
  }
  auto built = std::move(b).build(*root);
  if (!built) return nullptr;  // no string matches
  return *built;
}

TEST(Regex, RandomPatternsMatchAsPcre2Does) {
  const std::vector<std::string> strings = all_strings({"a", "b", "é", "\n"}, 4);
  for (uint32_t seed = 0; seed < 300; ++seed) {
    const std::string pattern = RandomPattern(seed).choice(3);
    SCOPED_TRACE(pattern);
    const auto grammar = compile(pattern, false);
    ASSERT_NE(grammar, nullptr);
    Acceptor accepts(grammar);
    Oracle oracle("\\A(?:" + pattern + ")\\z");
    for (const std::string& text : strings)
      ASSERT_EQ(accepts(text), oracle.matches(text)) << '"' << text << '"';
  }
}

TEST(Regex, LooksAheadAtItsBeginningAsPcre2Does) {
  const std::vector<std::string> strings = all_strings({"a", "b", "é"}, 4);
  std::vector<std::string> patterns{
      "(?!a)[ab]*", "^(?=.*b)(?!.*é)[abé]{2,}$", "(?=a|b$).*", "^(?!(?:a|bb)$).+", "(?!)a", "^(?=)a*",
      "^(?!^b)..$", "(?![)]|\\))(?=a)..?"};
  for (uint32_t seed = 0; seed < 200; ++seed) {
    RandomPattern random(seed);
    patterns.push_back("(?=" + random.choice(2) + ")(?!" + random.choice(2) + ")(?:" + random.choice(2) + ")");
  }
  size_t within_limits = 0;
  for (const std::string& pattern : patterns) {
    SCOPED_TRACE(pattern);
    Oracle oracle("\\A(?:" + pattern + ")\\z");
    GrammarBuilder b;
    const auto root = regular_expression(b, pattern);
    ASSERT_TRUE(root) << root.error().message();
    const auto built = std::move(b).build(*root);
    if (!built && built.error().code() == base::ErrorCode::too_large) continue;  // as some random ones are
    ++within_limits;
    std::optional<Acceptor> accepts;  // none: no string matches
    if (built) accepts.emplace(*built);
    for (const std::string& text : strings)
      ASSERT_EQ(accepts && (*accepts)(text), oracle.matches(text)) << '"' << text << '"';
  }
  EXPECT_GT(within_limits, patterns.size() * 3 / 4);
}

TEST(Regex, ManyConditionsAheadHaveTheStatesThatTheyNeed) {
  GrammarBuilder b;
  const auto root = regular_expression(b, R"(^(?=.*a)(?=.*b)(?=.*c)(?=.*d)(?!.*e)[a-e]{8,64}$)");
  ASSERT_TRUE(root) << root.error().message();
  Acceptor accepts(std::move(b), *root);
  // One for each length up to 64 and for which of the four have come, fewer where a length is too short for them or
  // too long for what must still come.
  size_t states = 0;
  for (const auto& automaton : accepts.grammar().expressions().automata())
    states += automaton->size();
  EXPECT_LE(states, 65U * 16);
  EXPECT_TRUE(accepts("abcdabcd"));
  EXPECT_TRUE(accepts(std::string(61, 'a') + "bcd"));
  EXPECT_FALSE(accepts(std::string(62, 'a') + "bcd"));
  EXPECT_FALSE(accepts(std::string(62, 'a') + "bc"));
  EXPECT_FALSE(accepts.may_continue(std::string(62, 'a')));
  EXPECT_FALSE(accepts("abcdabc"));
  EXPECT_FALSE(accepts("abcdabce"));
}

// The least automaton of all conditions, by way of no larger ones than the limit lets pass.
TEST(Regex, ConditionsAheadMayComeInAnyOrder) {
  const std::vector<std::string> conditions = {"(?=.{8,96}$)", "(?=.*a)", "(?=.*b)", "(?=.*c)", "(?=.*d)", "(?!.*e)"};
  GrammarLimits limits;
  limits.max_states = 2'000;
  std::vector<size_t> sizes;
  for (size_t first = 0; first < conditions.size(); ++first) {
    std::string pattern = "^";
    for (size_t i = 0; i < conditions.size(); ++i)
      pattern += conditions[(first + i) % conditions.size()];
    pattern += "[a-e]*$";
    SCOPED_TRACE(pattern);
    GrammarBuilder b(limits);
    const auto root = regular_expression(b, pattern);
    ASSERT_TRUE(root) << root.error().message();
    const auto built = std::move(b).build(*root);
    ASSERT_TRUE(built) << built.error().message();
    Acceptor accepts(*built);
    EXPECT_TRUE(accepts("abcdabcd"));
    EXPECT_TRUE(accepts(std::string(93, 'a') + "bcd"));
    EXPECT_FALSE(accepts(std::string(94, 'a') + "bcd"));
    EXPECT_FALSE(accepts("abcdabc"));
    EXPECT_FALSE(accepts("abcdabce"));
    size_t& states = sizes.emplace_back(0);
    for (const auto& automaton : (*built)->expressions().automata())
      states += automaton->size();
  }
  EXPECT_LE(sizes.front(), 97U * 16);
  EXPECT_EQ(sizes, std::vector<size_t>(sizes.size(), sizes.front()));
}

TEST(Regex, SizesTellWhatIsSmallFromWhatIsLarge) {
  const auto size = [](std::string_view pattern) { return likely_states(*parse_regex(pattern)); };
  EXPECT_EQ(size(""), 0U);
  EXPECT_EQ(size("^.*[A-Z]"), 2U);
  EXPECT_EQ(size("^.{8,32}$"), 32U);
  EXPECT_EQ(size("(ab|c)*"), 3U);
  EXPECT_EQ(size("^\\d{3}|x{2,}$"), 5U);
  // What is counted behind an attempt that may begin anywhere.
  EXPECT_EQ(size("a.{4}b"), 6U << 4U);
  EXPECT_EQ(size("^.*a.{4}b"), 7U << 4U);
  EXPECT_EQ(size("(?:a.{4}b){2}"), 12U << 4U);
  EXPECT_EQ(size("^a.{4}b"), 6U);
  EXPECT_EQ(size("\\d{10}"), 10U);
  EXPECT_GT(size("a.{100000}b"), size("^.{100000}$"));
}

TEST(Regex, SearchFindsWhatPcre2Finds) {
  const std::vector<std::string> strings = all_strings({"a", "b", "é"}, 5);
  for (const char* pattern :
       {"^a", "b$", "^a|b$", "^(a|bb)$", "(?:^ab|ba$)", "(^a)", "a{2}", "", "^$", "^", "$", "(a|b)é", "^a*$|b{3}"}) {
    SCOPED_TRACE(pattern);
    const auto grammar = compile(pattern, true);
    ASSERT_NE(grammar, nullptr);
    Acceptor accepts(grammar);
    Oracle oracle(pattern);
    for (const std::string& text : strings)
      ASSERT_EQ(accepts(text), oracle.matches(text)) << '"' << text << '"';
  }
}

TEST(Regex, EscapesAndClasses) {
  const auto accepts = [](const std::string& pattern, const std::string& text) {
    const auto grammar = compile(pattern, false);
    return grammar != nullptr && Acceptor(grammar)(text);
  };
  EXPECT_TRUE(accepts("\\u00e9\\u{1F600}\\uD83D\\uDE00\\cA\\0", std::string("é😀😀\x01\0", 12)));
  EXPECT_TRUE(accepts("\\p{Lu}\\p{L}+\\P{L}", "Ärger1"));
  EXPECT_FALSE(accepts("\\p{Lu}", "ä"));
  EXPECT_TRUE(accepts("[\\w.-]+@[a-z\\d-]+\\.[a-z]{2,}", "a.b-c@d-1.org"));
  EXPECT_TRUE(accepts("[]?[^][a-]", "x-"));
  EXPECT_TRUE(accepts("\\/\\-\\\"{", "/-\"{"));
  EXPECT_TRUE(accepts("a{,2}", "a{,2}"));
  EXPECT_TRUE(accepts("[^\\d\\s]", "x"));
  EXPECT_FALSE(accepts("[^\\d\\s]", " "));
  EXPECT_TRUE(accepts("[\\b]", "\b"));
}

// `part` is of why the pattern is refused, or "accepted".
template <typename T>
void expect_told(std::string_view pattern, const base::Result<T>& outcome, std::string_view part) {
  const std::string told = outcome ? "accepted" : outcome.error().message();
  EXPECT_NE(told.find(part), std::string::npos) << pattern << ": " << told;
}

TEST(Regex, WhatIsRefusedIsNamedWithItsPosition) {
  const auto expect = [](std::string_view pattern, std::string_view part) {
    expect_told(pattern, parse_regex(pattern), part);
  };
  expect("ab\\b", "position 3: '\\b'");
  expect("é(?=a)", "position 2: lookahead");
  expect("(?<!a)", "position 1: lookbehind");
  expect("(a)\\1", "position 4: back-ref");
  expect("a^b", "position 2: '^'");
  expect("a$b", "position 2: '$'");
  expect("a(b$)", "position 4: an anchor");
  expect("(^a)+", "position 2: an anchor");
  expect("(a", "position 1: '('");
  expect("a)", "position 2: ')'");
  expect("[a", "position 1: '['");
  expect("*a", "position 1: '*'");
  expect("a**", "position 3");
  expect("a{3,1}", "counts down");
  expect("a{1000000}", "over the limit");
  expect("[b-a]", "position 2: a range");
  expect("\\p{Greek}", "'Greek'");
  expect("\\q", "'\\q'");
  expect("\\", "at the end");
  expect("\xff", "UTF-8");
  expect("(?i)a", "flags");
  expect(std::string(1000, '(') + std::string(1000, ')'), "nest deeper");
}

TEST(Regex, WhatIsRefusedBehindALookaheadIsNamedAsWhatItIs) {
  const auto expect = [](std::string_view pattern, std::string_view part) {
    GrammarBuilder b;
    expect_told(pattern, regular_expression(b, pattern), part);
  };
  expect("^(?=.*é)(?<!a)b", "position 9: lookbehind");
  expect("^(?=.*é)(.)\\1$", "position 12: back-ref");
  expect("(?=.*é)(.)\\1$", "position 11: back-ref");
  expect("^(?!.*(.)\\1).+$", "position 10: back-ref");
  expect("^(?=a|b(?<=c))d", "position 8: lookbehind");
  expect("^(?=a)(?!b\\b)c", "position 11: '\\b'");
  expect("^(?=a[b-a])c", "position 7: a range");
  expect("^(?=a)b(?=c)", "position 8: lookahead");
  expect("^(?=a(?=b))", "position 6: lookahead");
  expect("^(?=a)*b", "position 2: lookahead");
  expect("^(?=a){2}b", "position 2: lookahead");
  expect("^(?=a){b}", "accepted");
  expect("^(?=.*a)b{200000}", "position 11: a repetition is over the limit");
  expect("^(?=.*é|b{200000})c", "position 11: a repetition is over the limit");
  // What is none only behind the ^ that it stands for.
  expect("^(?=(?:^a|b))c", "position 8: an anchor inside of a group");
  expect("^(?!.*é|b|(c$|d)|e)c", "position 13: an anchor inside of a group");
  expect("^(?=a)b|c", "position 2: lookahead is not supported here, only at the beginning");
}

}  // namespace
