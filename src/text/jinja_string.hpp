// Python's view of text: white space, case, searching, formatting. Everything takes and gives valid UTF-8.
#pragma once

#include <string>
#include <string_view>

#include "base/clock.hpp"
#include "text/jinja_value.hpp"

namespace tidemill::text::jinja {

// Bytes of the white-space character (Python's str.isspace) that starts at `position`, or 0.
size_t white_space_at(std::string_view text, size_t position);
std::string_view strip_left(std::string_view text);
std::string_view strip_right(std::string_view text);
inline std::string_view strip(std::string_view text) {
  return strip_left(strip_right(text));
}

// Byte position of `needle` at or after `from`, or npos. Linear time, charged to the budget.
size_t find_text(Interpreter& in, std::string_view text, std::string_view needle, size_t from);
// str.replace; `limit` < 0: all.
std::string replace_text(Interpreter& in, std::string_view text, std::string_view from, std::string_view to, Int limit);
// str.splitlines without the line breaks.
std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends = false);

// str.upper, lower, title, capitalize, swapcase (Unicode, with the special cases of SpecialCasing.txt that grow).
std::string upper_case(std::string_view text);
std::string lower_case(std::string_view text);
std::string folded_case(std::string_view text);  // str.casefold: full folding, which may grow to three times the bytes
std::string title_case(std::string_view text);
std::string capitalized(std::string_view text);
std::string swapped_case(std::string_view text);

// str.isalpha and its like, by name ("isalpha"); false for names that are no such predicate and for empty text.
bool is_all(std::string_view predicate, std::string_view text);
bool is_word_character(char32_t c);

// int(text, base) and float(text); false where Python raises ValueError.
bool parse_int(std::string_view text, int base, Int& out);
bool parse_float(std::string_view text, double& out);

// text % arguments
Value format_percent(Interpreter& in, const Value& format, const Value& arguments);
// text.format(...)
Value format_braces(Interpreter& in, const Value& format, const CallArgs& args);
// format(value, specification)
std::string format_value(Interpreter& in, const Value& value, std::string_view specification);
// datetime.strftime of the moment as UTC, in the C locale, with glibc's flags (%-d, %^a, ...).
std::string format_time(Budget& budget, base::WallTime when, std::string_view format);

}  // namespace tidemill::text::jinja
