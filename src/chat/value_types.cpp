#include "chat/value_types.hpp"

#include <array>
#include <utility>

#include "chat/schema_words.hpp"

namespace tidemill::chat {
namespace json = base::json;
namespace {

constexpr int max_references = 16;  // to the schema that has the properties

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
  const auto word = type_of_word(name.get_string());
  for (const auto& [known, type] : type_names) {
    if (word == known) return type;
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

// The types all of whose values the keyword takes: "integer" is not all numbers.
ValueTypes all_by_type_keyword(const json::value& type) {
  if (type.is_string() && type_of_word(type.get_string()) == "integer") return ValueTypes::none;
  if (type.is_string()) return by_name(type) == ValueTypes::any ? ValueTypes::none : by_name(type);
  ValueTypes types = ValueTypes::none;
  if (const auto* names = type.if_array()) {
    for (const json::value& name : *names)
      types = types | (name.is_string() ? all_by_type_keyword(name) : ValueTypes::none);
  }
  return types;
}

}  // namespace

ValueTypes TypeSearch::admitted_by_one(const json::value& schemas, int depth) {
  const auto* list = schemas.if_array();
  if (list == nullptr || list->empty()) return ValueTypes::any;
  ValueTypes types = ValueTypes::none;
  for (const json::value& schema : *list)
    types = types | admitted(schema, depth);
  return types;
}

ValueTypes TypeSearch::by_reference(const Look& look, Found& found, const json::value& schema, int depth) {
  const auto* target = references_.from(schema);
  if (target == nullptr) return look.unseen;
  const auto known = found.find({target, depth});
  if (known != found.end()) return known->second;
  const ValueTypes types = (this->*look.at)(*target, depth);
  found.emplace(std::pair(target, depth), types);
  return types;
}

ValueTypes TypeSearch::admitted(const json::value& schema, int depth) {
  if (over(depth) || !schema.is_object()) return ValueTypes::any;
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
    if (const auto* schemas = find(schema, keyword)) types = types & admitted_by_one(*schemas, depth - 1);
  }
  if (const auto* all = find(schema, "allOf"); all != nullptr && all->is_array()) {
    for (const json::value& part : all->get_array())
      types = types & admitted(part, depth - 1);
  }
  if (find(schema, "$ref") != nullptr) {
    types = types & by_reference({&TypeSearch::admitted, ValueTypes::any}, admitted_, schema, depth - 1);
  }
  const auto* nullable = find(schema, "nullable");
  if (nullable != nullptr && nullable->is_bool() && nullable->get_bool()) types = types | ValueTypes::null;
  // A schema that admits nothing is a mistake: better any value than none.
  return types == ValueTypes::none ? ValueTypes::any : types;
}

ValueTypes TypeSearch::held_whole_by_one(const json::value& schemas, bool exactly, int depth) {
  const auto* list = schemas.if_array();
  if (list == nullptr) return ValueTypes::none;
  ValueTypes types = ValueTypes::none;
  ValueTypes seen = ValueTypes::none;
  ValueTypes twice = ValueTypes::none;  // perhaps by more than one
  for (const json::value& schema : *list) {
    types = types | held_whole(schema, depth);
    if (!exactly) continue;
    const ValueTypes own = admitted(schema, depth);
    twice = twice | (seen & own);
    seen = seen | own;
  }
  return admits(types, twice) ? ValueTypes::none : types;
}

ValueTypes TypeSearch::held_whole(const json::value& schema, int depth) {
  const auto* object = schema.if_object();
  constexpr std::array<std::string_view, 7> known = {"type", "anyOf", "oneOf", "allOf", "$ref", "$defs", "definitions"};
  if (over(depth) || object == nullptr || other_keyword(*object, known)) return ValueTypes::none;
  ValueTypes types = ValueTypes::any;
  if (const auto* type = find(schema, "type")) types = types & all_by_type_keyword(*type);
  if (const auto* some = find(schema, "anyOf")) types = types & held_whole_by_one(*some, false, depth - 1);
  if (const auto* one = find(schema, "oneOf")) types = types & held_whole_by_one(*one, true, depth - 1);
  if (const auto* all = find(schema, "allOf")) {
    if (!all->is_array()) return ValueTypes::none;
    for (const json::value& part : all->get_array())
      types = types & held_whole(part, depth - 1);
  }
  if (find(schema, "$ref") != nullptr) {
    types = types & by_reference({&TypeSearch::held_whole, ValueTypes::none}, held_whole_, schema, depth - 1);
  }
  return types;
}

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
  References references(object_schema);
  const json::value* schema = &object_schema;
  for (int depth = 0; schema != nullptr && depth < max_references; ++depth) {
    const auto* properties = find(*schema, "properties");
    if (const auto* found = properties != nullptr ? find(*properties, property) : nullptr) return found;
    schema = references.from(*schema);
  }
  return nullptr;
}

ValueTypes property_types(const json::value& object_schema, std::string_view property) {
  const auto* schema = property_schema(object_schema, property);
  return schema != nullptr ? TypeSearch(object_schema).admitted(*schema) : ValueTypes::any;
}

}  // namespace tidemill::chat
