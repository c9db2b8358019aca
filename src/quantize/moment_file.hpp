// Moments that wait until they are asked for: on the disk, since those of a whole model may be larger than memory. The
// file has no name, so that nothing of it is left by whatever end.
#pragma once

#include <cstdint>
#include <filesystem>
#include <utility>

#include "base/nameless_file.hpp"
#include "base/result.hpp"
#include "quantize/error_compensation.hpp"

namespace tidemill::quantize {

// Movable. Not thread-safe.
class MomentFile {
 public:
  // Claims `bytes` of the folder's disk where the file system can: more may be put there. Errors: `io` and `not_found`
  // with the system's reason, naming the folder.
  static base::Result<MomentFile> create(const std::filesystem::path& folder, uint64_t bytes);

  struct Place {
    uint64_t offset = 0;
    int64_t cols = 0;
    int64_t rows = 0;  // that were added
  };
  // Errors of both: `io`.
  base::Result<Place> put(Moments moments);
  base::Result<Moments> get(const Place& place) const;

 private:
  explicit MomentFile(base::NamelessFile file) : file_(std::move(file)) {}

  base::NamelessFile file_;
  uint64_t end_ = 0;
};

}  // namespace tidemill::quantize
