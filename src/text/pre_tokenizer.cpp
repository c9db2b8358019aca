#include "text/pre_tokenizer.hpp"

#include <algorithm>
#include <array>
#include <iterator>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "text/cased_words.hpp"
#include "text/vocabulary.hpp"
#include "text/word_scanner.hpp"

namespace tidemill::text {
namespace {

using enum CharacterClass;
using scan::contraction;
using scan::cut_line_breaks_or_space;
using scan::cut_white_space;
using scan::cut_words;
using scan::is_line_break;
using scan::isolate;
using scan::Part;
using scan::skip_numbers;

// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
uint32_t gpt2_word(const Part& part, uint32_t position) {
  if (const uint32_t length = contraction<false>(part, position); length != 0) return position + length;
  const uint32_t first = position + (part.at(position) == ' ' ? 1 : 0);
  if (part.is(letter, first)) return part.skip(letter, first);
  if (part.is(number, first)) return part.skip(number, first);
  if (part.is_sign(first)) return part.skip_signs(first);
  return cut_white_space(part, position);
}

// (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,digits}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|
// \s+(?!\S)|\s+
template <uint32_t digits>
uint32_t llama3_word(const Part& part, uint32_t position) {
  if (const uint32_t length = contraction<true>(part, position); length != 0) return position + length;
  if (part.is(letter, position)) return part.skip(letter, position);
  if (part.is(number, position)) return skip_numbers(part, position, digits);
  if (!is_line_break(part.at(position)) && part.is(letter, position + 1)) return part.skip(letter, position + 1);

  const uint32_t first = position + (part.at(position) == ' ' ? 1 : 0);
  if (part.is_sign(first)) {
    uint32_t end = part.skip_signs(first);
    while (is_line_break(part.at(end)))
      ++end;
    return end;
  }
  return cut_line_breaks_or_space(part, position);
}

// \p{N}
void isolate_each_number(const Characters& characters, uint32_t begin, uint32_t end, std::vector<uint32_t>& ends) {
  const Part part(characters, begin, end);
  isolate(part, ends, [&](uint32_t i) { return i + (part.is(number, i) ? 1 : 0); });
}

// \p{N}+
void isolate_numbers(const Characters& characters, uint32_t begin, uint32_t end, std::vector<uint32_t>& ends) {
  const Part part(characters, begin, end);
  isolate(part, ends, [&](uint32_t i) { return part.skip(number, i); });
}

// \p{N}{1,3}
void isolate_number_triples(const Characters& characters, uint32_t begin, uint32_t end, std::vector<uint32_t>& ends) {
  const Part part(characters, begin, end);
  isolate(part, ends, [&](uint32_t i) {
    const uint32_t most = i + 3;
    while (i < most && part.is(number, i))
      ++i;
    return i;
  });
}

// [0-9][0-9][0-9]
void isolate_digit_triples(const Characters& characters, uint32_t begin, uint32_t end, std::vector<uint32_t>& ends) {
  const Part part(characters, begin, end);
  const auto is_digit = [&part](uint32_t i) { return part.at(i) >= '0' && part.at(i) <= '9'; };
  isolate(part, ends, [&](uint32_t i) { return is_digit(i) && is_digit(i + 1) && is_digit(i + 2) ? i + 3 : i; });
}

// [\p{P}\$\+<=>\^~\|]+ , and ` with it for Falcon
template <bool backtick>
void isolate_punctuation(const Characters& characters, uint32_t begin, uint32_t end, std::vector<uint32_t>& ends) {
  const Part part(characters, begin, end);
  const auto matches = [&part](uint32_t i) {
    if (part.is(punctuation, i)) return true;
    const char32_t c = part.at(i);
    return c < 128 && (std::string_view("$+<=>^~|").find(static_cast<char>(c)) != std::string_view::npos ||
                       (backtick && c == '`'));
  };
  isolate(part, ends, [&](uint32_t i) {
    while (matches(i))
      ++i;
    return i;
  });
}

// [\r\n]
void isolate_line_breaks(const Characters& characters, uint32_t begin, uint32_t end, std::vector<uint32_t>& ends) {
  const Part part(characters, begin, end);
  isolate(part, ends, [&](uint32_t i) { return i + (is_line_break(part.at(i)) ? 1 : 0); });
}

// \s?X+
template <typename Matches>
void isolate_with_space(const Part& part, std::vector<uint32_t>& ends, Matches matches) {
  isolate(part, ends, [&](uint32_t i) {
    const uint32_t first = i + (part.is(white_space, i) ? 1 : 0);
    uint32_t stop = first;
    while (matches(stop))
      ++stop;
    return stop > first ? stop : i;
  });
}

// \s?\p{L}+
void isolate_letters(const Characters& characters, uint32_t begin, uint32_t end, std::vector<uint32_t>& ends) {
  const Part part(characters, begin, end);
  isolate_with_space(part, ends, [&](uint32_t i) { return part.is(letter, i); });
}

// \s?\p{P}+
void isolate_spaced_punctuation(const Characters& characters, uint32_t begin, uint32_t end,
                                std::vector<uint32_t>& ends) {
  const Part part(characters, begin, end);
  isolate_with_space(part, ends, [&](uint32_t i) { return part.is(punctuation, i); });
}

// \s+$
void isolate_trailing_space(const Characters& characters, uint32_t begin, uint32_t end, std::vector<uint32_t>& ends) {
  const Part part(characters, begin, end);
  uint32_t text_end = end;
  while (text_end > begin && part.is(white_space, text_end - 1))
    --text_end;
  if (text_end > begin) ends.push_back(text_end);
  if (text_end < end) ends.push_back(end);
}

// [一-龥ࠀ-一가-퟿]+ , but no white space, though the second range has some: llama.cpp, whose output is the
// measure here, never matches wide white space by its code point. isolate_deepseek_signs leaves out U+3000 likewise.
void isolate_cjk(const Characters& characters, uint32_t begin, uint32_t end, std::vector<uint32_t>& ends) {
  const Part part(characters, begin, end);
  isolate(part, ends, [&](uint32_t i) {
    const auto matches = [](char32_t c) { return (c >= 0x0800 && c <= 0x9FA5) || (c >= 0xAC00 && c <= 0xD7FF); };
    while (matches(part.at(i)) && !part.is(white_space, i))
      ++i;
    return i;
  });
}

struct Range {
  char32_t first;
  char32_t last;
};

// The letters that DeepSeek LLM's first expression names one by one: those with case in an older Unicode.
constexpr std::array<Range, 84> cased_letters{{
    {0x41, 0x5A},       {0x61, 0x7A},       {0xB5, 0xB5},       {0xC0, 0xD6},       {0xD8, 0xF6},
    {0xF8, 0x1BA},      {0x1BC, 0x1BF},     {0x1C4, 0x293},     {0x295, 0x2AF},     {0x370, 0x373},
    {0x376, 0x377},     {0x37B, 0x37D},     {0x37F, 0x37F},     {0x386, 0x386},     {0x388, 0x38A},
    {0x38C, 0x38C},     {0x38E, 0x3A1},     {0x3A3, 0x3F5},     {0x3F7, 0x481},     {0x48A, 0x52F},
    {0x531, 0x556},     {0x10A0, 0x10C5},   {0x13A0, 0x13F5},   {0x13F8, 0x13FD},   {0x1C90, 0x1CBA},
    {0x1CBD, 0x1CBF},   {0x1D00, 0x1D2B},   {0x1D6B, 0x1D77},   {0x1D79, 0x1D9A},   {0x1E00, 0x1F15},
    {0x1F18, 0x1F1D},   {0x1F20, 0x1F45},   {0x1F48, 0x1F4D},   {0x1F50, 0x1F57},   {0x1F59, 0x1F59},
    {0x1F5B, 0x1F5B},   {0x1F5D, 0x1F5D},   {0x1F5F, 0x1F7D},   {0x1F80, 0x1FB4},   {0x1FB6, 0x1FBC},
    {0x1FBE, 0x1FBE},   {0x1FC2, 0x1FC4},   {0x1FC6, 0x1FCC},   {0x1FD0, 0x1FD3},   {0x1FD6, 0x1FDB},
    {0x1FE0, 0x1FEC},   {0x1FF2, 0x1FF4},   {0x1FF6, 0x1FFC},   {0x2102, 0x2102},   {0x2107, 0x2107},
    {0x210A, 0x2113},   {0x2115, 0x2115},   {0x2119, 0x211D},   {0x2124, 0x2124},   {0x2126, 0x2126},
    {0x2128, 0x2128},   {0x212A, 0x212D},   {0x212F, 0x2134},   {0x2139, 0x2139},   {0x213C, 0x213F},
    {0x2145, 0x2149},   {0x214E, 0x214E},   {0x2183, 0x2184},   {0x2C00, 0x2C7B},   {0x2C7E, 0x2CE4},
    {0x2CEB, 0x2CEE},   {0x2CF2, 0x2CF3},   {0xA640, 0xA66D},   {0xA680, 0xA69B},   {0xA722, 0xA76F},
    {0xA771, 0xA787},   {0xA78B, 0xA78E},   {0xAB70, 0xABBF},   {0xFB00, 0xFB06},   {0xFB13, 0xFB17},
    {0xFF21, 0xFF3A},   {0xFF41, 0xFF5A},   {0x10400, 0x1044F}, {0x104B0, 0x104D3}, {0x104D8, 0x104FB},
    {0x10C80, 0x10CB2}, {0x10CC0, 0x10CF2}, {0x118A0, 0x118DF}, {0x1E900, 0x1E943},
}};

// \s?[cased letters]+
void isolate_cased_letters(const Characters& characters, uint32_t begin, uint32_t end, std::vector<uint32_t>& ends) {
  const Part part(characters, begin, end);
  isolate_with_space(part, ends, [&](uint32_t i) {
    const char32_t c = part.at(i);
    const auto* range =
        std::upper_bound(cased_letters.begin(), cased_letters.end(), c,
                         [](char32_t value, const Range& candidate) { return value < candidate.first; });
    return range != cased_letters.begin() && c <= std::prev(range)->last;
  });
}

// \s?[!-/:-~！-／：-～‘-‟　-。]+ , where :-~ takes in the ASCII letters too
void isolate_deepseek_signs(const Characters& characters, uint32_t begin, uint32_t end, std::vector<uint32_t>& ends) {
  const Part part(characters, begin, end);
  isolate_with_space(part, ends, [&](uint32_t i) {
    const char32_t c = part.at(i);
    return (c >= '!' && c <= '/') || (c >= ':' && c <= '~') || (c >= 0xFF01 && c <= 0xFF0F) ||
           (c >= 0xFF1A && c <= 0xFF5E) || (c >= 0x2018 && c <= 0x201F) || c == 0x3001 || c == 0x3002;
  });
}

// [一-龥぀-ゟ゠-ヿ]+
void isolate_ideographs_and_kana(const Characters& characters, uint32_t begin, uint32_t end,
                                 std::vector<uint32_t>& ends) {
  const Part part(characters, begin, end);
  isolate(part, ends, [&](uint32_t i) {
    const auto matches = [](char32_t c) { return (c >= 0x4E00 && c <= 0x9FA5) || (c >= 0x3040 && c <= 0x30FF); };
    while (matches(part.at(i)))
      ++i;
    return i;
  });
}

// [!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|
// \s*[\r\n]+|\s+(?!\S)|\s+
void isolate_deepseek_v3_words(const Characters& characters, uint32_t begin, uint32_t end,
                               std::vector<uint32_t>& ends) {
  const Part part(characters, begin, end);
  const auto is_written = [&part](uint32_t i) { return part.is(letter, i) || part.is(mark, i); };
  const auto is_sign = [&part](uint32_t i) { return part.is(punctuation, i) || part.is(symbol, i); };
  const auto skip = [](uint32_t i, const auto& matches) {
    while (matches(i))
      ++i;
    return i;
  };
  const auto is_latin = [&part](uint32_t i) {
    const char32_t c = part.at(i);
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
  };
  isolate(part, ends, [&](uint32_t i) {
    if (part.at(i) < 128 && is_sign(i) && is_latin(i + 1)) return skip(i + 1, is_latin);
    if (is_written(i)) return skip(i, is_written);
    if (!is_line_break(part.at(i)) && !is_sign(i) && is_written(i + 1)) return skip(i + 1, is_written);
    const uint32_t first = i + (part.at(i) == ' ' ? 1 : 0);
    if (is_sign(first)) return skip(skip(first, is_sign), [&part](uint32_t at) { return is_line_break(part.at(at)); });
    return cut_line_breaks_or_space(part, i);
  });
}

constexpr std::array<Cut, 1> gpt2{cut_words<gpt2_word>};
constexpr std::array<Cut, 1> llama3{cut_words<llama3_word<3>>};
constexpr std::array<Cut, 1> qwen2{cut_words<llama3_word<1>>};
constexpr std::array<Cut, 1> gpt4o{cut_gpt4o_words};
constexpr std::array<Cut, 1> tekken{cut_tekken_words};
constexpr std::array<Cut, 1> kimi{cut_kimi_words};
constexpr std::array<Cut, 2> starcoder{isolate_each_number, cut_words<gpt2_word>};
constexpr std::array<Cut, 3> falcon{isolate_punctuation<true>, cut_words<gpt2_word>, isolate_digit_triples};
constexpr std::array<Cut, 4> fallback{isolate_punctuation<false>, cut_words<gpt2_word>, isolate_numbers,
                                      isolate_digit_triples};
constexpr std::array<Cut, 6> deepseek_llm{isolate_line_breaks,    isolate_cased_letters, isolate_deepseek_signs,
                                          isolate_trailing_space, isolate_cjk,           isolate_numbers};
constexpr std::array<Cut, 3> deepseek_v3{isolate_number_triples, isolate_ideographs_and_kana,
                                         isolate_deepseek_v3_words};
constexpr std::array<Cut, 5> deepseek_coder{isolate_line_breaks, isolate_letters, isolate_spaced_punctuation,
                                            isolate_cjk, isolate_each_number};

// Names that share a list of expressions are different models' names for it.
constexpr std::array names{
    PreTokenizerName{"default", fallback},
    PreTokenizerName{"gpt-2", gpt2},
    PreTokenizerName{"phi-2", gpt2},
    PreTokenizerName{"mpt", gpt2},
    PreTokenizerName{"olmo", gpt2},
    PreTokenizerName{"exaone4", gpt2},
    PreTokenizerName{"llama-bpe", llama3, true},
    PreTokenizerName{"llama3", llama3, true},
    PreTokenizerName{"llama-v3", llama3, true},
    PreTokenizerName{"falcon3", llama3, true},
    PreTokenizerName{"pixtral", llama3, true},
    PreTokenizerName{"dbrx", llama3},
    PreTokenizerName{"smaug-bpe", llama3},
    PreTokenizerName{"glm4", llama3},
    PreTokenizerName{"chatglm-bpe", llama3},
    PreTokenizerName{"qwen2", qwen2},
    PreTokenizerName{"deepseek-r1-qwen", qwen2},
    PreTokenizerName{"stablelm2", qwen2},
    PreTokenizerName{"megrez", qwen2},
    PreTokenizerName{"gpt-4o", gpt4o},
    PreTokenizerName{"llama4", gpt4o},
    PreTokenizerName{"tekken", tekken, true},
    PreTokenizerName{"kimi-k2", kimi},
    PreTokenizerName{"deepseek-llm", deepseek_llm},
    PreTokenizerName{"deepseek-coder", deepseek_coder},
    PreTokenizerName{"deepseek-v3", deepseek_v3},
    PreTokenizerName{"hunyuan-dense", deepseek_v3},
    PreTokenizerName{"falcon", falcon},
    PreTokenizerName{"starcoder", starcoder},
    PreTokenizerName{"refact", starcoder},
    PreTokenizerName{"command-r", starcoder},
    PreTokenizerName{"smollm", starcoder},
    PreTokenizerName{"codeshell", starcoder},
    PreTokenizerName{"exaone", starcoder},
    PreTokenizerName{"minerva-7b", starcoder},
};

}  // namespace

std::span<const PreTokenizerName> pre_tokenizer_names() {
  return names;
}

base::Result<const PreTokenizerName*> find_pre_tokenizer(std::string_view name) {
  const auto* found =
      std::find_if(names.begin(), names.end(), [name](const auto& entry) { return entry.name == name; });
  if (found != names.end()) return found;
  return base::Error(base::ErrorCode::unsupported, fmt::format("pre-tokenizer '{}' is not supported; supported are {}",
                                                               name, fmt::join(supported_pre_tokenizers(), ", ")));
}

void cut_into_words(const PreTokenizerName& pre, const Characters& characters, std::vector<uint32_t>& ends,
                    std::vector<uint32_t>& scratch) {
  ends.clear();
  if (characters.size() == 0) return;
  ends.push_back(characters.size());
  for (const Cut cut : pre.cuts) {
    scratch.clear();
    uint32_t begin = 0;
    for (const uint32_t end : ends) {
      cut(characters, begin, end, scratch);
      begin = end;
    }
    ends.swap(scratch);
  }
}

}  // namespace tidemill::text
