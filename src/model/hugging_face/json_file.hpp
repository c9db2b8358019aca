// JSON objects in files, read member by member with errors that name the file and the member.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/json.hpp"
#include "base/result.hpp"

namespace tidemill::model {

// Whether a folder has nothing of this name. A link to what is not there, as a pruned cache has them, and what cannot
// be looked at count as present: reading it then says what is wrong, and no part of a model is left out without a word.
bool is_absent(const std::filesystem::path& path);

// An object of a JSON file, or one that does not exist and has no members. A member that is null counts as absent.
// Copyable; views live as long as a copy. The getters' errors: `not_found` for an absent member, `corrupt` for one of
// another type or out of range.
class JsonMembers {
 public:
  // The file's object. Errors: those of base::read_regular_file, `corrupt` where the file
  // is no JSON object.
  static base::Result<JsonMembers> read(const std::filesystem::path& path, size_t limit);
  // The same for text that was read already; `path` is for errors.
  static base::Result<JsonMembers> parse(std::string_view text, const std::filesystem::path& path);
  // An object that was made; `path` is for errors.
  static JsonMembers of(base::json::object object, const std::filesystem::path& path);
  // As read(), or one without members where there is no such file (is_absent).
  static base::Result<JsonMembers> read_if_there(const std::filesystem::path& path, size_t limit);

  const std::filesystem::path& path() const { return path_; }
  bool exists() const { return object_ != nullptr; }
  const base::json::object& object() const { return *object_; }  // where it exists

  const base::json::value* find(std::string_view key) const;  // null if absent
  // The object under `key`, without members if absent.
  base::Result<JsonMembers> members(std::string_view key) const;

  base::Result<int64_t> get_int(std::string_view key) const;
  base::Result<int64_t> get_int_or(std::string_view key, int64_t fallback) const;
  base::Result<int64_t> get_count(std::string_view key, int64_t most) const;  // of 1 to `most`
  base::Result<double> get_number(std::string_view key) const;
  base::Result<double> get_number_or(std::string_view key, double fallback) const;
  // A number that F32, which GGUF's metadata have, tells from 0 and infinity.
  base::Result<double> get_positive(std::string_view key) const;
  base::Result<bool> get_bool_or(std::string_view key, bool fallback) const;
  base::Result<std::string> get_string_or(std::string_view key, std::string_view fallback) const;

  // The key as errors and people write it: "rope_scaling.factor".
  std::string name(std::string_view key) const { return prefix_ + std::string(key); }
  // An error whose message begins with the file's path.
  base::Error error(base::ErrorCode code, std::string_view message) const;
  // That the member `key` is not `wanted`.
  base::Error wrong(std::string_view key, std::string_view wanted) const;

 private:
  std::filesystem::path path_;
  std::string prefix_;
  std::shared_ptr<const base::json::value> root_;
  const base::json::object* object_ = nullptr;  // inside root_
};

}  // namespace tidemill::model
