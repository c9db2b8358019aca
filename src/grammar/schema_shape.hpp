// What a schema asks of a value, sorted by the value's type.
//
// Schemas that must hold together are a conjunction. Read on its own level, a conjunction is a union of shapes; what it
// asks of items and properties stays conjunctions of subschemas, which are read when they are needed. So recursive
// schemas stay finite: there are only so many sets of subschemas.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/json.hpp"
#include "grammar/json_number.hpp"
#include "grammar/schema_document.hpp"

namespace tidemill::grammar {

// Ascending numbers of subschemas that must all hold; empty: any value will do.
using Conjunction = std::vector<SchemaNode>;
Conjunction united(const Conjunction& left, const Conjunction& right);

// Types of values as bits. Numbers are two kinds, so that "integer" within "number" is a plain intersection.
using TypeSet = uint8_t;
inline constexpr TypeSet null_type = 1;
inline constexpr TypeSet boolean_type = 2;
inline constexpr TypeSet integer_type = 4;
inline constexpr TypeSet fraction_type = 8;  // numbers that are no integers
inline constexpr TypeSet string_type = 16;
inline constexpr TypeSet array_type = 32;
inline constexpr TypeSet object_type = 64;
inline constexpr TypeSet number_types = integer_type | fraction_type;
inline constexpr TypeSet all_types = 127;
TypeSet type_of(const base::json::value& value);

struct StringPattern {
  std::string source;     // of ECMA-262
  SchemaNode owner;       // who asks for it
  std::string format;     // which it stands for; "" where the schema gives the pattern itself
  bool excluded = false;  // it must match nowhere
};

struct StringShape {
  size_t min_length = 0;  // in code points
  std::optional<size_t> max_length;
  std::vector<StringPattern> patterns;  // each must match somewhere, but for those that are excluded; one is not
};

struct ArrayShape {
  std::vector<Conjunction> prefix;
  Conjunction rest;
  size_t min_items = 0;
  std::optional<size_t> max_items;
  std::optional<SchemaNode> unique;  // who asks that items differ

  const Conjunction& item(size_t index) const { return index < prefix.size() ? prefix[index] : rest; }
};

// What one schema object says about properties. Which keys its `additional` is for depends on its other members, so the
// layers of a conjunction are kept side by side.
struct ObjectLayer {
  std::vector<std::pair<std::string, SchemaNode>> properties;  // in the schema's order
  std::unordered_map<std::string, SchemaNode> by_name;
  std::vector<std::pair<std::string, SchemaNode>> patterns;
  std::optional<SchemaNode> additional;
  SchemaNode owner = 0;
};

struct ObjectShape {
  std::vector<std::shared_ptr<const ObjectLayer>> layers;
  std::vector<std::string> required;  // without doubles
  Conjunction names;                  // of propertyNames
  size_t min_properties = 0;
  std::optional<size_t> max_properties;
};

// Which subschemas the bounds of numbers are from, for errors.
struct NumberKeywords {
  SchemaNode minimum = 0;
  SchemaNode maximum = 0;
  SchemaNode multiple_of = 0;

  SchemaNode owner(std::string_view keyword) const {
    if (keyword == "multipleOf") return multiple_of;
    return keyword.ends_with("inimum") ? minimum : maximum;
  }
};

struct Shape {
  TypeSet types = all_types;
  // If set, nothing but these; each of them fits the rest of the shape.
  std::optional<std::vector<const base::json::value*>> values;
  NumberRange numbers;
  NumberKeywords number_keywords;
  StringShape strings;
  ArrayShape arrays;
  ObjectShape objects;
  // The shape leaves out values that the schema allows, so it proves nothing about what the schema does not allow.
  bool narrowed = false;
};

// Equality as JSON Schema has it: 1 is 1.0, and the order of members does not count.
bool same_value(const base::json::value& left, const base::json::value& right);

}  // namespace tidemill::grammar
