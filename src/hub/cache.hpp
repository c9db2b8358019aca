// Where fetched models lie. Folders are those of the hub's own cache, so that a model's folder tells its name
// (model::folder_name), and content that two revisions share lies there once:
//
//   ROOT/models--ORG--REPO/blobs/DIGEST               what was fetched, under its digest; DIGEST.part while it comes
//   ROOT/models--ORG--REPO/snapshots/COMMIT/PATH      links to that, as the repository has them
//   ROOT/models--ORG--REPO/manifests/COMMIT.json      what of a commit is there, and where it came from
//   ROOT/models--ORG--REPO/lock                       held by who fetches
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "hub/listing.hpp"
#include "hub/manifest.hpp"
#include "hub/model_name.hpp"

namespace tidemill::hub {

// The right to write to a repository's folders; given back by the destructor. Movable.
class RepositoryLock {
 public:
  explicit RepositoryLock(int fd) : fd_(fd) {}
  RepositoryLock(RepositoryLock&& other) noexcept;
  RepositoryLock& operator=(RepositoryLock&&) = delete;
  ~RepositoryLock();

 private:
  int fd_;
};

// Thread-safe: it is a path. What it reads may be written by other processes meanwhile; files appear when they are
// whole.
class Cache {
 public:
  explicit Cache(std::filesystem::path root) : root_(std::move(root)) {}
  // In TIDEMILL_CACHE, or "tidemill" in XDG_CACHE_HOME, or ".cache/tidemill" at home. `get` is for variables, null for
  // those that are not set. `invalid_argument` where none of them is.
  static base::Result<Cache> standard(const std::function<const char*(const char*)>& get);

  const std::filesystem::path& root() const { return root_; }
  std::filesystem::path snapshot(const std::string& repository, const std::string& commit) const;
  std::filesystem::path blob(const std::string& repository, const RepoFile& file, const std::string& commit) const;

  // Makes the repository's folders. `unavailable` where another process has the lock.
  base::Result<RepositoryLock> lock(const std::string& repository) const;
  // Gives what has been fetched its name in the snapshot.
  base::Result<void> link(const std::string& repository, const RepoFile& file, const std::string& commit) const;
  base::Result<void> write(const Manifest& manifest) const;
  // None where there is none yet, or what is there cannot be read as one.
  std::optional<Manifest> read(const std::string& repository, const std::string& commit) const;
  // All that can be read, by repository.
  std::vector<Manifest> manifests() const;

  // What `name` means here: the path of a GGUF file or a folder, of the latest commit fetched under the revision that
  // has what was chosen. Errors: `not_found`, which says what to type, and those of choose().
  base::Result<std::filesystem::path> find(const ModelName& name) const;

 private:
  std::filesystem::path folder(const std::string& repository) const;
  std::vector<Manifest> manifests_of(const std::filesystem::path& folder) const;
  base::Result<std::filesystem::path> find_in(const Manifest& manifest, const ModelName& name) const;

  std::filesystem::path root_;
};

}  // namespace tidemill::hub
