// What the cache knows of a model: a JSON file for each commit.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "hub/listing.hpp"

namespace tidemill::hub {

// What of one commit has been fetched whole.
struct Manifest {
  struct File {
    RepoFile file;
    std::string from;  // the address that was asked
  };

  std::string repository;
  std::string commit;
  // That it was asked for as ("main"), and when last, to the millisecond.
  std::map<std::string, base::WallTime> revisions;
  std::vector<File> files;
  // Names of a folder that were looked for, whether the repository has them or not. What is not among them may have
  // been left out by a Tidemill that did not read it yet.
  std::set<std::string, std::less<>> looked_for;

  // When it was last fetched as that; none: never.
  std::optional<base::WallTime> fetched_as(const std::string& revision) const;
  base::WallTime last_fetched() const;
  std::vector<RepoFile> repo_files() const;
  // A file of the same path takes the place of what is there.
  void add(File file);

  std::string to_json() const;
  // `corrupt` for what to_json() does not write.
  static base::Result<Manifest> parse(std::string_view json);
};

}  // namespace tidemill::hub
