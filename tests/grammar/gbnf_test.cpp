// llama.cpp's grammar syntax.
#include "grammar/gbnf.hpp"

#include <string>

#include <gtest/gtest.h>

#include "grammar/acceptor.hpp"

using namespace tidemill;           // NOLINT(google-build-using-namespace)
using namespace tidemill::grammar;  // NOLINT(google-build-using-namespace)
using test::Acceptor;

namespace {

Acceptor compile(std::string_view text) {
  GrammarBuilder b;
  const auto root = gbnf(b, text);
  if (!root) {
    ADD_FAILURE() << root.error().message();
    return {std::move(b), b.empty()};
  }
  return {std::move(b), *root};
}

std::string refusal(std::string_view text) {
  GrammarBuilder b;
  const auto root = gbnf(b, text);
  if (!root) return root.error().message();
  const auto built = std::move(b).build(*root);
  return built ? "accepted" : built.error().message();
}

// The shape of the arithmetic example of llama.cpp's documentation.
TEST(Gbnf, Arithmetic) {
  Acceptor accepts = compile(R"x(
# a comment
root  ::= (expr "=" ws term "\n")+
expr  ::= term ([-+*/] term)*   # another
term  ::= ident | num | "(" ws expr ")" ws
ident ::= [a-z] [a-z0-9_]* ws
num   ::= [0-9]+ ws
ws    ::= [ \t\n]*
)x");
  EXPECT_TRUE(accepts("x=1\n"));
  EXPECT_TRUE(accepts("(a +b_2) *3 = 7\ny=z\n"));
  EXPECT_FALSE(accepts("(a + = 7\n"));
  EXPECT_FALSE(accepts(""));
}

TEST(Gbnf, RulesOverSeveralLines) {
  Acceptor accepts =
      compile("root ::= (\n  \"a\" |\n  \"b\"\n) tail\ntail ::=\n  \"x\"\n  | \"y\" |\nother ::= \"unused\"\n");
  EXPECT_TRUE(accepts("ax"));
  EXPECT_TRUE(accepts("by"));
  EXPECT_TRUE(accepts("b"));
  EXPECT_FALSE(accepts("ab"));
}

TEST(Gbnf, EscapesClassesAndCounts) {
  Acceptor accepts =
      compile(R"(root ::= "\x41\u00e9\U0001F600\"\\" [^\]\n-a] . "ab"{2,3} [x-]{2} ("c"? "d"*){1,} "e"{0,1})");
  const std::string head = "Aé😀\"\\";
  EXPECT_TRUE(accepts(head + "z\nabab-x"));
  EXPECT_TRUE(accepts(head + "zéababab--cddce"));
  EXPECT_FALSE(accepts(head + "]éabab--"));
  EXPECT_FALSE(accepts(head + "zéab--"));
  EXPECT_FALSE(accepts(head + "zéabababab--"));
}

TEST(Gbnf, WhatAStringMayBeginWith) {
  const auto begins = [](std::string_view source) {
    GrammarBuilder b;
    const auto root = gbnf(b, source);
    const auto built = std::move(b).build(*root);
    return (*built)->may_begin("<tool_call>");
  };
  EXPECT_TRUE(begins("root ::= [^\\n]+"));
  EXPECT_TRUE(begins("root ::= \"<tool_call>\" | \"x\""));
  EXPECT_TRUE(begins("root ::= ws (\"<tool_call>\" | \"x\")\nws ::= [ \\n]*"));
  EXPECT_TRUE(begins("root ::= (\"<\" | \"[\") rest\nrest ::= \"tool_call>\" rest?"));
  EXPECT_TRUE(begins("root ::= \" \"{0,9000} \"x\"")) << "too much to tell";
  EXPECT_FALSE(begins("root ::= \"a\" root | \"b\""));
  EXPECT_FALSE(begins("root ::= \"<tool_call\" | \"x\""));
  EXPECT_FALSE(begins("root ::= ws \"<tool_\" [a-z]+\nws ::= [ \\n]*"));
  EXPECT_FALSE(begins("root ::= [^<]+"));
  EXPECT_FALSE(begins("root ::= \"x<tool_call>\""));
}

TEST(Gbnf, ErrorsSayWhereAndWhat) {
  const auto expect = [](std::string_view text, const std::string& part) {
    EXPECT_NE(refusal(text).find(part), std::string::npos) << text << ": " << refusal(text);
  };
  expect("root ::= \"é\" ]", "line 1 column 14: expected a literal");
  expect("root ::= a\n\na = \"b\"", "line 3 column 3: expected '::='");
  expect("root ::= \"a", "line 1 column 10: a literal without");
  expect("root ::= [a", "a class without");
  expect("root ::= (\"a\"\n", "expected ')', found the end");
  expect("root ::= missing", "line 1 column 10: rule 'missing' is used but not defined");
  expect("a ::= \"b\"", "no rule 'root'");
  expect("root ::= \"a\"\nroot ::= \"b\"", "line 2 column 1: rule 'root' is defined twice");
  expect("root ::= \"a\"{x}", "expected a number");
  expect("root ::= \"a\"{3,1}", "counts down");
  expect("root ::= \"a\"{9999999}", "over the limit");
  expect("root ::= \"\\q\"", "expected an escape");
  expect("root ::= \"\\u12\"", "4 hexadecimal digits");
  expect("root ::= [z-a]", "a range whose end");
  expect("root ::= root \"a\" | \"b\"", "'root' is left-recursive");
  expect("root ::= x\nx ::= (y | \"\") x \"a\"\ny ::= \"b\"", "'x' is left-recursive");
  expect("root ::= \"a\" root", "rule 'root' needs itself, so it has no end");
  expect("root ::= \"a\"? x\nx ::= \"(\" y \")\"\ny ::= x | \"b\" x", "rule 'x' needs itself through 'y'");
  expect("\xff", "UTF-8");
  expect("", "no rule 'root'");
  expect("root ::= " + std::string(100'000, '('), "nest deeper");
}

}  // namespace
