// Files without a name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <utility>

#include "base/result.hpp"

namespace tidemill::base {

// Makes one in `folder`, to be read and written; `mode` as for open(). Negative, with errno, on failure: not all file
// systems know such.
int open_nameless(const std::filesystem::path& folder, unsigned mode);

// A file that has no name in a `folder`, readable by nobody else: what is in it is gone with this, by whatever end of
// the process. For what waits on the disk. Movable. Errors name the folder.
class NamelessFile {
 public:
  // Errors: those of the system, `not_found` and `io`.
  static Result<NamelessFile> create(const std::filesystem::path& folder);
  NamelessFile(NamelessFile&& other) noexcept;
  NamelessFile& operator=(NamelessFile&&) = delete;
  ~NamelessFile();

  // Takes the first `bytes` bytes on the disk, where the file system can; more may be written. `io` where the disk has
  // not so many.
  Result<void> claim(uint64_t bytes) const;
  // All of them: `io` as well where nothing was written so far behind.
  Result<void> write_at(std::span<const std::byte> bytes, uint64_t offset) const;
  Result<void> read_at(std::span<std::byte> bytes, uint64_t offset) const;

 private:
  NamelessFile(int fd, std::filesystem::path folder) : fd_(fd), folder_(std::move(folder)) {}

  int fd_;
  std::filesystem::path folder_;
};

}  // namespace tidemill::base
