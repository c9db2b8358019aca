// Python's string formatting: %, str.format and format specifications.
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "base/utf8.hpp"
#include "text/jinja_eval.hpp"
#include "text/jinja_ops.hpp"
#include "text/jinja_string.hpp"

namespace tidemill::text::jinja {
namespace {

constexpr int max_precision = 300;  // digits after the point; Python has no limit, templates have no need

struct Spec {
  std::string fill = " ";
  char align = '\0';  // < > ^ =
  char sign = '-';
  bool alternate = false;
  char grouping = '\0';
  Int width = 0;
  int precision = -1;
  char type = '\0';
};

[[noreturn]] void fail(std::string message) {
  throw Fault{std::move(message)};
}

bool digit(std::string_view text, size_t at) {
  return at < text.size() && text[at] >= '0' && text[at] <= '9';
}

// A decimal number at `at`, which moves past it. Saturates.
Int take_number(std::string_view text, size_t& at) {
  Int value = 0;
  for (; digit(text, at); ++at)
    value = std::min<Int>(value * 10 + (text[at] - '0'), Int{1} << 62);
  return value;
}

int checked_precision(Int precision) {
  if (precision > max_precision) {
    throw Fault{"a precision of more than " + std::to_string(max_precision) + " digits is not supported",
                base::ErrorCode::too_large};
  }
  return static_cast<int>(precision);
}

// Digits of |value| in a base of 2, 8, 10 or 16.
std::string digits_of(Int value, int base) {
  std::string out;
  do {
    const int d = std::abs(static_cast<int>(value % base));
    out.push_back("0123456789abcdef"[d]);
    value /= base;
  } while (value != 0);
  std::reverse(out.begin(), out.end());
  return out;
}

// |value| with C's conversions e, f, g; `alternate` keeps the point and trailing zeros of g.
std::string float_digits(double value, char type, int precision, bool alternate) {
  value = std::fabs(value);
  const bool upper = type >= 'A' && type <= 'Z';
  if (std::isnan(value) || std::isinf(value)) {
    const std::string_view word = std::isnan(value) ? "nan" : "inf";
    return upper ? upper_case(word) : std::string(word);
  }
  const std::string pattern = std::string(alternate ? "%#.*" : "%.*") + type;
  std::array<char, 1024> buffer{};
  // The pattern is built from a checked conversion letter above.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
  const int length = std::snprintf(buffer.data(), buffer.size(), pattern.c_str(), precision, value);
#pragma GCC diagnostic pop
  return {buffer.data(), static_cast<size_t>(length)};
}

void group_digits(std::string& digits, char separator, size_t size) {
  size_t end = 0;
  while (end < digits.size() && std::isxdigit(static_cast<unsigned char>(digits[end])) != 0)
    ++end;
  for (size_t at = end; at > size;) {
    at -= size;
    digits.insert(at, 1, separator);
  }
}

// Pads `prefix` + `body` (a sign or 0x, and digits or text) to the width.
std::string pad(Interpreter& in, const Spec& spec, std::string_view prefix, std::string_view body, char default_align) {
  const auto length = static_cast<Int>(prefix.size()) + static_cast<Int>(code_points(body));
  const Int missing = std::max<Int>(0, spec.width - length);
  if (missing > static_cast<Int>(SIZE_MAX / 16)) in.budget().expect(SIZE_MAX);
  const auto count = static_cast<size_t>(missing);
  in.budget().expect(count * spec.fill.size() + body.size());
  in.budget().work(count * spec.fill.size());
  const auto filler = [&spec](size_t times) {
    std::string out;
    for (size_t i = 0; i < times; ++i)
      out += spec.fill;
    return out;
  };
  const char align = spec.align != '\0' ? spec.align : default_align;
  std::string out;
  if (align == '<') return (out.append(prefix).append(body)) + filler(count);
  if (align == '=') return out.append(prefix).append(filler(count)).append(body);
  const size_t left = align == '^' ? count / 2 : count;
  return out.append(filler(left)).append(prefix).append(body).append(filler(count - left));
}

std::string sign_of(bool negative, char sign) {
  return negative ? "-" : sign == '+' ? "+" : sign == ' ' ? " " : "";
}

std::string format_integer(Interpreter& in, Int value, const Spec& spec) {
  if (spec.precision >= 0) fail("Precision not allowed in integer format specifier");
  const char lower = static_cast<char>(spec.type | 0x20);
  if (spec.type == 'c') {
    if (value < 0 || value > 0x10FFFF) fail("%c arg not in range(0x110000)");
    std::string text;
    base::utf8::append(text, static_cast<char32_t>(value));
    return pad(in, spec, "", text, '<');
  }
  const int base = lower == 'x' ? 16 : lower == 'o' ? 8 : lower == 'b' ? 2 : 10;
  std::string digits = digits_of(value, base);
  std::string prefix = sign_of(value < 0, spec.sign);
  if (spec.alternate && base != 10) prefix += base == 16 ? "0x" : base == 8 ? "0o" : "0b";
  if (spec.type == 'X') {
    digits = upper_case(digits);
    prefix = upper_case(prefix);
  }
  if (spec.grouping != '\0') group_digits(digits, spec.grouping, base == 10 ? 3 : 4);
  return pad(in, spec, prefix, digits, '>');
}

std::string format_real(Interpreter& in, double value, const Spec& spec) {
  std::string digits;
  if (spec.type == '\0' && spec.precision < 0) {
    digits = format_float(std::fabs(value));
  } else if (spec.type == '\0') {
    digits = float_digits(value, 'g', std::max(spec.precision, 1), spec.alternate);
    if (std::isfinite(value) && digits.find_first_of(".e") == std::string::npos) digits += ".0";
  } else if (spec.type == '%') {
    digits = float_digits(value * 100, 'f', spec.precision < 0 ? 6 : spec.precision, spec.alternate) + "%";
  } else {
    const char type = spec.type == 'n' ? 'g' : spec.type;
    digits = float_digits(value, type, spec.precision < 0 ? 6 : spec.precision, spec.alternate);
  }
  if (spec.grouping != '\0') group_digits(digits, spec.grouping, 3);
  const bool negative = std::signbit(value) && !std::isnan(value);
  return pad(in, spec, sign_of(negative, spec.sign), digits, '>');
}

Spec parse_spec(std::string_view text, bool is_string) {
  Spec spec;
  size_t at = 0;
  const auto is_align = [text](size_t i) {
    return i < text.size() && std::string_view("<>^=").find(text[i]) != std::string_view::npos;
  };
  const size_t first = text.empty() ? 0 : character_bytes(text[0]);
  if (first > 0 && is_align(first)) {
    spec.fill = text.substr(0, first);
    spec.align = text[first];
    at = first + 1;
  } else if (is_align(0)) {
    spec.align = text[at++];
  }
  if (at < text.size() && (text[at] == '+' || text[at] == '-' || text[at] == ' ')) {
    if (is_string) fail("Sign not allowed in string format specifier");
    spec.sign = text[at++];
  }
  if (at < text.size() && text[at] == '#') {
    spec.alternate = true;
    ++at;
  }
  if (at < text.size() && text[at] == '0') {
    if (first == 0 || at <= 1 || spec.fill == " ") spec.fill = spec.align == '\0' ? "0" : spec.fill;
    if (spec.align == '\0') {
      spec.fill = "0";
      spec.align = is_string ? '<' : '=';
    }
    ++at;
  }
  spec.width = take_number(text, at);
  if (at < text.size() && (text[at] == ',' || text[at] == '_')) spec.grouping = text[at++];
  if (at < text.size() && text[at] == '.') {
    ++at;
    if (!digit(text, at)) fail("Format specifier missing precision");
    const Int precision = take_number(text, at);
    spec.precision = is_string ? static_cast<int>(std::min<Int>(precision, 1 << 30)) : checked_precision(precision);
  }
  if (at < text.size()) spec.type = text[at++];
  if (at != text.size()) fail("Invalid format specifier '" + std::string(base::utf8::prefix(text, 100)) + "'");
  return spec;
}

// One %-conversion: flags, width, precision, letter.
struct Conversion {
  bool left = false, plus = false, space = false, zero = false, alternate = false;
  Int width = 0;
  Int precision = -1;
  char letter = '\0';
};

std::string convert(Interpreter& in, const Conversion& c, const Value& value) {
  Spec spec;
  spec.width = c.width;
  spec.align = c.left ? '<' : '>';
  spec.sign = c.plus ? '+' : c.space ? ' ' : '-';
  spec.alternate = c.alternate;
  const auto zero_fill = [&] {
    if (!c.zero || c.left) return;
    spec.fill = "0";
    spec.align = '=';
  };
  switch (c.letter) {
    case 's':
    case 'r':
    case 'a': {
      std::string text = c.letter == 's' ? str_of(in, value) : repr_of(in, value);
      if (c.precision >= 0) text.resize(byte_position(text, static_cast<size_t>(std::min<Int>(c.precision, 1 << 30))));
      return pad(in, spec, "", text, '>');
    }
    case 'c': {
      if (value.is_string() && value.str().length == 1) return pad(in, spec, "", value.text(), '>');
      if (!value.is_integral()) fail("%c requires int or char");
      spec.type = 'c';
      return format_integer(in, value.integral(), spec);
    }
    case 'd':
    case 'i':
    case 'u':
    case 'x':
    case 'X':
    case 'o': {
      if (value.is_undefined()) fail(value.undefined_message());
      const bool whole = c.letter == 'd' || c.letter == 'i' || c.letter == 'u';
      if (!value.is_integral() && !(whole && value.is_float())) {
        fail(std::string("%") + c.letter + " format: " + (whole ? "a real number" : "an integer") +
             " is required, not " + std::string(value.type_name()));
      }
      if (value.is_float() && !(std::fabs(value.number()) < 1e38)) fail("cannot convert float to integer");
      const Int number = value.is_float() ? static_cast<Int>(value.number()) : value.integral();
      spec.type = whole ? 'd' : c.letter;
      zero_fill();
      if (c.precision < 0) return format_integer(in, number, spec);
      std::string digits = digits_of(number, whole ? 10 : c.letter == 'o' ? 8 : 16);
      const auto wanted = static_cast<size_t>(checked_precision(c.precision));
      if (digits.size() < wanted) digits.insert(0, wanted - digits.size(), '0');
      if (c.letter == 'X') digits = upper_case(digits);
      return pad(in, spec, sign_of(number < 0, spec.sign), digits, '>');
    }
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G': {
      if (value.is_undefined()) fail(value.undefined_message());
      if (!value.is_number()) fail("must be real number, not " + std::string(value.type_name()));
      spec.type = c.letter;
      spec.precision = c.precision < 0 ? 6 : checked_precision(c.precision);
      zero_fill();
      return format_real(in, value.number(), spec);
    }
    default:
      fail(std::string("unsupported format character '") + c.letter + "'");
  }
}

// Walks a %-format and takes its arguments one by one, or by name.
class PercentFormat {
 public:
  PercentFormat(Interpreter& in, const Value& format, const Value& arguments)
      : in_(in), format_(format), text_(format.text()), arguments_(arguments), out_(&in.budget()) {}

  Value run() {
    while (at_ < text_.size()) {
      const size_t percent = std::min(text_.find('%', at_), text_.size());
      out_.add(text_.substr(at_, percent - at_));
      at_ = percent;
      if (at_ < text_.size()) conversion();
    }
    const bool leftover = arguments_.is_tuple() ? taken_ < arguments_.seq().items.size()
                                                : taken_ == 0 && !named_ && !arguments_.is_undefined() &&
                                                      !arguments_.is_dict() && !arguments_.is_seq();
    if (leftover) fail("not all arguments converted during string formatting");
    return out_.finish(format_.is_markup());
  }

 private:
  char peek() const {
    if (at_ >= text_.size()) fail("incomplete format");
    return text_[at_];
  }
  Value next_argument() {
    if (arguments_.is_tuple()) {
      if (taken_ >= arguments_.seq().items.size()) fail("not enough arguments for format string");
      return arguments_.seq().items[taken_++];
    }
    if (taken_++ > 0) fail("not enough arguments for format string");
    return arguments_;
  }
  Int star_or_number() {
    if (peek() != '*') return take_number(text_, at_);
    ++at_;
    return to_index(next_argument(), "* wants an int; the width or precision");
  }
  void conversion() {
    ++at_;
    Value by_name;
    bool named = false;
    if (peek() == '(') {
      const size_t end = text_.find(')', at_);
      if (end == std::string_view::npos) fail("incomplete format key");
      const std::string_view key = text_.substr(at_ + 1, end - at_ - 1);
      if (!arguments_.is_dict()) fail("format requires a mapping");
      const Value* found = arguments_.dict().find(key);
      if (found == nullptr) fail("'" + std::string(key) + "' is not a key of the mapping");
      by_name = *found;
      named = named_ = true;
      at_ = end + 1;
    }
    Conversion c;
    for (bool more = true; more;) {
      switch (peek()) {
        case '-':
          c.left = true;
          break;
        case '+':
          c.plus = true;
          break;
        case ' ':
          c.space = true;
          break;
        case '0':
          c.zero = true;
          break;
        case '#':
          c.alternate = true;
          break;
        default:
          more = false;
      }
      if (more) ++at_;
    }
    c.width = star_or_number();
    if (c.width < 0) {
      c.left = true;
      c.width = -c.width;
    }
    if (peek() == '.') {
      ++at_;
      c.precision = std::max<Int>(0, star_or_number());
    }
    while (peek() == 'l' || peek() == 'h' || peek() == 'L')
      ++at_;
    c.letter = peek();
    ++at_;
    if (c.letter == '%') {
      out_.add('%');
      return;
    }
    const Value value = named ? by_name : next_argument();
    std::string piece = convert(in_, c, value);
    const bool escape = format_.is_markup() && (c.letter == 's' || c.letter == 'r') && !value.is_markup();
    out_.add(escape ? escape_html(in_, piece) : piece);
  }

  Interpreter& in_;
  const Value& format_;
  std::string_view text_;
  const Value& arguments_;
  TextBuilder out_;
  size_t at_ = 0;
  size_t taken_ = 0;
  bool named_ = false;
};

// Walks the replacement fields of str.format.
class BraceFormat {
 public:
  BraceFormat(Interpreter& in, const CallArgs& args, bool escape) : in_(in), args_(args), escape_(escape) {}

  void run(std::string_view text, TextBuilder& out, int level) {
    if (level > 2) fail("Max string recursion exceeded");
    for (size_t at = 0; at < text.size();) {
      const char c = text[at];
      if (c != '{' && c != '}') {
        const size_t end = std::min(text.find_first_of("{}", at), text.size());
        out.add(text.substr(at, end - at));
        at = end;
      } else if (at + 1 < text.size() && text[at + 1] == c) {
        out.add(c);
        at += 2;
      } else if (c == '}') {
        fail("Single '}' encountered in format string");
      } else {
        size_t end = at + 1;
        int depth = 1;
        for (; end < text.size() && depth > 0; ++end)
          depth += text[end] == '{' ? 1 : text[end] == '}' ? -1 : 0;
        if (depth > 0)
          fail(at + 1 == text.size() ? "Single '{' encountered in format string" : "expected '}' before end of string");
        field(text.substr(at + 1, end - at - 2), out, level);
        at = end;
      }
    }
  }

 private:
  void field(std::string_view body, TextBuilder& out, int level) {
    size_t end = 0;
    while (end < body.size() && body[end] != '!' && body[end] != ':') {
      if (body[end] == '[') end = std::min(body.find(']', end), body.size() - 1);
      ++end;
    }
    Value value = lookup(body.substr(0, end));
    bool converted = false;
    if (end < body.size() && body[end] == '!') {
      const char letter = end + 1 < body.size() ? body[end + 1] : '\0';
      if (letter != 's' && letter != 'r' && letter != 'a') fail("Unknown conversion specifier in a format string");
      value = make_string(&in_.budget(), letter == 's' ? str_of(in_, value) : repr_of(in_, value));
      converted = true;
      end += 2;
      if (end < body.size() && body[end] != ':') fail("expected ':' after conversion specifier");
    }
    TextBuilder specification(&in_.budget());
    if (end < body.size()) run(body.substr(end + 1), specification, level + 1);
    const bool plain = !escape_ || (value.is_markup() && !converted);
    const std::string piece = format_value(in_, value, specification.text());
    out.add(plain ? piece : escape_html(in_, piece));
  }

  Value lookup(std::string_view name) {
    const size_t end = std::min(name.find_first_of(".["), name.size());
    Value value = first(name.substr(0, end));
    for (size_t at = end; at < name.size();) {
      if (name[at] == '.') {
        const size_t stop = std::min(name.find_first_of(".[", at + 1), name.size());
        if (stop == at + 1) fail("Empty attribute in format string");
        value = get_attribute(in_, value, name.substr(at + 1, stop - at - 1));
        at = stop;
      } else if (name[at] == '[') {
        const size_t stop = name.find(']', at);
        if (stop == std::string_view::npos || stop == at + 1) fail("Missing ']' in format string");
        const std::string_view key = name.substr(at + 1, stop - at - 1);
        Int index = 0;
        const bool number = std::all_of(key.begin(), key.end(), [](char k) { return k >= '0' && k <= '9'; });
        value = number && parse_int(key, 10, index)
                    ? get_item(in_, value, Value(index))
                    : get_item(in_, value, make_string(&in_.budget(), std::string(key)));
        at = stop + 1;
      } else {
        fail("Only '.' or '[' may follow ']' in format field specifier");
      }
    }
    return value;
  }

  Value first(std::string_view name) {
    const bool number = std::all_of(name.begin(), name.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (number) {
      if (name.empty() ? manual_ : next_ > 0) {
        fail("cannot switch between automatic field numbering and manual field specification");
      }
      manual_ = manual_ || !name.empty();
      size_t at = 0;
      const Int index = name.empty() ? static_cast<Int>(next_++) : take_number(name, at);
      if (index >= static_cast<Int>(args_.positional.size())) {
        fail("Replacement index " + format_int(index) + " out of range for positional args tuple");
      }
      return args_.positional[static_cast<size_t>(index)];
    }
    for (const auto& [keyword, value] : args_.keyword) {
      if (keyword == name) return value;
    }
    fail("'" + std::string(name) + "' is not an argument of format()");
  }

  Interpreter& in_;
  const CallArgs& args_;
  bool escape_;
  bool manual_ = false;
  size_t next_ = 0;
};

}  // namespace

Value format_percent(Interpreter& in, const Value& format, const Value& arguments) {
  return PercentFormat(in, format, arguments).run();
}

Value format_braces(Interpreter& in, const Value& format, const CallArgs& args) {
  TextBuilder out(&in.budget());
  BraceFormat(in, args, format.is_markup()).run(format.text(), out, 1);
  return out.finish(format.is_markup());
}

std::string format_value(Interpreter& in, const Value& value, std::string_view specification) {
  if (specification.empty()) return str_of(in, value);
  if (!value.is_string() && !value.is_number()) {
    fail("unsupported format string passed to " + std::string(value.type_name()) + ".__format__");
  }
  const Spec spec = parse_spec(specification, value.is_string());
  const auto unknown = [&] {
    fail(std::string("Unknown format code '") + spec.type + "' for object of type '" + std::string(value.type_name()) +
         "'");
  };
  if (value.is_string()) {
    if (spec.type != '\0' && spec.type != 's') unknown();
    if (spec.align == '=') fail("'=' alignment not allowed in string format specifier");
    if (spec.grouping != '\0') fail("Cannot specify ',' with 's'.");
    std::string_view text = value.text();
    if (spec.precision >= 0) text = text.substr(0, byte_position(text, static_cast<size_t>(spec.precision)));
    return pad(in, spec, "", text, '<');
  }
  const bool real = spec.type != '\0' && std::string_view("eEfFgG%").find(spec.type) != std::string_view::npos;
  if (value.is_bool() && spec.type == '\0' && spec.precision < 0 && spec.grouping == '\0') {
    return format_integer(in, value.integral(), spec);
  }
  if (real || value.is_float()) {
    if (!real && spec.type != '\0' && spec.type != 'n') unknown();
    return format_real(in, value.number(), spec);
  }
  if (spec.type != '\0' && std::string_view("bcdoxXn").find(spec.type) == std::string_view::npos) unknown();
  return format_integer(in, value.integral(), spec);
}

}  // namespace tidemill::text::jinja
