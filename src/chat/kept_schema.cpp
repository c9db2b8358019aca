#include "chat/kept_schema.hpp"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>
#include <vector>

#include "chat/schema_words.hpp"
#include "chat/value_types.hpp"

namespace tidemill::chat {
namespace json = base::json;
namespace {

constexpr int most_nested = 8;                // schemas within a property's that are looked into
constexpr size_t most_work = 200;             // questions about single properties
constexpr size_t work_of_large = 40;          // one that was too large counts as so many
constexpr size_t bytes_of_question = 20'000;  // of the schema, for each of which a question counts once more
constexpr int most_references = 16;           // from the parameters to the schema that has properties

// Where schemas lie within schemas, and what says which types a value may have. Without any other keyword more values
// satisfy a schema, not fewer.
constexpr std::array<std::string_view, 15> structure = {
    "type",        "enum",  "const", "nullable", "properties", "required", "additionalProperties", "items",
    "prefixItems", "anyOf", "oneOf", "allOf",    "$ref",       "$defs",    "definitions"};

bool is_structure(std::string_view keyword) {
  return std::find(structure.begin(), structure.end(), keyword) != structure.end();
}

// A schema of these types alone.
json::object of_types(ValueTypes types) {
  constexpr std::array<std::pair<ValueTypes, const char*>, 6> names = {{{ValueTypes::text, "string"},
                                                                        {ValueTypes::number, "number"},
                                                                        {ValueTypes::boolean, "boolean"},
                                                                        {ValueTypes::null, "null"},
                                                                        {ValueTypes::array, "array"},
                                                                        {ValueTypes::object, "object"}}};
  if (types == ValueTypes::any) return {};
  json::array named;
  for (const auto& [type, name] : names)
    if (admits(types, type)) named.emplace_back(name);
  return {{"type", std::move(named)}};
}

class KeptParameters {
 public:
  KeptParameters(const json::value& parameters, const HoldsParameters& one, const HoldsParameters& all)
      : root_(parameters),
        one_(one),
        all_(all),
        types_(parameters),
        question_(1 + json::serialize(parameters).size() / bytes_of_question) {}

  std::optional<json::value> find();

 private:
  const json::value& stated() const;
  json::object with_definitions(json::object schema) const;
  bool holds(std::string_view name, const json::value& schema);
  std::optional<json::value> property(std::string_view name, const json::value& schema, int depth);
  json::object with_kept_parts(std::string_view name, json::object schema, int depth);
  json::object with_the_rest(std::string_view name, json::object kept, const json::object& schema);
  json::value kept_or_free(std::string_view name, const json::value& schema, int depth);

  const json::value& root_;
  const HoldsParameters& one_;
  const HoldsParameters& all_;
  TypeSearch types_;
  const size_t question_;  // how much work each is
  size_t work_ = most_work;
};

// The schema that has the properties: the parameters, or what they refer to.
const json::value& KeptParameters::stated() const {
  const json::value* schema = &root_;
  for (int i = 0; i < most_references && !schema->get_object().contains("properties"); ++i) {
    const auto* reference = schema->get_object().if_contains("$ref");
    const auto* target =
        reference != nullptr && reference->is_string() ? referenced(root_, reference->get_string()) : nullptr;
    if (target == nullptr || !target->is_object()) break;
    schema = target;
  }
  return *schema;
}

// A schema of an object, with what references in it point to.
json::object KeptParameters::with_definitions(json::object schema) const {
  schema["type"] = "object";
  const json::object& root = root_.get_object();
  for (const std::string_view key : {"$defs", "definitions"})
    if (const auto* definitions = root.if_contains(key)) schema[key] = *definitions;
  return schema;
}

bool KeptParameters::holds(std::string_view name, const json::value& schema) {
  if (work_ == 0) return false;
  json::object alone = with_definitions({});
  alone["properties"] = json::object{{name, schema}};
  alone["required"] = json::array{json::string(name)};
  const Held held = one_(alone);
  work_ -= std::min(work_, question_ * (held == Held::too_large ? work_of_large : 1));
  return held == Held::yes;
}

// The most of a property's schema, or of one within it, that it can have.
std::optional<json::value> KeptParameters::property(std::string_view name, const json::value& schema, int depth) {
  if (holds(name, schema)) return schema;
  const auto* object = schema.if_object();
  if (object != nullptr && depth > 0 && work_ > 0) {
    const auto* reference = object->if_contains("$ref");
    const auto* target =
        reference != nullptr && reference->is_string() ? referenced(root_, reference->get_string()) : nullptr;
    const bool refers_alone = !other_keyword(*object, std::array<std::string_view, 1>{"$ref"});
    if (target != nullptr && refers_alone) return property(name, *target, depth - 1);
    json::object kept;
    for (const auto& member : *object)
      if (is_structure(member.key())) kept[member.key()] = member.value();
    bool held = holds(name, kept);
    if (!held) {
      kept = with_kept_parts(name, std::move(kept), depth);
      held = holds(name, kept);
    }
    if (held) return json::value(with_the_rest(name, std::move(kept), *object));
  }
  json::value by_type = of_types(types_.admitted(schema));
  if (work_ == 0 || holds(name, by_type)) return by_type;
  json::value anything = json::object();
  return holds(name, anything) ? std::optional(std::move(anything)) : std::nullopt;
}

json::value KeptParameters::kept_or_free(std::string_view name, const json::value& schema, int depth) {
  auto kept = property(name, schema, depth);
  return kept ? std::move(*kept) : json::value(json::object());
}

// With what can be kept of the schemas within it; alternatives that cannot be told apart are any of them.
json::object KeptParameters::with_kept_parts(std::string_view name, json::object schema, int depth) {
  for (const std::string_view keyword : {"items", "additionalProperties"}) {
    auto* part = schema.if_contains(keyword);
    if (part != nullptr && part->is_object()) *part = kept_or_free(name, *part, depth - 1);
  }
  if (auto* properties = schema.if_contains("properties"); properties != nullptr && properties->is_object()) {
    for (auto& member : properties->get_object())
      member.value() = kept_or_free(name, member.value(), depth - 1);
  }
  for (const std::string_view keyword : {"prefixItems", "anyOf", "oneOf", "allOf"}) {
    auto* parts = schema.if_contains(keyword);
    if (parts == nullptr || !parts->is_array()) continue;
    for (json::value& part : parts->get_array())
      part = kept_or_free(name, part, depth - 1);
  }
  if (auto* one_of = schema.if_contains("oneOf"); one_of != nullptr && !schema.contains("anyOf")) {
    if (holds(name, schema)) return schema;
    json::value alternatives = std::move(*one_of);
    schema.erase("oneOf");
    schema["anyOf"] = std::move(alternatives);
  }
  return schema;
}

// And with what can be added of the keywords that were left out.
json::object KeptParameters::with_the_rest(std::string_view name, json::object kept, const json::object& schema) {
  for (const auto& member : schema) {
    if (is_structure(member.key())) continue;
    json::object more = kept;
    more[member.key()] = member.value();
    if (holds(name, more)) kept = std::move(more);
  }
  return kept;
}

std::optional<json::value> KeptParameters::find() {
  const json::object& schema = stated().get_object();
  json::object properties = properties_of(stated());
  const auto required = required_of(stated());
  std::vector<std::string_view> unnamed(required.begin(), required.end());
  std::sort(unnamed.begin(), unnamed.end());
  for (const std::string_view name : unnamed)
    if (!properties.contains(name)) properties[name] = json::object();
  json::object kept;
  json::object by_type;
  json::array names;  // of what is required and can be written
  for (const auto& member : properties) {
    auto one = property(member.key(), member.value(), most_nested);
    if (!one) continue;
    kept[member.key()] = std::move(*one);
    by_type[member.key()] = of_types(types_.admitted(member.value()));
    if (required.contains(member.key())) names.emplace_back(json::string(member.key()));
  }
  const bool has_properties = !kept.empty() || schema.contains("properties");
  const auto filled = [&](json::object with, const json::object& members) {
    with = with_definitions(std::move(with));
    if (has_properties) with["properties"] = members;
    if (schema.contains("required")) with["required"] = names;
    return json::value(std::move(with));
  };
  json::object closed;
  if (const auto* others = schema.if_contains("additionalProperties")) closed["additionalProperties"] = *others;
  for (const json::object& with : {schema, closed, json::object()}) {
    json::value candidate = filled(with, kept);
    const Held held = all_(candidate);
    if (held == Held::yes) return candidate;
    if (held == Held::too_large) break;
  }
  json::value least = filled({}, by_type);
  return all_(least) == Held::yes ? std::optional(std::move(least)) : std::nullopt;
}

}  // namespace

std::optional<json::value> kept_parameters(const json::value& parameters, const HoldsParameters& one,
                                           const HoldsParameters& all) {
  const auto* object = parameters.if_object();
  if (object == nullptr) return std::nullopt;
  return KeptParameters(parameters, one, all).find();
}

}  // namespace tidemill::chat
