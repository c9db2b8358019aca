#include "wire/openai_notes.hpp"

#include <string>

#include <fmt/core.h>

#include "base/utf8.hpp"

namespace tidemill::wire {

using base::Result;
namespace json = base::json;

namespace {

constexpr size_t most_pairs = 16;
constexpr size_t longest_key = 64;     // characters
constexpr size_t longest_value = 512;  // characters

// What the answer may be like: text, or parts of it.
Result<void> check_prediction(const JsonFields& fields) {
  TM_TRY(const json::object* object, fields.object("prediction"));
  if (object == nullptr) return {};
  const JsonFields prediction(*object, "prediction");
  TM_TRY(const auto type, prediction.string("type"));
  if (type && *type != "content") {
    return prediction.invalid("type", fmt::format("'prediction.type' must be \"content\", not \"{}\"",
                                                  base::utf8::prefix(base::utf8::sanitize(*type), 40)));
  }
  const json::value* content = prediction.find("content");
  if (content == nullptr || content->is_string() || content->is_array()) return {};
  return prediction.mismatch("content", "a string or an array of parts", *content);
}

}  // namespace

Result<void> check_metadata(const JsonFields& fields) {
  TM_TRY(const json::object* metadata, fields.object("metadata"));
  if (metadata == nullptr) return {};
  const std::string path = fields.path("metadata");
  if (metadata->size() > most_pairs) {
    return fields.invalid("metadata",
                          fmt::format("'{}' has {} pairs; at most {} are taken", path, metadata->size(), most_pairs));
  }
  for (const auto& [key, value] : *metadata) {
    if (base::utf8::length(key) > longest_key) {
      return fields.invalid("metadata",
                            fmt::format("'{}' has a key of {} characters (\"{}...\"); at most {} are taken", path,
                                        base::utf8::length(key), base::utf8::prefix(key, longest_key), longest_key));
    }
    const std::string place = fmt::format("metadata.{}", std::string_view(key));
    if (!value.is_string()) return fields.mismatch(place, "a string", value);
    const size_t length = base::utf8::length(value.get_string());
    if (length > longest_value) {
      return fields.invalid(place, fmt::format("'{}' has {} characters; at most {} are taken", fields.path(place),
                                               length, longest_value));
    }
  }
  return {};
}

Result<void> check_notes(const JsonFields& fields) {
  for (const char* name : {"user", "safety_identifier", "prompt_cache_key"})
    TM_CHECK(fields.string(name));
  return check_metadata(fields);
}

Result<void> check_hints(const JsonFields& fields) {
  for (const char* name : {"service_tier", "verbosity", "prompt_cache_retention"})
    TM_CHECK(fields.string(name));
  TM_CHECK(fields.boolean("store"));
  return check_prediction(fields);
}

}  // namespace tidemill::wire
