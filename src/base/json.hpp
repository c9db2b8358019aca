// JSON through Boost.JSON, with Tidemill's limits and error messages. Objects keep the order of their keys.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <boost/json.hpp>

#include "base/result.hpp"

namespace tidemill::base {

namespace json = boost::json;

// What becomes of a number past the largest double, as 1e400: that double, with its sign, or an error.
enum class PastDoubles : uint8_t { nearest, refused };

// Parses one JSON text (UTF-8, checked). An error gives line and column. `max_depth` bounds nesting; by default it is
// more than a request may have (wire::max_body_depth), so that what is kept or told of a request, some levels deeper
// than it was there, can be read. A number is the integer that it says where 64 bits hold that, else the double nearest
// to it, and a finite one: JSON has no other, so that whatever was read can be written again.
Result<json::value> parse_json(std::string_view text, int max_depth = 80, PastDoubles past = PastDoubles::nearest);

// Indented by two spaces, for people. A number that is not finite is null.
std::string pretty_json(const json::value& value);

}  // namespace tidemill::base
