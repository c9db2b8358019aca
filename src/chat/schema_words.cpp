#include "chat/schema_words.hpp"

#include <algorithm>
#include <array>
#include <string>

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

bool is_required(const json::value& schema, std::string_view property) {
  const auto* required = member(schema, "required");
  if (required == nullptr || !required->is_array()) return false;
  const auto& names = required->get_array();
  return std::any_of(names.begin(), names.end(),
                     [&](const json::value& name) { return name.is_string() && name.get_string() == property; });
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

json::value with_definitions_of(const json::value& root, const json::value& schema) {
  if (!schema.is_object()) return schema;
  json::object alone = schema.get_object();
  for (const std::string_view key : {"$defs", "definitions"}) {
    if (const auto* definitions = member(root, key); definitions != nullptr && !alone.contains(key)) {
      alone[key] = *definitions;
    }
  }
  return alone;
}

}  // namespace tidemill::chat
