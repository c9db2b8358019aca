// Reads the keywords of a tool's schema for the formats that do not write arguments as JSON.
#pragma once

#include <span>
#include <string_view>

#include "base/json.hpp"
#include "base/result.hpp"

namespace tidemill::chat {

// `unsupported`, with the first keyword of `schema` that is neither `known` nor an annotation (title, description,
// default, examples, ...). `where` names the schema.
base::Result<void> only_these_keywords(const base::json::object& schema, std::span<const std::string_view> known,
                                       std::string_view where);

// `properties` of an object's schema, none if it has none; whether one is required.
base::json::object properties_of(const base::json::value& schema);
bool is_required(const base::json::value& schema, std::string_view property);
// `unsupported` if one is required of which `properties` says nothing.
base::Result<void> required_are_known(const base::json::value& schema, const base::json::object& properties);

// `schema`, a part of `root`, as a schema that stands alone.
base::json::value with_definitions_of(const base::json::value& root, const base::json::value& schema);

}  // namespace tidemill::chat
