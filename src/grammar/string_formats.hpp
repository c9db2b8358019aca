// The values of JSON Schema's `format` that are held to, as patterns of ECMA-262 anchored at both ends.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace tidemill::grammar {

// Empty for a format that is not among them: such are annotations (JSON Schema validation, section 7). What a pattern
// matches is valid by the format's standard; where the standard allows more, the comment on the pattern says so.
std::string_view format_pattern(std::string_view format);

// The same for values of at most `most` characters, in a simpler form, so that the length need not be counted across
// the parts. Empty for formats that do without, and where it is too short for any value.
std::string format_pattern_within(std::string_view format, size_t most);

}  // namespace tidemill::grammar
