// The values of JSON Schema's `format` that are held to, as patterns of ECMA-262 anchored at both ends.
#pragma once

#include <string_view>

namespace tidemill::grammar {

// Empty for a format that is not among them: such are annotations (JSON Schema validation, section 7). What a pattern
// matches is valid by the format's standard; where the standard allows more, the comment on the pattern says so.
std::string_view format_pattern(std::string_view format);

}  // namespace tidemill::grammar
