#include "base/json.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <system_error>

#include <boost/json/basic_parser_impl.hpp>
#include <fmt/core.h>

namespace tidemill::base {
namespace {

void write_pretty(const json::value& value, int depth, std::string& out) {
  const auto indent = [&out](int levels) { out.append(static_cast<size_t>(levels) * 2, ' '); };
  if (const auto* object = value.if_object(); object != nullptr && !object->empty()) {
    out += "{\n";
    for (auto it = object->begin(); it != object->end(); ++it) {
      if (it != object->begin()) out += ",\n";
      indent(depth + 1);
      out += json::serialize(it->key());
      out += ": ";
      write_pretty(it->value(), depth + 1, out);
    }
    out += '\n';
    indent(depth);
    out += '}';
  } else if (const auto* array = value.if_array(); array != nullptr && !array->empty()) {
    out += "[\n";
    for (auto it = array->begin(); it != array->end(); ++it) {
      if (it != array->begin()) out += ",\n";
      indent(depth + 1);
      write_pretty(*it, depth + 1, out);
    }
    out += '\n';
    indent(depth);
    out += ']';
  } else if (const auto* number = value.if_double()) {
    out += std::isfinite(*number) ? fmt::format("{}", *number) : "null";  // Boost.JSON would write 1.5 as 1.5E0
  } else {
    out += json::serialize(value);
  }
}

// What Boost's parser tells of a text, as a value. It does what the library's own does, but for numbers with a
// fraction, an exponent or more digits than an integer of 64 bits has: of those the library gives one of the nearest
// (it rounds the digits, the power of ten and their product), and here it is the nearest, as every other reader has it.
class JsonBuilder {
 public:
  static constexpr size_t max_object_size = json::object::max_size();
  static constexpr size_t max_array_size = json::array::max_size();
  static constexpr size_t max_key_size = json::string::max_size();
  static constexpr size_t max_string_size = json::string::max_size();

  explicit JsonBuilder(PastDoubles past) : past_(past) { stack_.reset(); }

  json::value release() { return stack_.release(); }

  static bool on_document_begin(json::error_code&) { return true; }
  static bool on_document_end(json::error_code&) { return true; }
  static bool on_object_begin(json::error_code&) { return true; }
  bool on_object_end(size_t count, json::error_code&) {
    stack_.push_object(count);
    return true;
  }
  static bool on_array_begin(json::error_code&) { return true; }
  bool on_array_end(size_t count, json::error_code&) {
    stack_.push_array(count);
    return true;
  }
  bool on_key_part(json::string_view text, size_t, json::error_code&) {
    stack_.push_chars(text);
    return true;
  }
  bool on_key(json::string_view text, size_t, json::error_code&) {
    stack_.push_key(text);
    return true;
  }
  bool on_string_part(json::string_view text, size_t, json::error_code&) {
    stack_.push_chars(text);
    return true;
  }
  bool on_string(json::string_view text, size_t, json::error_code&) {
    stack_.push_string(text);
    return true;
  }
  // Of a number that the text may end with: the parser cannot tell that it is whole, and tells the rest later.
  bool on_number_part(json::string_view digits, json::error_code&) {
    begun_number_ += std::string_view(digits);
    return true;
  }
  bool on_int64(int64_t number, json::string_view, json::error_code&) {
    stack_.push_int64(number);
    return true;
  }
  bool on_uint64(uint64_t number, json::string_view, json::error_code&) {
    stack_.push_uint64(number);
    return true;
  }
  // Whether the text was refused for a number past doubles.
  bool refused() const { return refused_; }

  bool on_double(double about, json::string_view digits, json::error_code& error) {
    if (!begun_number_.empty()) {
      begun_number_ += std::string_view(digits);
      digits = begun_number_;
    }
    const std::optional<double> number = nearest(digits, about);
    if (!number && past_ == PastDoubles::refused) {
      refused_ = true;
      error = json::error::exponent_overflow;
      return false;
    }
    stack_.push_double(number.value_or(std::copysign(std::numeric_limits<double>::max(), about)));
    return true;
  }
  bool on_bool(bool value, json::error_code&) {
    stack_.push_bool(value);
    return true;
  }
  bool on_null(json::error_code&) {
    stack_.push_null();
    return true;
  }
  static bool on_comment_part(json::string_view, json::error_code&) { return true; }
  static bool on_comment(json::string_view, json::error_code&) { return true; }

 private:
  // `about`: the number but for its last digits; where it is out of the range of a double it tells on which side.
  // nullopt: it is past the largest one.
  static std::optional<double> nearest(std::string_view text, double about) {
    double number = about;
    if (std::from_chars(text.data(), text.data() + text.size(), number).ec == std::errc::result_out_of_range) {
      if (std::abs(about) >= 1) return std::nullopt;
      number = std::copysign(0, about);
    }
    return number;
  }

  PastDoubles past_;
  bool refused_ = false;
  json::value_stack stack_;
  std::string begun_number_;  // a number ends the text if it is not whole at first: there is one at most
};

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

// The text with exponents of ten digits and more become one of a billion, over the same length. The parser has no
// larger ones, and no text is so long that its numbers would be others for it: all are 0 or past doubles.
std::string with_bounded_exponents(std::string_view text) {
  constexpr std::string_view bound = "1000000000";
  std::string bounded(text);
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '"') in_string = !in_string;
    if (in_string) {
      if (text[i] == '\\') ++i;  // a quote behind it is no end
      continue;
    }
    if ((text[i] != 'e' && text[i] != 'E') || i == 0 || !is_digit(text[i - 1])) continue;
    size_t first = i + 1;
    if (first < text.size() && (text[first] == '+' || text[first] == '-')) ++first;
    const size_t end = std::min(text.find_first_not_of("0123456789", first), text.size());
    const size_t counted = std::min(text.find_first_not_of('0', first), end);
    if (end - counted >= bound.size()) {
      std::fill(bounded.begin() + static_cast<ptrdiff_t>(first), bounded.begin() + static_cast<ptrdiff_t>(end), '0');
      bounded.replace(end - bound.size(), bound.size(), bound);
    }
    i = std::max(i, end - 1);
  }
  return bounded;
}

}  // namespace

Result<json::value> parse_json(std::string_view text, int max_depth, PastDoubles past) {
  json::parse_options options;
  options.max_depth = static_cast<size_t>(max_depth);
  json::error_code error;
  size_t consumed = 0;
  bool is_past = false;
  const auto parse = [&](std::string_view bytes) -> std::optional<json::value> {
    error = {};
    json::basic_parser<JsonBuilder> parser(options, past);
    consumed = parser.write_some(true, bytes.data(), bytes.size(), error);
    if (!error && consumed < bytes.size()) error = json::error::extra_data;
    if (!error) parser.write_some(false, nullptr, 0, error);
    is_past = parser.handler().refused();
    if (error) return std::nullopt;
    return parser.handler().release();
  };
  auto value = parse(text);
  if (error == json::error::exponent_overflow && !is_past) value = parse(with_bounded_exponents(text));
  if (value) return *std::move(value);
  std::string_view before = text.substr(0, std::min(consumed, text.size()));
  if (error == json::error::exponent_overflow)
    before = before.substr(0, 1 + before.find_last_not_of("+-.0123456789eE"));
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const auto column = 1 + before.size() - (before.rfind('\n') == std::string_view::npos ? 0 : before.rfind('\n') + 1);
  if (error == json::error::too_deep) {
    return Error(ErrorCode::unsupported, fmt::format("the JSON is nested deeper than {} levels at line {}, column {}",
                                                     max_depth, line, column));
  }
  if (error == json::error::exponent_overflow) {
    return Error(
        ErrorCode::invalid_argument,
        fmt::format("the JSON has a number at line {}, column {} that is out of the range of double precision, "
                    "which ends at about 1.8e308",
                    line, column));
  }
  return Error(ErrorCode::invalid_argument,
               fmt::format("invalid JSON at line {}, column {}: {}", line, column, error.message()));
}

std::string pretty_json(const json::value& value) {
  std::string out;
  write_pretty(value, 0, out);
  return out;
}

}  // namespace tidemill::base
