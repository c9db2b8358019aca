// Lists and dicts that a template changes in place, under the lenient rules (TemplateRules).
//
// What is put into one becomes a copy that cannot be changed any more. So no value ever holds itself, and nesting stays
// bounded: by `max_nesting` for values as they were built, and by as much again behind one change.
#pragma once

#include <string_view>

#include "text/jinja_ops.hpp"

namespace tidemill::text::jinja {

// The method of this name that changes a list or dict; null if there is none.
Native find_change(const Value& value, std::string_view name);

// holder[key] = value, for a dict. Throws where it can no longer be changed.
void change_entry(Interpreter& in, const Value& holder, const Value& key, const Value& value);

}  // namespace tidemill::text::jinja
