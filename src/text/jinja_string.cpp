// The methods of Python's str.
#include "text/jinja_string.hpp"

#include <algorithm>
#include <cstring>
#include <unordered_map>

#include "base/utf8.hpp"
#include "text/jinja_eval.hpp"
#include "text/jinja_ops.hpp"

namespace tidemill::text::jinja {
namespace {

// A result of a method of `self`: a Markup's methods give Markup.
Value like(Interpreter& in, const Value& self, std::string_view text) {
  in.budget().expect(text.size());
  return make_string(&in.budget(), std::string(text), self.is_markup());
}

// What a Markup's method makes of a plain argument.
std::string escaped_for(Interpreter& in, const Value& self, const Value& argument) {
  const std::string text = str_of(in, argument);
  return self.is_markup() && !argument.is_markup() ? escape_html(in, text) : text;
}

bool in_set(std::string_view set, std::string_view character) {
  for (size_t i = 0; i < set.size(); i += character_bytes(set[i])) {
    if (set.substr(i, character_bytes(set[i])) == character) return true;
  }
  return false;
}

std::string_view strip_set(Interpreter& in, std::string_view text, std::string_view set, bool left, bool right) {
  while (left && !text.empty()) {
    in.budget().work(set.size() * 16);
    const size_t bytes = character_bytes(text[0]);
    if (!in_set(set, text.substr(0, bytes))) break;
    text.remove_prefix(bytes);
  }
  while (right && !text.empty()) {
    in.budget().work(set.size() * 16);
    size_t last = text.size() - 1;
    while (last > 0 && (static_cast<unsigned char>(text[last]) & 0xC0U) == 0x80U)
      --last;
    if (!in_set(set, text.substr(last))) break;
    text.remove_suffix(text.size() - last);
  }
  return text;
}

template <bool Left, bool Right>
Value strip_method(Interpreter& in, const Value& self, CallArgs& call) {
  const Arguments args("strip", {"chars"}, call);
  std::string_view text = self.text();
  if (args.has_value(0)) return like(in, self, strip_set(in, text, args.text(0), Left, Right));
  in.budget().work(text.size());
  if (Left) text = strip_left(text);
  if (Right) text = strip_right(text);
  return like(in, self, text);
}

template <std::string (*Convert)(std::string_view)>
Value case_method(Interpreter& in, const Value& self, CallArgs& call) {
  const Arguments args("case conversion", {}, call);
  in.budget().expect(self.text().size() * 3);
  in.budget().work(self.text().size() * 8);
  return make_string(&in.budget(), Convert(self.text()), self.is_markup());
}

// The part of `self` that start and end (code points, Python's slice rules) leave, as bytes [begin, end).
// False where start lies past the end.
bool narrow(const Value& self, const Arguments& args, size_t start_index, size_t& begin, size_t& end) {
  const auto length = static_cast<Int>(self.str().length);
  const auto clip = [length](Int at) { return std::clamp<Int>(at < 0 ? at + length : at, 0, length); };
  Int start = 0;
  Int stop = length;
  if (args.has_value(start_index)) {
    start = args.integer(start_index, 0);
    if (start > length) return false;
    start = clip(start);
  }
  if (args.has_value(start_index + 1)) stop = clip(args.integer(start_index + 1, 0));
  if (start > stop) return false;
  begin = byte_position(self.text(), static_cast<size_t>(start));
  end = byte_position(self.text(), static_cast<size_t>(stop));
  return true;
}

// The code-point index of the first or last occurrence, or -1.
template <bool Last>
Int locate(Interpreter& in, const Value& self, CallArgs& call) {
  const Arguments args("find", {"sub", "start", "end"}, call, 1);
  size_t begin = 0;
  size_t end = 0;
  const std::string& needle = args.text(0);
  in.budget().work(self.text().size());
  if (!narrow(self, args, 1, begin, end)) return -1;
  const std::string_view region = std::string_view(self.text()).substr(0, end);
  size_t found = find_text(in, region, needle, begin);
  if (found == std::string_view::npos) return -1;
  if (Last) {
    if (needle.empty()) {
      found = end;
    } else {
      for (size_t next = found; next != std::string_view::npos; next = find_text(in, region, needle, next + 1)) {
        found = next;
      }
    }
  }
  return static_cast<Int>(code_points(region.substr(0, found)));
}

template <bool Last>
Value find_method(Interpreter& in, const Value& self, CallArgs& call) {
  return Value(locate<Last>(in, self, call));
}

template <bool Last>
Value index_method(Interpreter& in, const Value& self, CallArgs& call) {
  const Int found = locate<Last>(in, self, call);
  if (found < 0) throw Fault{"substring not found"};
  return Value(found);
}

Value count_method(Interpreter& in, const Value& self, CallArgs& call) {
  const Arguments args("count", {"sub", "start", "end"}, call, 1);
  size_t begin = 0;
  size_t end = 0;
  const std::string& needle = args.text(0);
  if (!narrow(self, args, 1, begin, end)) return Value::integer(0);
  const std::string_view region = std::string_view(self.text()).substr(0, end);
  if (needle.empty()) return Value(static_cast<Int>(code_points(region.substr(begin)) + 1));
  Int count = 0;
  for (size_t at = find_text(in, region, needle, begin); at != std::string_view::npos;
       at = find_text(in, region, needle, at + needle.size())) {
    ++count;
  }
  return Value(count);
}

template <bool End>
Value affix_method(Interpreter& in, const Value& self, CallArgs& call) {
  const Arguments args(End ? "endswith" : "startswith", {"affix", "start", "end"}, call, 1);
  size_t begin = 0;
  size_t end = 0;
  if (args.has(1) || args.has(2)) {
    if (!narrow(self, args, 1, begin, end)) return Value(false);
  } else {
    end = self.text().size();
  }
  const std::string_view region = std::string_view(self.text()).substr(begin, end - begin);
  const auto matches = [&](const Value& affix) {
    in.budget().step();
    if (affix.is_undefined()) throw Fault{affix.undefined_message()};
    if (!affix.is_string()) {
      throw Fault{std::string(End ? "endswith" : "startswith") + " first arg must be str or a tuple of str, not " +
                  std::string(affix.type_name())};
    }
    return End ? region.ends_with(affix.text()) : region.starts_with(affix.text());
  };
  if (!args[0].is_tuple()) return Value(matches(args[0]));
  const auto& affixes = args[0].seq().items;
  return Value(std::any_of(affixes.begin(), affixes.end(), matches));
}

Value pieces_to_list(Interpreter& in, const Value& self, const std::vector<std::string_view>& pieces) {
  in.budget().expect(self.text().size() + pieces.size() * (sizeof(Str) + sizeof(Value)));
  std::vector<Value> items;
  items.reserve(pieces.size());
  for (const std::string_view piece : pieces)
    items.push_back(like(in, self, piece));
  return make_seq(&in.budget(), std::move(items));
}

std::vector<std::string_view> split_white(Interpreter& in, std::string_view text, Int limit) {
  std::vector<std::string_view> pieces;
  Charge held(&in.budget(), 0);
  for (text = strip_left(text); !text.empty(); text = strip_left(text)) {
    in.budget().step();
    held.grow_to((pieces.size() + 1) * sizeof(std::string_view));
    if (limit >= 0 && static_cast<Int>(pieces.size()) >= limit) {
      pieces.push_back(text);
      break;
    }
    size_t end = 0;
    while (end < text.size() && white_space_at(text, end) == 0)
      end += character_bytes(text[end]);
    pieces.push_back(text.substr(0, end));
    text.remove_prefix(end);
  }
  return pieces;
}

std::vector<std::string_view> split_white_right(Interpreter& in, std::string_view text, Int limit) {
  std::vector<std::string_view> pieces;
  Charge held(&in.budget(), 0);
  for (text = strip_right(text); !text.empty(); text = strip_right(text)) {
    in.budget().step();
    held.grow_to((pieces.size() + 1) * sizeof(std::string_view));
    if (limit >= 0 && static_cast<Int>(pieces.size()) >= limit) {
      pieces.push_back(text);
      break;
    }
    size_t begin = text.size();
    while (begin > 0) {
      size_t last = begin - 1;
      while (last > 0 && (static_cast<unsigned char>(text[last]) & 0xC0U) == 0x80U)
        --last;
      if (white_space_at(text, last) != 0) break;
      begin = last;
    }
    pieces.push_back(text.substr(begin));
    text.remove_suffix(text.size() - begin);
  }
  std::reverse(pieces.begin(), pieces.end());
  return pieces;
}

// Byte positions of non-overlapping occurrences from the left.
std::vector<size_t> occurrences(Interpreter& in, std::string_view text, std::string_view needle, Int limit) {
  std::vector<size_t> found;
  Charge held(&in.budget(), 0);
  for (size_t at = find_text(in, text, needle, 0); at != std::string_view::npos;
       at = find_text(in, text, needle, at + needle.size())) {
    if (limit >= 0 && static_cast<Int>(found.size()) >= limit) break;
    held.grow_to((found.size() + 1) * sizeof(size_t));
    found.push_back(at);
  }
  return found;
}

Value split_method(Interpreter& in, const Value& self, CallArgs& call) {
  const Arguments args("split", {"sep", "maxsplit"}, call);
  const Int limit = args.integer(1, -1);
  const std::string_view text = self.text();
  in.budget().work(text.size());
  if (!args.has_value(0)) return pieces_to_list(in, self, split_white(in, text, limit));
  const std::string& separator = args.text(0);
  if (separator.empty()) throw Fault{"empty separator"};
  std::vector<std::string_view> pieces;
  size_t begin = 0;
  for (const size_t at : occurrences(in, text, separator, limit)) {
    pieces.push_back(text.substr(begin, at - begin));
    begin = at + separator.size();
  }
  pieces.push_back(text.substr(begin));
  return pieces_to_list(in, self, pieces);
}

Value rsplit_method(Interpreter& in, const Value& self, CallArgs& call) {
  const Arguments args("rsplit", {"sep", "maxsplit"}, call);
  const Int limit = args.integer(1, -1);
  const std::string_view text = self.text();
  in.budget().work(text.size());
  if (!args.has_value(0)) return pieces_to_list(in, self, split_white_right(in, text, limit));
  const std::string& separator = args.text(0);
  if (separator.empty()) throw Fault{"empty separator"};
  std::vector<std::string_view> pieces;
  size_t end = text.size();
  // Occurrences are taken from the right, where overlapping ones may differ from those found from the left.
  while (limit < 0 || static_cast<Int>(pieces.size()) < limit) {
    const size_t at = text.substr(0, end).rfind(separator);
    in.budget().work((at == std::string_view::npos ? end : end - at) * std::min<size_t>(separator.size(), 4096));
    if (at == std::string_view::npos) break;
    pieces.push_back(text.substr(at + separator.size(), end - at - separator.size()));
    end = at;
  }
  pieces.push_back(text.substr(0, end));
  std::reverse(pieces.begin(), pieces.end());
  return pieces_to_list(in, self, pieces);
}

Value splitlines_method(Interpreter& in, const Value& self, CallArgs& call) {
  const Arguments args("splitlines", {"keepends"}, call);
  in.budget().expect(self.text().size() * 16);
  in.budget().work(self.text().size());
  return pieces_to_list(in, self, split_lines(self.text(), args.truth(0, false)));
}

template <bool Last>
Value partition_method(Interpreter& in, const Value& self, CallArgs& call) {
  const Arguments args("partition", {"sep"}, call, 1);
  const std::string& separator = args.text(0);
  if (separator.empty()) throw Fault{"empty separator"};
  const std::string_view text = self.text();
  size_t at = find_text(in, text, separator, 0);
  if (Last && at != std::string_view::npos) {
    for (size_t next = at; next != std::string_view::npos; next = find_text(in, text, separator, next + 1))
      at = next;
  }
  std::vector<Value> parts;
  if (at != std::string_view::npos) {
    parts = {like(in, self, text.substr(0, at)), like(in, self, separator),
             like(in, self, text.substr(at + separator.size()))};
  } else if (Last) {
    parts = {like(in, self, ""), like(in, self, ""), self};
  } else {
    parts = {self, like(in, self, ""), like(in, self, "")};
  }
  return make_seq(&in.budget(), std::move(parts), Seq::Flavor::tuple);
}

Value replace_method(Interpreter& in, const Value& self, CallArgs& call) {
  const Arguments args("replace", {"old", "new", "count"}, call, 2);
  (void)args.text(1);
  std::string text = replace_text(in, self.text(), args.text(0), escaped_for(in, self, args[1]), args.integer(2, -1));
  return make_string(&in.budget(), std::move(text), self.is_markup());
}

Value join_method(Interpreter& in, const Value& self, CallArgs& call) {
  const Arguments args("join", {"iterable"}, call, 1);
  TextBuilder out(&in.budget());
  Cursor cursor(in, args[0]);
  Value item;
  for (size_t i = 0; cursor.next(item); ++i) {
    if (!item.is_string()) {
      throw Fault{"sequence item " + std::to_string(i) + ": expected str instance, " + std::string(item.type_name()) +
                  " found"};
    }
    if (i > 0) out.add(self.text());
    out.add(self.is_markup() ? escaped_for(in, self, item) : item.text());
  }
  return out.finish(self.is_markup());
}

// How much to add on each side: -1 left-justifies, 1 right-justifies, 0 centres.
template <int Side>
Value justify_method(Interpreter& in, const Value& self, CallArgs& call) {
  const Arguments args("justify", {"width", "fillchar"}, call, 1);
  const Int width = args.integer(0, 0);
  const std::string fill = args.has(1) ? args.text(1) : " ";
  if (code_points(fill) != 1) throw Fault{"The fill character must be exactly one character long"};
  const auto length = static_cast<Int>(self.str().length);
  if (width <= length) return self;
  const Int missing = width - length;
  if (missing > static_cast<Int>(SIZE_MAX / 16)) in.budget().expect(SIZE_MAX);
  in.budget().expect(static_cast<size_t>(missing) * fill.size());
  const Int left = Side < 0 ? 0 : Side > 0 ? missing : missing / 2 + (missing & width & 1);
  TextBuilder out(&in.budget());
  for (Int i = 0; i < left; ++i)
    out.add(fill);
  out.add(self.text());
  for (Int i = left; i < missing; ++i)
    out.add(fill);
  return out.finish(self.is_markup());
}

Value zfill_method(Interpreter& in, const Value& self, CallArgs& call) {
  const Arguments args("zfill", {"width"}, call, 1);
  const Int missing = args.integer(0, 0) - static_cast<Int>(self.str().length);
  if (missing <= 0) return self;
  if (missing > static_cast<Int>(SIZE_MAX / 16)) in.budget().expect(SIZE_MAX);
  const std::string_view text = self.text();
  const bool sign = !text.empty() && (text[0] == '-' || text[0] == '+');
  TextBuilder out(&in.budget());
  out.add(text.substr(0, sign ? 1 : 0));
  out.add(static_cast<size_t>(missing), '0');
  out.add(text.substr(sign ? 1 : 0));
  return out.finish(self.is_markup());
}

template <bool Suffix>
Value remove_method(Interpreter& in, const Value& self, CallArgs& call) {
  const Arguments args(Suffix ? "removesuffix" : "removeprefix", {"affix"}, call, 1);
  std::string_view text = self.text();
  const std::string& affix = args.text(0);
  if (Suffix && text.ends_with(affix)) text.remove_suffix(affix.size());
  if (!Suffix && text.starts_with(affix)) text.remove_prefix(affix.size());
  return like(in, self, text);
}

Value expandtabs_method(Interpreter& in, const Value& self, CallArgs& call) {
  const Arguments args("expandtabs", {"tabsize"}, call);
  const Int size = args.integer(0, 8);
  if (size > static_cast<Int>(SIZE_MAX / 16)) in.budget().expect(SIZE_MAX);
  TextBuilder out(&in.budget());
  Int column = 0;
  for (const char c : self.text()) {
    if (c == '\t') {
      const Int spaces = size <= 0 ? 0 : size - column % size;
      out.add(static_cast<size_t>(spaces), ' ');
      column += spaces;
    } else {
      out.add(c);
      if (c == '\n' || c == '\r') {
        column = 0;
      } else if ((static_cast<unsigned char>(c) & 0xC0U) != 0x80U) {
        ++column;
      }
    }
  }
  return out.finish(self.is_markup());
}

template <char const* Name>
Value predicate_method(Interpreter& in, const Value& self, CallArgs& call) {
  const Arguments args(Name, {}, call);
  in.budget().work(self.text().size() * 8);
  return Value(is_all(Name, self.text()));
}

Value format_method(Interpreter& in, const Value& self, CallArgs& call) {
  return format_braces(in, self, call);
}

Value format_map_method(Interpreter& in, const Value& self, CallArgs& call) {
  const Arguments args("format_map", {"mapping"}, call, 1);
  CallArgs named;
  if (!args[0].is_dict()) throw Fault{"format_map() needs a mapping"};
  for (const auto& [key, value] : args[0].dict().entries()) {
    if (key.is_string()) named.keyword.emplace_back(key.text(), value);
  }
  return format_braces(in, self, named);
}

template <char const* Name>
Value unsupported_method(Interpreter&, const Value&, CallArgs&) {
  throw Fault{std::string("the method str.") + Name + " is not supported in chat templates",
              base::ErrorCode::unsupported};
}

constexpr char isalnum_name[] = "isalnum", isalpha_name[] = "isalpha", isascii_name[] = "isascii",
               isdecimal_name[] = "isdecimal", isdigit_name[] = "isdigit", islower_name[] = "islower",
               isnumeric_name[] = "isnumeric", isspace_name[] = "isspace", istitle_name[] = "istitle",
               isupper_name[] = "isupper", encode_name[] = "encode", translate_name[] = "translate",
               maketrans_name[] = "maketrans", isidentifier_name[] = "isidentifier", isprintable_name[] = "isprintable";

}  // namespace

Native find_string_method(std::string_view name) {
  static const std::unordered_map<std::string_view, Native> methods = {
      {"strip", strip_method<true, true>},
      {"lstrip", strip_method<true, false>},
      {"rstrip", strip_method<false, true>},
      {"upper", case_method<upper_case>},
      {"lower", case_method<lower_case>},
      {"casefold", case_method<folded_case>},
      {"title", case_method<title_case>},
      {"capitalize", case_method<capitalized>},
      {"swapcase", case_method<swapped_case>},
      {"find", find_method<false>},
      {"rfind", find_method<true>},
      {"index", index_method<false>},
      {"rindex", index_method<true>},
      {"count", count_method},
      {"startswith", affix_method<false>},
      {"endswith", affix_method<true>},
      {"split", split_method},
      {"rsplit", rsplit_method},
      {"splitlines", splitlines_method},
      {"partition", partition_method<false>},
      {"rpartition", partition_method<true>},
      {"replace", replace_method},
      {"join", join_method},
      {"center", justify_method<0>},
      {"ljust", justify_method<-1>},
      {"rjust", justify_method<1>},
      {"zfill", zfill_method},
      {"removeprefix", remove_method<false>},
      {"removesuffix", remove_method<true>},
      {"expandtabs", expandtabs_method},
      {"format", format_method},
      {"format_map", format_map_method},
      {"isalnum", predicate_method<isalnum_name>},
      {"isalpha", predicate_method<isalpha_name>},
      {"isascii", predicate_method<isascii_name>},
      {"isdecimal", predicate_method<isdecimal_name>},
      {"isdigit", predicate_method<isdigit_name>},
      {"islower", predicate_method<islower_name>},
      {"isnumeric", predicate_method<isnumeric_name>},
      {"isspace", predicate_method<isspace_name>},
      {"istitle", predicate_method<istitle_name>},
      {"isupper", predicate_method<isupper_name>},
      {"encode", unsupported_method<encode_name>},
      {"translate", unsupported_method<translate_name>},
      {"maketrans", unsupported_method<maketrans_name>},
      {"isidentifier", unsupported_method<isidentifier_name>},
      {"isprintable", unsupported_method<isprintable_name>},
  };
  const auto found = methods.find(name);
  return found == methods.end() ? nullptr : found->second;
}

size_t find_text(Interpreter& in, std::string_view text, std::string_view needle, size_t from) {
  if (from > text.size()) return std::string_view::npos;
  if (needle.empty()) return from;
  const void* found = memmem(text.data() + from, text.size() - from, needle.data(), needle.size());
  const size_t at =
      found == nullptr ? std::string_view::npos : static_cast<size_t>(static_cast<const char*>(found) - text.data());
  in.budget().work((found == nullptr ? text.size() - from : at - from) + needle.size());
  return at;
}

std::string replace_text(Interpreter& in, std::string_view text, std::string_view from, std::string_view to,
                         Int limit) {
  TextBuilder out(&in.budget());
  Int done = 0;
  if (from.empty()) {
    size_t i = 0;
    for (; limit < 0 || done < limit; ++done) {
      out.add(to);
      if (i >= text.size()) break;
      const size_t bytes = character_bytes(text[i]);
      out.add(text.substr(i, bytes));
      i += bytes;
    }
    if (i < text.size()) out.add(text.substr(i));
    return out.take();
  }
  size_t begin = 0;
  while (limit < 0 || done < limit) {
    const size_t at = find_text(in, text, from, begin);
    if (at == std::string_view::npos) break;
    out.add(text.substr(begin, at - begin));
    out.add(to);
    begin = at + from.size();
    ++done;
  }
  out.add(text.substr(begin));
  return out.take();
}

std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends) {
  const auto break_at = [text](size_t i) -> size_t {
    const char32_t c = base::utf8::decode(text.substr(i)).code_point;
    if (c == '\r') return i + 1 < text.size() && text[i + 1] == '\n' ? 2 : 1;
    const bool breaks = (c >= 0x0A && c <= 0x0C) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
    return breaks ? character_bytes(text[i]) : 0;
  };
  std::vector<std::string_view> lines;
  size_t begin = 0;
  for (size_t i = 0; i < text.size();) {
    const size_t breaks = break_at(i);
    if (breaks == 0) {
      i += character_bytes(text[i]);
      continue;
    }
    lines.push_back(text.substr(begin, i - begin + (keep_ends ? breaks : 0)));
    i += breaks;
    begin = i;
  }
  if (begin < text.size()) lines.push_back(text.substr(begin));
  return lines;
}

}  // namespace tidemill::text::jinja
