// Files: whole reads, atomic writes, memory maps.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/map_faults.hpp"
#include "base/result.hpp"

namespace tidemill::base {

// A read-only map of a whole file, laid so that the kernel can use 2 MiB pages where the file's cache consists of them,
// and asked to. Owned; movable. The bytes stay valid while this lives, whatever happens to the name; a file that
// somebody cuts short in place ends the process on the next access past its end (map_faults.hpp), so files in use are
// replaced by renaming.
class MappedFile {
 public:
  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept { *this = std::move(other); }
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  // Fails with `not_found`, or with `io` and the system's reason, such as that it is a folder or another non-file.
  static Result<MappedFile> open(const std::filesystem::path& path);

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::filesystem::path& path() const { return path_; }

  // Tells the kernel that [offset, offset + length) will not be read again, so its pages may go.
  void release(size_t offset, size_t length) const;

 private:
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
  std::filesystem::path path_;
  NamedMap named_;
};

// The file's content; over `limit` bytes is `too_large`. "-" reads standard input.
Result<std::string> read_file(const std::filesystem::path& path, size_t limit = size_t{1} << 30);

// The same of what has to be a file, as those that make a model: a named pipe or a device is refused with `io` instead
// of being waited for. Over `limit` bytes is `unsupported`: the file may be right, and nobody who wrote a request has
// made it too long.
Result<std::string> read_regular_file(const std::filesystem::path& path, size_t limit = size_t{1} << 30);

// What a file at `path` is written to: behind the symbolic links that the name is, whether something is there or not.
// Error `io`: links that go round.
Result<std::filesystem::path> behind_links(const std::filesystem::path& path);

// Writes all of `content` to an open file, `path`. Errors: `io` with the system's reason.
Result<void> write_all(int fd, std::string_view content, const std::filesystem::path& path);

// A new name beside `path`, for what is renamed to it when it is whole.
std::filesystem::path temporary_beside(const std::filesystem::path& path);

// Writes beside `path`, or what that links to, under a temporary name, then renames: readers see the old content or the
// new, never half.
Result<void> write_file(const std::filesystem::path& path, std::string_view content);

// An open file that takes the place of `target` when it is whole. Destroyed before that, it leaves nothing behind; nor
// does a process that is killed, where the file system knows files without a name. Elsewhere the next one of the same
// target removes what was left: files under its temporary names that no process has locked. Movable.
class NewFile {
 public:
  // `target` is no link (behind_links()); `mode` as for open().
  static Result<NewFile> create(const std::filesystem::path& target, unsigned mode);
  NewFile(NewFile&& other) noexcept;
  NewFile& operator=(NewFile&&) = delete;
  ~NewFile();

  int fd() const { return fd_; }
  // Flushes to the disk and gives it its name. Errors: `io` with the system's reason. Once.
  Result<void> finish();

 private:
  NewFile(int fd, std::filesystem::path target, std::filesystem::path temporary);
  bool give_name();

  int fd_;
  std::filesystem::path target_;
  std::filesystem::path temporary_;  // its name beside the target; empty as long as it has none, and once finished
};

// A file that grows piece by piece, readable by its owner alone, and takes the place of `path`, or of what that links
// to, when it is whole, as NewFile has it. Movable.
class FileWriter {
 public:
  static Result<FileWriter> create(const std::filesystem::path& path);

  // Errors: `io` with the system's reason (a full disk); after one the file cannot be finished.
  Result<void> write(std::span<const std::byte> bytes);
  // Flushes to the disk and renames.
  Result<void> finish();

 private:
  FileWriter(NewFile file, std::filesystem::path path) : file_(std::move(file)), path_(std::move(path)) {}

  NewFile file_;
  std::filesystem::path path_;
};

// "<what> '<path>': <strerror(errno)>" as an Error (`not_found` for ENOENT, else `io`).
Error system_error(std::string_view what, const std::filesystem::path& path);

}  // namespace tidemill::base
