#include "model/hugging_face/json_file.hpp"

#include <cmath>
#include <utility>

#include <fmt/format.h>

#include "base/file.hpp"
#include "model/metadata.hpp"

namespace tidemill::model {

namespace json = base::json;

using base::Error;
using base::ErrorCode;
using base::Result;

bool is_absent(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::symlink_status(path, ignored).type() == std::filesystem::file_type::not_found;
}

Result<JsonMembers> JsonMembers::read(const std::filesystem::path& path, size_t limit) {
  TM_TRY(const std::string text, base::read_regular_file(path, limit));
  return parse(text, path);
}

Result<JsonMembers> JsonMembers::parse(std::string_view text, const std::filesystem::path& path) {
  JsonMembers file;
  file.path_ = path;
  auto parsed = base::parse_json(text);
  if (!parsed) return file.error(ErrorCode::corrupt, parsed.error().message());
  file.root_ = std::make_shared<const json::value>(std::move(parsed).value());
  file.object_ = file.root_->if_object();
  if (file.object_ == nullptr) return file.error(ErrorCode::corrupt, "the file is no JSON object");
  return file;
}

JsonMembers JsonMembers::of(json::object object, const std::filesystem::path& path) {
  JsonMembers file;
  file.path_ = path;
  file.root_ = std::make_shared<const json::value>(std::move(object));
  file.object_ = file.root_->if_object();
  return file;
}

Result<JsonMembers> JsonMembers::read_if_there(const std::filesystem::path& path, size_t limit) {
  if (!is_absent(path)) return read(path, limit);
  JsonMembers none;
  none.path_ = path;
  return none;
}

const json::value* JsonMembers::find(std::string_view key) const {
  const json::value* value = object_ == nullptr ? nullptr : object_->if_contains(key);
  return value == nullptr || value->is_null() ? nullptr : value;
}

Result<JsonMembers> JsonMembers::members(std::string_view key) const {
  JsonMembers inner = *this;
  inner.prefix_ = name(key) + ".";
  const json::value* value = find(key);
  inner.object_ = value == nullptr ? nullptr : value->if_object();
  if (value != nullptr && inner.object_ == nullptr) return wrong(key, "an object");
  return inner;
}

Result<int64_t> JsonMembers::get_int(std::string_view key) const {
  const json::value* value = find(key);
  if (value == nullptr) return error(ErrorCode::not_found, fmt::format("'{}' is missing", name(key)));
  json::error_code failed;
  const auto number = value->is_number() ? value->to_number<int64_t>(failed) : 0;
  if (failed || !value->is_number()) return wrong(key, "an integer");
  return number;
}

Result<int64_t> JsonMembers::get_int_or(std::string_view key, int64_t fallback) const {
  if (find(key) == nullptr) return fallback;
  return get_int(key);
}

Result<int64_t> JsonMembers::get_count(std::string_view key, int64_t most) const {
  TM_TRY(const int64_t value, get_int(key));
  if (value >= 1 && value <= most) return value;
  return wrong(key, fmt::format("1 to {}", most));
}

Result<double> JsonMembers::get_number(std::string_view key) const {
  const json::value* value = find(key);
  if (value == nullptr) return error(ErrorCode::not_found, fmt::format("'{}' is missing", name(key)));
  if (!value->is_number()) return wrong(key, "a number");
  return value->to_number<double>();
}

Result<double> JsonMembers::get_number_or(std::string_view key, double fallback) const {
  if (find(key) == nullptr) return fallback;
  return get_number(key);
}

Result<double> JsonMembers::get_positive(std::string_view key) const {
  TM_TRY(const double value, get_number(key));
  const auto kept = static_cast<float>(value);
  if (std::isfinite(kept) && kept > 0) return value;
  return wrong(key, "a positive number");
}

Result<bool> JsonMembers::get_bool_or(std::string_view key, bool fallback) const {
  const json::value* value = find(key);
  if (value == nullptr) return fallback;
  if (!value->is_bool()) return wrong(key, "true or false");
  return value->get_bool();
}

Result<std::string> JsonMembers::get_string_or(std::string_view key, std::string_view fallback) const {
  const json::value* value = find(key);
  if (value == nullptr) return std::string(fallback);
  if (!value->is_string()) return wrong(key, "a text");
  return std::string(std::string_view(value->get_string()));
}

Error JsonMembers::error(ErrorCode code, std::string_view message) const {
  return Error(code, fmt::format("{}: {}", path_.string(), message));
}

Error JsonMembers::wrong(std::string_view key, std::string_view wanted) const {
  const json::value* value = find(key);
  return error(ErrorCode::corrupt,
               fmt::format("'{}' is {}; expected {}", name(key),
                           value == nullptr ? "absent" : printable(json::serialize(*value)), wanted));
}

}  // namespace tidemill::model
