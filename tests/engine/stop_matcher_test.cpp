#include "engine/stop_matcher.hpp"

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace tidemill::engine {
namespace {

using Strings = std::vector<std::string>;

struct Outcome {
  std::string text;
  int matched = -1;
  bool operator==(const Outcome&) const = default;
};

Outcome run(const Strings& stops, const Strings& pieces) {
  StopMatcher matcher(stops);
  Outcome outcome;
  for (const std::string& piece : pieces) {
    auto step = matcher.push(piece);
    outcome.text += step.text;
    if (step.matched >= 0) {
      outcome.matched = step.matched;
      return outcome;
    }
  }
  outcome.text += matcher.flush();
  return outcome;
}

TEST(StopMatcher, PassesEverythingWithoutStops) {
  StopMatcher matcher;
  EXPECT_EQ(matcher.push("abc").text, "abc");
  EXPECT_EQ(matcher.flush(), "");
}

TEST(StopMatcher, FindsAStopAcrossPieces) {
  EXPECT_EQ(run({"</end>"}, {"one <", "/e", "nd", "> two"}), (Outcome{"one ", 0}));
}

TEST(StopMatcher, HoldsBackOnlyWhatCouldBecomeAStop) {
  StopMatcher matcher({"abab!"});
  EXPECT_EQ(matcher.push("xab").text, "x");
  EXPECT_EQ(matcher.push("ab").text, "");
  EXPECT_EQ(matcher.push("ab").text, "ab") << "the last four are still a beginning";
  EXPECT_EQ(matcher.push("?").text, "abab?");
  EXPECT_EQ(matcher.push("ab").text, "");
  EXPECT_EQ(matcher.flush(), "ab");
}

TEST(StopMatcher, TheFirstToBeCompleteWinsAndOfTheseTheLongest) {
  EXPECT_EQ(run({"bcd", "abcde"}, {"xabcde"}), (Outcome{"xa", 0}));
  EXPECT_EQ(run({"cd", "abcd"}, {"xabcde"}), (Outcome{"x", 1}));
  EXPECT_EQ(run({"abcd", "bc"}, {"xabcd"}), (Outcome{"xa", 1}));
  EXPECT_EQ(run({"same", "same"}, {"same"}), (Outcome{"", 0}));
}

TEST(StopMatcher, KeepsCharactersWhole) {
  StopMatcher matcher({"\xc3\xa9!"});  // é!
  EXPECT_EQ(matcher.push("\xc3\xa8").text, "\xc3\xa8") << "è begins with é's first byte and is not held back";
  EXPECT_EQ(matcher.push("\xc3\xa9").text, "");
  EXPECT_EQ(matcher.push("?").text, "\xc3\xa9?");
}

// The definition, tried out byte by byte.
Outcome brute_force(const Strings& stops, const std::string& text) {
  for (size_t end = 1; end <= text.size(); ++end) {
    Outcome best;
    size_t longest = 0;
    for (size_t i = 0; i < stops.size(); ++i) {
      const bool here = stops[i].size() <= end && text.compare(end - stops[i].size(), stops[i].size(), stops[i]) == 0;
      if (here && stops[i].size() > longest) {
        longest = stops[i].size();
        best = {text.substr(0, end - longest), static_cast<int>(i)};
      }
    }
    if (best.matched >= 0) return best;
  }
  return {text, -1};
}

TEST(StopMatcher, AgreesWithBruteForceHoweverTheTextIsCut) {
  std::mt19937 random(7);
  const auto word = [&](size_t longest) {
    std::string s(1 + random() % longest, 'a');
    for (char& c : s)
      c = static_cast<char>('a' + random() % 2);
    return s;
  };
  int matches = 0;
  for (int round = 0; round < 5000; ++round) {
    Strings stops;
    for (size_t i = 0; i < 1 + random() % 4; ++i)
      stops.push_back(word(7));
    const std::string text = word(24);
    Strings pieces;
    for (size_t at = 0; at < text.size();) {
      pieces.push_back(text.substr(at, random() % 5));
      at += pieces.back().size();
    }
    const Outcome expected = brute_force(stops, text);
    ASSERT_EQ(run(stops, pieces), expected) << "text " << text;
    matches += expected.matched >= 0;
  }
  EXPECT_GT(matches, 1000);
  EXPECT_LT(matches, 4990);
}

// The text that comes out, with a mark where a stop string ended it; the same however the text is cut.
std::string quietly(const Strings& stops, const QuietText& quiet, const std::string& text) {
  std::string whole;
  for (size_t size = 1; size <= text.size(); ++size) {
    StopMatcher matcher(stops, quiet);
    std::string out;
    bool stopped = false;
    for (size_t at = 0; at < text.size() && !stopped; at += size) {
      const auto step = matcher.push(text.substr(at, size));
      out += step.text;
      stopped = step.matched >= 0;
    }
    out += stopped ? "|" : matcher.flush();
    if (size > 1) EXPECT_EQ(out, whole) << "in pieces of " << size;
    whole = out;
  }
  return whole;
}

TEST(StopMatcher, PassesOverWhatIsQuiet) {
  const QuietText calls{.spans = {{"<call>", "</call>"}}, .begins_before = {}, .first_bytes = {}};
  EXPECT_EQ(quietly({"}"}, calls, "a<call>{}</call>b}c"), "a<call>{}</call>b|");
  EXPECT_EQ(quietly({"}"}, calls, "a}<call>{}</call>"), "a|");
  EXPECT_EQ(quietly({"l>{"}, calls, "<call>{}</call>"), "<call>{}</call>") << "no stop string begins in an opening";
  EXPECT_EQ(quietly({"}"}, calls, "<call>{}"), "<call>{}");
  const QuietText to_the_end{.spans = {{"[ARGS]", ""}}, .begins_before = {}, .first_bytes = {}};
  EXPECT_EQ(quietly({"}"}, to_the_end, "x[ARGS]{}}"), "x[ARGS]{}}");
  const QuietText thinks{.spans = {{"<t>", "</t>"}}, .begins_before = "</t>", .first_bytes = {}};
  EXPECT_EQ(quietly({"."}, thinks, "a. b.</t>c<t>d.</t>e."), "a. b.</t>c<t>d.</t>e|");
  const QuietText bare{.spans = {}, .begins_before = {}, .first_bytes = "{["};
  EXPECT_EQ(quietly({","}, bare, " \n{1,2}"), " \n{1,2}");
  EXPECT_EQ(quietly({","}, bare, "a {1,2}"), "a {1|");
}

}  // namespace
}  // namespace tidemill::engine
