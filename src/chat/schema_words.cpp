#include "chat/schema_words.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "base/lower_case.hpp"

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

// In which a schema lies, or a list of them; and an object of them.
constexpr std::array<std::string_view, 15> holding_schemas = {"items",
                                                              "prefixItems",
                                                              "additionalItems",
                                                              "additionalProperties",
                                                              "unevaluatedItems",
                                                              "allOf",
                                                              "propertyNames",
                                                              "unevaluatedProperties",
                                                              "contains",
                                                              "anyOf",
                                                              "oneOf",
                                                              "not",
                                                              "if",
                                                              "then",
                                                              "else"};
constexpr std::array<std::string_view, 6> holding_named = {"properties",  "patternProperties", "$defs",
                                                           "definitions", "dependentSchemas",  "dependencies"};

void name_type(json::value& word) {
  if (!word.is_string()) return;
  if (const auto known = type_of_word(word.get_string())) word = json::string(*known);
}

void name_types_of(json::value& schema) {
  if (auto* several = schema.if_array()) {
    for (json::value& one : *several)
      name_types_of(one);
  }
  auto* object = schema.if_object();
  if (object == nullptr) return;
  if (auto* type = object->if_contains("type")) {
    name_type(*type);
    if (auto* words = type->if_array()) std::for_each(words->begin(), words->end(), name_type);
  }
  for (const std::string_view keyword : holding_schemas)
    if (auto* held = object->if_contains(keyword)) name_types_of(*held);
  for (const std::string_view keyword : holding_named) {
    auto* held = object->if_contains(keyword);
    if (held == nullptr || !held->is_object()) continue;
    for (auto& one : held->get_object())
      name_types_of(one.value());
  }
}

}  // namespace

std::optional<std::string_view> type_of_word(std::string_view word) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 13> words = {{{"string", "string"},
                                                                                    {"number", "number"},
                                                                                    {"integer", "integer"},
                                                                                    {"boolean", "boolean"},
                                                                                    {"null", "null"},
                                                                                    {"array", "array"},
                                                                                    {"object", "object"},
                                                                                    {"str", "string"},
                                                                                    {"int", "integer"},
                                                                                    {"float", "number"},
                                                                                    {"bool", "boolean"},
                                                                                    {"list", "array"},
                                                                                    {"dict", "object"}}};
  const auto same = [](char written, char known) { return base::lower(written) == known; };
  for (const auto& [known, type] : words)
    if (std::equal(word.begin(), word.end(), known.begin(), known.end(), same)) return type;
  return std::nullopt;
}

bool names_types(const json::value& type) {
  const auto is_word = [](const json::value& word) { return word.is_string() && type_of_word(word.get_string()); };
  const auto* several = type.if_array();
  if (several == nullptr) return is_word(type);
  return !several->empty() && std::all_of(several->begin(), several->end(), is_word);
}

json::value with_known_types(json::value schema) {
  name_types_of(schema);
  return schema;
}

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

const json::value* References::from(const json::value& holder) {
  const auto* reference = member(holder, "$ref");
  if (reference == nullptr || !reference->is_string()) return nullptr;
  if (!is_open_) {
    is_open_ = true;
    if (auto document = grammar::SchemaDocument::open(root_, {})) document_ = *std::move(document);
  }
  return document_ ? document_->referenced(holder, reference->get_string()) : nullptr;
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
