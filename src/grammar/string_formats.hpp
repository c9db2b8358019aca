// The values of JSON Schema's `format` that are held to: texts as patterns of ECMA-262 anchored at both ends, numbers
// as ranges.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "grammar/json_number.hpp"

namespace tidemill::grammar {

// Of all formats of draft 2020-12 (validation, section 7.3) and some more; empty for others. What a pattern matches is
// valid by the format's standard; where the standard allows more, the comment on the pattern says so.
std::string_view format_pattern(std::string_view format);

// The same for values of at most `most` characters, in a simpler form, so that the length need not be counted across
// the parts; also of named_formats.hpp. Empty for formats that do without, and where it is too short for any value.
std::string format_pattern_within(std::string_view format, size_t most);

// Null for what is no format of numbers. OpenAPI's, and those of programming languages: int8 to int64, uint8 to uint64,
// int, uint, float, double.
const NumberRange* number_format(std::string_view format);

// Formats that any text has: hints of how to show it, or of what it is for (OpenAPI's password and binary; path and
// pydantic's file-path and directory-path).
bool is_any_text(std::string_view format);

// All that are held to, for messages.
const std::string& known_formats();

}  // namespace tidemill::grammar
