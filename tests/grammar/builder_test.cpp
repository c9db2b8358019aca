// What a grammar built from parts accepts, byte by byte, through its derivatives.
#include "grammar/builder.hpp"

#include <gtest/gtest.h>

#include "grammar/acceptor.hpp"

using namespace tidemill;           // NOLINT(google-build-using-namespace)
using namespace tidemill::grammar;  // NOLINT(google-build-using-namespace)
using test::Acceptor;

namespace {

TEST(Builder, LiteralsSequencesAndChoices) {
  GrammarBuilder b;
  const Expression root =
      b.sequence({b.literal("ab"), b.choice({b.literal("cd"), b.literal("ce"), b.empty()}), b.literal("f")});
  Acceptor accepts(std::move(b), root);
  EXPECT_TRUE(accepts("abcdf"));
  EXPECT_TRUE(accepts("abcef"));
  EXPECT_TRUE(accepts("abf"));
  EXPECT_FALSE(accepts("ab"));
  EXPECT_FALSE(accepts("abcf"));
  EXPECT_FALSE(accepts("abff"));
  EXPECT_FALSE(accepts(""));
}

TEST(Builder, CountedRepetitionsAreNotUnrolled) {
  GrammarBuilder b;
  const Expression word = b.repeat(b.repeat(b.literal("ab"), 2, 1000), 3, 1000);
  Acceptor accepts(std::move(b), word);
  EXPECT_LT(accepts.grammar().expressions().size(), 10U);
  std::string text;
  for (int i = 1; i <= 40; ++i) {
    text += "ab";
    EXPECT_EQ(accepts(text), i >= 6) << i;
  }
  EXPECT_FALSE(accepts(text + "a"));
}

TEST(Builder, RecursionThroughRules) {
  GrammarBuilder b;
  const Rule value = b.declare("value");
  b.define(value, b.choice({b.literal("x"), b.sequence({b.literal("["), b.use(value), b.literal("]")})}));
  Acceptor accepts(std::move(b), b.use(value));
  EXPECT_TRUE(accepts("x"));
  EXPECT_TRUE(accepts("[[[x]]]"));
  EXPECT_FALSE(accepts("[[[x]]"));
  EXPECT_FALSE(accepts("[[[x]]]]"));
}

TEST(Builder, LeftRecursionIsRefusedByName) {
  const auto error_of = [](auto define) {
    GrammarBuilder b;
    const Rule list = b.declare("list");
    const Rule other = b.declare("other");
    define(b, list, other);
    auto built = std::move(b).build(b.use(list));
    return built ? std::string() : built.error().message();
  };
  const auto direct = [](GrammarBuilder& b, Rule list, Rule other) {
    b.define(list, b.choice({b.literal("x"), b.sequence({b.use(list), b.literal("y")})}));
    b.define(other, b.empty());
  };
  const auto through_nullable = [](GrammarBuilder& b, Rule list, Rule other) {
    b.define(list, b.choice({b.literal("x"), b.sequence({b.use(other), b.use(list), b.literal("y")})}));
    b.define(other, b.repeat(b.literal("z"), 0, 5));
  };
  EXPECT_NE(error_of(direct).find("'list' is left-recursive"), std::string::npos);
  EXPECT_NE(error_of(through_nullable).find("'list' is left-recursive"), std::string::npos);
}

TEST(Builder, WhatNoStringMatchesIsLeftOut) {
  GrammarBuilder b;
  const Rule endless = b.declare("endless");
  b.define(endless, b.sequence({b.literal("a"), b.use(endless)}));
  Acceptor accepts(std::move(b), b.choice({b.literal("ab"), b.use(endless)}));
  EXPECT_TRUE(accepts("ab"));
  EXPECT_FALSE(accepts.may_continue("aa"));  // not merely not accepted: it is no beginning either

  GrammarBuilder none;
  const Rule never = none.declare("never");
  none.define(never, none.sequence({none.literal("a"), none.use(never)}));
  const auto built = std::move(none).build(none.use(never));
  ASSERT_FALSE(built);
  EXPECT_EQ(built.error().code(), base::ErrorCode::invalid_argument);
}

TEST(Builder, UndefinedRulesAreNamed) {
  GrammarBuilder b;
  const Rule rule = b.declare("missing");
  const auto built = std::move(b).build(b.use(rule));
  ASSERT_FALSE(built);
  EXPECT_NE(built.error().message().find("'missing'"), std::string::npos);
}

TEST(Builder, SearchesForTriggers) {
  GrammarBuilder b;
  const std::vector<std::string> triggers{"<tool>", "<think>", "é!"};
  const Expression through = b.text_through(triggers);
  Acceptor accepts(std::move(b), b.sequence({through, b.literal("1")}));
  EXPECT_TRUE(accepts("some <text> <tool>1"));
  EXPECT_TRUE(accepts("<<tool>1"));
  EXPECT_TRUE(accepts("éé!1"));
  EXPECT_FALSE(accepts("<tool>x<tool>1"));
  EXPECT_FALSE(accepts("<tool"));
  EXPECT_FALSE(accepts("\xC3<tool>1"));

  GrammarBuilder c;
  Acceptor without(std::move(c), c.text_without(triggers));
  EXPECT_TRUE(without(""));
  EXPECT_TRUE(without("<tool"));
  EXPECT_FALSE(without("x<tool>"));
  EXPECT_FALSE(without("\xC3"));
}

TEST(Builder, Intersections) {
  GrammarBuilder b;
  const Expression letters = b.repeat(b.code_points(CodePointSet({{'a', 'c'}})), 2, 4);
  const Expression ends = b.sequence({b.repeat(b.any_character(), 0, std::nullopt), b.literal("cb")});
  Acceptor accepts(std::move(b), b.both(letters, ends));
  EXPECT_TRUE(accepts("cb"));
  EXPECT_TRUE(accepts("abcb"));
  EXPECT_FALSE(accepts("abc"));
  EXPECT_FALSE(accepts("aabcb"));
  EXPECT_FALSE(accepts.may_continue("abca"));  // the fifth letter would be one too many
}

TEST(Builder, LeavesOutWhatIsExcepted) {
  GrammarBuilder b;
  const Expression letters = b.repeat(b.code_points(CodePointSet({{'a', 'c'}})), 0, 3);
  const Expression ends = b.sequence({b.repeat(b.any_character(), 0, std::nullopt), b.literal("cb")});
  EXPECT_EQ(b.except(letters, b.repeat(b.any_character(), 0, std::nullopt)), b.nothing());
  const Expression all = b.except(b.both(letters, b.repeat(b.any_character(), 1, std::nullopt)), ends);
  Acceptor accepts(std::move(b), all);
  for (const char* text : {"a", "c", "cba", "acc"})
    EXPECT_TRUE(accepts(text)) << text;
  for (const char* text : {"", "cb", "acb", "abcd", "aaaa"})
    EXPECT_FALSE(accepts(text)) << text;
}

// Nor does telling so cost what going through both would: here two such looks would be more than the limits have.
TEST(Builder, TellsAtTheFirstCommonTextThatPartsAreNotApart) {
  GrammarLimits limits;
  limits.max_states = 200;
  GrammarBuilder builder(limits);
  const Expression some = builder.repeat(builder.literal("a"), 0, 900);
  const Expression more = builder.repeat(builder.literal("a"), 0, 901);
  for (int i = 0; i < 10; ++i)
    EXPECT_FALSE(builder.apart(some, more));
  EXPECT_TRUE(builder.apart(builder.literal("ab"), builder.repeat(builder.literal("a"), 0, std::nullopt)));
  const Expression rest = builder.except(builder.repeat(builder.literal("b"), 0, 3), builder.literal("bb"));
  Acceptor accepts(std::move(builder), rest);
  EXPECT_TRUE(accepts("b"));
  EXPECT_FALSE(accepts("bb"));
}

TEST(Builder, LeavesOutWhatHoldsTogether) {
  GrammarBuilder b;
  const Expression any = b.repeat(b.any_character(), 0, std::nullopt);
  const Expression letters = b.repeat(b.code_points(CodePointSet({{'a', 'c'}})), 1, 3);
  const Expression two = b.both(b.sequence({any, b.literal("a"), any}), b.sequence({any, b.literal("b"), any}));
  Acceptor accepts(std::move(b), b.except(letters, two));
  for (const char* text : {"a", "b", "aac", "ccb"})
    EXPECT_TRUE(accepts(text)) << text;
  for (const char* text : {"ab", "ba", "bca", "aaab"})
    EXPECT_FALSE(accepts(text)) << text;
}

}  // namespace
