#include "chat/kept_schema.hpp"

#include <algorithm>
#include <array>
#include <span>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "chat/schema_words.hpp"
#include "chat/value_types.hpp"

namespace tidemill::chat {
namespace json = base::json;
namespace {

constexpr int most_nested = 8;                // schemas within a property's that are looked into
constexpr size_t most_work = 200;             // questions about single properties that take next to nothing
constexpr double work_of_limits = 50;         // one that takes as much as it may counts as so many more
constexpr size_t bytes_of_question = 20'000;  // of the schema, for each of which a question counts once more
constexpr int most_references = 16;           // from the parameters to the schema that has properties
constexpr std::string_view some_name = "x";   // for the schemas of properties that are not named

using Words = std::span<const std::string_view>;

// Where schemas lie within schemas, and what says which types a value may have. Without any other keyword more values
// satisfy a schema, not fewer, and without these too but for what is said below.
constexpr std::array<std::string_view, 16> structure = {"type",
                                                        "enum",
                                                        "const",
                                                        "nullable",
                                                        "properties",
                                                        "patternProperties",
                                                        "additionalProperties",
                                                        "required",
                                                        "items",
                                                        "prefixItems",
                                                        "anyOf",
                                                        "oneOf",
                                                        "allOf",
                                                        "$ref",
                                                        "$defs",
                                                        "definitions"};

// What holds for the properties or items that no other keyword sees: where one of those is lost, more would be held to
// it. Some see the names that they have, whatever they say of their values.
constexpr std::array<std::string_view, 2> of_unseen = {"unevaluatedProperties", "unevaluatedItems"};
constexpr std::array<std::string_view, 6> seeing_by_name = {"properties", "patternProperties", "additionalProperties",
                                                            "items",      "prefixItems",       "additionalItems"};
constexpr std::array<std::string_view, 12> seeing = {"allOf",        "anyOf", "oneOf",       "if",
                                                     "then",         "else",  "contains",    "dependentSchemas",
                                                     "dependencies", "$ref",  "$dynamicRef", "$recursiveRef"};

bool is_among(Words words, std::string_view keyword) {
  return std::find(words.begin(), words.end(), keyword) != words.end();
}

// Whether all that sees properties or items in `schema` does so in `kept`.
bool sees_as_much(const json::object& kept, const json::object& schema) {
  const auto has = [&](std::string_view keyword) { return !schema.contains(keyword) || kept.contains(keyword); };
  const auto has_whole = [&](std::string_view keyword) {
    const auto* said = schema.if_contains(keyword);
    const auto* left = kept.if_contains(keyword);
    return said == nullptr ? left == nullptr : left != nullptr && *left == *said;
  };
  return std::all_of(seeing_by_name.begin(), seeing_by_name.end(), has) &&
         std::all_of(seeing.begin(), seeing.end(), has_whole);
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
        references_(parameters),
        question_(1 + json::serialize(parameters).size() / bytes_of_question) {}

  std::optional<json::value> find();

 private:
  // The schema that has the properties, and what is required there or on the way to it.
  struct Stated {
    const json::value* schema;
    std::unordered_set<std::string_view> required;
    bool has_required = false;
  };

  // What the parameters may say of properties that are not named: the first with all else that they say.
  enum class Others : uint8_t { as_said, kept, any };

  Stated stated();
  json::object with_definitions(json::object schema) const;
  bool holds(std::string_view name, const json::value& schema);
  std::optional<json::value> property(std::string_view name, const json::value& schema, int depth);
  json::object with_kept_parts(std::string_view name, json::object schema, int depth);
  json::object with_the_rest(std::string_view name, json::object kept, const json::object& schema);
  json::value kept_or_free(std::string_view name, const json::value& schema, int depth);
  json::object of_others(const json::object& schema);

  const json::value& root_;
  const HoldsParameters& one_;
  const HoldsParameters& all_;
  TypeSearch types_;
  References references_;
  const size_t question_;  // how much work each is
  size_t work_ = most_work;
};

// The parameters, or what they refer to.
KeptParameters::Stated KeptParameters::stated() {
  Stated found{&root_, required_of(root_), root_.get_object().contains("required")};
  for (int i = 0; i < most_references && !found.schema->get_object().contains("properties"); ++i) {
    const auto* target = references_.from(*found.schema);
    if (target == nullptr || !target->is_object()) break;
    found.schema = target;
    found.required.merge(required_of(*target));
    found.has_required = found.has_required || target->get_object().contains("required");
  }
  return found;
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
  const Answer answer = one_(alone);
  const double limits = std::clamp(answer.spent, 0.0, 1.0);
  work_ -= std::min(work_, question_ + static_cast<size_t>(limits * work_of_limits));
  return answer.held == Held::yes;
}

// The most of a property's schema, or of one within it, that it can have.
std::optional<json::value> KeptParameters::property(std::string_view name, const json::value& schema, int depth) {
  if (holds(name, schema)) return schema;
  const auto* object = schema.if_object();
  if (object != nullptr && depth > 0 && work_ > 0) {
    const auto* target = references_.from(schema);
    const bool refers_alone = !other_keyword(*object, std::array<std::string_view, 1>{"$ref"});
    if (target != nullptr && refers_alone) return property(name, *target, depth - 1);
    json::object kept;
    for (const auto& member : *object)
      if (is_among(structure, member.key()) || is_annotation(member.key())) kept[member.key()] = member.value();
    if (const auto* type = kept.if_contains("type"); type != nullptr && !names_types(*type)) kept.erase("type");
    bool held = kept.size() < object->size() && holds(name, kept);
    if (!held) {
      kept = with_kept_parts(name, std::move(kept), depth);
      held = holds(name, kept);
    }
    if (!held && kept.erase("patternProperties") > 0) {
      kept.erase("additionalProperties");  // which would be for what the patterns match, too
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

// With what can be kept of the schemas within it. Alternatives that cannot be told apart are any of them, and so are
// those of which something was left out: a value may fit more of them then.
json::object KeptParameters::with_kept_parts(std::string_view name, json::object schema, int depth) {
  const auto* one_of = schema.if_contains("oneOf");
  const json::value exclusive = one_of != nullptr ? *one_of : json::value();
  for (const std::string_view keyword : {"items", "additionalProperties"}) {
    auto* part = schema.if_contains(keyword);
    if (part != nullptr && part->is_object()) *part = kept_or_free(name, *part, depth - 1);
  }
  for (const std::string_view keyword : {"properties", "patternProperties"}) {
    auto* parts = schema.if_contains(keyword);
    if (parts == nullptr || !parts->is_object()) continue;
    for (auto& member : parts->get_object())
      member.value() = kept_or_free(name, member.value(), depth - 1);
  }
  for (const std::string_view keyword : {"prefixItems", "anyOf", "oneOf", "allOf"}) {
    auto* parts = schema.if_contains(keyword);
    if (parts == nullptr || !parts->is_array()) continue;
    for (json::value& part : parts->get_array())
      part = kept_or_free(name, part, depth - 1);
  }
  if (one_of == nullptr) return schema;
  json::value alternatives = schema.at("oneOf");
  if (alternatives == exclusive && holds(name, schema)) return schema;
  schema.erase("oneOf");
  if (!schema.contains("anyOf")) {
    schema["anyOf"] = std::move(alternatives);
  } else if (json::value& all = schema["allOf"]; all.is_array() || all.is_null()) {
    if (all.is_null()) all = json::array();
    all.get_array().push_back(json::object{{"anyOf", std::move(alternatives)}});
  }
  return schema;
}

// And with what can be added of the keywords that were left out.
json::object KeptParameters::with_the_rest(std::string_view name, json::object kept, const json::object& schema) {
  const auto add = [&](std::string_view keyword, const json::value& value, const json::value* also = nullptr) {
    json::object more = kept;
    more[keyword] = value;
    if (also != nullptr) more["minContains"] = *also;
    if (holds(name, more)) kept = std::move(more);
  };
  for (const auto& member : schema) {
    const std::string_view keyword = member.key();
    if (is_among(structure, keyword) || is_among(of_unseen, keyword) || is_annotation(keyword)) continue;
    if (keyword == "minContains") continue;  // 0 takes from what the other asks for
    add(keyword, member.value(), keyword == "contains" ? schema.if_contains("minContains") : nullptr);
  }
  if (!sees_as_much(kept, schema)) return kept;
  for (const std::string_view keyword : of_unseen)
    if (const auto* value = schema.if_contains(keyword)) add(keyword, *value);
  return kept;
}

// What is said of properties that are not named, with what can be kept of their schemas.
json::object KeptParameters::of_others(const json::object& schema) {
  json::object kept;
  if (const auto* patterns = schema.if_contains("patternProperties")) {
    kept["patternProperties"] = *patterns;
    if (auto* parts = kept["patternProperties"].if_object()) {
      for (auto& member : *parts)
        member.value() = kept_or_free(some_name, member.value(), most_nested);
    }
  }
  if (const auto* others = schema.if_contains("additionalProperties")) {
    kept["additionalProperties"] = others->is_object() ? kept_or_free(some_name, *others, most_nested) : *others;
  }
  return kept;
}

std::optional<json::value> KeptParameters::find() {
  const Stated stated = this->stated();
  const auto& required = stated.required;
  json::object schema = stated.schema->get_object();
  json::object properties = properties_of(*stated.schema);
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
  if (kept.size() < properties.size()) {
    // What is not named any more would be one of the others.
    for (const std::string_view keyword : {"additionalProperties", "unevaluatedProperties"})
      schema.erase(keyword);
  }
  const auto filled = [&](json::object with, const json::object& members) {
    with = with_definitions(std::move(with));
    if (has_properties) with["properties"] = members;
    if (stated.has_required) with["required"] = names;
    return json::value(std::move(with));
  };
  double spent = 0;
  for (const Others others : {Others::as_said, Others::kept, Others::any}) {
    json::object with = others == Others::as_said ? schema : json::object();
    if (others == Others::kept) with = of_others(schema);
    json::value candidate = filled(std::move(with), kept);
    const Answer answer = all_(candidate);
    if (answer.held == Held::yes) return candidate;
    spent += answer.spent;
    if (answer.held == Held::too_large || spent >= 1) break;
  }
  json::value least = filled({}, by_type);
  return all_(least).held == Held::yes ? std::optional(std::move(least)) : std::nullopt;
}

}  // namespace

std::optional<json::value> kept_parameters(const json::value& parameters, const HoldsParameters& one,
                                           const HoldsParameters& all) {
  const auto* object = parameters.if_object();
  if (object == nullptr) return std::nullopt;
  return KeptParameters(parameters, one, all).find();
}

}  // namespace tidemill::chat
