// Reads the keywords of a tool's schema for the formats that do not write arguments as JSON.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>
#include <unordered_set>

#include "base/json.hpp"
#include "base/result.hpp"

namespace tidemill::chat {

// `unsupported`, with the first keyword of `schema` that is neither `known` nor an annotation (title, description,
// default, examples, ...). `where` names the schema.
base::Result<void> only_these_keywords(const base::json::object& schema, std::span<const std::string_view> known,
                                       std::string_view where);

// `properties` of an object's schema, none if it has none; the names of those that are required, which lie in `schema`.
base::json::object properties_of(const base::json::value& schema);
std::unordered_set<std::string_view> required_of(const base::json::value& schema);
// `unsupported` if one is required of which `properties` says nothing.
base::Result<void> required_are_known(const base::json::value& schema, const base::json::object& properties);

// Parts of a schema as schemas that stand alone: those that refer to others get its definitions.
class LonePart {
 public:
  // `root` must outlive it.
  explicit LonePart(const base::json::value& root) : root_(root) {}

  // Errors: `too_large` where so many parts refer to so many definitions that copying them is too much.
  base::Result<base::json::value> of(const base::json::value& part);

 private:
  const base::json::value& root_;
  size_t copied_ = 0;  // values of definitions
};

}  // namespace tidemill::chat
