#include "base/json.hpp"

#include <algorithm>
#include <cmath>

#include <fmt/core.h>

namespace tidemill::base {
namespace {

void write_pretty(const json::value& value, int depth, std::string& out) {
  const auto indent = [&out](int levels) { out.append(static_cast<size_t>(levels) * 2, ' '); };
  if (const auto* object = value.if_object(); object != nullptr && !object->empty()) {
    out += "{\n";
    for (auto it = object->begin(); it != object->end(); ++it) {
      if (it != object->begin()) out += ",\n";
      indent(depth + 1);
      out += json::serialize(it->key());
      out += ": ";
      write_pretty(it->value(), depth + 1, out);
    }
    out += '\n';
    indent(depth);
    out += '}';
  } else if (const auto* array = value.if_array(); array != nullptr && !array->empty()) {
    out += "[\n";
    for (auto it = array->begin(); it != array->end(); ++it) {
      if (it != array->begin()) out += ",\n";
      indent(depth + 1);
      write_pretty(*it, depth + 1, out);
    }
    out += '\n';
    indent(depth);
    out += ']';
  } else if (const auto* number = value.if_double(); number != nullptr && std::isfinite(*number)) {
    out += fmt::format("{}", *number);  // Boost.JSON would write 1.5 as 1.5E0
  } else {
    out += json::serialize(value);
  }
}

}  // namespace

Result<json::value> parse_json(std::string_view text, int max_depth) {
  json::parse_options options;
  options.max_depth = static_cast<size_t>(max_depth);
  json::stream_parser parser({}, options);
  json::error_code error;
  const size_t consumed = parser.write_some(text.data(), text.size(), error);
  if (!error && consumed < text.size()) error = json::error::extra_data;
  if (!error) parser.finish(error);
  if (!error) return parser.release();
  const std::string_view before = text.substr(0, std::min(consumed, text.size()));
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const auto column = 1 + before.size() - (before.rfind('\n') == std::string_view::npos ? 0 : before.rfind('\n') + 1);
  if (error == json::error::too_deep) {
    return Error(ErrorCode::unsupported, fmt::format("the JSON is nested deeper than {} levels at line {}, column {}",
                                                     max_depth, line, column));
  }
  return Error(ErrorCode::invalid_argument,
               fmt::format("invalid JSON at line {}, column {}: {}", line, column, error.message()));
}

std::string pretty_json(const json::value& value) {
  std::string out;
  write_pretty(value, 0, out);
  return out;
}

}  // namespace tidemill::base
