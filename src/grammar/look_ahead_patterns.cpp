#include "grammar/look_ahead_patterns.hpp"

#include <algorithm>
#include <charconv>
#include <map>
#include <span>
#include <utility>

#include <fmt/format.h>

#include "base/utf8.hpp"
#include "grammar/named_formats.hpp"
#include "grammar/regex_parser.hpp"
#include "grammar/string_formats.hpp"

namespace tidemill::grammar {
namespace {

// ISO 8601, of zod: weeks, or the others in their order, of which there is one, the last with a fraction.
std::string zod_duration() {
  const std::string seconds = "\\d+(?:[.,]\\d+)?S";
  const std::string time = "T(?:\\d+H(?:\\d+M)?(?:" + seconds + ")?|\\d+M(?:" + seconds + ")?|" + seconds + ")";
  const std::string date = "(?:\\d+Y(?:\\d+M)?(?:\\d+D)?|\\d+M(?:\\d+D)?|\\d+D)";
  return "^P(?:\\d+W|" + date + "(?:" + time + ")?|" + time + ")$";
}

const std::map<std::string, PlainPattern, std::less<>>& plain_patterns() {
  static const auto all = [] {
    // No dot at the beginning, and no two in a row.
    const PlainPattern email{
        R"(^(?:[A-Za-z0-9_'+\-]+\.)*[A-Za-z0-9_'+\-]*[A-Za-z0-9_+\-]@(?:[A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}$)",
        ""};
    const PlainPattern hostname{std::string(format_pattern("hostname")), "hostname"};
    const PlainPattern emoji{std::string(named_format_pattern("emoji")), "emoji"};
    return std::map<std::string, PlainPattern, std::less<>>{
        {R"(^(?!\.)(?!.*\.\.)([A-Za-z0-9_'+\-\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}$)", email},
        {R"(^(?!\.)(?!.*\.\.)([a-zA-Z0-9_'+\-\.]*)[a-zA-Z0-9_+-]@([a-zA-Z0-9][a-zA-Z0-9\-]*\.)+[a-zA-Z]{2,}$)", email},
        {R"(^(?!\.)(?!.*\.\.)([a-zA-Z0-9_'+\-.]*)[a-zA-Z0-9_+-]@([a-zA-Z0-9][a-zA-Z0-9-]*\.)+[a-zA-Z]{2,}$)", email},
        {R"(^P(?:(\d+W)|(?!.*W)(?=\d|T\d)(\d+Y)?(\d+M)?(\d+D)?(T(?=\d)(\d+H)?(\d+M)?(\d+([.,]\d+)?S)?)?)$)",
         {zod_duration(), ""}},
        {R"(^(?=.{1,253}\.?$)[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[-0-9a-zA-Z]{0,61}[0-9a-zA-Z])?)*\.?$)",
         hostname},
        {R"(^(?=.{1,253}$)([a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?\.)+[a-zA-Z]{2,63}$)",
         {R"(^(?:[a-zA-Z0-9](?:[a-zA-Z0-9\-]{0,60}[a-zA-Z0-9])?\.){1,3}[a-zA-Z]{2,63}$)", ""}},
        {R"(^(?=[\s\S]*[\p{Extended_Pictographic}\p{Regional_Indicator}\u20E3])[\p{Extended_Pictographic}\p{Emoji_Component}]+$)",
         emoji},
        {R"(^(\p{Extended_Pictographic}|\p{Emoji_Component})+$)", emoji},
        {R"(^[A-Z]{2}(?!00|01|99)\d{2}[A-Z0-9]{11,30}$)",
         {R"(^[A-Z]{2}(?:0[2-9]|[1-8]\d|9[0-8])[A-Z0-9]{11,30}$)", ""}},
    };
  }();
  return all;
}

// Takes a pattern's parts from its front.
class Parts {
 public:
  explicit Parts(std::string_view rest) : rest_(rest) {}

  bool at_end() const { return rest_.empty(); }
  bool text(std::string_view wanted) {
    if (!rest_.starts_with(wanted)) return false;
    rest_.remove_prefix(wanted.size());
    return true;
  }
  bool number(size_t& value) {
    const auto [end, error] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), value);
    if (error != std::errc()) return false;
    rest_.remove_prefix(static_cast<size_t>(end - rest_.data()));
    return true;
  }

 private:
  std::string_view rest_;
};

// At least one digit: zeros, `whole` at most before the point, `places` behind it, zeros.
std::string decimal(size_t whole, size_t places) {
  const std::string front = whole == 0 ? "0+" : fmt::format(R"(0*\d{{1,{}}})", whole);
  if (places == 0) return front + R"((?:\.0*)?|0*\.0+)";
  return fmt::format(R"({0}(?:\.\d{{0,{1}}}0*)?|0*\.\d{{1,{1}}}0*)", front, places);
}

// As pydantic writes a Decimal of `max_digits`, with `decimal_places` or without. The digits' bound looks ahead from
// within a group.
std::optional<std::string> pydantic_decimal(std::string_view pattern) {
  constexpr size_t most_places = 38;  // where any number of the digits may be places
  Parts parts(pattern);
  size_t whole = 0;
  size_t characters = 0;  // the digits and the point
  if (!parts.text(R"(^(?!^[-+.]*$)[+-]?0*(?:\d{0,)") || !parts.number(whole) || !parts.text(R"(}|(?=[\d.]{1,)") ||
      !parts.number(characters) || characters == 0 || !parts.text("}0*$)")) {
    return std::nullopt;
  }
  const size_t digits = characters - 1;
  if (whole > digits) return std::nullopt;
  if (parts.text(R"(\d*\.\d*0*$))")) {
    if (!parts.at_end() || whole != digits) return std::nullopt;
    std::string ways = decimal(digits, 0);
    for (size_t places = 1; places <= std::min(digits, most_places); ++places)
      ways += "|" + decimal(digits - places, places);
    return "^[+-]?(?:" + ways + ")$";
  }
  size_t again = 0;
  size_t places = 0;
  if (!parts.text(R"(\d{0,)") || !parts.number(again) || again != whole || !parts.text(R"(}\.\d{0,)") ||
      !parts.number(places) || !parts.text("}0*$)") || !parts.at_end()) {
    return std::nullopt;
  }
  return "^[+-]?(?:" + decimal(whole, std::min(places, digits - whole)) + ")$";
}

// Calls `visit(at)` for each character outside of classes and escapes, until it returns false.
template <typename Visit>
void for_each_plain(std::string_view pattern, const Visit& visit) {
  bool in_class = false;
  for (size_t at = 0; at < pattern.size(); ++at) {
    const char c = pattern[at];
    if (c == '\\') {
      ++at;
    } else if (in_class) {
      in_class = c != ']';
    } else if (c == '[') {
      in_class = true;
    } else if (!visit(at)) {
      return;
    }
  }
}

// Where the group that `pattern` begins with is closed; npos if nowhere.
size_t end_of_group(std::string_view pattern) {
  size_t end = std::string_view::npos;
  int depth = 0;
  for_each_plain(pattern, [&](size_t at) {
    if (pattern[at] == '(') ++depth;
    if (pattern[at] == ')' && --depth == 0) end = at;
    return depth > 0;
  });
  return end;
}

// What stands between the | that are outside of all groups.
std::vector<std::string_view> outermost_alternatives(std::string_view pattern) {
  std::vector<std::string_view> alternatives;
  size_t from = 0;
  int depth = 0;
  for_each_plain(pattern, [&](size_t at) {
    if (pattern[at] == '(') ++depth;
    if (pattern[at] == ')') --depth;
    if (pattern[at] == '|' && depth == 0) {
      alternatives.push_back(pattern.substr(from, at - from));
      from = at + 1;
    }
    return true;
  });
  alternatives.push_back(pattern.substr(from));
  return alternatives;
}

// The pattern where it matches at the beginning of a text.
std::string at_beginning(std::string_view pattern) {
  std::string out;
  for (const std::string_view alternative : outermost_alternatives(pattern))
    out.append(out.empty() ? "^" : "|^").append(alternative);
  return out;
}

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

bool begins_with_quantifier(std::string_view pattern) {
  if (pattern.empty()) return false;
  if (pattern.front() == '{') return pattern.size() > 1 && is_digit(pattern[1]);
  return std::string_view("*+?").find(pattern.front()) != std::string_view::npos;
}

// Of one pattern. Each is an automaton of its own.
constexpr size_t most_look_aheads = 64;
constexpr size_t most_pieces = most_look_aheads + 1;

struct Piece {
  std::string_view text;
  bool excluded = false;
};

// A, B and C of "^(?=A)(?!B)C"; without `anchored` the ^ may be missing. None where there is no (?=A) or (?!B), or one
// of them is repeated, or where a | stands outside of all groups.
std::vector<Piece> pieces_of(std::string_view pattern, bool anchored) {
  std::vector<Piece> pieces;
  size_t at = pattern.starts_with('^') ? 1 : 0;
  if (at == 0 && anchored) return {};
  const auto rest = [&] { return pattern.substr(at); };
  while (rest().starts_with("(?=") || rest().starts_with("(?!")) {
    const size_t end = end_of_group(rest());
    if (end == std::string_view::npos) return {};
    pieces.push_back({rest().substr(3, end - 3), rest()[2] == '!'});
    at += end + 1;
  }
  if (pieces.empty() || begins_with_quantifier(rest()) || outermost_alternatives(rest()).size() > 1) return {};
  pieces.push_back({rest()});
  return pieces;
}

}  // namespace

std::optional<PlainPattern> without_look_ahead(std::string_view pattern) {
  const auto found = plain_patterns().find(pattern);
  if (found != plain_patterns().end()) return found->second;
  if (auto plain = pydantic_decimal(pattern)) return PlainPattern{*std::move(plain), ""};
  return std::nullopt;
}

LookAheads split_look_aheads(std::string_view pattern, bool anchored) {
  const std::vector<Piece> pieces = pieces_of(pattern, anchored);
  if (pieces.empty()) return {{std::string(pattern)}, {}};
  LookAheads parts;
  for (const Piece& piece : std::span(pieces).first(pieces.size() - 1))
    (piece.excluded ? parts.excluded : parts.required).push_back(at_beginning(piece.text));
  parts.required.push_back("^" + std::string(pieces.back().text));
  return parts;
}

bool can_be_split(const LookAheads& parts, const GrammarLimits& limits) {
  const size_t count = parts.required.size() + parts.excluded.size();
  if (count == 1 || count > most_pieces) return false;
  const auto is_regex = [&](const std::string& part) { return parse_regex(part, limits).has_value(); };
  return std::all_of(parts.required.begin(), parts.required.end(), is_regex) &&
         std::all_of(parts.excluded.begin(), parts.excluded.end(), is_regex);
}

base::Error told_of_part(std::string_view pattern, bool anchored, base::Error whole, const GrammarLimits& limits) {
  if (pattern.size() > limits.max_source_bytes) return whole;
  size_t before = 0;  // characters in front of `counted`, counted once
  const char* counted = pattern.data();
  const std::vector<Piece> pieces = pieces_of(pattern, anchored);
  if (pieces.size() > most_pieces) {
    return {base::ErrorCode::too_large,
            fmt::format("regular expression: it looks ahead {} times, of which {} are supported", pieces.size() - 1,
                        most_look_aheads)};
  }
  for (const Piece& piece : pieces) {
    for (const std::string_view alternative : outermost_alternatives(piece.text)) {
      before += base::utf8::length({counted, static_cast<size_t>(alternative.data() - counted)});
      counted = alternative.data();
      // As can_be_split() reads it: with a ^ in front.
      if (auto regex = parse_regex("^" + std::string(alternative), limits, before - 1); !regex)
        return std::move(regex).error();
    }
  }
  return whole;
}

}  // namespace tidemill::grammar
