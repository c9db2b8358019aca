#include "chat/value_types.hpp"

#include <array>
#include <utility>

namespace tidemill::chat {
namespace json = base::json;
namespace {

constexpr int max_depth = 16;  // of references and combinations that are followed

constexpr std::array<std::pair<std::string_view, ValueTypes>, 7> type_names = {{
    {"string", ValueTypes::text},
    {"number", ValueTypes::number},
    {"integer", ValueTypes::number},
    {"boolean", ValueTypes::boolean},
    {"null", ValueTypes::null},
    {"array", ValueTypes::array},
    {"object", ValueTypes::object},
}};

ValueTypes by_name(const json::value& name) {
  if (!name.is_string()) return ValueTypes::any;
  for (const auto& [known, type] : type_names) {
    if (name.get_string() == known) return type;
  }
  return ValueTypes::any;
}

ValueTypes by_type_keyword(const json::value& type) {
  if (!type.is_array()) return by_name(type);
  ValueTypes types = ValueTypes::none;
  for (const json::value& name : type.get_array())
    types = types | by_name(name);
  return types;
}

const json::value* find(const json::value& value, std::string_view key) {
  const auto* object = value.if_object();
  return object != nullptr ? object->if_contains(key) : nullptr;
}

// What "#/$defs/name" and its like point to. A key may be escaped as in RFC 6901.
const json::value* referenced(const json::value& root, std::string_view reference) {
  if (!reference.starts_with("#")) return nullptr;
  boost::system::error_code error;
  return root.find_pointer(reference.substr(1), error);
}

ValueTypes types_of(const json::value& root, const json::value& schema, int depth);

ValueTypes any_of(const json::value& root, const json::value& schemas, int depth) {
  const auto* list = schemas.if_array();
  if (list == nullptr || list->empty()) return ValueTypes::any;
  ValueTypes types = ValueTypes::none;
  for (const json::value& schema : *list)
    types = types | types_of(root, schema, depth);
  return types;
}

ValueTypes types_of(const json::value& root, const json::value& schema, int depth) {
  if (depth == 0 || !schema.is_object()) return ValueTypes::any;
  ValueTypes types = ValueTypes::any;
  if (const auto* type = find(schema, "type")) types = types & by_type_keyword(*type);
  if (const auto* only = find(schema, "const")) types = types & type_of(*only);
  if (const auto* values = find(schema, "enum"); values != nullptr && values->is_array()) {
    ValueTypes listed = ValueTypes::none;
    for (const json::value& value : values->get_array())
      listed = listed | type_of(value);
    types = types & listed;
  }
  for (const std::string_view keyword : {"anyOf", "oneOf"}) {
    if (const auto* schemas = find(schema, keyword)) types = types & any_of(root, *schemas, depth - 1);
  }
  if (const auto* all = find(schema, "allOf"); all != nullptr && all->is_array()) {
    for (const json::value& part : all->get_array())
      types = types & types_of(root, part, depth - 1);
  }
  if (const auto* reference = find(schema, "$ref"); reference != nullptr && reference->is_string()) {
    if (const auto* target = referenced(root, reference->get_string())) {
      types = types & types_of(root, *target, depth - 1);
    }
  }
  const auto* nullable = find(schema, "nullable");
  if (nullable != nullptr && nullable->is_bool() && nullable->get_bool()) types = types | ValueTypes::null;
  // A schema that admits nothing is a mistake: better any value than none.
  return types == ValueTypes::none ? ValueTypes::any : types;
}

}  // namespace

ValueTypes type_of(const json::value& value) {
  switch (value.kind()) {
    case json::kind::string:
      return ValueTypes::text;
    case json::kind::bool_:
      return ValueTypes::boolean;
    case json::kind::null:
      return ValueTypes::null;
    case json::kind::array:
      return ValueTypes::array;
    case json::kind::object:
      return ValueTypes::object;
    default:
      return ValueTypes::number;
  }
}

const json::value* property_schema(const json::value& object_schema, std::string_view property) {
  const json::value* schema = &object_schema;
  for (int depth = 0; depth < max_depth; ++depth) {
    const auto* properties = find(*schema, "properties");
    if (const auto* found = properties != nullptr ? find(*properties, property) : nullptr) return found;
    const auto* reference = find(*schema, "$ref");
    if (reference == nullptr || !reference->is_string()) return nullptr;
    schema = referenced(object_schema, reference->get_string());
    if (schema == nullptr) return nullptr;
  }
  return nullptr;
}

ValueTypes property_types(const json::value& object_schema, std::string_view property) {
  const auto* schema = property_schema(object_schema, property);
  return schema != nullptr ? types_of(object_schema, *schema, max_depth) : ValueTypes::any;
}

}  // namespace tidemill::chat
