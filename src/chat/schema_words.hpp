// Reads the keywords of a tool's schema for the formats that do not write arguments as JSON.
#pragma once

#include <optional>
#include <span>
#include <string_view>
#include <unordered_set>

#include "base/json.hpp"
#include "base/result.hpp"

namespace tidemill::chat {

// Whether a keyword says nothing of values: title, description, default, examples, ...
bool is_annotation(std::string_view keyword);
// The first keyword of `schema` that is neither `known` nor an annotation.
std::optional<std::string_view> other_keyword(const base::json::object& schema,
                                              std::span<const std::string_view> known);
// `unsupported`, with that keyword, if there is one. `where` names the schema.
base::Result<void> only_these_keywords(const base::json::object& schema, std::span<const std::string_view> known,
                                       std::string_view where);

// The type that a word stands for: JSON Schema's own in any case, as Gemini's clients write them ("STRING"), and
// Python's
// ("str", "int", "float", "bool", "list", "dict"). None for other words, which say nothing.
std::optional<std::string_view> type_of_word(std::string_view word);
// Whether the value of `type` has such words alone, one at least.
bool names_types(const base::json::value& type);
// A schema in which such words, in all schemas within it too, are those of JSON Schema.
base::json::value with_known_types(base::json::value schema);

// What "#/$defs/name" and its like point to; null: nothing, or something else. A key may be escaped as in RFC 6901.
const base::json::value* referenced(const base::json::value& root, std::string_view reference);

// `properties` of an object's schema, none if it has none; the names of those that are required, which lie in `schema`.
base::json::object properties_of(const base::json::value& schema);
std::unordered_set<std::string_view> required_of(const base::json::value& schema);
// Whether nothing is said of names, so that an object may have any: there are no `properties`, and others are allowed.
bool takes_any_names(const base::json::value& schema);
// `unsupported` if one is required of which `properties` says nothing.
base::Result<void> required_are_known(const base::json::value& schema, const base::json::object& properties);

}  // namespace tidemill::chat
