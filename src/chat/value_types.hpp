// Which kinds of JSON value a schema admits, for formats that do not write them down.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/json.hpp"

namespace tidemill::chat {

// Bits.
enum class ValueTypes : uint8_t {
  none = 0,
  text = 1,
  number = 2,
  boolean = 4,
  null = 8,
  array = 16,
  object = 32,
  any = 63,
};

constexpr ValueTypes operator|(ValueTypes a, ValueTypes b) {
  return static_cast<ValueTypes>(static_cast<uint8_t>(a) | static_cast<uint8_t>(b));
}
constexpr ValueTypes operator&(ValueTypes a, ValueTypes b) {
  return static_cast<ValueTypes>(static_cast<uint8_t>(a) & static_cast<uint8_t>(b));
}
constexpr bool admits(ValueTypes types, ValueTypes type) {
  return (types & type) != ValueTypes::none;
}

ValueTypes type_of(const base::json::value& value);

// What a property may be, by the schema of the object that holds it; `any` where the schema does not say. Follows type,
// enum, const, nullable, anyOf, oneOf, allOf and references within the schema.
ValueTypes property_types(const base::json::value& object_schema, std::string_view property);

// The types of which `schema`, a part of `root`, admits every value: it names them in `type`, or in anyOf, oneOf, allOf
// or references, and says no more but in annotations. None where it does, or says nothing of types that can be seen.
ValueTypes whole_types(const base::json::value& root, const base::json::value& schema);

// The schema of a property with references followed, or nullptr.
const base::json::value* property_schema(const base::json::value& object_schema, std::string_view property);

}  // namespace tidemill::chat
