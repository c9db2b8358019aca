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

bool is_annotation(std::string_view keyword) {
  return is_in(annotations, keyword);
}

std::optional<std::string_view> other_keyword(const json::object& schema, std::span<const std::string_view> known) {
  for (const auto& one : schema) {
    if (!is_in(known, one.key()) && !is_annotation(one.key())) return one.key();
  }
  return std::nullopt;
}

base::Result<void> only_these_keywords(const json::object& schema, std::span<const std::string_view> known,
                                       std::string_view where) {
  const auto keyword = other_keyword(schema, known);
  if (!keyword) return {};
  return base::Error(base::ErrorCode::unsupported,
                     "'" + std::string(where) + "' has the keyword '" + std::string(*keyword) +
                         "', to which this model's tool format cannot be held; leave it out, or leave out strict");
}

const json::value* referenced(const json::value& root, std::string_view reference) {
  if (!reference.starts_with("#")) return nullptr;
  boost::system::error_code error;
  return root.find_pointer(reference.substr(1), error);
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

bool takes_any_names(const json::value& schema) {
  const auto* others = member(schema, "additionalProperties");
  const bool closed = others != nullptr && others->is_bool() && !others->get_bool();
  return schema.is_object() && member(schema, "properties") == nullptr && !closed;
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

}  // namespace tidemill::chat
