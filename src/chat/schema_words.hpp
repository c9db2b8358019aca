// Reads the keywords of a tool's schema for the formats that do not write arguments as JSON.
#pragma once

#include <optional>
#include <span>
#include <string_view>
#include <unordered_set>

#include "base/json.hpp"
#include "base/result.hpp"
#include "grammar/schema_document.hpp"

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

// What references point to, as grammars read them: by pointers, anchors and the names given by $id, from the schema
// that has the next $id around it. Keeps a reference to `root`, which is gone through once, when it is first asked. Not
// thread-safe.
class References {
 public:
  explicit References(const base::json::value& root) : root_(root) {}

  // What `holder`, a part of the schema, refers to by its $ref; null: nothing, or something else. What is no part of it
  // is taken for one that no $id stands around.
  const base::json::value* from(const base::json::value& holder);

 private:
  const base::json::value& root_;
  bool is_open_ = false;
  std::optional<grammar::SchemaDocument> document_;  // none where it is no schema
};

// `properties` of an object's schema, none if it has none; the names of those that are required, which lie in `schema`.
base::json::object properties_of(const base::json::value& schema);
std::unordered_set<std::string_view> required_of(const base::json::value& schema);
// Whether nothing is said of names, so that an object may have any: there are no `properties`, and others are allowed.
bool takes_any_names(const base::json::value& schema);
// `unsupported` if one is required of which `properties` says nothing.
base::Result<void> required_are_known(const base::json::value& schema, const base::json::object& properties);

}  // namespace tidemill::chat
