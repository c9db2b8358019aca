// Unicode: white space, case and character classes as Python's str sees them.
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include <utf8proc.h>

#include "base/utf8.hpp"
#include "text/jinja_string.hpp"

namespace tidemill::text::jinja {
namespace {

using base::utf8::decode;

bool is_white(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

utf8proc_category_t category(char32_t c) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(c));
}

bool is_lower(char32_t c) {
  return category(c) == UTF8PROC_CATEGORY_LL || c == 0xAA || c == 0xBA;
}
bool is_upper(char32_t c) {
  return category(c) == UTF8PROC_CATEGORY_LU;
}
bool is_cased(char32_t c) {
  return is_lower(c) || is_upper(c) || category(c) == UTF8PROC_CATEGORY_LT;
}
bool is_letter(char32_t c) {
  const auto kind = category(c);
  return kind >= UTF8PROC_CATEGORY_LU && kind <= UTF8PROC_CATEGORY_LO;
}
bool is_decimal(char32_t c) {
  return category(c) == UTF8PROC_CATEGORY_ND;
}
bool is_digit(char32_t c) {
  return is_decimal(c) || c == 0xB2 || c == 0xB3 || c == 0xB9 || (c >= 0x2070 && c <= 0x2089) ||
         (c >= 0x2460 && c <= 0x2468);
}
bool is_numeric(char32_t c) {
  return is_digit(c) || category(c) == UTF8PROC_CATEGORY_NL || category(c) == UTF8PROC_CATEGORY_NO;
}

// Characters whose upper case is more than one character (SpecialCasing.txt): upper, then title.
struct Growing {
  char32_t lower;
  std::string_view upper;
  std::string_view title;
};
constexpr std::array<Growing, 16> growing = {{
    {0xDF, "SS", "Ss"},
    {0x149, "ʼN", "ʼN"},
    {0x1F0, "J̌", "J̌"},
    {0x390, "Ϊ́", "Ϊ́"},
    {0x3B0, "Ϋ́", "Ϋ́"},
    {0x587, "ԵՒ", "Եւ"},
    {0x1E96, "H̱", "H̱"},
    {0x1E97, "T̈", "T̈"},
    {0xFB00, "FF", "Ff"},
    {0xFB01, "FI", "Fi"},
    {0xFB02, "FL", "Fl"},
    {0xFB03, "FFI", "Ffi"},
    {0xFB04, "FFL", "Ffl"},
    {0xFB05, "ST", "St"},
    {0xFB06, "ST", "St"},
    {0x1E9A, "Aʾ", "Aʾ"},
}};

const Growing* grows(char32_t c) {
  if (c < 0xDF) return nullptr;
  const auto found = std::find_if(growing.begin(), growing.end(), [c](const Growing& g) { return g.lower == c; });
  return found == growing.end() ? nullptr : &*found;
}

void add_upper(std::string& out, char32_t c) {
  if (const Growing* special = grows(c)) {
    out += special->upper;
  } else {
    base::utf8::append(out, static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(c))));
  }
}

void add_title(std::string& out, char32_t c) {
  if (const Growing* special = grows(c)) {
    out += special->title;
  } else {
    base::utf8::append(out, static_cast<char32_t>(utf8proc_totitle(static_cast<utf8proc_int32_t>(c))));
  }
}

// A capital sigma that ends a word is lowered to the final form.
bool final_sigma(std::string_view text, size_t at) {
  const auto ignorable = [](char32_t c) {
    const auto kind = category(c);
    return c == '\'' || c == 0xAD || c == 0x2019 || kind == UTF8PROC_CATEGORY_MN || kind == UTF8PROC_CATEGORY_ME ||
           kind == UTF8PROC_CATEGORY_CF || kind == UTF8PROC_CATEGORY_LM || kind == UTF8PROC_CATEGORY_SK;
  };
  bool before = false;
  for (size_t i = at; i > 0 && !before;) {
    do {
      --i;
    } while (i > 0 && (static_cast<unsigned char>(text[i]) & 0xC0U) == 0x80U);
    const char32_t c = decode(text.substr(i)).code_point;
    if (ignorable(c)) continue;
    if (!is_cased(c)) break;
    before = true;
  }
  if (!before) return false;
  for (size_t i = at + character_bytes(text[at]); i < text.size(); i += character_bytes(text[i])) {
    const char32_t c = decode(text.substr(i)).code_point;
    if (!ignorable(c)) return !is_cased(c);
  }
  return true;
}

void add_lower(std::string& out, std::string_view text, size_t at, char32_t c) {
  if (c == 0x130) {
    out += "i\u0307";
  } else if (c == 0x3A3) {
    base::utf8::append(out, final_sigma(text, at) ? 0x3C2 : 0x3C3);
  } else {
    base::utf8::append(out, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
  }
}

}  // namespace

size_t white_space_at(std::string_view text, size_t position) {
  if (position >= text.size()) return 0;
  const auto first = static_cast<unsigned char>(text[position]);
  if (first < 0x80) return is_white(first) ? 1 : 0;
  const base::utf8::Decoded decoded = decode(text.substr(position));
  return is_white(decoded.code_point) ? decoded.length : 0;
}

std::string_view strip_left(std::string_view text) {
  while (const size_t length = white_space_at(text, 0))
    text.remove_prefix(length);
  return text;
}

std::string_view strip_right(std::string_view text) {
  while (!text.empty()) {
    size_t last = text.size() - 1;
    while (last > 0 && (static_cast<unsigned char>(text[last]) & 0xC0U) == 0x80U)
      --last;
    if (white_space_at(text, last) == 0) break;
    text.remove_suffix(text.size() - last);
  }
  return text;
}

std::string upper_case(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); i += character_bytes(text[i]))
    add_upper(out, decode(text.substr(i)).code_point);
  return out;
}

std::string lower_case(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); i += character_bytes(text[i])) {
    add_lower(out, text, i, decode(text.substr(i)).code_point);
  }
  return out;
}

std::string folded_case(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  std::array<utf8proc_int32_t, 8> folded{};  // three at most
  for (size_t i = 0; i < text.size(); i += character_bytes(text[i])) {
    const char32_t c = decode(text.substr(i)).code_point;
    int unused = 0;
    const auto count = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), folded.data(), folded.size(),
                                               UTF8PROC_CASEFOLD, &unused);
    for (utf8proc_ssize_t part = 0; part < count; ++part)
      base::utf8::append(out, static_cast<char32_t>(folded[static_cast<size_t>(part)]));
  }
  return out;
}

std::string title_case(std::string_view text) {
  std::string out;
  bool in_word = false;
  for (size_t i = 0; i < text.size(); i += character_bytes(text[i])) {
    const char32_t c = decode(text.substr(i)).code_point;
    if (in_word) {
      add_lower(out, text, i, c);
    } else {
      add_title(out, c);
    }
    in_word = is_cased(c);
  }
  return out;
}

std::string capitalized(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); i += character_bytes(text[i])) {
    const char32_t c = decode(text.substr(i)).code_point;
    if (i == 0) {
      add_title(out, c);
    } else {
      add_lower(out, text, i, c);
    }
  }
  return out;
}

std::string swapped_case(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); i += character_bytes(text[i])) {
    const char32_t c = decode(text.substr(i)).code_point;
    if (is_upper(c)) {
      add_lower(out, text, i, c);
    } else if (is_lower(c)) {
      add_upper(out, c);
    } else {
      base::utf8::append(out, c);
    }
  }
  return out;
}

bool is_word_character(char32_t c) {
  return c == '_' || is_letter(c) || is_numeric(c);
}

bool is_all(std::string_view predicate, std::string_view text) {
  if (predicate == "isascii") {
    return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
  }
  bool (*test)(char32_t) = nullptr;
  if (predicate == "isspace") test = is_white;
  if (predicate == "isalpha") test = is_letter;
  if (predicate == "isdecimal") test = is_decimal;
  if (predicate == "isdigit") test = is_digit;
  if (predicate == "isnumeric") test = is_numeric;
  if (predicate == "isalnum") test = [](char32_t c) { return is_letter(c) || is_numeric(c); };
  bool cased = false;     // some cased character was seen
  bool previous = false;  // the one before was cased
  for (size_t i = 0; i < text.size(); i += character_bytes(text[i])) {
    const char32_t c = decode(text.substr(i)).code_point;
    if (test != nullptr) {
      if (!test(c)) return false;
    } else if (predicate == "islower") {
      if (is_cased(c) && !is_lower(c)) return false;
    } else if (predicate == "isupper") {
      if (is_cased(c) && !is_upper(c)) return false;
    } else if (predicate == "istitle") {
      if (is_cased(c) && is_lower(c) != previous) return false;
    }
    previous = is_cased(c);
    cased = cased || previous;
  }
  return test != nullptr ? !text.empty() : cased;
}

bool parse_int(std::string_view text, int base, Int& out) {
  text = strip(text);
  bool negative = false;
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) {
    negative = text[0] == '-';
    text.remove_prefix(1);
  }
  bool prefixed = false;
  if (text.size() > 2 && text[0] == '0') {
    const char letter = static_cast<char>(text[1] | 0x20);
    const int named = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 0;
    if (named != 0 && (base == named || base == 0)) {
      text.remove_prefix(2);
      base = named;
      prefixed = true;
    }
  }
  if (base == 0) {
    base = 10;
    const bool zeros = std::all_of(text.begin(), text.end(), [](char c) { return c == '0' || c == '_'; });
    if (text.size() > 1 && text[0] == '0' && !zeros) return false;
  }
  if (text.empty() || text.back() == '_' || (text.front() == '_' && !prefixed)) return false;
  Int value = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '_') {
      if (i + 1 < text.size() && text[i + 1] == '_') return false;
      continue;
    }
    const char lower = static_cast<char>(c | 0x20);
    const int digit = c >= '0' && c <= '9' ? c - '0' : lower >= 'a' && lower <= 'z' ? lower - 'a' + 10 : 99;
    if (digit >= base) return false;
    if (__builtin_mul_overflow(value, static_cast<Int>(base), &value) ||
        __builtin_add_overflow(value, static_cast<Int>(digit), &value)) {
      throw Fault{"an integer does not fit 128 bits", base::ErrorCode::too_large};
    }
  }
  out = negative ? -value : value;
  return true;
}

bool parse_float(std::string_view text, double& out) {
  text = strip(text);
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') {
      plain.push_back(static_cast<char>(text[i] >= 'A' && text[i] <= 'Z' ? text[i] + 32 : text[i]));
    } else if (i == 0 || i + 1 == text.size() || text[i - 1] < '0' || text[i - 1] > '9' || text[i + 1] < '0' ||
               text[i + 1] > '9') {
      return false;
    }
  }
  bool negative = false;
  if (!plain.empty() && (plain[0] == '+' || plain[0] == '-')) {
    negative = plain[0] == '-';
    plain.erase(0, 1);
  }
  if (plain == "inf" || plain == "infinity") {
    out = HUGE_VAL;
  } else if (plain == "nan") {
    out = std::nan("");
  } else {
    if (plain.empty() || !((plain[0] >= '0' && plain[0] <= '9') || plain[0] == '.')) return false;
    const auto [end, error] = std::from_chars(plain.data(), plain.data() + plain.size(), out);
    if (end != plain.data() + plain.size() || error == std::errc::invalid_argument) return false;
    if (error == std::errc::result_out_of_range) {
      const bool tiny = plain.find("e-") != std::string::npos || plain[0] == '0' || plain[0] == '.';
      out = tiny ? 0.0 : HUGE_VAL;
    }
  }
  if (negative) out = -out;
  return true;
}

}  // namespace tidemill::text::jinja
