#include "base/utf8.hpp"

#include <cstdint>
#include <string>

#include <gtest/gtest.h>

namespace tidemill::base::utf8 {
namespace {

using namespace std::string_literals;

TEST(Utf8, EveryCodePointSurvives) {
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    std::string text;
    append(text, c);
    const Decoded decoded = decode(text);
    ASSERT_TRUE(decoded.valid) << static_cast<uint32_t>(c);
    ASSERT_TRUE(decoded.code_point == c) << static_cast<uint32_t>(c);
    ASSERT_EQ(decoded.length, text.size());
    ASSERT_EQ(incomplete_tail(text), 0);
    for (size_t cut = 1; cut < text.size(); ++cut)
      ASSERT_EQ(incomplete_tail(text.substr(0, cut)), cut) << static_cast<uint32_t>(c);
  }
}

// Decodes by arithmetic and rejects what RFC 3629 forbids by value, where the code under test goes by byte ranges.
bool valid_by_value(const std::string& text) {
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const size_t length = lead < 0x80 ? 1 : (lead >> 5) == 6 ? 2 : (lead >> 4) == 14 ? 3 : (lead >> 3) == 30 ? 4 : 0;
    if (length == 0 || i + length > text.size()) return false;
    uint32_t value = length == 1 ? lead : lead & (0x7Fu >> length);
    for (size_t k = 1; k < length; ++k) {
      const auto byte = static_cast<unsigned char>(text[i + k]);
      if ((byte & 0xC0) != 0x80) return false;
      value = value << 6 | (byte & 0x3F);
    }
    constexpr uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    if (value < least[length] || value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) return false;
    i += length;
  }
  return true;
}

TEST(Utf8, ValidityAgreesWithAnIndependentCheck) {
  const std::string interesting =
      "\x00\x41\x7f\x80\x8f\x90\x9f\xa0\xbf\xc0\xc1\xc2\xdf\xe0\xe1\xec\xed\xee\xef\xf0\xf1\xf3\xf4\xf5\xff"s;
  for (const char a : interesting) {
    for (const char b : interesting) {
      for (const char c : interesting) {
        for (const char d : interesting) {
          const std::string text = {a, b, c, d};
          ASSERT_EQ(is_valid(text), valid_by_value(text));
          ASSERT_TRUE(valid_by_value(sanitize(text)));
        }
      }
    }
  }
}

// Tables 3-8 to 3-11 of the Unicode standard, chapter 3.
TEST(Utf8, ReplacesMaximalPrefixes) {
  const std::string r = "\xEF\xBF\xBD";
  EXPECT_EQ(sanitize("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41"), r + r + r + r + r + r + r + r + "A");
  EXPECT_EQ(sanitize("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41"), r + r + r + r + r + r + r + r + "A");
  EXPECT_EQ(sanitize("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42"), r + r + r + r + r + "A" + r + r + "B");
  EXPECT_EQ(sanitize("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"), r + r + r + r + "A");
  EXPECT_EQ(sanitize(""), "");
}

TEST(Utf8, LengthIsInCodePoints) {
  EXPECT_EQ(length(""), 0U);
  EXPECT_EQ(length("aé\n你🙂"), 5U);
}

TEST(Utf8, PrefixesAreOfWholeCharacters) {
  const std::string text = "aé\n你🙂b";
  const std::vector<std::string> expected{"", "a", "aé", "aé\n", "aé\n你", "aé\n你🙂", text, text};
  for (size_t i = 0; i < expected.size(); ++i)
    EXPECT_EQ(prefix(text, i), expected[i]);
  EXPECT_EQ(prefix("\xE4\xBD", 1), "\xE4\xBD");
}

TEST(Utf8, PrintableTextCannotDriveATerminal) {
  const std::string r = "\xEF\xBF\xBD";
  EXPECT_EQ(printable(""), "");
  EXPECT_EQ(printable("模型 é 🙂"), "模型 é 🙂");
  EXPECT_EQ(printable("we\x1b[31m\xffird"), "we" + r + "[31m" + r + "ird");
  EXPECT_EQ(printable("a\n\t\x7f\xc2\x9b"
                      "b"),
            "a" + r + r + r + r + "b");
  EXPECT_EQ(printable("a\u202Eb\u2028c\u2066d"), "a" + r + "b" + r + "c" + r + "d");
  EXPECT_EQ(printable("abcd", 4), "abcd");
  EXPECT_EQ(printable("abcde", 4), "abcd...");
  EXPECT_EQ(printable("abc模", 5), "abc...") << "no part of a character";
  EXPECT_EQ(printable("abc模", 6), "abc模");
  EXPECT_EQ(printable("模型", 0), "...");
}

TEST(Utf8, OnlyACompletableTailIsIncomplete) {
  EXPECT_EQ(incomplete_tail(""), 0);
  EXPECT_EQ(incomplete_tail("abc"), 0);
  EXPECT_EQ(incomplete_tail("abc\xE2\x82"), 2);
  EXPECT_EQ(incomplete_tail("\xE0\x80"), 0);          // overlong already
  EXPECT_EQ(incomplete_tail("\xED\xA0"), 0);          // a surrogate already
  EXPECT_EQ(incomplete_tail("\xF4\x90"), 0);          // past the last code point already
  EXPECT_EQ(incomplete_tail("\x80\x80\x80\x80"), 0);  // no lead byte
  EXPECT_EQ(incomplete_tail("\xFF"), 0);
}

TEST(Utf8, AppendNeverWritesInvalidText) {
  for (const char32_t c : {char32_t{0xD800}, char32_t{0xDFFF}, char32_t{0x110000}, char32_t{0xFFFFFFFF}}) {
    std::string text;
    append(text, c);
    EXPECT_EQ(text, "\xEF\xBF\xBD");
  }
}

}  // namespace
}  // namespace tidemill::base::utf8
