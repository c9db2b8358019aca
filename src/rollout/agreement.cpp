#include "rollout/agreement.hpp"

#include <algorithm>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/checksum.hpp"
#include "base/utf8.hpp"

namespace tidemill::rollout {
namespace {

constexpr size_t kMostBytes = kMostWordsCompared * 64;  // of a text that are looked at for words

// Han, kana, Hangul, Thai, Lao, Khmer and Myanmar, roughly.
bool writes_without_spaces(char32_t c) {
  return (c >= 0x0E00 && c < 0x0F00) || (c >= 0x1000 && c < 0x10A0) || (c >= 0x1780 && c < 0x1800) ||
         (c >= 0x2E80 && c < 0xD800) || (c >= 0xF900 && c < 0xFB00) || (c >= 0x20000 && c < 0x32000);
}

bool is_space(char32_t c) {
  return c <= 0x20 || c == 0xA0 || c == 0x3000 || (c >= 0x2000 && c < 0x200C);
}

bool joins_words(char32_t c) {
  if (c < 0x80) return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
  return !writes_without_spaces(c) && !(c >= 0x2000 && c < 0x2070);  // the latter: typographic punctuation
}

// The hashes of the words.
std::vector<uint64_t> words_of(std::string_view text) {
  std::vector<uint64_t> words;
  text = text.substr(0, kMostBytes);
  const auto push = [&](size_t begin, size_t end) {
    if (begin < end) words.push_back(base::checksum(std::as_bytes(std::span(text.substr(begin, end - begin)))));
  };
  size_t begin = 0;
  size_t at = 0;
  while (at < text.size() && words.size() < kMostWordsCompared) {
    const auto [c, length, valid] = base::utf8::decode(text.substr(at));
    if (!joins_words(c)) {
      push(begin, at);
      if (!is_space(c) && words.size() < kMostWordsCompared) push(at, at + length);
      begin = at + length;
    }
    at += length;
  }
  if (words.size() < kMostWordsCompared) push(begin, at);
  return words;
}

size_t common_words(std::vector<uint64_t> one, std::vector<uint64_t> two) {
  std::ranges::sort(one);
  std::ranges::sort(two);
  size_t common = 0;
  for (size_t i = 0, j = 0; i < one.size() && j < two.size();) {
    if (one[i] == two[j]) {
      ++common;
      ++i;
      ++j;
    } else {
      ++(one[i] < two[j] ? i : j);
    }
  }
  return common;
}

size_t common_subsequence(std::span<const uint64_t> one, std::span<const uint64_t> two) {
  if (one.empty() || two.empty()) return 0;
  const size_t width = (one.size() + 63) / 64;
  std::unordered_map<uint64_t, std::vector<uint64_t>> where;  // each word's places in `one`
  for (size_t i = 0; i < one.size(); ++i) {
    auto& bits = where[one[i]];
    bits.resize(width);
    bits[i / 64] |= uint64_t{1} << (i % 64);
  }
  std::vector<uint64_t> row(width, ~uint64_t{0});
  for (const uint64_t word : two) {
    const auto places = where.find(word);
    if (places == where.end()) continue;
    uint64_t carry = 0;
    for (size_t w = 0; w < width; ++w) {
      const uint64_t match = row[w] & places->second[w];
      const uint64_t sum = row[w] + match;
      const uint64_t carried = sum + carry;
      carry = static_cast<uint64_t>(sum < match) | static_cast<uint64_t>(carried < sum);
      row[w] = carried | (row[w] & ~places->second[w]);
    }
  }
  size_t length = 0;
  for (size_t i = 0; i < one.size(); ++i)
    length += (row[i / 64] >> (i % 64) & 1) == 0 ? 1 : 0;
  return length;
}

}  // namespace

Agreement compare_texts(std::string_view one, std::string_view two) {
  if (one == two) return {.exact = true, .prefix = 1, .word_f1 = 1, .edit_similarity = 1};
  const auto parts = std::ranges::mismatch(one, two);
  Agreement agreement;
  agreement.prefix =
      static_cast<double>(parts.in1 - one.begin()) / static_cast<double>(std::max(one.size(), two.size()));
  const std::vector<uint64_t> first = words_of(one);
  const std::vector<uint64_t> second = words_of(two);
  const size_t all = first.size() + second.size();
  if (all == 0) {
    agreement.word_f1 = agreement.edit_similarity = 1;  // they differ in white space alone
    return agreement;
  }
  agreement.word_f1 = 2 * static_cast<double>(common_words(first, second)) / static_cast<double>(all);
  agreement.edit_similarity = 2 * static_cast<double>(common_subsequence(first, second)) / static_cast<double>(all);
  return agreement;
}

}  // namespace tidemill::rollout
