#include "hub/listing.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "base/json.hpp"
#include "base/utf8.hpp"

namespace tidemill::hub {

namespace {

using base::Error;
using base::ErrorCode;
using base::Result;
namespace json = base::json;

Error odd_answer(std::string_view what) {
  return {ErrorCode::corrupt, fmt::format("the hub's answer is not what its API says: {}", what)};
}

Result<json::value> parse_answer(std::string_view text) {
  auto parsed = base::parse_json(text);
  if (!parsed) return odd_answer(parsed.error().message());
  return parsed;
}

// Empty if absent or no string.
std::string_view text_member(const json::object& object, std::string_view key) {
  const json::value* const found = object.if_contains(key);
  return found != nullptr && found->is_string() ? std::string_view(found->get_string()) : std::string_view();
}

std::optional<uint64_t> size_member(const json::object& object) {
  const json::value* const found = object.if_contains("size");
  if (found == nullptr || !found->is_int64() || found->get_int64() < 0) return std::nullopt;
  const auto size = static_cast<uint64_t>(found->get_int64());
  return size < kMostRepositoryBytes ? std::optional(size) : std::nullopt;
}

Result<RepoFile> parse_file(const json::object& entry) {
  RepoFile file;
  file.path = text_member(entry, "path");
  if (!is_safe_path(file.path)) {
    return Error(ErrorCode::corrupt,
                 fmt::format("the hub lists a file '{}', which would lie outside of its folder or have no name; "
                             "nothing of this repository is fetched",
                             base::utf8::printable(file.path, 200)));
  }
  const json::value* const lfs = entry.if_contains("lfs");
  const json::object* const stored = lfs != nullptr ? lfs->if_object() : nullptr;
  const auto size = size_member(stored != nullptr ? *stored : entry);
  if (!size) return odd_answer(fmt::format("the file '{}' has no size", file.path));
  file.size = *size;
  const std::string_view hex = text_member(stored != nullptr ? *stored : entry, "oid");
  if (hex.empty()) return file;
  file.digest = Digest{.kind = stored != nullptr ? DigestKind::sha256 : DigestKind::git_sha1, .hex = std::string(hex)};
  if (!file.digest->valid()) return odd_answer(fmt::format("'oid' of the file '{}' is no checksum", file.path));
  return file;
}

}  // namespace

bool is_safe_path(std::string_view path) {
  if (path.empty() || path.size() > 1000 || path.find('\0') != std::string_view::npos) return false;
  while (true) {
    const size_t slash = path.find('/');
    const std::string_view part = path.substr(0, slash);
    if (part.empty() || part == "." || part == ".." || part.size() > 250) return false;
    if (slash == std::string_view::npos) return true;
    path.remove_prefix(slash + 1);
  }
}

Result<std::string> parse_commit(std::string_view text) {
  TM_TRY(const json::value parsed, parse_answer(text));
  const json::object* const object = parsed.if_object();
  const std::string_view commit = object != nullptr ? text_member(*object, "sha") : std::string_view();
  if (!is_hex(commit, 40) && !is_hex(commit, 64)) return odd_answer("it names no commit ('sha')");
  return std::string(commit);
}

Result<void> add_files(std::string_view text, std::vector<RepoFile>& files) {
  TM_TRY(const json::value parsed, parse_answer(text));
  const json::array* const entries = parsed.if_array();
  if (entries == nullptr) return odd_answer("a list of files was expected");
  for (const json::value& entry : *entries) {
    const json::object* const object = entry.if_object();
    if (object == nullptr) return odd_answer("an entry of the list of files is no object");
    if (text_member(*object, "type") != "file") continue;
    TM_TRY(RepoFile file, parse_file(*object));
    files.push_back(std::move(file));
  }
  return {};
}

}  // namespace tidemill::hub
