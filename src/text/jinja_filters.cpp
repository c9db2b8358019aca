// Filters on text and scalars, and the table of all filters.
#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "base/utf8.hpp"
#include "text/jinja_eval.hpp"
#include "text/jinja_ops.hpp"
#include "text/jinja_sequence_filters.hpp"
#include "text/jinja_string.hpp"

namespace tidemill::text::jinja {
namespace {

// soft_str: the input as a string, its markup kept.
Value text_of(Interpreter& in, const Value& input) {
  return to_str(in, input);
}

template <std::string (*Convert)(std::string_view)>
Value case_filter(Interpreter& in, const Value& input, CallArgs& call) {
  const Arguments args("case filter", {}, call);
  const Value text = text_of(in, input);
  in.budget().expect(text.text().size() * 3);
  in.budget().work(text.text().size() * 8);
  return make_string(&in.budget(), Convert(text.text()), text.is_markup());
}

// Every word begins in upper case; unlike str.title, an apostrophe does not begin a word.
std::string title_words(std::string_view text) {
  std::string out;
  std::string word;
  const auto flush = [&] {
    if (word.empty()) return;
    const size_t first = character_bytes(word[0]);
    out += upper_case(word.substr(0, first));
    out += lower_case(word.substr(first));
    word.clear();
  };
  for (size_t i = 0; i < text.size();) {
    const size_t bytes = character_bytes(text[i]);
    const bool separates =
        std::string_view("-({[<").find(text[i]) != std::string_view::npos || white_space_at(text, i) > 0;
    if (separates) {
      flush();
      out += text.substr(i, bytes);
    } else {
      word += text.substr(i, bytes);
    }
    i += bytes;
  }
  flush();
  return out;
}

Value call_method(Interpreter& in, const Value& input, std::string_view method, CallArgs& args) {
  return find_string_method(method)(in, text_of(in, input), args);
}

Value trim(Interpreter& in, const Value& input, CallArgs& args) {
  return call_method(in, input, "strip", args);
}

Value center(Interpreter& in, const Value& input, CallArgs& call) {
  const Arguments args("center", {"width"}, call);
  CallArgs width;
  width.positional.emplace_back(args.integer(0, 80));
  return call_method(in, input, "center", width);
}

Value replace(Interpreter& in, const Value& input, CallArgs& call) {
  const Arguments args("replace", {"old", "new", "count"}, call, 2);
  const Int count = args.has_value(2) ? args.integer(2, -1) : -1;
  return make_string(&in.budget(),
                     replace_text(in, str_of(in, input), str_of(in, args[0]), str_of(in, args[1]), count));
}

Value default_value(Interpreter& in, const Value& input, CallArgs& call) {
  const Arguments args("default", {"default_value", "boolean"}, call);
  if (!input.is_undefined() && !(args.truth(1, false) && !truthy(input))) return input;
  return args.has(0) ? args[0] : make_string(&in.budget(), "");
}

Value string(Interpreter& in, const Value& input, CallArgs& call) {
  const Arguments args("string", {}, call);
  return text_of(in, input);
}

Value safe(Interpreter& in, const Value& input, CallArgs& call) {
  const Arguments args("safe", {}, call);
  return make_string(&in.budget(), str_of(in, input), true);
}

Value escape(Interpreter& in, const Value& input, CallArgs& call) {
  const Arguments args("escape", {}, call);
  if (input.is_markup()) return input;
  return make_string(&in.budget(), escape_html(in, str_of(in, input)), true);
}

Value force_escape(Interpreter& in, const Value& input, CallArgs& call) {
  const Arguments args("forceescape", {}, call);
  return make_string(&in.budget(), escape_html(in, str_of(in, input)), true);
}

Value to_json(Interpreter& in, const Value& input, CallArgs& call) {
  const Arguments args("tojson", {"ensure_ascii", "indent", "separators", "sort_keys"}, call);
  JsonStyle style;
  style.ensure_ascii = args.truth(0, false);
  style.sort_keys = args.truth(3, false);
  if (args.has_value(1)) {
    style.pretty = true;
    style.item_separator = ",";
    if (args[1].is_string()) {
      style.indent = args[1].text();
    } else {
      const Int width = std::max<Int>(0, args.integer(1, 0));
      in.budget().expect(width > Int{1} << 40 ? SIZE_MAX : static_cast<size_t>(width));
      style.indent.assign(static_cast<size_t>(width), ' ');
    }
  }
  if (args.has_value(2)) {
    const std::vector<Value> pair = collect(in, args[2]);
    if (pair.size() != 2 || !pair[0].is_string() || !pair[1].is_string()) {
      throw Fault{"tojson(): separators must be two strings"};
    }
    style.item_separator = pair[0].text();
    style.key_separator = pair[1].text();
  }
  TextBuilder out(&in.budget());
  write_json(in, out, input, style);
  return out.finish();
}

Value indent(Interpreter& in, const Value& input, CallArgs& call) {
  const Arguments args("indent", {"width", "first", "blank"}, call);
  if (input.is_undefined()) throw Fault{input.undefined_message()};
  if (!input.is_string()) throw Fault{"indent needs a string, not " + std::string(input.type_name())};
  TextBuilder prefix(&in.budget());
  if (args.has(0) && args[0].is_string()) {
    prefix.add(args[0].text());
  } else {
    const Int width = std::max<Int>(0, args.integer(0, 4));
    prefix.add(width > Int{1} << 40 ? SIZE_MAX / 4 : static_cast<size_t>(width), ' ');
  }
  const bool blank = args.truth(2, false);
  in.budget().expect(input.text().size() * 17);
  in.budget().work(input.text().size() * 4);
  // A line break at the very end begins one more, empty, line.
  const std::string text = input.text() + "\n";
  const std::vector<std::string_view> lines = split_lines(text);
  TextBuilder out(&in.budget());
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) out.add("\n");
    const bool indented = i == 0 ? args.truth(1, false) : blank || !lines[i].empty();
    if (indented) out.add(prefix.text());
    out.add(lines[i]);
  }
  return out.finish(input.is_markup());
}

Value to_int(Interpreter& in, const Value& input, CallArgs& call) {
  const Arguments args("int", {"default", "base"}, call);
  Value otherwise = args.has(0) ? args[0] : Value::integer(0);
  if (input.is_undefined()) throw Fault{input.undefined_message()};
  if (input.is_integral()) return input.integral();
  double real = 0;
  if (input.is_string()) {
    in.budget().work(input.text().size());
    const Int base = args.integer(1, 10);
    Int value = 0;
    if (base < 0 || base == 1 || base > 36) return otherwise;
    if (parse_int(input.text(), static_cast<int>(base), value)) return value;
    if (!parse_float(input.text(), real)) return otherwise;
  } else if (input.is_float()) {
    real = input.number();
  } else {
    return otherwise;
  }
  if (std::isnan(real) || std::isinf(real)) return otherwise;
  if (std::fabs(real) >= 1e38) throw Fault{"an integer does not fit 128 bits", base::ErrorCode::too_large};
  return static_cast<Int>(real);
}

Value to_float(Interpreter& in, const Value& input, CallArgs& call) {
  const Arguments args("float", {"default"}, call);
  if (input.is_undefined()) throw Fault{input.undefined_message()};
  if (input.is_number()) return input.number();
  double value = 0;
  if (input.is_string()) in.budget().work(input.text().size());
  if (input.is_string() && parse_float(input.text(), value)) return value;
  return args.has(0) ? args[0] : Value(0.0);
}

Value absolute(Interpreter&, const Value& input, CallArgs& call) {
  const Arguments args("abs", {}, call);
  if (input.is_undefined()) throw Fault{input.undefined_message()};
  if (!input.is_number()) throw Fault{"bad operand type for abs(): '" + std::string(input.type_name()) + "'"};
  if (input.is_float()) return std::fabs(input.number());
  return input.integral() < 0 ? negate(input) : positive(input);
}

// Python's round(): halves go to the even neighbour of the exact decimal value.
double round_to(double value, Int digits) {
  if (!std::isfinite(value) || digits > 300) return value;
  if (digits < -300) return 0.0;
  std::string pattern(512, '\0');
  if (digits >= 0) {
    const int length = std::snprintf(pattern.data(), pattern.size(), "%.*f", static_cast<int>(digits), value);
    if (length > 0 && static_cast<size_t>(length) < pattern.size()) {
      double rounded = value;
      pattern.resize(static_cast<size_t>(length));
      const bool negative = std::signbit(value);
      if (parse_float(negative ? std::string_view(pattern).substr(1) : std::string_view(pattern), rounded)) {
        return negative ? -rounded : rounded;
      }
    }
    return value;
  }
  const double scale = std::pow(10.0, static_cast<double>(-digits));
  return std::nearbyint(value / scale) * scale;
}

Value round_filter(Interpreter&, const Value& input, CallArgs& call) {
  const Arguments args("round", {"precision", "method"}, call);
  const Int precision = args.integer(0, 0);
  const std::string method = args.has(1) ? args.text(1) : "common";
  if (input.is_undefined()) throw Fault{input.undefined_message()};
  if (!input.is_number()) throw Fault{"type " + std::string(input.type_name()) + " doesn't define __round__ method"};
  if (method != "common" && method != "ceil" && method != "floor") {
    throw Fault{"method must be common, ceil or floor"};
  }
  if (method == "common") {
    if (input.is_float()) return round_to(input.number(), precision);
    if (precision >= 0 || precision < -30) return precision >= 0 ? input.integral() : Int{0};
    Int scale = 1;
    for (Int i = precision; i < 0; ++i)
      scale *= 10;
    const Int value = input.integral();
    Int lower = value / scale * scale;
    if (lower > value) lower -= scale;
    const Int above = value - lower;
    const bool up = above * 2 > scale || (above * 2 == scale && (lower / scale) % 2 != 0);
    return up ? lower + scale : lower;
  }
  if (precision > 300 || precision < -300) throw Fault{"the precision is out of range"};
  const double scale = std::pow(10.0, static_cast<double>(precision));
  const double scaled = input.number() * scale;
  return (method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale;
}

Value format_filter(Interpreter& in, const Value& input, CallArgs& args) {
  if (!args.positional.empty() && !args.keyword.empty()) {
    throw Fault{"can't handle positional and keyword arguments at the same time"};
  }
  Value arguments;
  if (args.keyword.empty()) {
    arguments = make_seq(&in.budget(), std::move(args.positional), Seq::Flavor::tuple);
  } else {
    std::vector<Dict::Entry> entries;
    for (auto& [name, value] : args.keyword)
      entries.emplace_back(make_string(&in.budget(), name), value);
    arguments = make_dict(&in.budget(), std::move(entries));
  }
  return format_percent(in, text_of(in, input), arguments);
}

Value word_count(Interpreter& in, const Value& input, CallArgs& call) {
  const Arguments args("wordcount", {}, call);
  const std::string text = str_of(in, input);
  in.budget().work(text.size() * 4);
  Int count = 0;
  bool inside = false;
  for (size_t i = 0; i < text.size(); i += character_bytes(text[i])) {
    const bool word = is_word_character(base::utf8::decode(std::string_view(text).substr(i)).code_point);
    if (word && !inside) ++count;
    inside = word;
  }
  return Value(count);
}

Value truncate(Interpreter& in, const Value& input, CallArgs& call) {
  const Arguments args("truncate", {"length", "killwords", "end", "leeway"}, call);
  const Int length = args.integer(0, 255);
  const std::string end = args.has(2) ? args.text(2) : "...";
  const Int leeway = args.has_value(3) ? args.integer(3, 5) : 5;
  const auto end_length = static_cast<Int>(code_points(end));
  if (length < end_length) throw Fault{"truncate: the length must be at least that of its end mark"};
  if (leeway < 0) throw Fault{"truncate: leeway must not be negative"};
  if (static_cast<Int>(length_of(input)) <= length + leeway) return input;
  if (!input.is_string()) throw Fault{"truncate needs a string, not " + std::string(input.type_name())};
  const std::string& text = input.text();
  std::string_view kept =
      std::string_view(text).substr(0, byte_position(text, static_cast<size_t>(length - end_length)));
  if (!args.truth(1, false)) {
    if (const size_t space = kept.rfind(' '); space != std::string_view::npos) kept = kept.substr(0, space);
  }
  TextBuilder out(&in.budget());
  out.add(kept);
  out.add(end);
  return out.finish(input.is_markup());
}

void quote_url(TextBuilder& out, std::string_view text, bool query) {
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       std::string_view("_.-~").find(c) != std::string_view::npos || (c == '/' && !query);
    if (plain) {
      out.add(c);
    } else if (c == ' ' && query) {
      out.add('+');
    } else {
      const auto byte = static_cast<unsigned char>(c);
      out.add('%');
      out.add("0123456789ABCDEF"[byte >> 4U]);
      out.add("0123456789ABCDEF"[byte & 15U]);
    }
  }
}

Value url_encode(Interpreter& in, const Value& input, CallArgs& call) {
  const Arguments args("urlencode", {}, call);
  TextBuilder out(&in.budget());
  if (input.is_string() || !iterable(input)) {
    quote_url(out, str_of(in, input), false);
    return out.finish();
  }
  CallArgs none;
  const Value pairs = input.is_dict() ? find_collection_method(input, "items")(in, input, none) : input;
  Cursor cursor(in, pairs);
  bool first = true;
  for (Value pair; cursor.next(pair); first = false) {
    const std::vector<Value> parts = collect(in, pair);
    if (parts.size() != 2) throw Fault{"urlencode needs a string, a mapping or pairs"};
    if (!first) out.add('&');
    quote_url(out, str_of(in, parts[0]), true);
    out.add('=');
    quote_url(out, str_of(in, parts[1]), true);
  }
  return out.finish();
}

Value file_size(Interpreter& in, const Value& input, CallArgs& call) {
  const Arguments args("filesizeformat", {"binary"}, call);
  CallArgs none;
  const double bytes = to_float(in, input, none).number();
  const bool binary = args.truth(0, false);
  const double base = binary ? 1024 : 1000;
  if (bytes == 1) return make_string(&in.budget(), "1 Byte");
  if (bytes < base) return make_string(&in.budget(), format_int(static_cast<Int>(bytes)) + " Bytes");
  double unit = base;
  std::string prefix;
  for (const char letter : std::string_view("kMGTPEZY")) {
    prefix = binary ? std::string(1, letter == 'k' ? 'K' : letter) + "iB" : std::string(1, letter) + "B";
    unit *= base;
    if (bytes < unit) break;
  }
  return make_string(&in.budget(), format_value(in, Value(base * bytes / unit), ".1f") + " " + prefix);
}

}  // namespace

Filter find_filter(std::string_view name) {
  static const std::unordered_map<std::string_view, Filter> filters = [] {
    std::unordered_map<std::string_view, Filter> table = {
        {"abs", absolute},
        {"capitalize", case_filter<capitalized>},
        {"center", center},
        {"d", default_value},
        {"default", default_value},
        {"e", escape},
        {"escape", escape},
        {"filesizeformat", file_size},
        {"float", to_float},
        {"forceescape", force_escape},
        {"format", format_filter},
        {"indent", indent},
        {"int", to_int},
        {"lower", case_filter<lower_case>},
        {"replace", replace},
        {"round", round_filter},
        {"safe", safe},
        {"string", string},
        {"title", case_filter<title_words>},
        {"tojson", to_json},
        {"trim", trim},
        {"truncate", truncate},
        {"upper", case_filter<upper_case>},
        {"urlencode", url_encode},
        {"wordcount", word_count},
    };
    add_sequence_filters(table);
    return table;
  }();
  const auto found = filters.find(name);
  return found == filters.end() ? nullptr : found->second;
}

}  // namespace tidemill::text::jinja
