// What a repository holds, as the hub's API says it:
//
//   /api/models/ORG/REPO/revision/REVISION               {"sha": COMMIT, ...}
//   /api/models/ORG/REPO/tree/COMMIT?recursive=true      [{"type": "file", "path", "size", "oid", "lfs": {"oid",
//   "size"}}]
//
// of which the second comes in pages. "oid" is Git's name of what Git keeps: of a file in LFS that is a pointer, and
// "lfs" says what the file itself is (https://huggingface.co/docs/hub/api).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "hub/digest.hpp"

namespace tidemill::hub {

struct RepoFile {
  std::string path;  // "Q8_0/model-00001-of-00002.gguf"; passes is_safe_path()
  uint64_t size = 0;
  std::optional<Digest> digest{};  // none: only the size is known
};

// The most bytes that a repository is taken to have: sums of sizes stay far from overflow.
constexpr uint64_t kMostRepositoryBytes = uint64_t{1} << 56;

// Whether a name that a server gave stays below the folder that it is put in: relative, without "." and ".." and empty
// parts, and of a length that file systems take.
bool is_safe_path(std::string_view path);

// Errors of both: `corrupt`, with what was expected.
base::Result<std::string> parse_commit(std::string_view json);
// Adds the files of one page. A name that is not safe is an error, not passed over: no honest repository has one.
base::Result<void> add_files(std::string_view json, std::vector<RepoFile>& files);

}  // namespace tidemill::hub
