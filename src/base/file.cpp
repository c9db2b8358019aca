#include "base/file.hpp"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>
#include <utility>

#include <fmt/core.h>

#include "base/ids.hpp"
#include "base/nameless_file.hpp"

namespace tidemill::base {
namespace {

namespace fs = std::filesystem;

class FileDescriptor {
 public:
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  ~FileDescriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

constexpr size_t huge_page = size_t{2} << 20;
constexpr size_t kTemporaryBytes = 6;  // of chance in a temporary name
constexpr std::string_view kTemporaryEnding = ".tmp";

// Maps the file at a border of huge pages; null where the kernel refuses.
void* map_aligned(int fd, size_t size) {
  // More address space than needed, which costs nothing; what sticks out is given back.
  void* space = ::mmap(nullptr, size + huge_page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (space == MAP_FAILED) return nullptr;
  auto* begin = static_cast<std::byte*>(space);
  const size_t past = reinterpret_cast<uintptr_t>(begin) % huge_page;
  const size_t head = past == 0 ? 0 : huge_page - past;
  std::byte* wanted = begin + head;
  void* data = ::mmap(wanted, size, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0);
  if (data == MAP_FAILED) {
    const int reason = errno;
    ::munmap(space, size + huge_page);
    errno = reason;
    return nullptr;
  }
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const size_t covered = (size + page - 1) / page * page;
  if (head > 0) ::munmap(begin, head);
  if (huge_page - head > covered - size) ::munmap(wanted + covered, size + huge_page - head - covered);
  ::madvise(data, size, MADV_HUGEPAGE);  // a wish: old kernels have it for anonymous memory alone
  return data;
}

Error folder_error(const fs::path& path) {
  return {ErrorCode::io, fmt::format("'{}' is a folder, not a file", path.string())};
}

// Opens what may be no named pipe, which would be waited for.
FileDescriptor open_at_once(const fs::path& path) {
  return FileDescriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
}

// Of an open file that has to be a regular one. `done`: what is to be done with it.
Result<size_t> size_of_regular(int fd, const fs::path& path, std::string_view done) {
  if (fd < 0) return system_error("cannot open", path);
  struct stat status {};
  if (::fstat(fd, &status) != 0) return system_error("cannot inspect", path);
  if (S_ISDIR(status.st_mode)) return folder_error(path);
  if (S_ISREG(status.st_mode)) return static_cast<size_t>(status.st_size);
  return Error(ErrorCode::io,
               fmt::format("'{}' is a device or pipe; only a regular file can be {}", path.string(), done));
}

Error too_large(const fs::path& path, size_t limit) {
  return {ErrorCode::too_large, fmt::format("'{}' has more than {} bytes, the limit here", path.string(), limit)};
}

Result<std::string> read_all(int fd, const fs::path& path, size_t size_hint, size_t limit) {
  std::string content;
  size_t have = 0;
  // One byte more than the hint lets the last read see the end without growing; pipes and /proc give no hint.
  size_t want = std::min(limit, size_hint) + 1;
  while (true) {
    if (have == content.size()) content.resize(std::max(want, std::min(limit, have * 2) + 1));
    const ssize_t got = ::read(fd, content.data() + have, content.size() - have);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_error("cannot read", path);
    if (got == 0) break;
    have += static_cast<size_t>(got);
    if (have > limit) return too_large(path, limit);
    want = std::min(limit, have + (size_t{64} << 10)) + 1;
  }
  content.resize(have);
  return content;
}

bool put_all(int fd, std::string_view content) {
  while (!content.empty()) {
    const ssize_t put = ::write(fd, content.data(), content.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return false;
    content.remove_prefix(static_cast<size_t>(put));
  }
  return true;
}

Result<void> write_in_place(const fs::path& path, std::string_view content) {
  FileDescriptor fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (fd.get() < 0) return system_error("cannot open for writing", path);
  return write_all(fd.get(), content, path);
}

fs::path folder_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

// Whether `name` is one that temporary_beside() makes of `target`, both without folders.
bool is_temporary_of(std::string_view name, std::string_view target) {
  if (!name.starts_with(target) || !name.ends_with(kTemporaryEnding)) return false;
  if (name.size() != target.size() + 1 + 2 * kTemporaryBytes + kTemporaryEnding.size()) return false;
  const std::string_view middle = name.substr(target.size(), 1 + 2 * kTemporaryBytes);
  return middle.front() == '.' && middle.find_first_not_of("0123456789abcdef", 1) == std::string_view::npos;
}

// Whether the open file is the regular one that has this name.
bool is_named(int fd, const fs::path& path) {
  struct stat held {};
  struct stat named {};
  return ::fstat(fd, &held) == 0 && ::lstat(path.c_str(), &named) == 0 && S_ISREG(held.st_mode) &&
         held.st_dev == named.st_dev && held.st_ino == named.st_ino;
}

// What writers of `target` that were killed have left beside it: who lives has a lock.
void remove_abandoned(const fs::path& target) {
  const std::string name = target.filename().string();
  std::error_code fault;
  for (fs::directory_iterator at(folder_of(target), fault), end; !fault && at != end; at.increment(fault)) {
    const fs::path& found = at->path();
    if (!is_temporary_of(found.filename().string(), name)) continue;
    const FileDescriptor fd(::open(found.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW));
    if (fd.get() >= 0 && ::flock(fd.get(), LOCK_EX | LOCK_NB) == 0 && is_named(fd.get(), found)) {
      ::unlink(found.c_str());
    }
  }
}

// Makes a file under a `temporary` name, with a lock where the file system has locks. Negative, with errno, on failure.
int create_locked(const fs::path& target, unsigned mode, fs::path& temporary) {
  constexpr int most_tries = 100;
  for (int i = 0; i < most_tries; ++i) {
    temporary = temporary_beside(target);
    const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0) return fd;
    const bool locked = ::flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK;
    if (locked && is_named(fd, temporary)) return fd;
    ::close(fd);  // another took it for abandoned before it was locked
  }
  errno = EAGAIN;
  return -1;
}

// How a file without a name is called for giving it one.
fs::path link_to(int fd) {
  return "/proc/self/fd/" + std::to_string(fd);
}

}  // namespace

Error system_error(std::string_view what, const fs::path& path) {
  const int number = errno;
  return {number == ENOENT ? ErrorCode::not_found : ErrorCode::io,
          fmt::format("{} '{}': {}", what, path.string(), std::generic_category().message(number))};
}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  if (this != &other) {
    if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, 0);
    path_ = std::exchange(other.path_, {});
    named_ = std::exchange(other.named_, {});
  }
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

Result<MappedFile> MappedFile::open(const fs::path& path) {
  const FileDescriptor fd = open_at_once(path);
  TM_TRY(const size_t size, size_of_regular(fd.get(), path, "mapped"));
  MappedFile file;
  file.path_ = path;
  if (size == 0) return file;  // mmap refuses empty maps
  void* data = map_aligned(fd.get(), size);
  if (data == nullptr) return system_error("cannot map", path);
  file.data_ = static_cast<const std::byte*>(data);
  file.size_ = size;
  file.named_ = NamedMap(file.bytes(), path);
  return file;
}

void MappedFile::release(size_t offset, size_t length) const {
  if (offset >= size_) return;
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const size_t end = offset + std::min(length, size_ - offset);
  // Whole pages only: a page shared with a neighbour may still be wanted. The last page has no neighbour.
  const size_t first = (offset + page - 1) / page * page;
  const size_t last = end == size_ ? end : end / page * page;
  if (first >= last) return;
  ::madvise(const_cast<std::byte*>(data_) + first, last - first, MADV_DONTNEED);
}

Result<std::string> read_file(const fs::path& path, size_t limit) {
  // `limit` + 1 is computed below.
  limit = std::min(limit, std::string().max_size() / 2);
  if (path == "-") return read_all(STDIN_FILENO, "standard input", 0, limit);
  const FileDescriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.get() < 0) return system_error("cannot open", path);
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) return system_error("cannot inspect", path);
  if (S_ISDIR(status.st_mode)) return folder_error(path);
  const size_t size = S_ISREG(status.st_mode) ? static_cast<size_t>(status.st_size) : 0;
  if (size > limit) return too_large(path, limit);
  return read_all(fd.get(), path, size, limit);
}

Result<std::string> read_regular_file(const fs::path& path, size_t limit) {
  limit = std::min(limit, std::string().max_size() / 2);
  const FileDescriptor fd = open_at_once(path);
  TM_TRY(const size_t size, size_of_regular(fd.get(), path, "read here"));
  auto content = size > limit ? Result<std::string>(too_large(path, limit)) : read_all(fd.get(), path, size, limit);
  if (content || content.error().code() != ErrorCode::too_large) return content;
  return Error(ErrorCode::unsupported, content.error().message());
}

Result<fs::path> behind_links(const fs::path& path) {
  constexpr int most_links = 40;  // as the kernel has it
  fs::path target = path;
  std::error_code fault;
  for (int links = 0; fs::is_symlink(fs::symlink_status(target, fault)); ++links) {
    const fs::path next = fs::read_symlink(target, fault);
    if (fault || links == most_links) {
      errno = fault ? fault.value() : ELOOP;
      return system_error("cannot follow the links of", path);
    }
    target = target.parent_path() / next;  // or `next`, if that is absolute
  }
  return target;
}

Result<void> write_all(int fd, std::string_view content, const fs::path& path) {
  if (put_all(fd, content)) return {};
  return system_error("cannot write", path);
}

fs::path temporary_beside(const fs::path& path) {
  fs::path temporary = path;
  temporary += "." + random_hex(kTemporaryBytes);
  temporary += kTemporaryEnding;
  return temporary;
}

Result<void> write_file(const fs::path& path, std::string_view content) {
  TM_TRY(const fs::path target, behind_links(path));
  mode_t mode = 0666;
  struct stat status {};
  const bool exists = ::stat(path.c_str(), &status) == 0;
  if (exists) {
    if (S_ISDIR(status.st_mode)) return folder_error(path);
    // A device or pipe is written to, never replaced by a file.
    if (!S_ISREG(status.st_mode)) return write_in_place(path, content);
    mode = status.st_mode & 07777;
  }
  fs::path temporary;
  const FileDescriptor fd(create_locked(target, mode, temporary));
  if (fd.get() < 0) return system_error("cannot create", temporary);
  const bool written = (!exists || ::fchmod(fd.get(), mode) == 0) && put_all(fd.get(), content) &&
                       ::fsync(fd.get()) == 0 && ::rename(temporary.c_str(), target.c_str()) == 0;
  if (!written) {
    Error error = system_error("cannot write", path);
    ::unlink(temporary.c_str());
    return error;
  }
  return {};
}

NewFile::NewFile(int fd, fs::path target, fs::path temporary)
    : fd_(fd), target_(std::move(target)), temporary_(std::move(temporary)) {}

NewFile::NewFile(NewFile&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      target_(std::move(other.target_)),
      temporary_(std::exchange(other.temporary_, fs::path())) {}

NewFile::~NewFile() {
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
  if (fd_ >= 0) ::close(fd_);
}

Result<NewFile> NewFile::create(const fs::path& target, unsigned mode) {
  remove_abandoned(target);
  std::error_code ignored;
  const int fd = open_nameless(folder_of(target), mode);
  if (fd >= 0) {
    if (fs::exists(link_to(fd), ignored)) {
      ::flock(fd, LOCK_EX | LOCK_NB);  // for when it has a name
      return NewFile(fd, target, {});
    }
    ::close(fd);  // without /proc it could never get a name
  }
  fs::path temporary;
  const int named = create_locked(target, mode, temporary);
  if (named < 0) return system_error("cannot create", temporary);
  return NewFile(named, target, std::move(temporary));
}

bool NewFile::give_name() {
  if (!temporary_.empty()) return true;
  fs::path name = temporary_beside(target_);
  if (::linkat(AT_FDCWD, link_to(fd_).c_str(), AT_FDCWD, name.c_str(), AT_SYMLINK_FOLLOW) != 0) return false;
  temporary_ = std::move(name);
  return true;
}

Result<void> NewFile::finish() {
  // Closed last: the lock goes with it.
  if (::fsync(fd_) != 0 || !give_name() || ::rename(temporary_.c_str(), target_.c_str()) != 0) {
    return system_error("cannot write", target_);
  }
  temporary_.clear();
  ::close(std::exchange(fd_, -1));
  return {};
}

Result<FileWriter> FileWriter::create(const fs::path& path) {
  TM_TRY(fs::path target, behind_links(path));
  TM_TRY(NewFile file, NewFile::create(target, 0600));
  return FileWriter(std::move(file), std::move(target));
}

Result<void> FileWriter::write(std::span<const std::byte> bytes) {
  return write_all(file_.fd(), {reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path_);
}

Result<void> FileWriter::finish() {
  return file_.finish();
}

}  // namespace tidemill::base
