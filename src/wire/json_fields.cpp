#include "wire/json_fields.hpp"

#include <algorithm>
#include <cmath>

#include <fmt/core.h>

namespace tidemill::wire {

using base::Error;
using base::ErrorCode;
using base::Result;
namespace json = base::json;

namespace {

// The value as an integer, if it is one: 3 and 3.0 are, 3.5 and 1e300 are not.
std::optional<int64_t> as_integer(const json::value& value) {
  if (value.is_int64()) return value.get_int64();
  if (value.is_double()) {
    const double number = value.get_double();
    if (std::trunc(number) == number && std::abs(number) < 9e15) return static_cast<int64_t>(number);
  }
  return std::nullopt;
}

std::string shown(const json::value& value) {
  if (value.is_object() || value.is_array()) return std::string(kind_of(value));
  if (value.is_double()) {  // as people write it, not 1.1E0, and other than the integer
    std::string number = fmt::format("{}", value.get_double());
    return number.find_first_not_of("-0123456789") == std::string::npos ? number + ".0" : number;
  }
  std::string text = json::serialize(value);
  return text.size() <= 40 ? text : std::string(kind_of(value));
}

}  // namespace

std::string_view kind_of(const json::value& value) {
  switch (value.kind()) {
    case json::kind::null:
      return "null";
    case json::kind::bool_:
      return "a boolean";
    case json::kind::int64:
    case json::kind::uint64:
      return "an integer";
    case json::kind::double_:
      return "a number";
    case json::kind::string:
      return "a string";
    case json::kind::array:
      return "an array";
    case json::kind::object:
      return "an object";
  }
  return "unknown";
}

Result<json::object> parse_body(std::string_view body) {
  if (body.empty()) return Error(ErrorCode::invalid_argument, "the request body is empty: send a JSON object");
  TM_TRY(json::value value, base::parse_json(body, max_body_depth, base::PastDoubles::refused));
  if (!value.is_object()) {
    return Error(ErrorCode::invalid_argument, fmt::format("the body must be a JSON object, not {}", kind_of(value)));
  }
  return std::move(value.get_object());
}

const json::value* JsonFields::find(std::string_view name) const {
  const json::value* value = object_.if_contains(name);
  return value == nullptr || value->is_null() ? nullptr : value;
}

bool JsonFields::is_null(std::string_view name) const {
  const json::value* value = object_.if_contains(name);
  return value != nullptr && value->is_null();
}

std::string JsonFields::path(std::string_view name) const {
  return path_.empty() ? std::string(name) : fmt::format("{}.{}", path_, name);
}

Error JsonFields::mismatch(std::string_view name, std::string_view requirement, const json::value& found) const {
  return invalid(name, fmt::format("'{}' must be {}, not {}", path(name), requirement, shown(found)));
}

Error JsonFields::invalid(std::string_view name, std::string message) const {
  return Error(ErrorCode::invalid_argument, std::move(message)).with_param(path(name));
}

Error JsonFields::unsupported(std::string_view name, std::string_view what) const {
  return Error(ErrorCode::unsupported, fmt::format("'{}': {}", path(name), what)).with_param(path(name));
}

Result<void> JsonFields::refuse(std::span<const Refused> members) const {
  for (const Refused& member : members) {
    const json::value* value = find(member.name);
    if (value == nullptr || (value->is_array() && value->get_array().empty())) continue;
    return unsupported(member.name, member.why);
  }
  return {};
}

Result<std::string> JsonFields::required_string(std::string_view name) const {
  TM_TRY(auto text, string(name));
  if (!text) return invalid(name, fmt::format("'{}' is required: a string", path(name)));
  return std::move(*text);
}

Result<std::optional<bool>> JsonFields::boolean(std::string_view name) const {
  const json::value* value = find(name);
  if (value == nullptr) return std::optional<bool>();
  if (!value->is_bool()) return mismatch(name, "a boolean", *value);
  return std::optional(value->get_bool());
}

Result<std::optional<int64_t>> JsonFields::integer(std::string_view name, int64_t low, int64_t high) const {
  const json::value* value = find(name);
  if (value == nullptr) return std::optional<int64_t>();
  const auto number = as_integer(*value);
  if (number && *number >= low && *number <= high) return number;
  return mismatch(name, fmt::format("an integer from {} to {}", low, high), *value);
}

Result<std::optional<int64_t>> JsonFields::limit(std::string_view name, int64_t low) const {
  const json::value* value = find(name);
  if (value == nullptr) return std::optional<int64_t>();
  const auto number = as_integer(*value);
  if (number && *number >= low) return std::optional(std::min(*number, max_int));
  // Past what as_integer() takes every number is an integer.
  if (value->is_uint64() || (value->is_double() && value->get_double() >= 9e15)) return std::optional(max_int);
  return mismatch(name, fmt::format("an integer of at least {}", low), *value);
}

Result<std::optional<int64_t>> JsonFields::word(std::string_view name) const {
  const json::value* value = find(name);
  if (value == nullptr) return std::optional<int64_t>();
  if (const uint64_t* large = value->if_uint64()) return std::optional(static_cast<int64_t>(*large));
  if (const auto number = as_integer(*value)) return number;
  return mismatch(name,
                  fmt::format("an integer of 64 bits, from {} to {}", std::numeric_limits<int64_t>::min(),
                              std::numeric_limits<uint64_t>::max()),
                  *value);
}

Result<std::optional<double>> JsonFields::number(std::string_view name, double low, double high) const {
  const json::value* value = find(name);
  if (value == nullptr) return std::optional<double>();
  if (value->is_number()) {
    const double number = value->to_number<double>();
    if (number >= low && number <= high) return std::optional(number);
  }
  return mismatch(name, fmt::format("a number from {} to {}", low, high), *value);
}

Result<std::optional<double>> JsonFields::number_above(std::string_view name, double low, double high) const {
  const json::value* value = find(name);
  if (value == nullptr) return std::optional<double>();
  if (value->is_number()) {
    const double number = value->to_number<double>();
    if (number > low && number <= high) return std::optional(number);
  }
  return mismatch(name, fmt::format("a number above {} and at most {}", low, high), *value);
}

Result<std::optional<std::string>> JsonFields::string(std::string_view name) const {
  const json::value* value = find(name);
  if (value == nullptr) return std::optional<std::string>();
  if (!value->is_string()) return mismatch(name, "a string", *value);
  return std::optional(std::string(value->get_string()));
}

Result<const json::array*> JsonFields::array(std::string_view name) const {
  const json::value* value = find(name);
  if (value == nullptr) return nullptr;
  if (!value->is_array()) return mismatch(name, "an array", *value);
  return &value->get_array();
}

Result<const json::array*> JsonFields::array(std::string_view name, size_t most) const {
  TM_TRY(const json::array* found, array(name));
  if (found == nullptr || found->size() <= most) return found;
  return invalid(name, fmt::format("'{}' has {} entries; at most {} are taken", path(name), found->size(), most));
}

Result<const json::object*> JsonFields::object(std::string_view name) const {
  const json::value* value = find(name);
  if (value == nullptr) return nullptr;
  if (!value->is_object()) return mismatch(name, "an object", *value);
  return &value->get_object();
}

}  // namespace tidemill::wire
