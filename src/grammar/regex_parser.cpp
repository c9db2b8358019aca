#include "grammar/regex_parser.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "base/utf8.hpp"

namespace tidemill::grammar {

using base::Error;
using base::ErrorCode;

namespace {

RegexNode of_set(CodePointSet set) {
  RegexNode node;
  node.kind = RegexNode::Kind::characters;
  node.set = std::move(set);
  return node;
}

RegexNode of_choice(std::vector<RegexNode> parts) {
  if (parts.size() == 1) return std::move(parts[0]);
  RegexNode node;
  node.kind = RegexNode::Kind::choice;
  node.parts = std::move(parts);
  return node;
}

bool is_digit(char32_t c) {
  return c >= '0' && c <= '9';
}

bool is_alphanumeric(char32_t c) {
  return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

int hex_value(char32_t c) {
  if (is_digit(c)) return static_cast<int>(c - '0');
  if (c >= 'a' && c <= 'f') return static_cast<int>(c - 'a') + 10;
  if (c >= 'A' && c <= 'F') return static_cast<int>(c - 'A') + 10;
  return -1;
}

}  // namespace

RegexParser::RegexParser(std::string_view pattern, const GrammarLimits& limits, size_t before)
    : limits_(limits), source_(pattern), before_(before) {}

Error RegexParser::error(ErrorCode code, size_t at, std::string_view what) const {
  return {code, fmt::format("regular expression, position {}: {}", before_ + at + 1, what)};
}

bool RegexParser::take(char32_t c) {
  if (peek() != c) return false;
  ++at_;
  return true;
}

bool RegexParser::take(std::string_view ascii) {
  for (size_t i = 0; i < ascii.size(); ++i)
    if (peek(i) != static_cast<char32_t>(ascii[i])) return false;
  at_ += ascii.size();
  return true;
}

base::Result<Regex> RegexParser::parse() {
  if (source_.size() > limits_.max_source_bytes)
    return Error(ErrorCode::too_large, fmt::format("a regular expression of {} bytes is over the limit of {}",
                                                   source_.size(), limits_.max_source_bytes));
  if (!base::utf8::is_valid(source_)) return Error(ErrorCode::invalid_argument, "the regular expression is not UTF-8");
  for (std::string_view rest = source_; !rest.empty();) {
    const base::utf8::Decoded decoded = base::utf8::decode(rest);
    text_.push_back(decoded.code_point);
    rest.remove_prefix(decoded.length);
  }
  TM_TRY(std::vector<Alternative> parsed, alternatives(0));
  if (peek() != kEnd) return invalid(at_, "')' without '('");
  Regex regex;
  for (Alternative& one : parsed)
    regex.alternatives.push_back(std::move(one.regex));
  return regex;
}

base::Result<std::vector<RegexParser::Alternative>> RegexParser::alternatives(int depth) {
  if (depth > limits_.max_depth)
    return error(ErrorCode::too_large, at_, fmt::format("groups nest deeper than {}", limits_.max_depth));
  std::vector<Alternative> all;
  do {
    TM_TRY(std::vector<Alternative> some, alternative(depth));
    std::move(some.begin(), some.end(), std::back_inserter(all));
  } while (take(U'|'));
  return all;
}

// Usually one; those of a group where the alternative is nothing but that group.
base::Result<std::vector<RegexParser::Alternative>> RegexParser::alternative(int depth) {
  Alternative result;
  std::vector<RegexNode>& parts = result.regex.root.parts;
  std::vector<Alternative> group;  // of the last atom, if that was a group with anchors
  for (;;) {
    const char32_t next = peek();
    if (next == kEnd || next == '|' || next == ')') break;
    if (!group.empty()) return unsupported(group[0].anchor, "an anchor inside of a group that is not the whole");
    const size_t start = at_;
    if (next == '^') {
      if (!parts.empty()) return unsupported(start, "'^' behind something");
      result.regex.anchored_start = true;
      result.anchor = at_++;
      continue;
    }
    if (next == '$') {
      result.regex.anchored_end = true;
      result.anchor = at_++;
      continue;
    }
    if (result.regex.anchored_end) return unsupported(result.anchor, "'$' in front of something");
    TM_TRY(RegexNode node, atom(depth, &group));
    bool is_quantified = false;
    TM_TRY(node, quantified(std::move(node), is_quantified));
    if (!group.empty() && (is_quantified || !parts.empty() || result.is_anchored()))
      return unsupported(group[0].anchor, "an anchor inside of a group that is not the whole");
    parts.push_back(std::move(node));
  }
  if (!group.empty()) {
    if (result.is_anchored()) return unsupported(group[0].anchor, "an anchor inside of a group that is not the whole");
    return group;
  }
  if (parts.size() == 1) {
    RegexNode only = std::move(parts[0]);
    result.regex.root = std::move(only);
  }
  std::vector<Alternative> one;
  one.push_back(std::move(result));
  return one;
}

// `whole` becomes the group's alternatives if any of them is anchored.
base::Result<RegexNode> RegexParser::group(int depth, std::vector<Alternative>* whole) {
  const size_t start = at_ - 1;
  if (take("?=") || take("?!")) {
    return unsupported(start,
                       "lookahead is not supported here, only at the beginning of a pattern, behind '^' and with all "
                       "alternatives in groups, and not in patternProperties");
  }
  if (take("?<=") || take("?<!")) return unsupported(start, "lookbehind is not supported");
  if (take("?<") || take("?P<")) {
    while (peek() != '>' && peek() != kEnd && peek() != ')')
      ++at_;
    if (!take(U'>')) return invalid(start, "the name of a group ends with '>'");
  } else if (peek() == '?' && !take("?:")) {
    return unsupported(start, "groups with flags are not supported; there are (...), (?:...) and (?<name>...)");
  }
  TM_TRY(std::vector<Alternative> inner, alternatives(depth + 1));
  if (!take(U')')) return invalid(start, "'(' without ')'");
  if (std::any_of(inner.begin(), inner.end(), [](const Alternative& one) { return one.is_anchored(); })) {
    const auto anchored =
        std::find_if(inner.begin(), inner.end(), [](const Alternative& one) { return one.is_anchored(); });
    inner[0].anchor = anchored->anchor;
    *whole = std::move(inner);
    return RegexNode{};
  }
  std::vector<RegexNode> parts;
  parts.reserve(inner.size());
  for (Alternative& one : inner)
    parts.push_back(std::move(one.regex.root));
  return of_choice(std::move(parts));
}

base::Result<RegexNode> RegexParser::atom(int depth, std::vector<Alternative>* whole) {
  const size_t start = at_;
  const char32_t c = text_[at_++];
  switch (c) {
    case '(':
      return group(depth, whole);
    case '[': {
      TM_TRY(CodePointSet set, character_class());
      return of_set(std::move(set));
    }
    case '.':
      return of_set(CodePointSet::line_ends().complement());
    case '\\': {
      TM_TRY(Escape escaped, escape(false));
      return of_set(std::move(escaped.set));
    }
    case '*':
    case '+':
    case '?':
      return invalid(start, fmt::format("'{}' has nothing to repeat", static_cast<char>(c)));
    case '{': {
      size_t least = 0;
      std::optional<size_t> most;
      --at_;
      TM_TRY(const bool is_count, braces(least, most));
      if (is_count) return invalid(start, "'{' has nothing to repeat");
      at_ = start + 1;
      return of_set(CodePointSet::of(c));
    }
    default:
      return of_set(CodePointSet::of(c));
  }
}

base::Result<RegexNode> RegexParser::quantified(RegexNode node, bool& is_quantified) {
  size_t least = 0;
  std::optional<size_t> most;
  if (take(U'*')) {
  } else if (take(U'+')) {
    least = 1;
  } else if (take(U'?')) {
    most = 1;
  } else {
    TM_TRY(const bool is_count, braces(least, most));
    if (!is_count) return node;
  }
  take(U'?');  // lazy: the same language
  const char32_t next = peek();
  if (next == '*' || next == '+' || next == '?') return invalid(at_, "a quantifier behind a quantifier");
  is_quantified = true;
  RegexNode repeat;
  repeat.kind = RegexNode::Kind::repeat;
  repeat.least = least;
  repeat.most = most;
  repeat.parts.push_back(std::move(node));
  return repeat;
}

// {m} {m,} {m,n}. False, and nothing is taken, if what follows is not of this form.
base::Result<bool> RegexParser::braces(size_t& least, std::optional<size_t>& most) {
  const size_t start = at_;
  if (!take(U'{') || !is_digit(peek())) {
    at_ = start;
    return false;
  }
  TM_TRY(least, number());
  most = least;
  if (take(U',')) {
    most.reset();
    if (is_digit(peek())) {
      TM_TRY(most, number());
    }
  }
  if (!take(U'}')) {
    at_ = start;
    return false;
  }
  if (most && *most < least) return invalid(start, fmt::format("{{{},{}}} counts down", least, *most));
  return true;
}

base::Result<size_t> RegexParser::number() {
  const size_t start = at_;
  size_t value = 0;
  for (; is_digit(peek()); ++at_) {
    value = value * 10 + (peek() - '0');
    if (value > limits_.max_repeat)
      return error(ErrorCode::too_large, start,
                   fmt::format("a repetition is over the limit of {} times", limits_.max_repeat));
  }
  return value;
}

base::Result<CodePointSet> RegexParser::character_class() {
  const size_t start = at_ - 1;
  const bool negated = take(U'^');
  std::vector<CodePointRange> ranges;
  while (!take(U']')) {
    if (peek() == kEnd) return invalid(start, "'[' without ']'");
    const size_t from = at_;
    TM_TRY(const Escape first, class_atom());
    const bool is_range = peek() == '-' && peek(1) != ']' && peek(1) != kEnd;
    if (!is_range) {
      ranges.insert(ranges.end(), first.set.ranges().begin(), first.set.ranges().end());
      continue;
    }
    ++at_;
    TM_TRY(const Escape last, class_atom());
    if (first.is_class || last.is_class) return invalid(from, "a class such as \\d is no end of a range");
    if (first.set.is_empty() || last.set.is_empty()) return invalid(from, "a surrogate is no end of a range");
    const CodePointRange range{first.set.ranges()[0].first, last.set.ranges()[0].first};
    if (range.first > range.second) return invalid(from, "a range whose end comes before its start");
    ranges.push_back(range);
  }
  const CodePointSet set(std::move(ranges));
  return negated ? set.complement() : set;
}

base::Result<RegexParser::Escape> RegexParser::class_atom() {
  const char32_t c = text_[at_++];
  if (c == '\\') return escape(true);
  return Escape{CodePointSet::of(c)};
}

base::Result<RegexParser::Escape> RegexParser::escape(bool in_class) {
  const size_t start = at_ - 1;
  if (peek() == kEnd) return invalid(start, "'\\' at the end");
  const char32_t c = text_[at_++];
  const auto one = [](char32_t value) { return Escape{CodePointSet::of(value)}; };
  switch (c) {
    case 'd':
      return Escape{CodePointSet::digits(), true};
    case 'D':
      return Escape{CodePointSet::digits().complement(), true};
    case 'w':
      return Escape{CodePointSet::word(), true};
    case 'W':
      return Escape{CodePointSet::word().complement(), true};
    case 's':
      return Escape{CodePointSet::white_space(), true};
    case 'S':
      return Escape{CodePointSet::white_space().complement(), true};
    case 'n':
      return one('\n');
    case 't':
      return one('\t');
    case 'r':
      return one('\r');
    case 'f':
      return one('\f');
    case 'v':
      return one('\v');
    case '0':
      if (!is_digit(peek())) return one(0);
      return unsupported(start, "octal escapes are not supported");
    case 'b':
      if (in_class) return one('\b');
      return unsupported(start, "'\\b' (word boundary) is not supported");
    case 'B':
      return unsupported(start, "'\\B' (word boundary) is not supported");
    case 'k':
      return unsupported(start, "'\\k' (back-reference) is not supported");
    case 'c': {
      const char32_t letter = peek();
      if (!is_alphanumeric(letter) || is_digit(letter)) return invalid(start, "'\\c' needs a letter");
      ++at_;
      return one(letter % 32);
    }
    case 'x': {
      TM_TRY(const char32_t value, hexadecimal(2));
      return one(value);
    }
    case 'u': {
      TM_TRY(const char32_t value, unicode_escape());
      return one(value);
    }
    case 'p':
    case 'P': {
      TM_TRY(const CodePointSet set, property());
      return Escape{c == 'p' ? set : set.complement(), true};
    }
    default:
      if (is_digit(c)) return unsupported(start, "back-references are not supported");
      if (is_alphanumeric(c)) return unsupported(start, fmt::format("no escape '\\{}' is known", static_cast<char>(c)));
      return one(c);
  }
}

base::Result<char32_t> RegexParser::hexadecimal(int digits) {
  char32_t value = 0;
  for (int i = 0; i < digits; ++i, ++at_) {
    const int digit = hex_value(peek());
    if (digit < 0) return invalid(at_, fmt::format("an escape needs {} hexadecimal digits", digits));
    value = value * 16 + static_cast<char32_t>(digit);
  }
  return value;
}

base::Result<char32_t> RegexParser::unicode_escape() {
  const size_t start = at_;
  if (take(U'{')) {
    char32_t value = 0;
    for (; hex_value(peek()) >= 0; ++at_) {
      value = value * 16 + static_cast<char32_t>(hex_value(peek()));
      if (value > CodePointSet::last_code_point) return invalid(start, "a code point past U+10FFFF");
    }
    if (at_ == start + 1 || !take(U'}')) return invalid(start, "'\\u{' needs hexadecimal digits and '}'");
    return value;
  }
  TM_TRY(const char32_t unit, hexadecimal(4));
  const size_t behind = at_;
  if (unit >= 0xD800 && unit <= 0xDBFF && take("\\u")) {
    const auto low = hexadecimal(4);
    if (low && *low >= 0xDC00 && *low <= 0xDFFF) return 0x10000 + ((unit - 0xD800) << 10U) + (*low - 0xDC00);
    at_ = behind;
  }
  return unit;  // a lone surrogate is in no text
}

base::Result<CodePointSet> RegexParser::property() {
  const size_t start = at_;
  std::string name;
  if (!take(U'{')) return invalid(start, "'\\p' needs a property in braces, as \\p{L}");
  for (; peek() != '}'; ++at_) {
    if (peek() == kEnd || name.size() > 64) return invalid(start, "'\\p{' without '}'");
    base::utf8::append(name, peek());
  }
  ++at_;
  const auto set = unicode_property(name);
  if (!set)
    return unsupported(start,
                       fmt::format("property '{}' is not supported; general categories (L, Lu, Nd, ...), Any and "
                                   "ASCII are",
                                   name));
  return *set;
}

base::Result<Regex> parse_regex(std::string_view pattern, const GrammarLimits& limits, size_t before) {
  return RegexParser(pattern, limits, before).parse();
}

}  // namespace tidemill::grammar
