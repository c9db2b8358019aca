#include "hub/part_file.hpp"

#include <algorithm>
#include <cassert>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/file.hpp"
#include "base/positioned_io.hpp"

namespace tidemill::hub {

using base::Result;

namespace fs = std::filesystem;

fs::path part_path(const fs::path& target) {
  fs::path path = target;
  path += ".part";
  return path;
}

PartFile::PartFile(int fd, fs::path target, uint64_t size, std::optional<Digest> digest)
    : fd_(fd), target_(std::move(target)), part_(part_path(target_)), size_(size), digest_(std::move(digest)) {
  begin_digest();
}

PartFile::PartFile(PartFile&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      target_(std::move(other.target_)),
      part_(std::move(other.part_)),
      size_(other.size_),
      have_(other.have_),
      digest_(std::move(other.digest_)),
      running_(std::move(other.running_)),
      found_(std::move(other.found_)) {}

PartFile::~PartFile() {
  if (fd_ >= 0) ::close(fd_);
}

Result<PartFile> PartFile::open(const fs::path& target, uint64_t size, std::optional<Digest> digest,
                                const std::function<bool()>& stopped) {
  const fs::path part = part_path(target);
  const int fd = ::open(part.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
  if (fd < 0) return base::system_error("cannot create", part);
  PartFile file(fd, target, size, std::move(digest));
  struct stat status {};
  if (::fstat(fd, &status) != 0) return base::system_error("cannot inspect", part);
  const auto there = static_cast<uint64_t>(status.st_size);
  if (!S_ISREG(status.st_mode)) {
    return base::Error(base::ErrorCode::io, fmt::format("'{}' is in the way, and no file; remove it", part.string()));
  }
  if (there == 0) return file;
  if (file.digest_ && there <= size) {
    TM_CHECK(file.take_up(there, stopped));
  } else {
    TM_CHECK(file.restart());
  }
  return file;
}

// Reads what is there into the digest. Of a file that ends early meanwhile, what was read counts.
Result<void> PartFile::take_up(uint64_t bytes, const std::function<bool()>& stopped) {
  std::vector<std::byte> buffer(static_cast<size_t>(std::min<uint64_t>(bytes, uint64_t{1} << 20)));
  while (have_ < bytes) {
    if (stopped && stopped()) {
      return base::Error(base::ErrorCode::cancelled,
                         fmt::format("looking at what has come of '{}' was stopped", target_.string()));
    }
    const auto want = static_cast<size_t>(std::min<uint64_t>(buffer.size(), bytes - have_));
    TM_TRY(const size_t got, base::read_at(fd_, std::span(buffer).first(want), have_, part_));
    running_->add(std::span(buffer).first(got));
    have_ += got;
    if (got < want) break;
  }
  return {};
}

void PartFile::begin_digest() {
  running_ = digest_ ? std::make_unique<RunningDigest>(digest_->kind, size_) : nullptr;
}

Result<void> PartFile::append(std::span<const std::byte> bytes) {
  assert(bytes.size() <= size_ - have_);
  TM_CHECK(base::write_at(fd_, bytes, have_, part_));
  if (running_) running_->add(bytes);
  have_ += bytes.size();
  return {};
}

Result<void> PartFile::restart() {
  if (::ftruncate(fd_, 0) != 0) return base::system_error("cannot write", part_);
  have_ = 0;
  begin_digest();
  return {};
}

bool PartFile::right() {
  assert(complete());
  if (!running_) return true;
  found_ = running_->finish();
  return found_ == digest_->hex;
}

Result<void> PartFile::finish() {
  if (::fsync(fd_) != 0 || ::rename(part_.c_str(), target_.c_str()) != 0) {
    return base::system_error("cannot write", target_);
  }
  ::close(std::exchange(fd_, -1));
  return {};
}

}  // namespace tidemill::hub
