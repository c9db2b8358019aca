// A file of many parts that is written over hours, and goes on after a kill where it was.
//
// Beside OUT lie, while it is written, OUT.partial with the parts so far and OUT.journal, which says what it will be
// and which parts are whole and on the disk. The first bytes of OUT.partial are model::kUnfinishedMagic, so that nobody
// takes it for what it will be. OUT itself appears when all are. Both are text or bytes of this machine's
// order; they are not for other machines.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/checksum.hpp"
#include "base/result.hpp"
#include "model/gguf.hpp"

namespace tidemill::quantize {

// The names of what lies beside a model::target_of() while it is written.
std::filesystem::path partial_path(const std::filesystem::path& target);
std::filesystem::path journal_path(const std::filesystem::path& target);

struct PartialOptions {
  // What the content depends on: only a partial file of the same is gone on with.
  uint64_t fingerprint = 0;
  // Throw away what is there of another fingerprint, instead of refusing to. What has no journal of ours stays.
  bool restart = false;
  // Of the folder's disk, for check(): what is there for a while before the file is begun.
  uint64_t before_bytes = 0;
  // Parts are put down as whole when so many bytes more are safely on the disk: what a kill costs at most.
  uint64_t flush_bytes = uint64_t{16} << 20;
};

// Not thread-safe. One process at a time writes a file (`unavailable` to a second).
class PartialFile {
 public:
  // The file is `header`, then the parts, of `sizes` bytes each, of which each begins at a multiple of `alignment`
  // behind the header, padded with zeros. Goes on with what is there of the same fingerprint, header and sizes, as far
  // as its checksums are right. Claims the space on the disk where the file system can. Errors, after which nothing is
  // there that was not before: `invalid_argument` where something else is, which names the ways out; `unavailable`;
  // `io` and `not_found` with the system's reason.
  static base::Result<std::unique_ptr<PartialFile>> open(const std::filesystem::path& path, std::string_view header,
                                                         std::vector<uint64_t> sizes, uint64_t alignment,
                                                         const PartialOptions& options);
  // What open() would refuse for what lies there or for want of space on the disk: for who would work for long before.
  // Makes nothing and changes nothing. An empty header stands for one that is not known yet; then sizes are
  // the least that there may be.
  static base::Result<void> check(const std::filesystem::path& path, std::string_view header,
                                  std::vector<uint64_t> sizes, uint64_t alignment, const PartialOptions& options);

  PartialFile(const PartialFile&) = delete;
  PartialFile& operator=(const PartialFile&) = delete;
  // Leaves what was written for another time, unless discard() or finish() was called.
  ~PartialFile();

  // Parts that are whole. The next write() begins part `done()`.
  size_t done() const { return done_; }

  // The next bytes, in any portions that do not cross a part's end.
  base::Result<void> write(std::span<const std::byte> bytes);
  // Puts down what is whole. When work stops half-way, so that nothing of it is lost.
  base::Result<void> flush();
  // All parts must be whole. Flushes, gives the file its final name and removes the journal.
  base::Result<void> finish();
  // Removes what was written: it cannot become a file.
  void discard();

 private:
  PartialFile(std::filesystem::path target, std::string_view header, std::vector<uint64_t> sizes, uint64_t alignment,
              const PartialOptions& options);

  base::Result<void> start(std::string_view header, bool restart);
  base::Result<void> lock();
  base::Result<void> check_found(std::string_view journal, uint64_t bytes, bool restart) const;
  base::Result<uint64_t> open_partial();
  base::Result<void> resume(std::string_view header, std::string_view journal);
  base::Result<void> begin(std::string_view header);
  base::Result<void> mark_unfinished() const;
  base::Result<void> claim_space() const;
  base::Result<void> cut_journal(uint64_t keep) const;
  void take_back();
  bool is_whole(size_t part, uint64_t checksum) const;
  base::Result<void> end_part();

  std::filesystem::path path_;
  std::filesystem::path partial_;
  std::filesystem::path journal_;
  std::vector<uint64_t> sizes_;
  std::vector<uint64_t> offsets_;
  std::string magic_;  // the header's first bytes, which come last
  uint64_t end_ = 0;   // of the file
  uint64_t flush_bytes_ = 0;
  std::string first_line_;  // of the journal: what the file will be, as far as it is known
  int fd_ = -1;
  int journal_fd_ = -1;        // which has the lock
  bool made_partial_ = false;  // by open(), and so removed if that fails
  bool made_journal_ = false;
  bool begun_ = false;  // what was there before is gone
  size_t done_ = 0;
  uint64_t in_part_ = 0;
  uint64_t unflushed_ = 0;
  std::string pending_;  // lines of the journal for parts that may not be on the disk yet
  base::PiecewiseChecksum checksum_;
};

}  // namespace tidemill::quantize
