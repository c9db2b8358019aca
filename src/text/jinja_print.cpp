// str(), repr() and json.dumps().
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include <utf8proc.h>

#include "base/utf8.hpp"
#include "text/jinja_eval.hpp"
#include "text/jinja_ops.hpp"

namespace tidemill::text::jinja {
namespace {

constexpr std::string_view hex_digits = "0123456789abcdef";

void add_hex(TextBuilder& out, uint32_t value, int digits) {
  std::array<char, 8> text{};
  for (int i = digits - 1; i >= 0; --i, value >>= 4U)
    text[static_cast<size_t>(i)] = hex_digits[value & 15U];
  out.add(std::string_view(text.data(), static_cast<size_t>(digits)));
}

bool printable(char32_t c) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
      return false;
    default:
      return true;
  }
}

void write_items(Interpreter& in, TextBuilder& out, const std::vector<Value>& items) {
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out.add(", ");
    write_repr(in, out, items[i]);
  }
}

void write_seq(Interpreter& in, TextBuilder& out, const Seq& seq) {
  switch (seq.flavor) {
    case Seq::Flavor::range:
      out.add(seq.note);
      return;
    case Seq::Flavor::tuple:
    case Seq::Flavor::group:
      out.add("(");
      write_items(in, out, seq.items);
      out.add(seq.items.size() == 1 ? ",)" : ")");
      return;
    case Seq::Flavor::list:
      out.add("[");
      break;
    case Seq::Flavor::keys:
      out.add("dict_keys([");
      break;
    case Seq::Flavor::values:
      out.add("dict_values([");
      break;
    case Seq::Flavor::items:
      out.add("dict_items([");
      break;
  }
  write_items(in, out, seq.items);
  out.add(seq.flavor == Seq::Flavor::list ? "]" : "])");
}

std::string json_float(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value < 0 ? "-Infinity" : "Infinity";
  return format_float(value);
}

void write_json_string(TextBuilder& out, std::string_view text, bool ensure_ascii) {
  out.add('"');
  size_t plain = 0;
  for (size_t i = 0; i < text.size();) {
    const auto c = static_cast<unsigned char>(text[i]);
    const bool escaped = c < 0x20 || c == '"' || c == '\\' || (ensure_ascii && c >= 0x7F);
    if (!escaped) {
      ++i;
      continue;
    }
    out.add(text.substr(plain, i - plain));
    const base::utf8::Decoded decoded = base::utf8::decode(text.substr(i));
    static constexpr std::string_view letters = "\"\\\n\r\t\f\b";
    static constexpr std::string_view names = "\"\\nrtfb";
    if (const size_t known = letters.find(text[i]); known != std::string_view::npos) {
      out.add('\\');
      out.add(names[known]);
    } else if (decoded.code_point < 0x10000) {
      out.add("\\u");
      add_hex(out, decoded.code_point, 4);
    } else {
      const uint32_t offset = decoded.code_point - 0x10000;
      out.add("\\u");
      add_hex(out, 0xD800 + (offset >> 10U), 4);
      out.add("\\u");
      add_hex(out, 0xDC00 + (offset & 0x3FFU), 4);
    }
    i += decoded.length;
    plain = i;
  }
  out.add(text.substr(plain));
  out.add('"');
}

class JsonWriter {
 public:
  JsonWriter(Interpreter& in, TextBuilder& out, const JsonStyle& style) : in_(in), out_(out), style_(style) {}

  void write(const Value& value) {
    in_.budget().step();
    if (value.is_none()) return out_.add("null");
    if (value.is_bool()) return out_.add(value.boolean() ? "true" : "false");
    if (value.is_int()) return out_.add(format_int(value.integral()));
    if (value.is_float()) return out_.add(json_float(value.number()));
    if (value.is_string()) return write_json_string(out_, value.text(), style_.ensure_ascii);
    if (value.is_seq(Seq::Flavor::list) || value.is_tuple()) return write_list(value.seq().items);
    if (value.is_dict()) return write_dict(value.dict());
    throw Fault{"Object of type " + std::string(value.type_name()) + " is not JSON serializable"};
  }

 private:
  void new_line() {
    if (!style_.pretty) return;
    out_.add('\n');
    for (int i = 0; i < level_; ++i)
      out_.add(style_.indent);
  }
  void write_list(const std::vector<Value>& items) {
    if (items.empty()) return out_.add("[]");
    out_.add('[');
    ++level_;
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out_.add(style_.item_separator);
      new_line();
      write(items[i]);
    }
    --level_;
    new_line();
    out_.add(']');
  }
  void write_dict(const Dict& dict) {
    if (dict.size() == 0) return out_.add("{}");
    std::vector<const Dict::Entry*> entries;
    for (const Dict::Entry& entry : dict.entries())
      entries.push_back(&entry);
    if (style_.sort_keys) {
      std::stable_sort(entries.begin(), entries.end(), [this](const Dict::Entry* a, const Dict::Entry* b) {
        bool unordered = false;
        return compare(in_.budget(), a->first, b->first, unordered) < 0;
      });
    }
    out_.add('{');
    ++level_;
    for (size_t i = 0; i < entries.size(); ++i) {
      if (i > 0) out_.add(style_.item_separator);
      new_line();
      write_key(entries[i]->first);
      out_.add(style_.key_separator);
      write(entries[i]->second);
    }
    --level_;
    new_line();
    out_.add('}');
  }
  void write_key(const Value& key) {
    if (key.is_string()) return write_json_string(out_, key.text(), style_.ensure_ascii);
    if (!key.is_none() && !key.is_number()) {
      throw Fault{"keys must be str, int, float, bool or None, not " + std::string(key.type_name())};
    }
    out_.add('"');
    write(key);
    out_.add('"');
  }

  Interpreter& in_;
  TextBuilder& out_;
  const JsonStyle& style_;
  int level_ = 0;
};

}  // namespace

std::string format_int(Int value) {
  if (value == 0) return "0";
  const bool negative = value < 0;
  std::string digits;
  while (value != 0) {
    const int digit = static_cast<int>(value % 10);
    digits.push_back(static_cast<char>('0' + (digit < 0 ? -digit : digit)));
    value /= 10;
  }
  if (negative) digits.push_back('-');
  std::reverse(digits.begin(), digits.end());
  return digits;
}

std::string format_float(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  std::array<char, 40> buffer{};
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::scientific);
  std::string_view text(buffer.data(), static_cast<size_t>(end.ptr - buffer.data()));
  std::string out;
  if (text.front() == '-') {
    out = "-";
    text.remove_prefix(1);
  }
  const size_t e = text.find('e');
  int exponent = 0;
  std::from_chars(text.data() + e + (text[e + 1] == '+' ? 2 : 1), text.data() + text.size(), exponent);
  std::string digits(text.substr(0, e));
  std::erase(digits, '.');
  const int count = static_cast<int>(digits.size());
  if (exponent < -4 || exponent >= 16) {
    out += digits[0];
    if (count > 1) out += "." + digits.substr(1);
    const int magnitude = std::abs(exponent);
    out += exponent < 0 ? "e-" : "e+";
    return out + (magnitude < 10 ? "0" : "") + std::to_string(magnitude);
  }
  if (exponent < 0) return out + "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
  if (count <= exponent + 1) return out + digits + std::string(static_cast<size_t>(exponent + 1 - count), '0') + ".0";
  const size_t point = static_cast<size_t>(exponent) + 1;
  return out + digits.substr(0, point) + "." + digits.substr(point);
}

void write_quoted(TextBuilder& out, std::string_view text) {
  const bool single = text.find('\'') == std::string_view::npos || text.find('"') != std::string_view::npos;
  const char quote = single ? '\'' : '"';
  out.add(quote);
  for (size_t i = 0; i < text.size();) {
    const base::utf8::Decoded decoded = base::utf8::decode(text.substr(i));
    const char32_t c = decoded.code_point;
    if (c == '\n') {
      out.add("\\n");
    } else if (c == '\r') {
      out.add("\\r");
    } else if (c == '\t') {
      out.add("\\t");
    } else if (c == '\\' || c == static_cast<char32_t>(quote)) {
      out.add('\\');
      out.add(text[i]);
    } else if (c == ' ' || printable(c)) {
      out.add(text.substr(i, decoded.length));
    } else {
      out.add(c < 0x100 ? "\\x" : c < 0x10000 ? "\\u" : "\\U");
      add_hex(out, c, c < 0x100 ? 2 : c < 0x10000 ? 4 : 8);
    }
    i += decoded.length;
  }
  out.add(quote);
}

void write_repr(Interpreter& in, TextBuilder& out, const Value& value) {
  in.budget().step();
  if (value.is_string()) {
    if (value.is_markup()) out.add("Markup(");
    write_quoted(out, value.text());
    if (value.is_markup()) out.add(")");
  } else if (value.is_undefined()) {
    out.add("Undefined");
  } else if (value.is_seq()) {
    write_seq(in, out, value.seq());
  } else if (value.is_dict()) {
    out.add("{");
    bool first = true;
    for (const Dict::Entry& entry : value.dict().entries()) {
      if (!first) out.add(", ");
      first = false;
      write_repr(in, out, entry.first);
      out.add(": ");
      write_repr(in, out, entry.second);
    }
    out.add("}");
  } else if (value.is_object()) {
    out.add(value.object().repr(in));
  } else if (value.is_generator()) {
    out.add("<generator object>");
  } else {
    write_str(in, out, value);
  }
}

void write_str(Interpreter& in, TextBuilder& out, const Value& value) {
  if (value.is_string()) {
    out.add(value.text());
  } else if (value.is_none()) {
    out.add("None");
  } else if (value.is_bool()) {
    out.add(value.boolean() ? "True" : "False");
  } else if (value.is_int()) {
    out.add(format_int(value.integral()));
  } else if (value.is_float()) {
    out.add(format_float(value.number()));
  } else if (!value.is_undefined()) {
    write_repr(in, out, value);
  }
}

Value to_str(Interpreter& in, const Value& value) {
  if (value.is_string()) return value;
  TextBuilder out(&in.budget());
  write_str(in, out, value);
  return out.finish();
}

std::string str_of(Interpreter& in, const Value& value) {
  TextBuilder out(&in.budget());
  write_str(in, out, value);
  return out.take();
}

std::string repr_of(Interpreter& in, const Value& value) {
  TextBuilder out(&in.budget());
  write_repr(in, out, value);
  return out.take();
}

void write_json(Interpreter& in, TextBuilder& out, const Value& value, const JsonStyle& style) {
  JsonWriter(in, out, style).write(value);
}

}  // namespace tidemill::text::jinja
