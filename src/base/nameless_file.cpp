#include "base/nameless_file.hpp"

#include <cerrno>
#include <cstdlib>
#include <fcntl.h>
#include <string>
#include <unistd.h>

#include <fmt/core.h>

#include "base/file.hpp"
#include "base/positioned_io.hpp"

namespace tidemill::base {

int open_nameless(const std::filesystem::path& folder, unsigned mode) {
  return ::open(folder.c_str(), O_RDWR | O_TMPFILE | O_CLOEXEC, mode);
}

Result<NamelessFile> NamelessFile::create(const std::filesystem::path& folder) {
  int fd = open_nameless(folder, 0600);
  if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)) {
    // It has a name for a moment.
    std::string name = (folder / ".tidemill-XXXXXX").string();
    fd = ::mkostemp(name.data(), O_CLOEXEC);
    if (fd >= 0) ::unlink(name.c_str());
  }
  if (fd < 0) return system_error("cannot create a file in", folder);
  return NamelessFile(fd, folder);
}

NamelessFile::NamelessFile(NamelessFile&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), folder_(std::move(other.folder_)) {}

NamelessFile::~NamelessFile() {
  if (fd_ >= 0) ::close(fd_);
}

Result<void> NamelessFile::claim(uint64_t bytes) const {
  if (bytes == 0 || ::fallocate(fd_, 0, 0, static_cast<off_t>(bytes)) == 0) return {};
  if (errno != ENOSPC && errno != EDQUOT && errno != EFBIG) return {};  // the file system cannot do it
  return system_error(fmt::format("cannot claim {} bytes on the disk in", bytes), folder_);
}

Result<void> NamelessFile::write_at(std::span<const std::byte> bytes, uint64_t offset) const {
  return base::write_at(fd_, bytes, offset, folder_);
}

Result<void> NamelessFile::read_at(std::span<std::byte> bytes, uint64_t offset) const {
  TM_TRY(const size_t got, base::read_at(fd_, bytes, offset, folder_));
  if (got == bytes.size()) return {};
  return Error(ErrorCode::io,
               fmt::format("a file without a name in '{}' ends before what is read of it", folder_.string()));
}

}  // namespace tidemill::base
