#include "hub/cache.hpp"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <sys/file.h>
#include <system_error>
#include <unistd.h>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/file.hpp"
#include "hub/choose.hpp"
#include "model/hugging_face/folder_files.hpp"

namespace tidemill::hub {

namespace {

namespace fs = std::filesystem;

using base::Error;
using base::ErrorCode;
using base::Result;

constexpr std::string_view kFolderMark = "models--";
constexpr size_t kMostManifest = size_t{64} << 20;

Result<void> make_folder(const fs::path& path) {
  std::error_code fault;
  fs::create_directories(path, fault);
  if (!fault) return {};
  return Error(ErrorCode::io, fmt::format("cannot make the folder '{}': {}", path.string(), fault.message()));
}

// Whether a file of that size is there, through links.
bool is_there(const fs::path& path, uint64_t size) {
  std::error_code fault;
  const uintmax_t found = fs::file_size(path, fault);
  return !fault && found == size;
}

// "ORG/REPO" for "models--ORG--REPO".
std::string repository_of(const fs::path& folder) {
  const std::string name = folder.filename().string();
  if (!name.starts_with(kFolderMark)) return {};
  const size_t between = name.find("--", kFolderMark.size());
  if (between == std::string::npos) return {};
  return name.substr(kFolderMark.size(), between - kFolderMark.size()) + "/" + name.substr(between + 2);
}

std::string command_for(const ModelName& name) {
  return "tidemill pull " + name.text();
}

// What a folder is read by decides what its model computes; without knowing whether the hub has more of it, nothing is
// computed.
Result<void> check_looked_for(const Manifest& manifest, const fs::path& folder) {
  std::vector<std::string_view> unknown;
  for (const std::string_view name : model::kFolderFiles) {
    const bool is_listed = std::any_of(manifest.files.begin(), manifest.files.end(),
                                       [&](const Manifest::File& entry) { return entry.file.path == name; });
    if (!is_listed && !manifest.looked_for.contains(name)) unknown.push_back(name);
  }
  if (unknown.empty()) return {};
  return Error(ErrorCode::not_found,
               fmt::format("'{}' was fetched by an older Tidemill, which did not look for all that is read now; what "
                           "may be missing is {}",
                           folder.string(), fmt::join(unknown, ", ")));
}

}  // namespace

RepositoryLock::RepositoryLock(RepositoryLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

RepositoryLock::~RepositoryLock() {
  if (fd_ >= 0) ::close(fd_);
}

Result<Cache> Cache::standard(const std::function<const char*(const char*)>& get) {
  const auto value = [&get](const char* name) {
    const char* const found = get(name);
    return fs::path(found != nullptr ? found : "");
  };
  std::error_code ignored;
  if (const fs::path own = value("TIDEMILL_CACHE"); !own.empty()) return Cache(fs::absolute(own, ignored));
  // Paths that are not absolute count as not set (XDG Base Directory Specification).
  if (const fs::path caches = value("XDG_CACHE_HOME"); caches.is_absolute()) return Cache(caches / "tidemill");
  if (const fs::path home = value("HOME"); home.is_absolute()) return Cache(home / ".cache" / "tidemill");
  return Error(ErrorCode::invalid_argument,
               "there is no place for fetched models: set TIDEMILL_CACHE to a folder (or HOME, or XDG_CACHE_HOME)");
}

fs::path Cache::folder(const std::string& repository) const {
  std::string name = repository;
  name.replace(name.find('/'), 1, "--");
  return root_ / (std::string(kFolderMark) + name);
}

fs::path Cache::snapshot(const std::string& repository, const std::string& commit) const {
  return folder(repository) / "snapshots" / commit;
}

fs::path Cache::blob(const std::string& repository, const RepoFile& file, const std::string& commit) const {
  // Without a digest it is named by what it is in the repository, which no other content is.
  const std::string name =
      file.digest ? file.digest->hex : "unchecked-" + digest_of(DigestKind::sha256, commit + "/" + file.path);
  return folder(repository) / "blobs" / name;
}

Result<RepositoryLock> Cache::lock(const std::string& repository) const {
  const fs::path own = folder(repository);
  TM_CHECK(make_folder(own / "blobs"));
  TM_CHECK(make_folder(own / "manifests"));
  const fs::path path = own / "lock";
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (fd < 0) return base::system_error("cannot create", path);
  RepositoryLock lock(fd);
  // Where the file system has no locks there is nothing to wait for.
  if (::flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) return lock;
  return Error(
      ErrorCode::unavailable,
      fmt::format("another process is fetching {} into '{}'; try again when it is done", repository, own.string()));
}

Result<void> Cache::link(const std::string& repository, const RepoFile& file, const std::string& commit) const {
  const fs::path name = snapshot(repository, commit) / file.path;
  TM_CHECK(make_folder(name.parent_path()));
  // Relative, so that the cache can be moved.
  const fs::path target = blob(repository, file, commit).lexically_relative(name.parent_path());
  std::error_code fault;
  if (fs::read_symlink(name, fault) == target && !fault) return {};
  const fs::path temporary = base::temporary_beside(name);
  fs::create_symlink(target, temporary, fault);
  if (!fault) fs::rename(temporary, name, fault);
  if (!fault) return {};
  std::error_code ignored;
  fs::remove(temporary, ignored);
  return Error(ErrorCode::io, fmt::format("cannot make the link '{}': {}", name.string(), fault.message()));
}

Result<void> Cache::write(const Manifest& manifest) const {
  return base::write_file(folder(manifest.repository) / "manifests" / (manifest.commit + ".json"), manifest.to_json());
}

std::optional<Manifest> Cache::read(const std::string& repository, const std::string& commit) const {
  const auto text = base::read_file(folder(repository) / "manifests" / (commit + ".json"), kMostManifest);
  if (!text) return std::nullopt;
  auto manifest = Manifest::parse(*text);
  if (!manifest || manifest->repository != repository || manifest->commit != commit) return std::nullopt;
  return *std::move(manifest);
}

std::vector<Manifest> Cache::manifests_of(const fs::path& folder) const {
  std::vector<Manifest> found;
  std::error_code fault;
  for (fs::directory_iterator entry(folder / "manifests", fault), end; !fault && entry != end; entry.increment(fault)) {
    if (entry->path().extension() != ".json") continue;
    if (auto manifest = read(repository_of(folder), entry->path().stem().string()))
      found.push_back(*std::move(manifest));
  }
  return found;
}

std::vector<Manifest> Cache::manifests() const {
  std::vector<fs::path> folders;
  std::error_code fault;
  for (fs::directory_iterator entry(root_, fault), end; !fault && entry != end; entry.increment(fault)) {
    if (!repository_of(entry->path()).empty()) folders.push_back(entry->path());
  }
  std::sort(folders.begin(), folders.end());
  std::vector<Manifest> found;
  for (const fs::path& folder : folders) {
    for (Manifest& manifest : manifests_of(folder))
      found.push_back(std::move(manifest));
  }
  return found;
}

Result<fs::path> Cache::find(const ModelName& name) const {
  std::optional<Error> first;
  std::vector<Manifest> known = manifests_of(folder(name.repository));
  std::erase_if(known, [&](const Manifest& manifest) { return !manifest.fetched_as(name.revision); });
  std::sort(known.begin(), known.end(), [&](const Manifest& a, const Manifest& b) {
    return std::pair(*b.fetched_as(name.revision), a.commit) < std::pair(*a.fetched_as(name.revision), b.commit);
  });
  for (const Manifest& manifest : known) {
    auto found = find_in(manifest, name);
    if (found) return found;
    if (!first) first = std::move(found).error();
  }
  if (!first) {
    return Error(ErrorCode::not_found, fmt::format("{} is not in the cache ('{}'); fetch it with: {}", name.text(),
                                                   root_.string(), command_for(name)));
  }
  if (first->code() == ErrorCode::invalid_argument) return *std::move(first);
  return Error(first->code(), fmt::format("{}\nThe cache is '{}'; fetch what is missing with: {}", first->message(),
                                          root_.string(), command_for(name)));
}

Result<fs::path> Cache::find_in(const Manifest& manifest, const ModelName& name) const {
  const std::vector<RepoFile> files = manifest.repo_files();
  TM_TRY(const Selection selection, choose(name, files));
  const fs::path folder = snapshot(manifest.repository, manifest.commit);
  const bool is_folder = selection.model.empty();
  if (is_folder) TM_CHECK(check_looked_for(manifest, folder));
  // Of a folder, all weights are wanted, whatever names them, and so is what says how embeddings are pooled.
  for (const RepoFile& file : is_folder ? files : selection.files) {
    if (is_there(folder / file.path, file.size)) continue;
    if (is_folder && file.path.ends_with(".gguf")) continue;
    return Error(ErrorCode::not_found, fmt::format("'{}' is gone, or has another size than it was fetched with",
                                                   (folder / file.path).string()));
  }
  return selection.model.empty() ? folder : folder / selection.model;
}

}  // namespace tidemill::hub
