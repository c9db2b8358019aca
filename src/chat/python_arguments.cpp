#include "chat/python_arguments.hpp"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <string_view>

#include "base/json.hpp"
#include "base/utf8.hpp"
#include "chat/spelling.hpp"

namespace tidemill::chat {
namespace {

constexpr size_t max_word = 256;  // bytes of a keyword or a bare value

bool is_word(char byte) {
  const auto c = static_cast<unsigned char>(byte);
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c >= 0x80 ||
         std::string_view("_.+-").find(byte) != std::string_view::npos;
}

bool is_high(uint32_t unit) {
  return unit >= 0xD800 && unit < 0xDC00;
}
bool is_low(uint32_t unit) {
  return unit >= 0xDC00 && unit < 0xE000;
}

// What a bare word means in JSON; text if it is nothing else.
std::string json_of(std::string_view word) {
  if (word == "True") return "true";
  if (word == "False") return "false";
  if (word == "None") return "null";
  if (base::parse_json(word)) return std::string(word);
  double number = 0;  // "1.", ".5", "007"
  const std::string_view plain = word.starts_with('+') ? word.substr(1) : word;
  const auto parsed = std::from_chars(plain.data(), plain.data() + plain.size(), number);
  const bool digits = plain.find_first_of("0123456789") != std::string_view::npos;
  if (parsed.ec == std::errc() && parsed.ptr == plain.data() + plain.size() && digits) {
    return base::json::serialize(base::json::value(number));
  }
  std::string text;
  append_quoted(text, word);
  return text;
}

}  // namespace

bool PythonArguments::reads_keyword(std::string_view name) {
  const auto may_stand = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; };
  return !name.empty() && name.size() <= max_word && std::isdigit(static_cast<unsigned char>(name.front())) == 0 &&
         std::all_of(name.begin(), name.end(), may_stand);
}

Took PythonArguments::take(char byte, std::string& out) {
  const size_t written = out.size();
  const Took took = read(byte, out);
  if (took != Took::bad) without_effect_ = out.size() > written ? 0 : without_effect_ + 1;
  return took;
}

Took PythonArguments::read(char byte, std::string& out) {
  switch (at_) {
    case At::start:
      if (is_space(byte)) return Took::more;
      if (byte != '(') return Took::bad;
      open_ = "(";
      out += '{';
      may_close_ = true;
      at_ = At::keyword;
      return Took::more;
    case At::keyword:
    case At::equals:
      return take_keyword(byte, out);
    case At::value:
      return begin_value(byte, out);
    case At::text:
      return take_text(byte, out);
    case At::escape:
      return take_escape(byte, out);
    case At::digits:
      return take_digits(byte, out);
    case At::bare:
      return take_bare(byte, out);
    case At::colon:
      if (is_space(byte)) return Took::more;
      if (byte != ':') return Took::bad;
      out += ':';
      is_key_ = false;
      may_close_ = false;
      at_ = At::value;
      return Took::more;
    case At::behind:
      return take_behind(byte, out);
  }
  return Took::bad;
}

void PythonArguments::write_comma(std::string& out) {
  if (comma_) out += ',';
  comma_ = false;
  may_close_ = false;
}

Took PythonArguments::take_keyword(char byte, std::string& out) {
  if (at_ == At::keyword && word_.empty() && is_space(byte)) return Took::more;
  if (at_ == At::keyword && word_.empty() && byte == ')' && may_close_) return close(byte, out);
  if (at_ == At::keyword && is_word(byte) && word_.size() < max_word) {
    word_ += byte;
    return Took::more;
  }
  if (word_.empty()) return Took::bad;
  at_ = At::equals;
  if (is_space(byte)) return Took::more;
  if (byte != '=') return Took::bad;
  write_comma(out);
  append_quoted(out, word_);
  out += ':';
  word_.clear();
  at_ = At::value;
  return Took::more;
}

Took PythonArguments::begin_value(char byte, std::string& out) {
  if (is_space(byte)) return Took::more;
  const bool closes = byte == ')' || byte == ']' || byte == '}';
  if (closes) return may_close_ ? close(byte, out) : Took::bad;
  if (is_key_ && byte != '"' && byte != '\'') return Took::bad;
  if (byte == '"' || byte == '\'') {
    write_comma(out);
    quote_ = byte;
    out += '"';
    at_ = At::text;
    return Took::more;
  }
  if (byte == '[' || byte == '{' || byte == '(') {
    if (open_.size() == JsonScanner::max_depth) return Took::bad;
    write_comma(out);
    open_ += byte == '(' ? 't' : byte;
    out += byte == '{' ? '{' : '[';
    may_close_ = true;
    is_key_ = byte == '{';
    return Took::more;
  }
  if (!is_word(byte)) return Took::bad;
  at_ = At::bare;
  return take_bare(byte, out);
}

void PythonArguments::write_character(char32_t character, std::string& out) {
  std::string bytes;
  base::utf8::append(bytes, character);
  for (const char byte : bytes)
    append_escaped(out, byte);
}

// Half of a surrogate pair waits for the other; alone it becomes U+FFFD.
void PythonArguments::write_unit(uint32_t unit, std::string& out) {
  if (high_ != 0 && is_low(unit)) {
    unit = 0x10000 + ((high_ - 0xD800) << 10U) + (unit - 0xDC00);
  } else if (high_ != 0) {
    write_character(base::utf8::replacement, out);
  }
  high_ = is_high(unit) ? unit : 0;
  if (high_ != 0) return;
  write_character(is_low(unit) || unit > 0x10FFFF ? base::utf8::replacement : static_cast<char32_t>(unit), out);
}

Took PythonArguments::take_text(char byte, std::string& out) {
  if (byte == '\\') {
    at_ = At::escape;
    return Took::more;
  }
  if (high_ != 0) {
    write_character(base::utf8::replacement, out);
    high_ = 0;
  }
  if (byte != quote_) {
    append_escaped(out, byte);
    return Took::more;
  }
  out += '"';
  end_value();
  return Took::more;
}

Took PythonArguments::take_escape(char byte, std::string& out) {
  constexpr std::string_view letters = "ntrbfav\\/'\"";
  constexpr std::string_view meanings = "\n\t\r\b\f\a\v\\/'\"";
  at_ = At::text;
  if (byte == 'x' || byte == 'u' || byte == 'U') {
    digits_wanted_ = byte == 'x' ? 2 : byte == 'u' ? 4 : 8;
    digits_.clear();
    at_ = At::digits;
    return Took::more;
  }
  if (high_ != 0) {
    write_character(base::utf8::replacement, out);
    high_ = 0;
  }
  if (byte == '\n') return Took::more;  // the line goes on
  const size_t found = letters.find(byte);
  if (found == std::string_view::npos) append_escaped(out, '\\');
  append_escaped(out, found == std::string_view::npos ? byte : meanings[found]);
  return Took::more;
}

Took PythonArguments::take_digits(char byte, std::string& out) {
  if (std::string_view("0123456789abcdefABCDEF").find(byte) == std::string_view::npos) {
    // No escape after all.
    append_escaped(out, '\\');
    append_escaped(out, digits_wanted_ == 2 ? 'x' : digits_wanted_ == 4 ? 'u' : 'U');
    for (const char digit : digits_)
      append_escaped(out, digit);
    at_ = At::text;
    return take_text(byte, out);
  }
  digits_ += byte;
  if (digits_.size() < digits_wanted_) return Took::more;
  uint32_t unit = 0;
  std::from_chars(digits_.data(), digits_.data() + digits_.size(), unit, 16);
  write_unit(unit, out);
  at_ = At::text;
  return Took::more;
}

Took PythonArguments::take_bare(char byte, std::string& out) {
  if (is_word(byte) && word_.size() < max_word) {
    word_ += byte;
    return Took::more;
  }
  if (word_.size() >= max_word) return Took::bad;
  write_comma(out);  // not before: no byte of a word has an effect until it has ended
  out += json_of(word_);
  word_.clear();
  end_value();
  return take_behind(byte, out);
}

void PythonArguments::end_value() {
  at_ = is_key_ ? At::colon : At::behind;
}

Took PythonArguments::take_behind(char byte, std::string& out) {
  if (is_space(byte)) return Took::more;
  if (byte != ',') return close(byte, out);
  comma_ = true;
  may_close_ = true;
  is_key_ = open_.back() == '{';
  at_ = open_.back() == '(' ? At::keyword : At::value;
  return Took::more;
}

Took PythonArguments::close(char byte, std::string& out) {
  const char open = open_.back();
  if (byte != (open == '{' ? '}' : open == '[' ? ']' : ')')) return Took::bad;
  comma_ = false;
  may_close_ = false;
  is_key_ = false;
  open_.pop_back();
  out += open == 't' || open == '[' ? ']' : '}';
  at_ = At::behind;
  return open_.empty() ? Took::done : Took::more;
}

}  // namespace tidemill::chat
