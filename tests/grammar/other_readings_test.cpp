// What raw texts are read as, against the JSON parser, over all short strings of small alphabets.
#include "grammar/other_readings.hpp"

#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "base/json.hpp"
#include "grammar/acceptor.hpp"

namespace tidemill::grammar {
namespace {

using test::Acceptor;

std::vector<std::string> all_texts(const std::vector<std::string>& alphabet, int length) {
  std::vector<std::string> all{""};
  for (size_t begin = 0; length > 0; --length) {
    const size_t end = all.size();
    for (; begin < end; ++begin)
      for (const std::string& letter : alphabet)
        all.push_back(all[begin] + letter);
  }
  return all;
}

std::string_view without_space(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \n\t\r");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \n\t\r") + 1 - begin);
}

// Whether the parser takes the text for a value of one of the kinds asked for.
bool is_read_otherwise(const OtherReadings& readings, std::string_view text) {
  const std::string_view bare = without_space(text);
  if (readings.null && bare == "None") return true;
  if (readings.boolean && (bare == "True" || bare == "False")) return true;
  const auto value = base::parse_json(bare);
  if (!value) return false;
  return (readings.null && value->is_null()) || (readings.boolean && value->is_bool()) ||
         (readings.number && value->is_number()) || (readings.array && value->is_array()) ||
         (readings.object && value->is_object()) || (readings.text && value->is_string());
}

// `exactly`: nothing else is taken for one.
void expect_as_parsed(const OtherReadings& readings, bool exactly, const std::vector<std::string>& texts) {
  GrammarBuilder builder;
  Acceptor read(std::move(builder), texts_read_otherwise(builder, readings));
  for (const std::string& text : texts) {
    const bool parsed = is_read_otherwise(readings, text);
    if (exactly) {
      ASSERT_EQ(read(text), parsed) << '"' << text << '"';
    } else if (parsed) {
      ASSERT_TRUE(read(text)) << '"' << text << '"';
    }
  }
}

TEST(OtherReadings, OfNumbersAreThoseOfJson) {
  expect_as_parsed({.number = true}, true, all_texts({"0", "7", "-", "+", ".", "e", " "}, 6));
}

TEST(OtherReadings, OfWordsAreThoseOfJsonAndOfPython) {
  std::vector<std::string> texts = all_texts({"n", "u", "l", "N", "o", "e", " "}, 5);
  for (const char* text : {"true", "false\n", "\tTrue ", "False", "TRUE", "none", "tru", "fals", "Fa"})
    texts.emplace_back(text);
  expect_as_parsed({.null = true}, true, texts);
  expect_as_parsed({.boolean = true}, true, texts);
  expect_as_parsed({.null = true, .boolean = true}, true, texts);
}

// More than is one may be taken for an array, an object or a text in quotation marks, but not less.
TEST(OtherReadings, OfWhatHasMarksAreAtLeastThoseOfJson) {
  const std::vector<std::string> texts = all_texts({"[", "]", "{", "}", "\"", "\\", ":", "1", "é", " "}, 4);
  expect_as_parsed({.array = true}, false, texts);
  expect_as_parsed({.object = true}, false, texts);
  expect_as_parsed({.text = true}, false, texts);
  GrammarBuilder builder;
  Acceptor read(std::move(builder), texts_read_otherwise(builder, {.text = true}));
  EXPECT_FALSE(read(R"("a" and "b")"));
  EXPECT_FALSE(read(R"(a "b")"));
  EXPECT_TRUE(read(R"( "a \" b" )"));
}

}  // namespace
}  // namespace tidemill::grammar
