#include "quantize/partial_file.hpp"

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <charconv>
#include <fcntl.h>
#include <optional>
#include <sys/file.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>
#include <utility>

#include <fmt/format.h>

#include "base/file.hpp"

namespace tidemill::quantize {

using base::Error;
using base::ErrorCode;
using base::Result;

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kMagic = "tidemill partial file 1: ";
constexpr size_t kMostJournal = size_t{64} << 20;

Result<void> write_at(int fd, std::span<const std::byte> bytes, uint64_t offset, const fs::path& path) {
  while (!bytes.empty()) {
    const ssize_t put = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return base::system_error("cannot write", path);
    bytes = bytes.subspan(static_cast<size_t>(put));
    offset += static_cast<uint64_t>(put);
  }
  return {};
}

Result<void> append(int fd, std::string_view text, const fs::path& path) {
  while (!text.empty()) {
    const ssize_t put = ::write(fd, text.data(), text.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return base::system_error("cannot write", path);
    text.remove_prefix(static_cast<size_t>(put));
  }
  return {};
}

// Reads all of `bytes`, or says that it cannot.
bool read_at(int fd, std::span<std::byte> bytes, uint64_t offset) {
  while (!bytes.empty()) {
    const ssize_t got = ::pread(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    bytes = bytes.subspan(static_cast<size_t>(got));
    offset += static_cast<uint64_t>(got);
  }
  return true;
}

struct PartLine {
  size_t part;
  uint64_t checksum;
};

// "12 0123456789abcdef"
std::optional<PartLine> parse_part(std::string_view line) {
  PartLine found{};
  const char* end = line.data() + line.size();
  const auto [after, fault] = std::from_chars(line.data(), end, found.part);
  if (fault != std::errc() || after == end || *after != ' ') return std::nullopt;
  const auto [last, wrong] = std::from_chars(after + 1, end, found.checksum, 16);
  if (wrong != std::errc() || last != end) return std::nullopt;
  return found;
}

fs::path with_ending(const fs::path& path, std::string_view ending) {
  fs::path name = path;
  name += ending;
  return name;
}

// What the name stands for, so that a symbolic link is kept and what it names is replaced.
Result<fs::path> target_of(const fs::path& path) {
  std::error_code ignored;
  const auto status = fs::status(path, ignored);
  if (fs::exists(status) && !fs::is_regular_file(status)) {
    return Error(ErrorCode::io,
                 fmt::format("'{}' is a folder, device or pipe; a model is written to a file", path.string()));
  }
  if (fs::exists(status)) {
    if (fs::path real = fs::canonical(path, ignored); !ignored) return real;
  }
  return path;
}

}  // namespace

fs::path partial_path(const fs::path& path) {
  return with_ending(path, ".partial");
}

fs::path journal_path(const fs::path& path) {
  return with_ending(path, ".journal");
}

PartialFile::PartialFile(fs::path path)
    : path_(std::move(path)), partial_(partial_path(path_)), journal_(journal_path(path_)) {}

PartialFile::~PartialFile() {
  if (fd_ >= 0) ::close(fd_);
  if (journal_fd_ >= 0) ::close(journal_fd_);
}

Result<std::unique_ptr<PartialFile>> PartialFile::open(const fs::path& path, std::string_view header,
                                                       std::vector<uint64_t> sizes, uint64_t alignment,
                                                       const PartialOptions& options) {
  TM_TRY(fs::path target, target_of(path));
  std::unique_ptr<PartialFile> file(new PartialFile(std::move(target)));
  file->sizes_ = std::move(sizes);
  file->flush_bytes_ = options.flush_bytes;
  file->end_ = header.size();
  for (const uint64_t size : file->sizes_) {
    file->offsets_.push_back(file->end_);
    file->end_ += size + (alignment - size % alignment) % alignment;
  }
  file->first_line_ = fmt::format("{}{:016x} {:016x} {} {}\n", kMagic, options.fingerprint,
                                  base::checksum(std::as_bytes(std::span(header))), file->sizes_.size(), file->end_);
  TM_CHECK(file->open_partial());
  struct stat status {};
  if (::fstat(file->fd_, &status) != 0) return base::system_error("cannot inspect", file->partial_);
  std::error_code ignored;
  std::string journal;
  if (fs::exists(file->journal_, ignored)) {
    TM_TRY(journal, base::read_file(file->journal_, kMostJournal));
  }
  // Where only a journal of ours is left there is nothing to lose: the file got its name, and then the kill came.
  const bool anew = status.st_size == 0 && (journal.empty() || journal.starts_with(kMagic));
  if (!anew) {
    TM_TRY(const bool resumed, file->resume(header, journal));
    if (resumed) return file;
    if (!options.restart) {
      if (status.st_size == 0) ::unlink(file->partial_.c_str());  // made here
      return Error(ErrorCode::invalid_argument,
                   fmt::format("'{}' is the unfinished file of another model or of other options; finish that with the "
                               "command that began it, remove it, or throw it away with --restart",
                               file->partial_.string()));
    }
  }
  if (auto begun = file->begin(header); !begun) {
    file->discard();
    return std::move(begun).error();
  }
  return file;
}

Result<void> PartialFile::open_partial() {
  fd_ = ::open(partial_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (fd_ < 0) return base::system_error("cannot create", partial_);
  const bool locked = ::flock(fd_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK;  // or the file system has no locks
  // Between opening and locking another may have finished the file and given it its name.
  struct stat held {};
  struct stat named {};
  const bool same = ::fstat(fd_, &held) == 0 && ::stat(partial_.c_str(), &named) == 0 && held.st_ino == named.st_ino;
  if (locked && same) return {};
  return Error(ErrorCode::unavailable, fmt::format("another process is writing '{}'", partial_.string()));
}

// The journal comes first: what lies under the partial name without one is not ours.
Result<void> PartialFile::begin(std::string_view header) {
  done_ = 0;
  TM_CHECK(open_journal(0));
  TM_CHECK(append(journal_fd_, first_line_, journal_));
  if (::fdatasync(journal_fd_) != 0) return base::system_error("cannot write", journal_);
  if (::ftruncate(fd_, 0) != 0) return base::system_error("cannot write", partial_);
  TM_CHECK(claim_space());
  return write_at(fd_, std::as_bytes(std::span(header)), 0, path_);
}

// A disk that is too small says so here, instead of after hours of writing.
Result<void> PartialFile::claim_space() const {
  if (::fallocate(fd_, 0, 0, static_cast<off_t>(end_)) == 0) return {};
  if (errno != ENOSPC && errno != EDQUOT && errno != EFBIG) return {};  // the file system cannot do it
  return base::system_error(fmt::format("cannot claim {} bytes on the disk for", end_), path_);
}

// Opens the journal for appending behind its first `keep` bytes.
Result<void> PartialFile::open_journal(uint64_t keep) {
  journal_fd_ = ::open(journal_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (journal_fd_ < 0) return base::system_error("cannot create", journal_);
  if (::ftruncate(journal_fd_, static_cast<off_t>(keep)) != 0) return base::system_error("cannot write", journal_);
  return {};
}

// False where what is there is something else.
Result<bool> PartialFile::resume(std::string_view header, std::string_view journal) {
  if (!journal.starts_with(first_line_)) return false;
  std::string found(header.size(), '\0');
  const bool begun = read_at(fd_, std::as_writable_bytes(std::span(found)), 0) && found == header;
  size_t kept = first_line_.size();
  // The last line may be torn, and so may what it speaks of: as far as checksums are right, and no further.
  for (size_t end = journal.find('\n', kept); begun && end != std::string_view::npos; end = journal.find('\n', kept)) {
    const std::optional<PartLine> line = parse_part(journal.substr(kept, end - kept));
    if (!line || line->part != done_ || !is_whole(line->part, line->checksum)) break;
    ++done_;
    kept = end + 1;
  }
  if (done_ == 0) {
    TM_CHECK(begin(header));
    return true;
  }
  TM_CHECK(claim_space());
  TM_CHECK(open_journal(kept));
  return true;
}

bool PartialFile::is_whole(size_t part, uint64_t checksum) const {
  if (part >= sizes_.size()) return false;
  base::PiecewiseChecksum sum;
  std::vector<std::byte> buffer(static_cast<size_t>(std::min<uint64_t>(sizes_[part], base::kChecksumPiece)));
  for (uint64_t at = 0; at < sizes_[part]; at += buffer.size()) {
    const auto bytes =
        std::span(buffer).first(static_cast<size_t>(std::min<uint64_t>(buffer.size(), sizes_[part] - at)));
    if (!read_at(fd_, bytes, offsets_[part] + at)) return false;
    sum.add(bytes);
  }
  return sum.finish() == checksum;
}

Result<void> PartialFile::write(std::span<const std::byte> bytes) {
  assert(fd_ >= 0 && done_ < sizes_.size() && bytes.size() <= sizes_[done_] - in_part_);
  TM_CHECK(write_at(fd_, bytes, offsets_[done_] + in_part_, path_));
  checksum_.add(bytes);
  in_part_ += bytes.size();
  unflushed_ += bytes.size();
  if (in_part_ < sizes_[done_]) return {};
  return end_part();
}

Result<void> PartialFile::end_part() {
  const uint64_t end = offsets_[done_] + sizes_[done_];
  const uint64_t next = done_ + 1 < offsets_.size() ? offsets_[done_ + 1] : end_;
  const std::vector<std::byte> zeros(static_cast<size_t>(next - end));
  TM_CHECK(write_at(fd_, zeros, end, path_));
  pending_ += fmt::format("{} {:016x}\n", done_, checksum_.finish());
  ++done_;
  in_part_ = 0;
  return unflushed_ >= flush_bytes_ ? flush() : Result<void>();
}

Result<void> PartialFile::flush() {
  if (pending_.empty()) return {};
  // The bytes before the line that says they are there.
  if (::fdatasync(fd_) != 0) return base::system_error("cannot write", path_);
  TM_CHECK(append(journal_fd_, pending_, journal_));
  if (::fdatasync(journal_fd_) != 0) return base::system_error("cannot write", journal_);
  pending_.clear();
  unflushed_ = 0;
  return {};
}

Result<void> PartialFile::finish() {
  assert(fd_ >= 0 && done_ == sizes_.size());
  const bool flushed = ::fsync(fd_) == 0;
  const bool closed = ::close(std::exchange(fd_, -1)) == 0;
  if (!flushed || !closed || ::rename(partial_.c_str(), path_.c_str()) != 0) {
    return base::system_error("cannot write", path_);
  }
  ::close(std::exchange(journal_fd_, -1));
  ::unlink(journal_.c_str());
  return {};
}

void PartialFile::discard() {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  if (journal_fd_ >= 0) ::close(std::exchange(journal_fd_, -1));
  ::unlink(partial_.c_str());
  ::unlink(journal_.c_str());
}

}  // namespace tidemill::quantize
