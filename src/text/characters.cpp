#include "text/characters.hpp"

#include <algorithm>
#include <array>
#include <iterator>
#include <map>

#include <utf8proc.h>

#include "base/utf8.hpp"

namespace tidemill::text {
namespace {

bool is_white_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

// CJK extension I, all that Unicode 15.1 added to the 15.0 that utf8proc 2.8 knows.
bool is_new_ideograph(char32_t c) {
  return c >= 0x2EBF0 && c <= 0x2EE5D;
}

CharacterClass compute_class(char32_t c) {
  if (is_white_space(c)) return CharacterClass::white_space;
  if (is_new_ideograph(c)) return CharacterClass::letter;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      return CharacterClass::letter;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
      return CharacterClass::number;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
      return CharacterClass::mark;
    case UTF8PROC_CATEGORY_PC:
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO:
      return CharacterClass::punctuation;
    case UTF8PROC_CATEGORY_SM:
    case UTF8PROC_CATEGORY_SC:
    case UTF8PROC_CATEGORY_SK:
    case UTF8PROC_CATEGORY_SO:
      return CharacterClass::symbol;
    default:
      return CharacterClass::other;
  }
}

// All code points in two stages: most of the 4352 blocks of 256 are alike, so that the table is small enough to stay in
// the cache.
class ClassTable {
 public:
  ClassTable() {
    std::map<Block, uint16_t> seen;
    for (size_t high = 0; high < block_of_.size(); ++high) {
      Block block;
      for (size_t low = 0; low < block.size(); ++low)
        block[low] = compute_class(static_cast<char32_t>((high << 8) | low));
      const auto [place, is_new] = seen.try_emplace(block, static_cast<uint16_t>(blocks_.size()));
      if (is_new) blocks_.push_back(block);
      block_of_[high] = place->second;
    }
  }

  CharacterClass operator[](char32_t c) const { return blocks_[block_of_[c >> 8]][c & 0xFF]; }

 private:
  using Block = std::array<CharacterClass, 256>;
  std::array<uint16_t, 0x1100> block_of_;
  std::vector<Block> blocks_;
};

const ClassTable& class_table() {
  static const ClassTable table;
  return table;
}

struct HanRange {
  char32_t first;
  char32_t last;
};

// Scripts.txt of Unicode 15.1.
constexpr std::array<HanRange, 22> kHan = {{
    {0x2E80, 0x2E99},   {0x2E9B, 0x2EF3},   {0x2F00, 0x2FD5},   {0x3005, 0x3005},   {0x3007, 0x3007},
    {0x3021, 0x3029},   {0x3038, 0x303B},   {0x3400, 0x4DBF},   {0x4E00, 0x9FFF},   {0xF900, 0xFA6D},
    {0xFA70, 0xFAD9},   {0x16FE2, 0x16FE3}, {0x16FF0, 0x16FF1}, {0x20000, 0x2A6DF}, {0x2A700, 0x2B739},
    {0x2B740, 0x2B81D}, {0x2B820, 0x2CEA1}, {0x2CEB0, 0x2EBE0}, {0x2EBF0, 0x2EE5D}, {0x2F800, 0x2FA1D},
    {0x30000, 0x3134A}, {0x31350, 0x323AF},
}};

}  // namespace

CharacterClass class_of(char32_t code_point) {
  return code_point <= 0x10FFFF ? class_table()[code_point] : CharacterClass::other;
}

LetterCase case_of(char32_t letter) {
  if (letter < 128) {
    return letter >= 'a' && letter <= 'z'   ? LetterCase::lower
           : letter >= 'A' && letter <= 'Z' ? LetterCase::upper
                                            : LetterCase::none;
  }
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(letter))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LT:
      return LetterCase::upper;
    case UTF8PROC_CATEGORY_LL:
      return LetterCase::lower;
    default:
      return LetterCase::none;
  }
}

bool is_han(char32_t code_point) {
  const auto* range =
      std::upper_bound(kHan.begin(), kHan.end(), code_point,
                       [](char32_t value, const HanRange& candidate) { return value < candidate.first; });
  return range != kHan.begin() && code_point <= std::prev(range)->last;
}

void Characters::assign(std::string_view text) {
  code_points.clear();
  classes.clear();
  offsets.clear();
  const ClassTable& table = class_table();
  for (size_t at = 0; at < text.size();) {
    const base::utf8::Decoded decoded = base::utf8::decode(text.substr(at));
    code_points.push_back(decoded.code_point);
    classes.push_back(table[decoded.code_point]);
    offsets.push_back(static_cast<uint32_t>(at));
    at += decoded.valid ? decoded.length : 1;
  }
  offsets.push_back(static_cast<uint32_t>(text.size()));
}

}  // namespace tidemill::text
