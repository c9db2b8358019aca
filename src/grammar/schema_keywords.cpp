// The keywords that SchemaReader knows, one by one.
#include <algorithm>
#include <array>
#include <limits>
#include <numeric>
#include <unordered_set>
#include <utility>

#include <fmt/format.h>

#include "grammar/look_ahead_patterns.hpp"
#include "grammar/named_formats.hpp"
#include "grammar/schema_reader.hpp"
#include "grammar/schema_reading.hpp"
#include "grammar/string_formats.hpp"

namespace tidemill::grammar {

namespace json = base::json;

namespace {

std::optional<TypeSet> type_named(std::string_view name) {
  static const std::map<std::string_view, TypeSet> types{
      {"null", null_type},     {"boolean", boolean_type}, {"integer", integer_type}, {"number", number_types},
      {"string", string_type}, {"array", array_type},     {"object", object_type},
  };
  const auto found = types.find(name);
  return found == types.end() ? std::nullopt : std::optional(found->second);
}

std::optional<TypeSet> types_named(const json::value& value) {
  if (value.is_string()) return type_named(value.get_string());
  const auto* names = value.if_array();
  if (names == nullptr || names->empty()) return std::nullopt;
  TypeSet types = 0;
  for (const json::value& name : *names) {
    const auto type = name.is_string() ? type_named(name.get_string()) : std::nullopt;
    if (!type) return std::nullopt;
    types |= *type;
  }
  return types;
}

// A natural number, also written as 2.0.
std::optional<uint64_t> natural(const json::value& value) {
  return value.is_number() ? Decimal::of(value).as_natural() : std::nullopt;
}

// Beside which an unknown format has nothing to say.
constexpr std::array<std::string_view, 3> explicit_values = {"pattern", "enum", "const"};

bool says_values(const json::object& schema) {
  const auto says = [](const json::object& one) {
    return std::any_of(explicit_values.begin(), explicit_values.end(),
                       [&](std::string_view keyword) { return one.contains(keyword); });
  };
  if (says(schema)) return true;
  const json::value* all = schema.if_contains("allOf");
  const json::array* parts = all == nullptr ? nullptr : all->if_array();
  return parts != nullptr && std::any_of(parts->begin(), parts->end(), [&](const json::value& part) {
           return part.is_object() && says(part.get_object());
         });
}

void add_pattern(StringShape& strings, StringPattern pattern) {
  const auto known = [&](const StringPattern& one) {
    return one.source == pattern.source && one.excluded == pattern.excluded;
  };
  if (std::none_of(strings.patterns.begin(), strings.patterns.end(), known)) {
    strings.patterns.push_back(std::move(pattern));
  }
}

// Numbers of the shape lie in `range` as well.
void hold_to(Shape& shape, const NumberRange& range, SchemaNode owner) {
  if (range.minimum && shape.numbers.raise_minimum(*range.minimum, false)) shape.number_keywords.minimum = owner;
  if (range.maximum && shape.numbers.lower_maximum(*range.maximum, false)) shape.number_keywords.maximum = owner;
  if (range.integer) shape.types &= static_cast<TypeSet>(~fraction_type);
}

template <typename T>
void lower(std::optional<T>& bound, T value) {
  bound = bound ? std::min(*bound, value) : value;
}

}  // namespace

const std::map<std::string_view, SchemaReader::Handler>& SchemaReader::handlers() {
  static const std::map<std::string_view, Handler> table{
      {"type", &SchemaReader::read_type},
      {"enum", &SchemaReader::read_enum},
      {"const", &SchemaReader::read_enum},
      {"minimum", &SchemaReader::read_bound},
      {"maximum", &SchemaReader::read_bound},
      {"exclusiveMinimum", &SchemaReader::read_bound},
      {"exclusiveMaximum", &SchemaReader::read_bound},
      {"multipleOf", &SchemaReader::read_multiple},
      {"minLength", &SchemaReader::read_size},
      {"maxLength", &SchemaReader::read_size},
      {"minItems", &SchemaReader::read_size},
      {"maxItems", &SchemaReader::read_size},
      {"minProperties", &SchemaReader::read_size},
      {"maxProperties", &SchemaReader::read_size},
      {"pattern", &SchemaReader::read_pattern},
      {"format", &SchemaReader::read_format},
      {"uniqueItems", &SchemaReader::read_unique},
      {"required", &SchemaReader::read_required},
      {"propertyNames", &SchemaReader::read_names},
      {"dependentRequired", &SchemaReader::read_dependent},
      {"dependentSchemas", &SchemaReader::read_dependent},
      {"unevaluatedProperties", &SchemaReader::read_unevaluated},
      {"unevaluatedItems", &SchemaReader::read_unevaluated},
      {"$ref", &SchemaReader::read_reference},
      {"allOf", &SchemaReader::read_combination},
      {"anyOf", &SchemaReader::read_combination},
      {"oneOf", &SchemaReader::read_combination},
      {"not", &SchemaReader::read_not},
      {"if", &SchemaReader::read_condition},
      {"contains", &SchemaReader::refuse},
      {"dependencies", &SchemaReader::read_dependent},
      {"$dynamicRef", &SchemaReader::refuse},
      {"$recursiveRef", &SchemaReader::refuse},
  };
  return table;
}

base::Result<void> SchemaReader::read_type(Reading& reading, const std::shared_ptr<Frame>& frame,
                                           std::string_view keyword, const json::value& value) {
  const auto types = types_named(value);
  if (!types) {
    return invalid(frame->node, keyword,
                   fmt::format("{} is not a type; types are null, boolean, integer, number, string, array and object, "
                               "or an array of them",
                               json::serialize(value)));
  }
  reading.shape.types &= *types;
  return {};
}

base::Result<void> SchemaReader::read_enum(Reading& reading, const std::shared_ptr<Frame>& frame,
                                           std::string_view keyword, const json::value& value) {
  std::vector<const json::value*> values;
  if (keyword == "const") {
    values.push_back(&value);
  } else if (const auto* members = value.if_array()) {
    for (const json::value& member : *members)
      values.push_back(&member);
  } else {
    return invalid(frame->node, keyword, "must be an array of values");
  }
  auto& known = reading.shape.values;
  if (known) {
    std::vector<const json::value*> both;
    for (const json::value* one : values) {
      TM_TRY(const bool listed, among(*known, *one, frame->node));
      if (listed) both.push_back(one);
    }
    values = std::move(both);
  }
  TypeSet types = 0;
  for (const json::value* one : values)
    types |= type_of(*one);
  reading.shape.types &= types;
  known = std::move(values);
  return {};
}

base::Result<void> SchemaReader::read_bound(Reading& reading, const std::shared_ptr<Frame>& frame,
                                            std::string_view keyword, const json::value& value) {
  if (!value.is_number()) return invalid(frame->node, keyword, "must be a number");
  const Decimal bound = Decimal::of(value);
  const bool exclusive = keyword.starts_with("exclusive");
  Shape& shape = reading.shape;
  if (keyword.ends_with("inimum")) {
    if (shape.numbers.raise_minimum(bound, exclusive)) shape.number_keywords.minimum = frame->node;
  } else if (shape.numbers.lower_maximum(bound, exclusive)) {
    shape.number_keywords.maximum = frame->node;
  }
  return {};
}

base::Result<void> SchemaReader::read_multiple(Reading& reading, const std::shared_ptr<Frame>& frame,
                                               std::string_view keyword, const json::value& value) {
  if (!value.is_number() || Decimal::of(value).negative || Decimal::of(value).digits == 0) {
    return invalid(frame->node, keyword, "must be a number above 0");
  }
  const auto factor = natural(value);
  if (!factor || Decimal::of(value).rounded) {
    return unsupported(
        frame->node, keyword,
        "must be an integer of up to 64 bits, past 2^53 in digits alone: whether a decimal fraction is a "
        "multiple of another depends on how it is rounded");
  }
  uint64_t& multiple = reading.shape.numbers.multiple_of;
  const uint64_t divisor = std::gcd(multiple, *factor);
  if (multiple / divisor > std::numeric_limits<uint64_t>::max() / *factor) {
    return unsupported(frame->node, keyword, "must not come to more than 64 bits together with the others that hold");
  }
  multiple = multiple / divisor * *factor;
  reading.shape.number_keywords.multiple_of = frame->node;
  reading.shape.types &= static_cast<TypeSet>(~fraction_type);
  return {};
}

base::Result<void> SchemaReader::read_size(Reading& reading, const std::shared_ptr<Frame>& frame,
                                           std::string_view keyword, const json::value& value) {
  const auto size = natural(value);
  if (!size) return invalid(frame->node, keyword, "must be an integer of at least 0");
  Shape& shape = reading.shape;
  if (keyword == "minLength") shape.strings.min_length = std::max(shape.strings.min_length, *size);
  if (keyword == "maxLength") lower(shape.strings.max_length, *size);
  if (keyword == "minItems") shape.arrays.min_items = std::max(shape.arrays.min_items, *size);
  if (keyword == "maxItems") lower(shape.arrays.max_items, *size);
  if (keyword == "minProperties") shape.objects.min_properties = std::max(shape.objects.min_properties, *size);
  if (keyword == "maxProperties") lower(shape.objects.max_properties, *size);
  return {};
}

base::Result<void> SchemaReader::read_pattern(Reading& reading, const std::shared_ptr<Frame>& frame,
                                              std::string_view keyword, const json::value& value) {
  if (!value.is_string()) return invalid(frame->node, keyword, "must be a string");
  StringShape& strings = reading.shape.strings;
  const SchemaNode owner = document_.child(frame->node, keyword, value);
  const std::string_view source = value.get_string();
  if (const auto plain = without_look_ahead(source)) {
    add_pattern(strings, {plain->pattern, owner, plain->format});
    return {};
  }
  const LookAheads parts = split_look_aheads(source);
  if (!can_be_split(parts, limits_)) {
    add_pattern(strings, {std::string(source), owner, ""});  // what is wrong with it is told of it as a whole
    return {};
  }
  for (const std::string& part : parts.required)
    add_pattern(strings, {part, owner, ""});
  for (const std::string& part : parts.excluded)
    add_pattern(strings, {part, owner, "", true});
  return {};
}

base::Result<void> SchemaReader::read_format(Reading& reading, const std::shared_ptr<Frame>& frame,
                                             std::string_view keyword, const json::value& value) {
  if (!value.is_string()) return invalid(frame->node, keyword, "must be a string");
  const json::object& schema = document_.at(frame->node).get_object();
  const std::string_view name = value.get_string();
  // Clients give names of their own to patterns that they write beside them, several in allOf.
  const bool named = says_values(schema);
  if (const std::string_view pattern = format_pattern(name); !pattern.empty()) {
    add_pattern(reading.shape.strings,
                {std::string(pattern), document_.child(frame->node, keyword, value), std::string(name)});
    return {};
  }
  if (const auto* range = number_format(name)) {
    const auto* type = schema.if_contains("type");
    const auto types = type == nullptr ? std::nullopt : types_named(*type);
    if (types && (*types & number_types) == 0 && (*types & string_type) != 0 && !named && !loose_formats_) {
      return unsupported(frame->node, keyword,
                         fmt::format("\"{}\" is a format of numbers: give the type integer, or a pattern", name));
    }
    hold_to(reading.shape, *range, frame->node);
    return {};
  }
  if (is_any_text(name) || named) return {};
  if (const std::string_view pattern = named_format_pattern(name); !pattern.empty()) {
    add_pattern(reading.shape.strings,
                {std::string(pattern), document_.child(frame->node, keyword, value), std::string(name)});
    return {};
  }
  if (loose_formats_) return {};
  return unsupported(frame->node, keyword,
                     fmt::format("\"{}\" is no format that is known; held to are {}: give one of them, a pattern, or "
                                 "no format",
                                 name, known_formats()));
}

// prefixItems and items, and what they were before 2020-12: items with an array, and additionalItems.
base::Result<void> SchemaReader::read_array(Reading& reading, const std::shared_ptr<Frame>& frame,
                                            const json::object& schema) {
  std::vector<Conjunction> prefix;
  Conjunction rest;
  const auto read_prefix = [&](std::string_view keyword, const json::value& value) -> base::Result<void> {
    const auto* items = value.if_array();
    if (items == nullptr) return invalid(frame->node, keyword, "must be an array of schemas");
    const SchemaNode list = document_.child(frame->node, keyword, value);
    for (size_t i = 0; i < items->size(); ++i) {
      prefix.push_back({document_.child(list, std::to_string(i), (*items)[i])});
    }
    return {};
  };
  const auto* first = schema.if_contains("prefixItems");
  const auto* items = schema.if_contains("items");
  if (first == nullptr && items == nullptr) return {};
  if (first != nullptr) TM_CHECK(read_prefix("prefixItems", *first));
  if (items != nullptr && items->is_array()) {
    if (first != nullptr) return invalid(frame->node, "items", "must be a schema beside prefixItems");
    TM_CHECK(read_prefix("items", *items));
    if (const auto* more = schema.if_contains("additionalItems")) {
      rest = {document_.child(frame->node, "additionalItems", *more)};
    }
  } else if (items != nullptr) {
    rest = {document_.child(frame->node, "items", *items)};
  }
  ArrayShape& shape = reading.shape.arrays;
  std::vector<Conjunction> both;
  for (size_t i = 0; i < std::max(prefix.size(), shape.prefix.size()); ++i) {
    both.push_back(united(i < prefix.size() ? prefix[i] : rest, shape.item(i)));
  }
  shape.prefix = std::move(both);
  shape.rest = united(shape.rest, rest);
  return {};
}

base::Result<void> SchemaReader::read_unique(Reading& reading, const std::shared_ptr<Frame>& frame,
                                             std::string_view keyword, const json::value& value) {
  if (!value.is_bool()) return invalid(frame->node, keyword, "must be a boolean");
  if (value.get_bool()) reading.shape.arrays.unique = frame->node;
  return {};
}

base::Result<void> SchemaReader::read_required(Reading& reading, const std::shared_ptr<Frame>& frame,
                                               std::string_view keyword, const json::value& value) {
  const auto* names = value.if_array();
  if (names == nullptr ||
      std::any_of(names->begin(), names->end(), [](const auto& name) { return !name.is_string(); })) {
    return invalid(frame->node, keyword, "must be an array of strings");
  }
  auto& required = reading.shape.objects.required;
  std::unordered_set<std::string> known(required.begin(), required.end());
  for (const json::value& name : *names) {
    if (known.emplace(name.get_string()).second) required.emplace_back(name.get_string());
  }
  return {};
}

base::Result<void> SchemaReader::read_names(Reading& reading, const std::shared_ptr<Frame>& frame,
                                            std::string_view keyword, const json::value& value) {
  Conjunction& names = reading.shape.objects.names;
  names = united(names, {document_.child(frame->node, keyword, value)});
  return {};
}

base::Result<void> SchemaReader::read_properties(Reading& reading, const std::shared_ptr<Frame>& frame,
                                                 const json::object& schema) {
  auto layer = std::make_shared<ObjectLayer>();
  layer->owner = frame->node;
  bool any = false;
  for (const std::string_view keyword : {"properties", "patternProperties"}) {
    const auto* value = schema.if_contains(keyword);
    if (value == nullptr) continue;
    any = true;
    const auto* members = value->if_object();
    if (members == nullptr) return invalid(frame->node, keyword, "must be an object of schemas");
    const SchemaNode list = document_.child(frame->node, keyword, *value);
    for (const auto& member : *members) {
      const SchemaNode node = document_.child(list, member.key(), member.value());
      if (keyword == "properties") {
        layer->by_name.emplace(member.key(), node);
        layer->properties.emplace_back(member.key(), node);
      } else {
        layer->patterns.emplace_back(member.key(), node);
      }
    }
  }
  if (const auto* value = schema.if_contains("additionalProperties")) {
    any = true;
    layer->additional = document_.child(frame->node, "additionalProperties", *value);
  }
  if (any) reading.layers.push_back({std::move(layer), frame});
  return {};
}

base::Result<void> SchemaReader::read_unevaluated(Reading& reading, const std::shared_ptr<Frame>& frame,
                                                  std::string_view keyword, const json::value& value) {
  if (value.is_bool() && value.get_bool()) return {};
  if (keyword == "unevaluatedProperties") {
    reading.unevaluated.emplace_back(frame, document_.child(frame->node, keyword, value));
    return {};
  }
  const json::object& schema = document_.at(frame->node).get_object();
  if (schema.contains("items") && !schema.at("items").is_array()) return {};  // which leaves nothing unevaluated
  return unsupported(frame->node, keyword, "items that no other keyword sees: use items beside prefixItems instead");
}

base::Result<void> SchemaReader::read_not(Reading& reading, const std::shared_ptr<Frame>& frame,
                                          std::string_view keyword, const json::value& value) {
  if (const auto* allowed = value.if_bool()) {
    if (*allowed) reading.shape.types = 0;
    return {};
  }
  const auto* schema = value.if_object();
  if (schema == nullptr) return invalid(frame->node, keyword, "must be a schema");
  if (schema->empty()) {
    reading.shape.types = 0;
    return {};
  }
  const auto types = schema->size() == 1 && schema->contains("type") ? types_named(schema->at("type")) : std::nullopt;
  if (!types || (*types & number_types) == integer_type) {
    return unsupported(frame->node, keyword, "only a negated type is supported: say what a value must be instead");
  }
  reading.shape.types &= static_cast<TypeSet>(~*types);
  return {};
}

base::Result<void> SchemaReader::read_condition(Reading&, const std::shared_ptr<Frame>& frame, std::string_view keyword,
                                                const json::value&) {
  const json::object& schema = document_.at(frame->node).get_object();
  if (!schema.contains("then") && !schema.contains("else")) return {};
  return unsupported(frame->node, keyword,
                     "conditions are not supported: write the cases as anyOf, each with what distinguishes it");
}

base::Result<void> SchemaReader::refuse(Reading&, const std::shared_ptr<Frame>& frame, std::string_view keyword,
                                        const json::value&) {
  if (keyword == "contains") {
    return unsupported(frame->node, keyword, "is not supported: describe the items with items and prefixItems");
  }
  return unsupported(frame->node, keyword, "is not supported: use $ref with a pointer, as in \"#/$defs/name\"");
}

}  // namespace tidemill::grammar
