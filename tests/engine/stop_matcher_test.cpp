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
  int foreseen = 0;
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

    // A look ahead says what push() would find.
    StopMatcher matcher(stops);
    const size_t half = random() % (text.size() + 1);
    if (matcher.push(text.substr(0, half)).matched >= 0) continue;
    const bool finds = matcher.finds(text.substr(half));
    ASSERT_EQ(finds, matcher.push(text.substr(half)).matched >= 0) << "text " << text;
    foreseen += finds;
  }
  EXPECT_GT(matches, 1000);
  EXPECT_LT(matches, 4990);
  EXPECT_GT(foreseen, 500);
}

}  // namespace
}  // namespace tidemill::engine
