#include "grammar/schema_shape.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>

namespace tidemill::grammar {

namespace json = base::json;

Conjunction united(const Conjunction& left, const Conjunction& right) {
  Conjunction out;
  std::set_union(left.begin(), left.end(), right.begin(), right.end(), std::back_inserter(out));
  return out;
}

TypeSet type_of(const json::value& value) {
  switch (value.kind()) {
    case json::kind::null:
      return null_type;
    case json::kind::bool_:
      return boolean_type;
    case json::kind::int64:
    case json::kind::uint64:
      return integer_type;
    case json::kind::double_:
      return value.get_double() == std::floor(value.get_double()) ? integer_type : fraction_type;
    case json::kind::string:
      return string_type;
    case json::kind::array:
      return array_type;
    case json::kind::object:
      return object_type;
  }
  return 0;
}

bool same_value(const json::value& left, const json::value& right) {
  if (left.is_number() && right.is_number()) {
    if (left.kind() == right.kind()) return left == right;
    return compare(Decimal::of(left), Decimal::of(right)) == 0;
  }
  if (left.kind() != right.kind()) return false;
  if (const auto* items = left.if_array()) {
    const auto& others = right.get_array();
    return std::equal(items->begin(), items->end(), others.begin(), others.end(), same_value);
  }
  if (const auto* members = left.if_object()) {
    const auto& others = right.get_object();
    return members->size() == others.size() && std::all_of(members->begin(), members->end(), [&](const auto& member) {
             const auto* other = others.if_contains(member.key());
             return other != nullptr && same_value(member.value(), *other);
           });
  }
  return left == right;
}

}  // namespace tidemill::grammar
