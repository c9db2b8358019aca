// Moments that wait until they are asked for: on the disk, since those of a whole model may be larger than memory. The
// file has no name, so that nothing of it is left by whatever end.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>

#include "base/result.hpp"
#include "quantize/error_compensation.hpp"

namespace tidemill::quantize {

// Not thread-safe.
class MomentFile {
 public:
  // Claims `bytes` of the folder's disk where the file system can: more may be put there. Errors: `io` and `not_found`
  // with the system's reason, naming the folder.
  static base::Result<std::unique_ptr<MomentFile>> create(const std::filesystem::path& folder, uint64_t bytes);

  MomentFile(const MomentFile&) = delete;
  MomentFile& operator=(const MomentFile&) = delete;
  ~MomentFile();

  struct Place {
    uint64_t offset = 0;
    int64_t cols = 0;
    int64_t rows = 0;  // that were added
  };
  // Errors of both: `io`.
  base::Result<Place> put(Moments moments);
  base::Result<Moments> get(const Place& place) const;

 private:
  MomentFile(int fd, std::filesystem::path folder) : fd_(fd), folder_(std::move(folder)) {}

  int fd_;
  std::filesystem::path folder_;  // for errors
  uint64_t end_ = 0;
};

}  // namespace tidemill::quantize
