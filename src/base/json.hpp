// JSON through Boost.JSON, with Tidemill's limits and error messages. Objects keep the order of their keys.
#pragma once

#include <string>
#include <string_view>

#include <boost/json.hpp>

#include "base/result.hpp"

namespace tidemill::base {

namespace json = boost::json;

// Parses one JSON text (UTF-8, checked). An error gives line and column. `max_depth` bounds nesting. A number is the
// integer that it says where 64 bits hold that, else the double nearest to it.
Result<json::value> parse_json(std::string_view text, int max_depth = 64);

// Indented by two spaces, for people.
std::string pretty_json(const json::value& value);

}  // namespace tidemill::base
