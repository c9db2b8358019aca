// Which kinds of JSON value a schema admits, for formats that do not write them down.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string_view>
#include <utility>

#include "base/json.hpp"
#include "chat/schema_words.hpp"

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

// Looks through the schemas of an object's properties, all with one bound of work: what is past it, or nested too deep,
// may be anything, and need not be. Keeps a reference to `object_schema`. Not thread-safe.
class TypeSearch {
 public:
  explicit TypeSearch(const base::json::value& object_schema) : references_(object_schema) {}

  // What `schema`, a part of the object's, may be: no value of another type belongs to it; `any` where it does not say.
  // Follows type, enum, const, nullable, anyOf, oneOf, allOf and references within the object's schema.
  ValueTypes admitted(const base::json::value& schema) { return admitted(schema, max_depth); }
  // The types of which it admits every value: it names them in `type`, or in anyOf, oneOf, allOf or references, and
  // says no more but in annotations. None where it does, or says nothing of types that can be seen.
  ValueTypes held_whole(const base::json::value& schema) { return held_whole(schema, max_depth); }

 private:
  static constexpr int max_depth = 16;          // of references and combinations that are followed
  static constexpr size_t max_steps = 100'000;  // subschemas looked at, which may lead to themselves many ways

  using Found = std::map<std::pair<const base::json::value*, int>, ValueTypes>;  // by what is referred to, and depth

  // One of the two searches, and what it says of what cannot be seen.
  struct Look {
    ValueTypes (TypeSearch::*at)(const base::json::value& schema, int depth);
    ValueTypes unseen;
  };

  bool over(int depth) { return ++steps_ > max_steps || depth == 0; }
  ValueTypes admitted(const base::json::value& schema, int depth);
  ValueTypes admitted_by_one(const base::json::value& schemas, int depth);
  ValueTypes held_whole(const base::json::value& schema, int depth);
  ValueTypes held_whole_by_one(const base::json::value& schemas, bool exactly, int depth);
  ValueTypes by_reference(const Look& look, Found& found, const base::json::value& schema, int depth);

  References references_;
  size_t steps_ = 0;
  Found admitted_;
  Found held_whole_;
};

// What a property may be, by the schema of the object that holds it.
ValueTypes property_types(const base::json::value& object_schema, std::string_view property);

// The schema of a property with references followed, or nullptr.
const base::json::value* property_schema(const base::json::value& object_schema, std::string_view property);

}  // namespace tidemill::chat
