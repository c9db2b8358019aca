#include "hub/pull.hpp"

#include <algorithm>
#include <optional>
#include <set>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "base/file.hpp"
#include "base/units.hpp"
#include "hub/choose.hpp"
#include "hub/download.hpp"
#include "hub/part_file.hpp"

namespace tidemill::hub {

namespace {

namespace fs = std::filesystem;

using base::Error;
using base::ErrorCode;
using base::Result;

constexpr uint64_t kSpareBytes = uint64_t{16} << 20;  // of a disk, which stay free beside the files

uint64_t size_or_zero(const fs::path& path) {
  std::error_code fault;
  const uintmax_t size = fs::file_size(path, fault);
  return fault ? 0 : size;
}

class Pull {
 public:
  Pull(const ModelName& name, const Cache& cache, const PullOptions& options, const base::Clock& clock, Remote remote)
      : name_(name), cache_(cache), options_(options), clock_(clock), remote_(std::move(remote)) {}

  Result<Pulled> run() {
    TM_TRY(pulled_.commit, remote_.commit());
    TM_TRY(const Selection selection, select());
    const fs::path snapshot = cache_.snapshot(name_.repository, pulled_.commit);
    pulled_.path = selection.model.empty() ? snapshot : snapshot / selection.model;
    std::optional<RepositoryLock> lock;
    if (!options_.dry_run) {
      TM_TRY(RepositoryLock taken, cache_.lock(name_.repository));
      lock.emplace(std::move(taken));
    }
    TM_CHECK(look(selection));
    TM_CHECK(check_space());
    if (options_.dry_run) return std::move(pulled_);
    TM_CHECK(fetch());
    TM_CHECK(put_down(selection));
    return std::move(pulled_);
  }

 private:
  Result<Selection> select() {
    TM_TRY(const std::vector<RepoFile> files, remote_.list(pulled_.commit));
    TM_TRY(Selection selection, choose(name_, files));
    if (selection.index) {
      TM_TRY(const std::string index, remote_.read(*selection.index, pulled_.commit));
      TM_CHECK(add_shards(selection, index, files));
    }
    if (selection.modules) {
      TM_TRY(const std::string modules, remote_.read(*selection.modules, pulled_.commit));
      if (auto added = add_pooling(selection, modules, files); !added) {
        return std::move(added).error().wrap(name_.text());
      }
    }
    return selection;
  }

  fs::path blob(const RepoFile& file) const { return cache_.blob(name_.repository, file, pulled_.commit); }

  // What is there already.
  Result<void> look(const Selection& selection) {
    for (const RepoFile& file : selection.files) {
      TM_TRY(const bool cached, is_cached(file));
      pulled_.files.push_back({.file = file, .cached = cached});
      pulled_.bytes += file.size;
      if (!cached) pulled_.missing += file.size;
      if (pulled_.bytes > kMostRepositoryBytes) {
        return Error(ErrorCode::corrupt, fmt::format("{}: the hub lists more bytes than there are", name_.text()));
      }
    }
    return {};
  }

  Result<bool> is_cached(const RepoFile& file) const {
    const fs::path path = blob(file);
    std::error_code fault;
    if (!fs::is_regular_file(path, fault) || size_or_zero(path) != file.size) return false;
    if (!options_.verify || !file.digest) return true;
    TM_TRY(const base::MappedFile map, base::MappedFile::open(path));
    RunningDigest digest(file.digest->kind, file.size);
    constexpr size_t step = size_t{16} << 20;
    for (size_t at = 0; at < map.bytes().size(); at += step) {
      if (remote_.stopped()) return Error(ErrorCode::cancelled, "checking the cache was stopped");
      digest.add(map.bytes().subspan(at, std::min(step, map.bytes().size() - at)));
      map.release(at, step);
    }
    return digest.finish() == file.digest->hex;
  }

  // Of what is left to fetch, beside what has come of it before.
  Result<void> check_space() const {
    uint64_t wanted = 0;
    for (const Pulled::File& entry : pulled_.files) {
      if (entry.cached) continue;
      wanted += entry.file.size - std::min(entry.file.size, size_or_zero(part_path(blob(entry.file))));
    }
    fs::path folder = cache_.root();
    std::error_code fault;
    while (!fs::exists(folder, fault) && folder.has_relative_path())
      folder = folder.parent_path();
    const fs::space_info space = fs::space(folder, fault);
    if (wanted == 0 || fault || space.available >= wanted + kSpareBytes) return {};
    return Error(ErrorCode::io,
                 fmt::format("{} takes {} more, and {} are to stay free, but the disk of the cache ('{}') has {} left; "
                             "make room, or set TIDEMILL_CACHE to a folder on another disk",
                             name_.text(), base::human_bytes(static_cast<double>(wanted)),
                             base::human_bytes(static_cast<double>(kSpareBytes)), cache_.root().string(),
                             base::human_bytes(static_cast<double>(space.available))));
  }

  Result<void> fetch() {
    done_ = 0;
    for (const Pulled::File& entry : pulled_.files)
      done_ += entry.cached ? entry.file.size : std::min(entry.file.size, size_or_zero(part_path(blob(entry.file))));
    tell(0);
    std::set<fs::path> fetched;
    for (const Pulled::File& entry : pulled_.files) {
      if (entry.cached) continue;
      if (!fetched.insert(blob(entry.file)).second) {  // under another name, just now
        done_ += entry.file.size;
        continue;
      }
      const uint64_t part = std::min(entry.file.size, size_or_zero(part_path(blob(entry.file))));
      // Until it is looked at, what has come of a file counts as it lies there.
      done_ -= part;
      const auto on_have = [this](uint64_t have) { tell(have); };
      TM_CHECK(download(remote_, entry.file, remote_.url_of(entry.file, pulled_.commit), blob(entry.file), on_have));
      done_ += entry.file.size;
    }
    return {};
  }

  void tell(uint64_t more) const {
    if (options_.on_progress) options_.on_progress(done_ + more, pulled_.bytes);
  }

  // The names in the snapshot; the manifest last, since it says that they are there.
  Result<void> put_down(const Selection& selection) const {
    Manifest manifest = cache_.read(name_.repository, pulled_.commit).value_or(Manifest());
    manifest.repository = name_.repository;
    manifest.commit = pulled_.commit;
    manifest.revisions[name_.revision] = clock_.wall_now();
    if (selection.model.empty()) {
      for (const std::string_view looked_for : folder_files())
        manifest.looked_for.emplace(looked_for);
    }
    for (const Pulled::File& entry : pulled_.files) {
      TM_CHECK(cache_.link(name_.repository, entry.file, pulled_.commit));
      manifest.add({.file = entry.file, .from = remote_.url_of(entry.file, pulled_.commit)});
    }
    return cache_.write(manifest);
  }

  const ModelName& name_;
  const Cache& cache_;
  const PullOptions& options_;
  const base::Clock& clock_;
  Remote remote_;
  Pulled pulled_;
  uint64_t done_ = 0;  // of what on_progress is told, without the file that is being fetched
};

}  // namespace

Result<Pulled> pull(const ModelName& name, const Cache& cache, const PullOptions& options, const base::Clock& clock) {
  TM_TRY(Remote remote, Remote::create(name, options.remote));
  return Pull(name, cache, options, clock, std::move(remote)).run();
}

}  // namespace tidemill::hub
