// Texts that find the corners of tokenizers.
#pragma once

#include <array>
#include <random>
#include <string>
#include <string_view>

namespace tidemill::test {

// Words, contractions, scripts, kinds of white space, signs and controls in random order. Valid UTF-8.
inline std::string random_text(std::mt19937& random) {
  static constexpr std::array<std::string_view, 98> fragments{"'s",      "'S",
                                                              "'t",      "'re",
                                                              "'RE",     "'Ve",
                                                              "'ll",     "'d",
                                                              "'m",      "'",
                                                              " '",      "don't",
                                                              "I'M",     " ",
                                                              "  ",      "   ",
                                                              "\n",      "\n\n",
                                                              "\r\n",    "\r",
                                                              "\t",      " \n",
                                                              "\n ",     "\u00A0",
                                                              "\u3000",  "\u2003",
                                                              "\u0085",  "\u2028",
                                                              "\v",      "\f",
                                                              "\u200B",  "\u200D",
                                                              "\uFEFF",  "0",
                                                              "12",      "123",
                                                              "1234",    "٣٤",
                                                              "½",       "Ⅷ",
                                                              "²",       "中文",
                                                              "日本語",  "テスト",
                                                              "한국어",  "你好，世界。",
                                                              "「」",    "é",
                                                              "e\u0301", "ß",
                                                              "ǅ",       "нещо",
                                                              "עברית",   "हिन्दी",
                                                              "ไทย",     "ខ្មែរ",
                                                              "🦙",    "👨‍👩‍👧",
                                                              "✅",       "$",
                                                              "+",       "<=>",
                                                              "^",       "`",
                                                              "|",       "~",
                                                              "_",       "--",
                                                              "...",     "!!!",
                                                              "(",       ")",
                                                              "{",       "/",
                                                              "\\",      "#",
                                                              "“",       "”",
                                                              "…",       "•",
                                                              "€",       "→",
                                                              "\x01",    "\x7F",
                                                              "\u00AD",  "ª",
                                                              "ʰ",       "Ａ",
                                                              "１",      "𐐀",
                                                              "hello",   "World",
                                                              " the",    " a",
                                                              "x",       "<|im_start|>",
                                                              "HTTP",    "/\n"};
  std::string text;
  for (size_t count = random() % 30; count > 0; --count)
    text += fragments[random() % fragments.size()];
  return text;
}

// Any bytes but those of U+2581, which SentencePiece cannot tell from a space.
inline std::string random_bytes(std::mt19937& random, size_t length) {
  std::string text;
  while (text.size() < length)
    if (const auto byte = random() % 256; byte != 0x96) text += static_cast<char>(byte);
  return text;
}

}  // namespace tidemill::test
