// Formats that no standard has, but libraries write: zod, pydantic, ajv-formats. Beside a pattern, an enum or a const
// they are names for what those say; alone they are held to by the forms here.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace tidemill::grammar {

// A pattern of ECMA-262, anchored at both ends; empty for what is no such format. Texts that match are taken by the
// library whose name it is, but for `jwt`: there the parts are base64url, of which header and payload begin as that of
// a JSON object does, and what they stand for is not looked at.
std::string_view named_format_pattern(std::string_view format);

// The same for values of at most `most` characters, for those whose length has no bound; else empty, and where it is
// too short for any value.
std::string named_format_pattern_within(std::string_view format, size_t most);

std::vector<std::string_view> named_formats();

}  // namespace tidemill::grammar
