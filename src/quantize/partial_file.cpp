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
#include "base/positioned_io.hpp"
#include "model/gguf_writer.hpp"

namespace tidemill::quantize {

using base::Error;
using base::ErrorCode;
using base::Result;

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kMagic = "tidemill partial file 1: ";
constexpr size_t kMostJournal = size_t{64} << 20;

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

// Says whether it was `made`. Negative, with errno, on failure: ELOOP for a link, which quantize has not left there.
int open_or_make(const fs::path& path, int flags, bool& made) {
  flags |= O_RDWR | O_CREAT | O_CLOEXEC;
  int fd = ::open(path.c_str(), flags | O_EXCL, 0666);
  made = fd >= 0;
  if (fd < 0 && errno == EEXIST) fd = ::open(path.c_str(), flags | O_NOFOLLOW, 0666);
  return fd;
}

// Whether the file has so many bytes there, and they can be read.
bool fills(int fd, std::span<std::byte> bytes, uint64_t offset) {
  const auto got = base::read_at(fd, bytes, offset, {});
  return got && *got == bytes.size();
}

Error not_ours(const fs::path& path) {
  return {ErrorCode::invalid_argument,
          fmt::format("'{}' is in the way, and nothing that quantize has left there; move it, or write to another name",
                      path.string())};
}

Error cannot(const char* what, const fs::path& path) {
  return errno == ELOOP ? not_ours(path) : base::system_error(what, path);
}

// Bytes under the partial name that no journal speaks of.
Error without_journal(const fs::path& partial, const fs::path& journal) {
  std::string magic(model::kUnfinishedMagic.size(), '\0');
  const int fd = ::open(partial.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  const bool marked =
      fd >= 0 && fills(fd, std::as_writable_bytes(std::span(magic)), 0) && magic == model::kUnfinishedMagic;
  if (fd >= 0) ::close(fd);
  if (!marked) return not_ours(partial);
  return {ErrorCode::invalid_argument,
          fmt::format("'{}' is an unfinished file without its journal '{}', so that nothing of it can be trusted; "
                      "remove it",
                      partial.string(), journal.string())};
}

fs::path folder_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

// So that a new name outlasts a loss of power, where the file system can do that.
void sync_folder(const fs::path& folder) {
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  ::fsync(fd);
  ::close(fd);
}

// For a file of which `taken` bytes are there already, and for what is there `before` it is begun.
Result<void> check_space(const fs::path& folder, uint64_t bytes, uint64_t taken, uint64_t before) {
  std::error_code fault;
  const fs::space_info space = fs::space(folder, fault);
  const uint64_t more = bytes - std::min(bytes, taken);
  if (fault || more + before <= space.free) return {};
  std::string calibrating;
  if (before > 0) calibrating = fmt::format(", and calibrating {} for as long as it runs", before);
  return Error(ErrorCode::io, fmt::format("the disk of '{}' has {} bytes left, and the file takes {} more{}",
                                          folder.string(), space.free, more, calibrating));
}

}  // namespace

fs::path partial_path(const fs::path& target) {
  return with_ending(target, ".partial");
}

fs::path journal_path(const fs::path& target) {
  return with_ending(target, ".journal");
}

PartialFile::PartialFile(fs::path target, std::string_view header, std::vector<uint64_t> sizes, uint64_t alignment,
                         const PartialOptions& options)
    : path_(std::move(target)),
      partial_(partial_path(path_)),
      journal_(journal_path(path_)),
      sizes_(std::move(sizes)),
      magic_(header.substr(0, model::kUnfinishedMagic.size())),
      end_(header.size()),
      flush_bytes_(options.flush_bytes),
      first_line_(fmt::format("{}{:016x} ", kMagic, options.fingerprint)) {
  for (const uint64_t size : sizes_) {
    offsets_.push_back(end_);
    end_ += size + (alignment - size % alignment) % alignment;
  }
  if (header.empty()) return;
  first_line_ += fmt::format("{:016x} {} {}\n", base::checksum(std::as_bytes(std::span(header))), sizes_.size(), end_);
}

PartialFile::~PartialFile() {
  if (fd_ >= 0) ::close(fd_);
  if (journal_fd_ >= 0) ::close(journal_fd_);
}

Result<std::unique_ptr<PartialFile>> PartialFile::open(const fs::path& path, std::string_view header,
                                                       std::vector<uint64_t> sizes, uint64_t alignment,
                                                       const PartialOptions& options) {
  TM_TRY(fs::path target, model::target_of(path));
  assert(!header.empty());
  std::unique_ptr<PartialFile> file(new PartialFile(std::move(target), header, std::move(sizes), alignment, options));
  if (auto started = file->start(header, options.restart); !started) {
    file->take_back();
    return std::move(started).error();
  }
  return file;
}

Result<void> PartialFile::check(const fs::path& path, std::string_view header, std::vector<uint64_t> sizes,
                                uint64_t alignment, const PartialOptions& options) {
  TM_TRY(fs::path target, model::target_of(path));
  const fs::path folder = folder_of(target);
  if (::access(folder.c_str(), W_OK | X_OK) != 0) return base::system_error("cannot write to the folder", folder);
  PartialFile file(std::move(target), header, std::move(sizes), alignment, options);
  std::string journal;
  file.journal_fd_ = ::open(file.journal_.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW);
  if (file.journal_fd_ < 0 && errno != ENOENT) return cannot("cannot open", file.journal_);
  if (file.journal_fd_ >= 0) {
    TM_CHECK(file.lock());
    TM_TRY(journal, base::read_file(file.journal_, kMostJournal));
  }
  struct stat status {};
  const bool there = ::lstat(file.partial_.c_str(), &status) == 0;
  if (there && !S_ISREG(status.st_mode)) return not_ours(file.partial_);
  TM_CHECK(file.check_found(journal, there ? static_cast<uint64_t>(status.st_size) : 0, options.restart));
  return check_space(folder, file.end_, there ? static_cast<uint64_t>(status.st_blocks) * 512 : 0,
                     options.before_bytes);
}

// Goes on with what is there, or begins.
Result<void> PartialFile::start(std::string_view header, bool restart) {
  journal_fd_ = open_or_make(journal_, O_APPEND, made_journal_);
  if (journal_fd_ < 0) return cannot("cannot create", journal_);
  TM_CHECK(lock());
  TM_TRY(const std::string journal, base::read_file(journal_, kMostJournal));
  TM_TRY(const uint64_t bytes, open_partial());
  TM_CHECK(check_found(journal, bytes, restart));
  if (bytes > 0 && journal.starts_with(first_line_)) return resume(header, journal);
  return begin(header);
}

// The lock is the journal's: it is the last of the two to go.
Result<void> PartialFile::lock() {
  struct stat held {};
  if (::fstat(journal_fd_, &held) != 0) return base::system_error("cannot inspect", journal_);
  if (!S_ISREG(held.st_mode)) return not_ours(journal_);
  const bool locked =
      ::flock(journal_fd_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK;  // or the file system has no locks
  // Between opening and locking another may have finished the file and removed its journal.
  struct stat named {};
  if (locked && ::stat(journal_.c_str(), &named) == 0 && held.st_ino == named.st_ino) return {};
  made_journal_ = false;
  return Error(ErrorCode::unavailable, fmt::format("another process is writing '{}'", partial_.string()));
}

// Refuses what is not ours to write to, and what is ours, but of something else.
Result<void> PartialFile::check_found(std::string_view journal, uint64_t bytes, bool restart) const {
  const bool ours = journal.starts_with(kMagic);
  if (!ours && !kMagic.starts_with(journal)) return not_ours(journal_);  // a kill may have come before its first line
  // Where only a journal is left there is nothing to lose: the file got its name, and then the kill came.
  if (bytes == 0) return {};
  if (!ours) return without_journal(partial_, journal_);
  if (restart || journal.starts_with(first_line_)) return {};
  return Error(ErrorCode::invalid_argument,
               fmt::format("'{}' is the unfinished file of another model or of other options (or the model was written "
                           "to since, or this is another version or instruction set); finish that with the command "
                           "that began it, remove it, or throw it away with --restart",
                           partial_.string()));
}

// Gives its size.
Result<uint64_t> PartialFile::open_partial() {
  fd_ = open_or_make(partial_, 0, made_partial_);
  if (fd_ < 0) return cannot("cannot create", partial_);
  struct stat status {};
  if (::fstat(fd_, &status) != 0) return base::system_error("cannot inspect", partial_);
  if (!S_ISREG(status.st_mode)) return not_ours(partial_);
  return static_cast<uint64_t>(status.st_size);
}

// What open() has made, and what it has begun.
void PartialFile::take_back() {
  if (begun_ || made_partial_) ::unlink(partial_.c_str());
  if (begun_ || made_journal_) ::unlink(journal_.c_str());
}

// The journal comes first: what lies under the partial name without one is not ours.
Result<void> PartialFile::begin(std::string_view header) {
  done_ = 0;
  begun_ = true;
  TM_CHECK(cut_journal(0));
  TM_CHECK(base::write_all(journal_fd_, first_line_, journal_));
  if (::fdatasync(journal_fd_) != 0) return base::system_error("cannot write", journal_);
  if (::ftruncate(fd_, 0) != 0) return base::system_error("cannot write", partial_);
  TM_CHECK(claim_space());
  TM_CHECK(base::write_at(fd_, std::as_bytes(std::span(header)), 0, path_));
  return mark_unfinished();
}

// Zeros would be taken for weights by who reads it now.
Result<void> PartialFile::mark_unfinished() const {
  return base::write_at(fd_, std::as_bytes(std::span(model::kUnfinishedMagic.substr(0, magic_.size()))), 0, path_);
}

// A disk that is too small says so here, instead of after hours of writing.
Result<void> PartialFile::claim_space() const {
  if (::fallocate(fd_, 0, 0, static_cast<off_t>(end_)) == 0) return {};
  if (errno != ENOSPC && errno != EDQUOT && errno != EFBIG) return {};  // the file system cannot do it
  return base::system_error(fmt::format("cannot claim {} bytes on the disk for", end_), path_);
}

Result<void> PartialFile::cut_journal(uint64_t keep) const {
  if (::ftruncate(journal_fd_, static_cast<off_t>(keep)) != 0) return base::system_error("cannot write", journal_);
  return {};
}

// Of a journal with our first line.
Result<void> PartialFile::resume(std::string_view header, std::string_view journal) {
  std::string found(header.size(), '\0');
  const bool begun = fills(fd_, std::as_writable_bytes(std::span(found)), 0) &&
                     std::string_view(found).substr(magic_.size()) == header.substr(magic_.size());
  size_t kept = first_line_.size();
  // The last line may be torn, and so may what it speaks of: as far as checksums are right, and no further.
  for (size_t end = journal.find('\n', kept); begun && end != std::string_view::npos; end = journal.find('\n', kept)) {
    const std::optional<PartLine> line = parse_part(journal.substr(kept, end - kept));
    if (!line || line->part != done_ || !is_whole(line->part, line->checksum)) break;
    ++done_;
    kept = end + 1;
  }
  if (done_ == 0) return begin(header);
  TM_CHECK(mark_unfinished());
  TM_CHECK(claim_space());
  return cut_journal(kept);
}

bool PartialFile::is_whole(size_t part, uint64_t checksum) const {
  if (part >= sizes_.size()) return false;
  base::PiecewiseChecksum sum;
  std::vector<std::byte> buffer(static_cast<size_t>(std::min<uint64_t>(sizes_[part], base::kChecksumPiece)));
  for (uint64_t at = 0; at < sizes_[part]; at += buffer.size()) {
    const auto bytes =
        std::span(buffer).first(static_cast<size_t>(std::min<uint64_t>(buffer.size(), sizes_[part] - at)));
    if (!fills(fd_, bytes, offsets_[part] + at)) return false;
    sum.add(bytes);
  }
  return sum.finish() == checksum;
}

Result<void> PartialFile::write(std::span<const std::byte> bytes) {
  assert(fd_ >= 0 && done_ < sizes_.size() && bytes.size() <= sizes_[done_] - in_part_);
  TM_CHECK(base::write_at(fd_, bytes, offsets_[done_] + in_part_, path_));
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
  TM_CHECK(base::write_at(fd_, zeros, end, path_));
  pending_ += fmt::format("{} {:016x}\n", done_, checksum_.finish());
  ++done_;
  in_part_ = 0;
  return unflushed_ >= flush_bytes_ ? flush() : Result<void>();
}

Result<void> PartialFile::flush() {
  if (pending_.empty()) return {};
  // The bytes before the line that says they are there.
  if (::fdatasync(fd_) != 0) return base::system_error("cannot write", path_);
  TM_CHECK(base::write_all(journal_fd_, pending_, journal_));
  if (::fdatasync(journal_fd_) != 0) return base::system_error("cannot write", journal_);
  pending_.clear();
  unflushed_ = 0;
  return {};
}

Result<void> PartialFile::finish() {
  assert(fd_ >= 0 && done_ == sizes_.size());
  TM_CHECK(base::write_at(fd_, std::as_bytes(std::span(magic_)), 0, path_));
  if (::fsync(fd_) != 0 || ::rename(partial_.c_str(), path_.c_str()) != 0) {
    return base::system_error("cannot write", path_);
  }
  // Before the journal goes, without which what still had its old name could not be told from somebody else's.
  sync_folder(folder_of(path_));
  ::unlink(journal_.c_str());
  ::close(std::exchange(fd_, -1));
  ::close(std::exchange(journal_fd_, -1));
  return {};
}

void PartialFile::discard() {
  ::unlink(partial_.c_str());
  ::unlink(journal_.c_str());
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  if (journal_fd_ >= 0) ::close(std::exchange(journal_fd_, -1));
}

}  // namespace tidemill::quantize
