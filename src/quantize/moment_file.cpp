#include "quantize/moment_file.hpp"

#include <cerrno>
#include <fcntl.h>
#include <span>
#include <string>
#include <unistd.h>
#include <utility>

#include <fmt/format.h>

#include "base/file.hpp"
#include "quantize/positioned_io.hpp"

namespace tidemill::quantize {

using base::Result;

namespace fs = std::filesystem;

namespace {

// Where file systems know no files without a name, it has one for a moment.
int open_nameless(const fs::path& folder) {
  const int fd = ::open(folder.c_str(), O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
  if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)) return fd;
  std::string name = (folder / ".tidemill-moments-XXXXXX").string();
  const int named = ::mkostemp(name.data(), O_CLOEXEC);
  if (named >= 0) ::unlink(name.c_str());
  return named;
}

}  // namespace

Result<std::unique_ptr<MomentFile>> MomentFile::create(const fs::path& folder, uint64_t bytes) {
  const int fd = open_nameless(folder);
  if (fd < 0) return base::system_error("cannot create what calibrating keeps on the disk in", folder);
  std::unique_ptr<MomentFile> made(new MomentFile(fd, folder));
  if (bytes == 0 || ::fallocate(fd, 0, 0, static_cast<off_t>(bytes)) == 0) return made;
  if (errno != ENOSPC && errno != EDQUOT && errno != EFBIG) return made;  // the file system cannot do it
  return base::system_error(fmt::format("cannot claim {} bytes, which calibrating takes on the disk, in", bytes),
                            folder);
}

MomentFile::~MomentFile() {
  ::close(fd_);
}

Result<MomentFile::Place> MomentFile::put(Moments moments) {
  const Place place{end_, moments.cols(), moments.rows()};
  for (const std::span<float> piece : moments.pieces()) {
    if (auto written = write_at(fd_, std::as_bytes(piece), end_, folder_); !written) {
      return std::move(written).error().wrap("what calibrating keeps on the disk");
    }
    end_ += piece.size_bytes();
  }
  return place;
}

Result<Moments> MomentFile::get(const Place& place) const {
  Moments moments(place.cols);
  moments.set_rows(place.rows);
  uint64_t offset = place.offset;
  for (const std::span<float> piece : moments.pieces()) {
    if (!read_at(fd_, std::as_writable_bytes(piece), offset)) {
      return base::system_error("cannot read what calibrating keeps on the disk in", folder_);
    }
    offset += piece.size_bytes();
  }
  return moments;
}

}  // namespace tidemill::quantize
