// A file that is being fetched, under the name that it will have and ".part", with the digest of what is there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "base/result.hpp"
#include "hub/digest.hpp"

namespace tidemill::hub {

std::filesystem::path part_path(const std::filesystem::path& target);

// Not thread-safe; one process at a time (the cache's lock sees to that). Destroyed before finish(), it leaves what has
// come for another time.
class PartFile {
 public:
  // Goes on with what lies there if that can be told from other content by its digest, and may be a beginning of
  // `size` bytes; reads it for that. Else begins anew. Errors: those of the system; `cancelled` where `stopped`, if
  // given, says so while it reads.
  static base::Result<PartFile> open(const std::filesystem::path& target, uint64_t size, std::optional<Digest> digest,
                                     const std::function<bool()>& stopped = {});
  PartFile(PartFile&& other) noexcept;
  PartFile& operator=(PartFile&&) = delete;
  ~PartFile();

  uint64_t size() const { return size_; }  // of the whole
  uint64_t have() const { return have_; }
  bool complete() const { return have_ == size_; }

  // At most size() - have() bytes. `io` with the system's reason (a full disk); what was written before stays.
  base::Result<void> append(std::span<const std::byte> bytes);
  // Forgets what is there.
  base::Result<void> restart();
  // Whether what is there, which must be complete, has the digest; where that is not known, true.
  bool right();
  // The digest that it has instead; after right().
  const std::string& found() const { return found_; }
  // Flushes to the disk and gives the file its name.
  base::Result<void> finish();

 private:
  PartFile(int fd, std::filesystem::path target, uint64_t size, std::optional<Digest> digest);
  void begin_digest();
  base::Result<void> take_up(uint64_t bytes, const std::function<bool()>& stopped);

  int fd_;
  std::filesystem::path target_;
  std::filesystem::path part_;
  uint64_t size_;
  uint64_t have_ = 0;
  std::optional<Digest> digest_;
  std::unique_ptr<RunningDigest> running_;  // null where there is none to compare with
  std::string found_;
};

}  // namespace tidemill::hub
