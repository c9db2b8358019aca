// A JSON Schema as a document: its subschemas by number, the JSON pointers that name them in errors, and what
// references point to.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/json.hpp"
#include "base/result.hpp"
#include "grammar/grammar.hpp"

namespace tidemill::grammar {

using SchemaNode = uint32_t;

// Holds pointers into the schema that it was opened with, which must outlive it. Not thread-safe.
class SchemaDocument {
 public:
  // Errors: `too_large` past the limits of depth; `invalid_argument` for a number that is not finite, or two subschemas
  // of one $id, each of which is a URI within the next $id around it (RFC 3986), or of one anchor.
  static base::Result<SchemaDocument> open(const base::json::value& schema, const GrammarLimits& limits);

  SchemaNode root() const { return 0; }
  const base::json::value& at(SchemaNode node) const { return *nodes_[node].value; }
  // The subschema behind a keyword, or behind a keyword and a name or an index.
  SchemaNode child(SchemaNode parent, std::string_view key, const base::json::value& value);
  // A schema that the document implies where `parent` stands; errors in it are told there.
  SchemaNode implied(SchemaNode parent, base::json::value schema);
  bool is_implied(SchemaNode node) const { return nodes_[node].is_implied; }
  // Or lies within one that is.
  bool is_made_up(SchemaNode node) const;
  // As a URI fragment: "#" is the root, "#/properties/a" a property's schema.
  std::string pointer(SchemaNode node) const;
  size_t size() const { return nodes_.size(); }
  // Whether some part of it has a member "unevaluatedProperties".
  bool names_unevaluated() const { return names_unevaluated_; }

  // What "$ref": `reference` inside of `from` points to. Errors: `unsupported` for another document,
  // `invalid_argument` where nothing is found.
  base::Result<SchemaNode> resolve(SchemaNode from, std::string_view reference);

  // The same of a part of the schema that refers to it, whether it was numbered or not; null where there is an error.
  const base::json::value* referenced(const base::json::value& holder, std::string_view reference);

  // "#/properties/a: minimum 5 and maximum 3 leave no value". Of many parts the first six are named.
  std::string no_value(SchemaNode place, const std::vector<std::string>& parts) const;
  // "#/properties/a/pattern: message".
  base::Error error(base::ErrorCode code, SchemaNode node, std::string_view keyword, std::string_view message) const;

 private:
  struct Entry {
    const base::json::value* value;
    SchemaNode parent;
    std::string key;  // of the parent; "" with implied schemas
    bool is_implied = false;
  };
  struct Step {
    std::string_view key;
    const base::json::value* value;
  };

  enum class Part : uint8_t { schema, names, data };  // names: of schemas, each of which is a member
  struct Place {
    SchemaNode resource;  // the next subschema around it that has an $id, or the root
    Part part;
  };

  static Part part_of_member(Part part, std::string_view key);
  SchemaNode intern(const base::json::value* value, SchemaNode parent, std::string_view key);
  SchemaNode intern_path(const std::vector<Step>& path);
  base::Result<void> survey(const base::json::value& value, std::vector<Step>& path, Place place,
                            const GrammarLimits& limits);
  base::Result<void> survey_names(const base::json::value& schema, const std::vector<Step>& path, SchemaNode& resource);
  base::Result<void> add_anchor(SchemaNode resource, SchemaNode node, std::string_view keyword, std::string_view name);
  base::Error two_subschemas(SchemaNode node, std::string_view keyword, std::string_view name) const;
  SchemaNode resource_of(SchemaNode node) const;
  std::optional<SchemaNode> walk(SchemaNode from, std::string_view pointer);

  std::vector<Entry> nodes_;
  std::unordered_map<const base::json::value*, SchemaNode> numbers_;
  std::unordered_map<const base::json::value*, SchemaNode> embedded_;  // what refers from there: its resource
  std::unordered_map<SchemaNode, std::string> uris_;                   // of each that has an $id, and of the root
  std::unordered_map<std::string, SchemaNode> ids_;                    // the same, by URI; but for a root without $id
  std::unordered_map<std::string, SchemaNode> anchors_;                // "<number of the resource>#<name>"
  std::deque<base::json::value> implied_;
  bool names_unevaluated_ = false;
};

}  // namespace tidemill::grammar
