#include "grammar/schema_document.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>

#include <fmt/format.h>

#include "grammar/uri_reference.hpp"

namespace tidemill::grammar {

using base::ErrorCode;
namespace json = base::json;

namespace {

// Keywords whose values are data, not schemas.
bool holds_data(std::string_view keyword) {
  return keyword == "enum" || keyword == "const" || keyword == "default" || keyword == "examples";
}

// Keywords whose members are schemas by names, which are no keywords.
bool holds_schemas_by_name(std::string_view keyword) {
  return keyword == "properties" || keyword == "patternProperties" || keyword == "$defs" || keyword == "definitions" ||
         keyword == "dependentSchemas" || keyword == "dependencies";
}

std::string percent_decoded(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    unsigned byte = 0;
    if (text[i] == '%' && i + 2 < text.size() &&
        std::from_chars(text.data() + i + 1, text.data() + i + 3, byte, 16).ptr == text.data() + i + 3) {
      out += static_cast<char>(byte);
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

std::string pointer_unescaped(std::string_view token) {
  std::string out;
  for (size_t i = 0; i < token.size(); ++i) {
    if (token[i] == '~' && i + 1 < token.size() && (token[i + 1] == '0' || token[i + 1] == '1')) {
      out += token[++i] == '0' ? '~' : '/';
    } else {
      out += token[i];
    }
  }
  return out;
}

std::string pointer_escaped(std::string_view token) {
  std::string out;
  for (const char c : token) {
    if (c == '~') {
      out += "~0";
    } else if (c == '/') {
      out += "~1";
    } else {
      out += c;
    }
  }
  return out;
}

const std::string_view* string_member(const json::value& value, std::string_view key, std::string_view& storage) {
  const auto* object = value.if_object();
  if (object == nullptr) return nullptr;
  const auto* member = object->if_contains(key);
  if (member == nullptr || !member->is_string()) return nullptr;
  storage = member->get_string();
  return &storage;
}

}  // namespace

base::Result<SchemaDocument> SchemaDocument::open(const json::value& schema, const GrammarLimits& limits) {
  SchemaDocument document;
  document.nodes_.push_back({&schema, 0, ""});
  document.numbers_.emplace(&schema, 0);
  document.uris_.emplace(document.root(), "");
  std::vector<Step> path;
  TM_CHECK(document.survey(schema, path, {document.root(), Part::schema}, limits));
  return document;
}

SchemaDocument::Part SchemaDocument::part_of_member(Part part, std::string_view key) {
  if (part == Part::data) return Part::data;
  if (part == Part::names) return Part::schema;
  if (holds_data(key)) return Part::data;
  return holds_schemas_by_name(key) ? Part::names : Part::schema;
}

base::Result<void> SchemaDocument::survey(const json::value& value, std::vector<Step>& path, Place place,
                                          const GrammarLimits& limits) {
  if (path.size() > static_cast<size_t>(limits.max_depth)) {
    return error(ErrorCode::too_large, intern_path(path), "",
                 fmt::format("the schema is nested deeper than {} levels: move parts to $defs, and refer to them",
                             limits.max_depth));
  }
  if (const auto* number = value.if_double(); number != nullptr && !std::isfinite(*number)) {
    return error(ErrorCode::invalid_argument, intern_path(path), "", "a number too large for a double");
  }
  if (const auto* array = value.if_array()) {
    for (size_t i = 0; i < array->size(); ++i) {
      const std::string index = std::to_string(i);
      path.push_back({index, &(*array)[i]});
      const Part part = place.part == Part::data ? Part::data : Part::schema;
      TM_CHECK(survey((*array)[i], path, {place.resource, part}, limits));
      path.pop_back();
    }
    return {};
  }
  const auto* object = value.if_object();
  if (object == nullptr) return {};
  if (place.part == Part::schema) {
    TM_CHECK(survey_names(value, path, place.resource));
    if (place.resource != root() && object->contains("$ref")) embedded_.emplace(&value, place.resource);
    names_unevaluated_ = names_unevaluated_ || object->contains("unevaluatedProperties");
  }
  for (const auto& member : *object) {
    path.push_back({member.key(), &member.value()});
    TM_CHECK(survey(member.value(), path, {place.resource, part_of_member(place.part, member.key())}, limits));
    path.pop_back();
  }
  return {};
}

// What the schema is called by. `resource` becomes itself where it has an $id.
base::Result<void> SchemaDocument::survey_names(const json::value& schema, const std::vector<Step>& path,
                                                SchemaNode& resource) {
  std::string_view name;
  if (string_member(schema, "$id", name) != nullptr) {
    const size_t mark = std::min(name.find('#'), name.size());
    const std::string_view fragment = name.substr(std::min(mark + 1, name.size()));
    if (mark > 0) {
      const std::string uri = resolved_uri(uris_.at(resource), name.substr(0, mark));
      resource = intern_path(path);
      uris_.insert_or_assign(resource, uri);
      if (!ids_.emplace(uri, resource).second) return two_subschemas(resource, "$id", uri);
    }
    // Drafts before 2019-09 have anchors so. A JSON pointer, which some programs write, says nothing.
    if (!fragment.empty() && fragment.front() != '/')
      TM_CHECK(add_anchor(resource, intern_path(path), "$id", fragment));
  }
  for (const std::string_view keyword : {"$anchor", "$dynamicAnchor"}) {
    if (string_member(schema, keyword, name) != nullptr)
      TM_CHECK(add_anchor(resource, intern_path(path), keyword, name));
  }
  return {};
}

base::Result<void> SchemaDocument::add_anchor(SchemaNode resource, SchemaNode node, std::string_view keyword,
                                              std::string_view name) {
  const auto [at, fresh] = anchors_.emplace(fmt::format("{}#{}", resource, name), node);
  if (!fresh && at->second != node) return two_subschemas(node, keyword, name);
  return {};
}

base::Error SchemaDocument::two_subschemas(SchemaNode node, std::string_view keyword, std::string_view name) const {
  return error(ErrorCode::invalid_argument, node, keyword, fmt::format("\"{}\" names two subschemas", name));
}

SchemaNode SchemaDocument::intern(const json::value* value, SchemaNode parent, std::string_view key) {
  const auto [at, fresh] = numbers_.emplace(value, static_cast<SchemaNode>(nodes_.size()));
  if (fresh) nodes_.push_back({value, parent, std::string(key)});
  return at->second;
}

SchemaNode SchemaDocument::intern_path(const std::vector<Step>& path) {
  SchemaNode node = root();
  for (const Step& step : path)
    node = intern(step.value, node, step.key);
  return node;
}

SchemaNode SchemaDocument::child(SchemaNode parent, std::string_view key, const json::value& value) {
  return intern(&value, parent, key);
}

SchemaNode SchemaDocument::implied(SchemaNode parent, json::value schema) {
  implied_.push_back(std::move(schema));
  const SchemaNode node = intern(&implied_.back(), parent, "");
  nodes_[node].is_implied = true;
  return node;
}

bool SchemaDocument::is_made_up(SchemaNode node) const {
  while (node != root() && !is_implied(node))
    node = nodes_[node].parent;
  return is_implied(node);
}

std::string SchemaDocument::pointer(SchemaNode node) const {
  std::string out;
  for (; node != root(); node = nodes_[node].parent) {
    if (!nodes_[node].key.empty()) out.insert(0, "/" + pointer_escaped(nodes_[node].key));
  }
  return "#" + out;
}

SchemaNode SchemaDocument::resource_of(SchemaNode node) const {
  while (node != root() && !uris_.contains(node))
    node = nodes_[node].parent;
  return node;
}

std::optional<SchemaNode> SchemaDocument::walk(SchemaNode from, std::string_view pointer) {
  SchemaNode node = from;
  while (!pointer.empty()) {
    pointer.remove_prefix(1);  // the slash
    const size_t end = std::min(pointer.find('/'), pointer.size());
    const std::string token = pointer_unescaped(pointer.substr(0, end));
    pointer.remove_prefix(end);
    const json::value& value = at(node);
    const json::value* next = nullptr;
    if (const auto* object = value.if_object()) {
      next = object->if_contains(token);
    } else if (const auto* array = value.if_array()) {
      size_t index = 0;
      const auto parsed = std::from_chars(token.data(), token.data() + token.size(), index);
      if (parsed.ec == std::errc() && parsed.ptr == token.data() + token.size() && index < array->size()) {
        next = &(*array)[index];
      }
    }
    if (next == nullptr) return std::nullopt;
    node = intern(next, node, token);
  }
  return node;
}

base::Result<SchemaNode> SchemaDocument::resolve(SchemaNode from, std::string_view reference) {
  const size_t mark = std::min(reference.find('#'), reference.size());
  const std::string_view resource = reference.substr(0, mark);
  const std::string fragment = percent_decoded(reference.substr(std::min(mark + 1, reference.size())));
  SchemaNode base = resource_of(from);
  if (!resource.empty()) {
    const std::string uri = resolved_uri(uris_.at(base), resource);
    const auto found = ids_.find(uri);
    if (found == ids_.end()) {
      return error(ErrorCode::unsupported, from, "$ref",
                   fmt::format("\"{}\"{} is another document: references must point into the schema itself, as in "
                               "\"#/$defs/name\"",
                               reference, uri == resource ? "" : fmt::format(", which is \"{}\" here,", uri)));
    }
    base = found->second;
  }
  std::optional<SchemaNode> target;
  if (fragment.empty()) {
    target = base;
  } else if (fragment.front() == '/') {
    target = walk(base, fragment);
  } else if (const auto found = anchors_.find(fmt::format("{}#{}", base, fragment)); found != anchors_.end()) {
    target = found->second;
  }
  if (!target) {
    return error(ErrorCode::invalid_argument, from, "$ref",
                 fmt::format("\"{}\" points to nothing in the schema", reference));
  }
  return *target;
}

const json::value* SchemaDocument::referenced(const json::value& holder, std::string_view reference) {
  const auto embedded = embedded_.find(&holder);
  const auto target = resolve(embedded != embedded_.end() ? embedded->second : root(), reference);
  return target ? &at(*target) : nullptr;
}

std::string SchemaDocument::no_value(SchemaNode place, const std::vector<std::string>& parts) const {
  const size_t named = std::min<size_t>(parts.size(), 6);
  std::string out = pointer(place) + ":";
  for (size_t i = 0; i < named; ++i)
    out.append(i == 0 ? " " : i + 1 < named ? ", " : " and ").append(parts[i]);
  return out + (named == 1 ? " leaves no value" : " leave no value");
}

base::Error SchemaDocument::error(ErrorCode code, SchemaNode node, std::string_view keyword,
                                  std::string_view message) const {
  std::string where = pointer(node);
  if (!keyword.empty()) where += "/" + pointer_escaped(keyword);
  return {code, fmt::format("JSON Schema, {}: {}", where, message)};
}

}  // namespace tidemill::grammar
