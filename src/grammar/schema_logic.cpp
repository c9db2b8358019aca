// What can be said of shapes without writing anything: whether a value fits one, and whether two have none in common.
#include <algorithm>

#include <fmt/format.h>

#include "base/utf8.hpp"
#include "grammar/schema_reader.hpp"
#include "grammar/schema_reading.hpp"

namespace tidemill::grammar {

namespace json = base::json;

namespace {

constexpr int kDisjointDepth = 3;      // properties within properties that are looked at to tell alternatives apart
constexpr size_t kMaxPairs = 250'000;  // of alternatives of one oneOf

// How much comparing it with another value may take; JSON is at most 64 deep here.
size_t parts_of(const json::value& value) {
  constexpr size_t characters = 64;  // that count as a part
  size_t parts = 1;
  if (const auto* text = value.if_string()) return parts + text->size() / characters;
  if (const auto* array = value.if_array()) {
    for (const auto& item : *array)
      parts += parts_of(item);
  }
  if (const auto* object = value.if_object()) {
    for (const auto& member : *object)
      parts += 1 + parts_of(member.value());
  }
  return parts;
}

}  // namespace

base::Result<bool> SchemaReader::accepts(const Conjunction& conjunction, const json::value& value) {
  if (conjunction.empty()) return true;
  TM_TRY(const std::vector<Shape>* shapes, read(conjunction));
  for (const Shape& shape : *shapes) {
    if (shape.values) {
      TM_TRY(const bool listed, among(*shape.values, value, conjunction.front()));
      if (!listed) continue;
    }
    TM_TRY(const bool fit, fits(shape, value));
    if (fit) return true;
  }
  return false;
}

base::Result<bool> SchemaReader::among(const std::vector<const json::value*>& values, const json::value& value,
                                       SchemaNode owner) {
  const size_t work = values.size() * parts_of(value);
  if (limits_.stop.stop_requested()) return stopped();
  if (comparing_ < work) {
    return document_.error(base::ErrorCode::too_large, owner, "",
                           fmt::format("lists of values that are too long to be compared with each other: more than {} "
                                       "comparisons of values and their parts for the whole schema; give one list",
                                       kMaxComparing));
  }
  comparing_ -= work;
  return std::any_of(values.begin(), values.end(), [&](const json::value* one) { return same_value(*one, value); });
}

// But for the list of values.
base::Result<bool> SchemaReader::fits(const Shape& shape, const json::value& value) {
  if ((shape.types & type_of(value)) == 0) return false;
  if (value.is_number()) return shape.numbers.contains(value);
  if (value.is_string()) return fits_string(shape.strings, value.get_string());
  if (const auto* items = value.if_array()) {
    if (items->size() < shape.arrays.min_items || items->size() > shape.arrays.max_items.value_or(SIZE_MAX))
      return false;
    std::vector<const json::value*> seen;
    for (size_t i = 0; i < items->size(); ++i) {
      TM_TRY(const bool fit, accepts(shape.arrays.item(i), (*items)[i]));
      if (!fit) return false;
      if (!shape.arrays.unique) continue;
      TM_TRY(const bool again, among(seen, (*items)[i], *shape.arrays.unique));
      if (again) return false;
      seen.push_back(&(*items)[i]);
    }
    return true;
  }
  if (const auto* object = value.if_object()) return fits_object(shape.objects, *object);
  return true;
}

base::Result<bool> SchemaReader::fits_string(const StringShape& shape, std::string_view text) {
  const size_t length = base::utf8::length(text);
  if (length < shape.min_length || length > shape.max_length.value_or(SIZE_MAX)) return false;
  for (const StringPattern& one : shape.patterns) {
    TM_TRY(const bool match, matches_pattern(one.source, one.owner, text));
    if (match == one.excluded) return false;
  }
  return true;
}

base::Result<bool> SchemaReader::fits_object(const ObjectShape& shape, const json::object& object) {
  if (object.size() < shape.min_properties || object.size() > shape.max_properties.value_or(SIZE_MAX)) return false;
  for (const std::string& name : shape.required) {
    if (!object.contains(name)) return false;
  }
  for (const auto& member : object) {
    TM_TRY(const bool named, accepts(shape.names, json::value(member.key())));
    if (!named) return false;
    TM_TRY(const Conjunction schema, property(shape, std::string(member.key())));
    TM_TRY(const bool fit, accepts(schema, member.value()));
    if (!fit) return false;
  }
  return true;
}

base::Result<bool> SchemaReader::disjoint(const Conjunction& left, const Conjunction& right, const Shape& context,
                                          int depth) {
  if (left.empty() || right.empty()) {
    const Conjunction& other = left.empty() ? right : left;
    if (other.empty()) return false;
    TM_TRY(const std::vector<Shape>* shapes, read(other));
    return shapes->empty();
  }
  TM_TRY(const std::vector<Shape>* lefts, read(left));
  TM_TRY(const std::vector<Shape>* rights, read(right));
  if (lefts->size() * rights->size() > kMaxPairs) return false;
  for (const Shape& one : *lefts) {
    for (const Shape& other : *rights) {
      TM_TRY(const bool apart, disjoint(one, other, context, depth));
      if (!apart) return false;
    }
  }
  return true;
}

base::Result<bool> SchemaReader::disjoint(const Shape& left, const Shape& right, const Shape& context, int depth) {
  const TypeSet common = left.types & right.types & context.types;
  if (common == 0) return true;
  if (left.narrowed || right.narrowed) return false;
  for (const auto& [one, other] : {std::pair(&left, &right), std::pair(&right, &left)}) {
    if (!one->values) continue;
    for (const json::value* value : *one->values) {
      bool listed = true;
      if (other->values) {
        TM_TRY(listed, among(*other->values, *value, document_.root()));
      }
      if (!listed) continue;
      // A format's pattern may leave out what its standard allows, so it tells nothing apart here.
      Shape plain = *other;
      plain.strings.patterns.clear();
      TM_TRY(const bool fit, fits(plain, *value));
      if (fit) return false;
    }
    return true;
  }
  if ((common & (null_type | boolean_type)) != 0) return false;
  if ((common & number_types) != 0 && !left.numbers.disjoint(right.numbers)) return false;
  const auto lengths_meet = [](size_t least, const std::optional<size_t>& most, size_t other_least,
                               const std::optional<size_t>& other_most) {
    return least <= other_most.value_or(SIZE_MAX) && other_least <= most.value_or(SIZE_MAX);
  };
  if ((common & string_type) != 0 && lengths_meet(left.strings.min_length, left.strings.max_length,
                                                  right.strings.min_length, right.strings.max_length)) {
    return false;
  }
  if ((common & array_type) != 0 &&
      lengths_meet(left.arrays.min_items, left.arrays.max_items, right.arrays.min_items, right.arrays.max_items)) {
    bool apart = false;
    const size_t sure = std::max(left.arrays.min_items, right.arrays.min_items);
    for (size_t i = 0; depth > 0 && !apart && i < std::min<size_t>(sure, 4); ++i) {
      TM_TRY(apart, disjoint(left.arrays.item(i), right.arrays.item(i), Shape(), depth - 1));
    }
    if (!apart) return false;
  }
  if ((common & object_type) != 0) return disjoint_objects(left.objects, right.objects, context, depth);
  return true;
}

base::Result<bool> SchemaReader::disjoint_objects(const ObjectShape& left, const ObjectShape& right,
                                                  const Shape& context, int depth) {
  if (depth == 0) return false;
  std::set<std::string> names(left.required.begin(), left.required.end());
  names.insert(right.required.begin(), right.required.end());
  names.insert(context.objects.required.begin(), context.objects.required.end());
  for (const std::string& name : names) {
    TM_TRY(const Conjunction one, property(left, name));
    TM_TRY(const Conjunction other, property(right, name));
    TM_TRY(const bool apart, disjoint(one, other, Shape(), depth - 1));
    if (apart) return true;
  }
  return false;
}

base::Result<void> SchemaReader::check_one_of(SchemaNode node, const std::vector<SchemaNode>& alternatives) {
  if (one_of_checked_.contains(node)) return {};
  if (!one_of_open_.insert(node).second) {
    return unsupported(node, "oneOf", "an alternative that is told from the others by the same oneOf again");
  }
  // Types and names that the schema itself asks for hold in all alternatives.
  Reading around;
  const auto frame = std::make_shared<Frame>(Frame{node, nullptr, 0});
  const json::object& schema = document_.at(node).get_object();
  base::Result<void> result;
  if (const auto* type = schema.if_contains("type")) result = read_type(around, frame, "type", *type);
  if (const auto* required = schema.if_contains("required"); result && required != nullptr) {
    result = read_required(around, frame, "required", *required);
  }
  for (size_t i = 0; result && i < alternatives.size(); ++i) {
    for (size_t j = 0; result && j < i; ++j) {
      auto apart = disjoint(Conjunction{alternatives[j]}, Conjunction{alternatives[i]}, around.shape, kDisjointDepth);
      if (++steps_; !apart) {
        result = std::move(apart).error();
      } else if (!*apart) {
        result = unsupported(node, "oneOf",
                             fmt::format("alternatives {} and {} may both hold, as far as can be seen: tell them apart "
                                         "by type or by a required property with a const, or use anyOf",
                                         j, i));
      }
    }
  }
  one_of_open_.erase(node);
  if (result) one_of_checked_.insert(node);
  return result;
}

}  // namespace tidemill::grammar
