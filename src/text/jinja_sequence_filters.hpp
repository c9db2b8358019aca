// Filters that walk sequences and mappings: map, select, sort, join, groupby, ...
#pragma once

#include <string_view>
#include <unordered_map>

#include "text/jinja_ast.hpp"

namespace tidemill::text::jinja {

void add_sequence_filters(std::unordered_map<std::string_view, Filter>& table);

}  // namespace tidemill::text::jinja
