#include "chat/schema_words.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

namespace tidemill::chat {
namespace json = base::json;
namespace {

constexpr std::array<std::string_view, 10> annotations = {
    "title", "description", "default", "examples", "$comment", "$schema", "$id", "readOnly", "writeOnly", "deprecated"};

bool is_in(std::span<const std::string_view> words, std::string_view word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

const json::value* member(const json::value& schema, std::string_view key) {
  const auto* object = schema.if_object();
  return object != nullptr ? object->if_contains(key) : nullptr;
}

constexpr size_t most_copied = 2'000'000;

// Goes through `value` and all that it holds, while `visit` says true. False: it said false.
template <typename Visit>
bool for_each_value(const json::value& value, const Visit& visit) {
  if (!visit(value)) return false;
  const auto inside = [&](const json::value& one) { return for_each_value(one, visit); };
  if (const auto* array = value.if_array()) return std::all_of(array->begin(), array->end(), inside);
  const auto* object = value.if_object();
  return object == nullptr ||
         std::all_of(object->begin(), object->end(), [&](const auto& member) { return inside(member.value()); });
}

size_t values_in(const json::value& value) {
  size_t count = 0;
  for_each_value(value, [&](const json::value&) { return ++count != 0; });
  return count;
}

bool refers(const json::value& schema) {
  const auto has_none = [](const json::value& value) {
    return member(value, "$ref") == nullptr && member(value, "$dynamicRef") == nullptr;
  };
  return !for_each_value(schema, has_none);
}

}  // namespace

base::Result<void> only_these_keywords(const json::object& schema, std::span<const std::string_view> known,
                                       std::string_view where) {
  for (const auto& [keyword, value] : schema) {
    if (is_in(known, keyword) || is_in(annotations, keyword)) continue;
    return base::Error(base::ErrorCode::unsupported,
                       "'" + std::string(where) + "' has the keyword '" + std::string(keyword) +
                           "', to which this model's tool format cannot be held; leave it out, or leave out strict");
  }
  return {};
}

json::object properties_of(const json::value& schema) {
  const auto* properties = member(schema, "properties");
  return properties != nullptr && properties->is_object() ? properties->get_object() : json::object();
}

std::unordered_set<std::string_view> required_of(const json::value& schema) {
  std::unordered_set<std::string_view> names;
  const auto* required = member(schema, "required");
  if (required == nullptr || !required->is_array()) return names;
  for (const json::value& name : required->get_array())
    if (name.is_string()) names.insert(name.get_string());
  return names;
}

base::Result<void> required_are_known(const json::value& schema, const json::object& properties) {
  const auto* required = member(schema, "required");
  if (required == nullptr || !required->is_array()) return {};
  for (const json::value& name : required->get_array()) {
    if (name.is_string() && properties.contains(name.get_string())) continue;
    return base::Error(base::ErrorCode::unsupported, json::serialize(name) + " is required, but is no property");
  }
  return {};
}

base::Result<json::value> LonePart::of(const json::value& part) {
  if (!part.is_object() || !refers(part)) return part;
  json::object alone = part.get_object();
  for (const std::string_view key : {"$defs", "definitions"}) {
    const auto* definitions = member(root_, key);
    if (definitions == nullptr || alone.contains(key)) continue;
    copied_ += values_in(*definitions);
    if (copied_ > most_copied) {
      return base::Error(base::ErrorCode::too_large,
                         "too many parameters refer to too many definitions for this model's tool format, which "
                         "takes each by itself; leave out definitions that are not used");
    }
    alone[key] = *definitions;
  }
  return json::value(std::move(alone));
}

}  // namespace tidemill::chat
