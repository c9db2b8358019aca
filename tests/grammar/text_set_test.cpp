// Lists of texts: of many, and of such that begin or end alike.
#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "grammar/acceptor.hpp"
#include "grammar/schema_cases.hpp"
#include "grammar/token_grammar.hpp"
#include "grammar/vocabularies.hpp"

namespace tidemill::grammar {
namespace {

using base::ErrorCode;
using test::expect_refusal_saying;

TEST(TextSets, HoldTheirTextsAndNoOthers) {
  std::mt19937 random(3);
  for (int round = 0; round < 200; ++round) {
    std::vector<std::string> list;
    for (size_t i = random() % 12; i-- > 0;) {
      std::string text;
      for (size_t length = random() % 5; length-- > 0;)
        text += static_cast<char>('a' + random() % 2);
      list.push_back(text);
    }
    GrammarBuilder builder;
    const Expression root = builder.one_of(list);
    if (list.empty()) {
      EXPECT_EQ(root, builder.nothing());
      continue;
    }
    test::Acceptor accepts(std::move(builder), root);
    std::vector<std::string> all{""};
    for (size_t i = 0; i < all.size() && all[i].size() < 5; ++i)
      for (const char c : {'a', 'b'})
        all.push_back(all[i] + c);
    for (const std::string& text : all)
      ASSERT_EQ(accepts(text), std::find(list.begin(), list.end(), text) != list.end()) << text;
  }
}

std::string enumeration(const std::vector<std::string>& values) {
  std::string list;
  for (const std::string& value : values)
    list += (list.empty() ? "\"" : ",\"") + value + "\"";
  return R"({"type":"object","properties":{"city":{"enum":[)" + list + R"(]}},"required":["city"]})";
}

std::vector<std::string> random_words(size_t count, size_t length) {
  std::mt19937 random(11);
  std::vector<std::string> words(count);
  for (std::string& word : words)
    for (size_t i = 0; i < length; ++i)
      word += static_cast<char>('a' + random() % 26);
  return words;
}

// Bound to a vocabulary, each value can be spelled to its end.
TEST(TextSets, OfFiftyThousandValuesAreMatched) {
  const test::Vocabulary vocabulary(test::small_vocabulary({"a", "ab", "zz", "q", "{\"", "city", "\":", "\"}"}));
  for (const std::vector<std::string>& values : {random_words(50'000, 12), [] {
                                                   std::vector<std::string> numbered;
                                                   numbered.reserve(50'000);
                                                   for (int i = 0; i < 50'000; ++i)
                                                     numbered.push_back(fmt::format("value-{}", i));
                                                   return numbered;
                                                 }()}) {
    const auto schema = base::parse_json(enumeration(values));
    ASSERT_TRUE(schema);
    GrammarBuilder builder;
    const auto root = json_schema(builder, *schema);
    ASSERT_TRUE(root) << root.error().message();
    const auto built = std::move(builder).build(*root);
    ASSERT_TRUE(built) << built.error().message();
    const auto bound = TokenGrammar::create(*built, vocabulary.index);
    ASSERT_TRUE(bound) << bound.error().message();
    for (size_t i = 0; i < values.size(); i += 4'999) {
      Matcher matcher = (*bound)->start();
      for (const char byte : "{\"city\":\"" + values[i] + "\"}") {
        const text::Token token = 3 + static_cast<uint8_t>(byte);
        const auto allowed = matcher.allowed();
        ASSERT_TRUE(allowed) << allowed.error().message();
        ASSERT_TRUE((*allowed)->test(token)) << values[i];
        ASSERT_TRUE(matcher.accept(token));
      }
      EXPECT_TRUE(matcher.can_end());
    }
    Matcher matcher = (*bound)->start();
    for (const char byte : std::string("{\"city\":\""))
      ASSERT_TRUE(matcher.accept(3 + static_cast<uint8_t>(byte)));
    EXPECT_FALSE(matcher.accept(3 + '"'));
    EXPECT_FALSE(matcher.accept(3 + '0'));
  }
}

TEST(TextSets, OverALimitAreRefusedWithThePlaceAndTheNumber) {
  expect_refusal_saying(enumeration(random_words(150'000, 14)), ErrorCode::too_large,
                        {"#/properties/city", "200000 parts", "ask for less"});
  expect_refusal_saying(enumeration(random_words(100, 50'000)), ErrorCode::too_large,
                        {"#/properties/city", "4194304 bytes", "fewer or shorter"});
  std::vector<std::string> growing(1'500);
  for (size_t i = 0; i < growing.size(); ++i)
    growing[i] = std::string(i, 'a');
  expect_refusal_saying(enumeration(growing), ErrorCode::too_large, {"#/properties/city", "1000 texts"});
}

}  // namespace
}  // namespace tidemill::grammar
