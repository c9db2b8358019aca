#include "chat/json_stream.hpp"

#include <charconv>

#include "base/utf8.hpp"
#include "chat/spelling.hpp"

namespace tidemill::chat {
namespace {

constexpr std::string_view hex_digits = "0123456789abcdef";

bool is_hex(char byte) {
  return (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'f') || (byte >= 'A' && byte <= 'F');
}

bool is_digit(char byte) {
  return byte >= '0' && byte <= '9';
}

uint32_t hex_value(std::string_view digits) {
  uint32_t value = 0;
  std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
  return value;
}

bool is_high_surrogate(uint32_t unit) {
  return unit >= 0xD800 && unit < 0xDC00;
}

bool is_low_surrogate(uint32_t unit) {
  return unit >= 0xDC00 && unit < 0xE000;
}

// The character that stands behind the backslash of a short escape, or -1.
int short_escape(char byte) {
  switch (byte) {
    case '"':
      return '"';
    case '\\':
      return '\\';
    case '/':
      return '/';
    case 'b':
      return '\b';
    case 'f':
      return '\f';
    case 'n':
      return '\n';
    case 'r':
      return '\r';
    case 't':
      return '\t';
    default:
      return -1;
  }
}

}  // namespace

void append_escaped(std::string& out, char byte) {
  switch (byte) {
    case '"':
      out += "\\\"";
      return;
    case '\\':
      out += "\\\\";
      return;
    case '\b':
      out += "\\b";
      return;
    case '\f':
      out += "\\f";
      return;
    case '\n':
      out += "\\n";
      return;
    case '\r':
      out += "\\r";
      return;
    case '\t':
      out += "\\t";
      return;
    default:
      break;
  }
  const auto value = static_cast<unsigned char>(byte);
  if (value >= 0x20) {
    out += byte;
    return;
  }
  out += "\\u00";
  out += hex_digits[value >> 4U];
  out += hex_digits[value & 15U];
}

void append_quoted(std::string& out, std::string_view text) {
  out += '"';
  for (const char byte : text)
    append_escaped(out, byte);
  out += '"';
}

void StringDecoder::release_high(std::string& out) {
  if (high_ != 0) base::utf8::append(out, base::utf8::replacement);
  high_ = 0;
}

void StringDecoder::take_unit(uint32_t unit, std::string& out) {
  if (is_low_surrogate(unit) && high_ != 0) {
    base::utf8::append(out, static_cast<char32_t>(0x10000 + ((high_ - 0xD800) << 10U) + (unit - 0xDC00)));
    high_ = 0;
    return;
  }
  release_high(out);
  if (is_high_surrogate(unit)) {
    high_ = unit;
  } else {
    base::utf8::append(out, is_low_surrogate(unit) ? base::utf8::replacement : static_cast<char32_t>(unit));
  }
}

Took StringDecoder::take(char byte, std::string& out) {
  if (at_ == At::unicode) {
    if (is_hex(byte)) {
      digits_ += byte;
      if (digits_.size() == 4) {
        take_unit(hex_value(digits_), out);
        digits_.clear();
        at_ = At::plain;
      }
      return Took::more;
    }
    release_high(out);
    out.append("\\u").append(digits_);
    digits_.clear();
    at_ = At::plain;
  }
  if (at_ == At::escape) {
    at_ = At::plain;
    if (byte == 'u') {
      at_ = At::unicode;
      return Took::more;
    }
    release_high(out);
    if (const int meant = short_escape(byte); meant >= 0) {
      out += static_cast<char>(meant);
      return Took::more;
    }
    out += '\\';
  }
  if (byte == '\\') {
    at_ = At::escape;
    return Took::more;
  }
  release_high(out);
  if (byte == '"') return Took::done;
  out += byte;
  return Took::more;
}

Took JsonScanner::take(char byte, std::string& out) {
  switch (at_) {
    case At::string:
      if (byte == '"') {
        release_high(out);
        out += byte;
        if (!is_key_) return end_value();
        at_ = At::colon;
        return Took::more;
      }
      take_string(byte, out);
      return Took::more;
    case At::escape:
      take_escape(byte, out);
      return Took::more;
    case At::unicode:
      if (is_hex(byte)) {
        take_unicode(byte, out);
        return Took::more;
      }
      release_high(out);
      out.append("\\\\u").append(digits_);
      digits_.clear();
      at_ = At::string;
      return take(byte, out);
    case At::word:
      if (word_.front() != byte) return Took::bad;
      out += byte;
      word_.remove_prefix(1);
      return word_.empty() ? end_value() : Took::more;
    case At::number:
      if (extend_number(byte)) {
        out += byte;
        return Took::more;
      }
      if (!number_may_end()) return Took::bad;
      if (open_.empty()) return Took::ended;
      at_ = At::comma_or_end;
      return take_structure(byte, out);
    default:
      return take_structure(byte, out);
  }
}

Took JsonScanner::take_structure(char byte, std::string& out) {
  if (is_space(byte)) {
    if (!open_.empty()) out += byte;
    return Took::more;
  }
  switch (at_) {
    case At::value:
      return begin_value(byte, out);
    case At::value_or_end:
      return byte == ']' ? close(byte, out) : begin_value(byte, out);
    case At::key_or_end:
      if (byte == '}') return close(byte, out);
      [[fallthrough]];
    case At::key:
      if (byte != '"') return Took::bad;
      out += byte;
      is_key_ = true;
      at_ = At::string;
      return Took::more;
    case At::colon:
      if (byte != ':') return Took::bad;
      out += byte;
      at_ = At::value;
      return Took::more;
    case At::comma_or_end:
      if (byte != ',') return close(byte, out);
      out += byte;
      at_ = open_.back() == '{' ? At::key : At::value;
      return Took::more;
    default:
      return Took::bad;
  }
}

Took JsonScanner::begin_value(char byte, std::string& out) {
  switch (byte) {
    case '{':
    case '[':
      if (open_.size() == max_depth) return Took::bad;
      open_ += byte;
      at_ = byte == '{' ? At::key_or_end : At::value_or_end;
      break;
    case '"':
      is_key_ = false;
      at_ = At::string;
      break;
    case 't':
      word_ = "rue";
      at_ = At::word;
      break;
    case 'f':
      word_ = "alse";
      at_ = At::word;
      break;
    case 'n':
      word_ = "ull";
      at_ = At::word;
      break;
    default:
      if (byte != '-' && !is_digit(byte)) return Took::bad;
      number_ = byte == '-' ? Number::minus : byte == '0' ? Number::zero : Number::whole;
      at_ = At::number;
      break;
  }
  out += byte;
  return Took::more;
}

Took JsonScanner::end_value() {
  at_ = At::comma_or_end;
  return open_.empty() ? Took::done : Took::more;
}

Took JsonScanner::close(char byte, std::string& out) {
  if (open_.empty() || byte != (open_.back() == '{' ? '}' : ']')) return Took::bad;
  open_.pop_back();
  out += byte;
  return end_value();
}

void JsonScanner::release_high(std::string& out) {
  if (!high_.empty()) out += "\\ufffd";
  high_.clear();
}

void JsonScanner::take_string(char byte, std::string& out) {
  if (byte == '\\') {
    at_ = At::escape;
    return;
  }
  release_high(out);
  if (static_cast<unsigned char>(byte) < 0x20) {
    append_escaped(out, byte);
  } else {
    out += byte;
  }
}

void JsonScanner::take_escape(char byte, std::string& out) {
  if (byte == 'u') {
    at_ = At::unicode;
    return;
  }
  at_ = At::string;
  release_high(out);
  if (short_escape(byte) >= 0) {
    out += '\\';
    out += byte;
    return;
  }
  out += "\\\\";
  take_string(byte, out);
}

void JsonScanner::take_unicode(char byte, std::string& out) {
  digits_ += byte;
  if (digits_.size() < 4) return;
  const uint32_t unit = hex_value(digits_);
  if (is_low_surrogate(unit) && !high_.empty()) {
    out.append("\\u").append(high_).append("\\u").append(digits_);
    high_.clear();
  } else {
    release_high(out);
    if (is_high_surrogate(unit)) {
      high_ = digits_;
    } else if (is_low_surrogate(unit)) {
      out += "\\ufffd";
    } else {
      out.append("\\u").append(digits_);
    }
  }
  digits_.clear();
  at_ = At::string;
}

bool JsonScanner::number_may_end() const {
  return number_ == Number::zero || number_ == Number::whole || number_ == Number::fraction || number_ == Number::power;
}

bool JsonScanner::extend_number(char byte) {
  const bool mantissa = number_ == Number::zero || number_ == Number::whole;
  if (is_digit(byte)) {
    switch (number_) {
      case Number::minus:
        number_ = byte == '0' ? Number::zero : Number::whole;
        return true;
      case Number::zero:
        return false;
      case Number::point:
        number_ = Number::fraction;
        return true;
      case Number::exponent:
      case Number::exponent_sign:
        number_ = Number::power;
        return true;
      default:
        return true;
    }
  }
  if (byte == '.' && mantissa) {
    number_ = Number::point;
    return true;
  }
  if ((byte == 'e' || byte == 'E') && (mantissa || number_ == Number::fraction)) {
    number_ = Number::exponent;
    return true;
  }
  if ((byte == '+' || byte == '-') && number_ == Number::exponent) {
    number_ = Number::exponent_sign;
    return true;
  }
  return false;
}

}  // namespace tidemill::chat
