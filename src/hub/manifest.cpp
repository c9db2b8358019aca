#include "hub/manifest.hpp"

#include <algorithm>
#include <chrono>

#include "base/json.hpp"

namespace tidemill::hub {

namespace {

namespace json = base::json;

constexpr int64_t kManifestVersion = 1;
constexpr int64_t kLastTime = 9'000'000'000'000;  // milliseconds: some 285 years, which nanoseconds still hold

std::string manifest_text(const json::object& object, std::string_view key) {
  const json::value* const found = object.if_contains(key);
  return found != nullptr && found->is_string() ? std::string(std::string_view(found->get_string())) : std::string();
}

int64_t manifest_number(const json::object& object, std::string_view key) {
  const json::value* const found = object.if_contains(key);
  return found != nullptr && found->is_int64() ? found->get_int64() : -1;
}

// None for what no manifest has.
std::optional<Manifest::File> manifest_file(const json::value& value) {
  const json::object* const object = value.if_object();
  if (object == nullptr) return std::nullopt;
  Manifest::File entry;
  entry.file.path = manifest_text(*object, "path");
  entry.from = manifest_text(*object, "from");
  const int64_t size = manifest_number(*object, "size");
  if (size < 0 || !is_safe_path(entry.file.path)) return std::nullopt;
  entry.file.size = static_cast<uint64_t>(size);
  for (const DigestKind kind : {DigestKind::sha256, DigestKind::git_sha1}) {
    const std::string hex = manifest_text(*object, to_string(kind));
    if (!hex.empty()) entry.file.digest = Digest{.kind = kind, .hex = hex};
  }
  if (entry.file.digest && !entry.file.digest->valid()) return std::nullopt;
  return entry;
}

}  // namespace

std::optional<base::WallTime> Manifest::fetched_as(const std::string& revision) const {
  if (revision == commit) return last_fetched();
  const auto found = revisions.find(revision);
  return found != revisions.end() ? std::optional(found->second) : std::nullopt;
}

base::WallTime Manifest::last_fetched() const {
  base::WallTime last{};
  for (const auto& [revision, when] : revisions)
    last = std::max(last, when);
  return last;
}

std::vector<RepoFile> Manifest::repo_files() const {
  std::vector<RepoFile> out;
  out.reserve(files.size());
  for (const File& entry : files)
    out.push_back(entry.file);
  return out;
}

void Manifest::add(File file) {
  std::erase_if(files, [&](const File& other) { return other.file.path == file.file.path; });
  files.push_back(std::move(file));
}

std::string Manifest::to_json() const {
  json::array entries;
  for (const File& entry : files) {
    json::object object{{"path", entry.file.path}, {"size", static_cast<int64_t>(entry.file.size)}};
    if (entry.file.digest) object[to_string(entry.file.digest->kind)] = entry.file.digest->hex;
    object["from"] = entry.from;
    entries.push_back(std::move(object));
  }
  json::object asked;
  for (const auto& [revision, when] : revisions)
    asked[revision] = int64_t{std::chrono::floor<std::chrono::milliseconds>(when.time_since_epoch()).count()};
  return base::pretty_json(json::object{{"version", kManifestVersion},
                                        {"repository", repository},
                                        {"commit", commit},
                                        {"revisions_unix_ms", std::move(asked)},
                                        {"files", std::move(entries)},
                                        {"looked_for", json::array(looked_for.begin(), looked_for.end())}}) +
         "\n";
}

base::Result<Manifest> Manifest::parse(std::string_view text) {
  const base::Error odd(base::ErrorCode::corrupt, "this is no manifest of a fetched model");
  TM_TRY(const json::value parsed, base::parse_json(text));
  const json::object* const object = parsed.if_object();
  if (object == nullptr || manifest_number(*object, "version") != kManifestVersion) return odd;
  Manifest manifest;
  manifest.repository = manifest_text(*object, "repository");
  manifest.commit = manifest_text(*object, "commit");
  const json::value* const asked = object->if_contains("revisions_unix_ms");
  const json::value* const files = object->if_contains("files");
  if (asked == nullptr || !asked->is_object() || files == nullptr || !files->is_array()) return odd;
  for (const auto& [revision, value] : asked->get_object()) {
    const int64_t when = value.is_int64() ? value.get_int64() : -1;
    if (when < 0 || when > kLastTime) return odd;
    manifest.revisions[std::string(std::string_view(revision))] = base::WallTime(std::chrono::milliseconds(when));
  }
  for (const json::value& value : files->get_array()) {
    auto entry = manifest_file(value);
    if (!entry) return odd;
    manifest.files.push_back(*std::move(entry));
  }
  // Older ones have none.
  if (const json::value* const names = object->if_contains("looked_for")) {
    if (!names->is_array()) return odd;
    for (const json::value& name : names->get_array()) {
      if (!name.is_string()) return odd;
      manifest.looked_for.emplace(std::string_view(name.get_string()));
    }
  }
  return manifest;
}

}  // namespace tidemill::hub
