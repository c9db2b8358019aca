// Writes GGUF version 3 files (little-endian) as a stream: metadata first, then the tensors' bytes one after another,
// so that models larger than memory can be written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.hpp"
#include "base/result.hpp"
#include "model/metadata.hpp"
#include "tensor/dtype.hpp"

namespace tidemill::model {

// What a model is written to where `path` is asked for: a symbolic link stays, and what it names is replaced, or made
// if nothing is there. `io` for a folder, device or pipe, and for links that go round.
base::Result<std::filesystem::path> target_of(const std::filesystem::path& path);

// Use: add metadata and declare every tensor; begin(); write() all tensors' bytes in the order declared; finish().
// The file is a base::NewFile, which gets its name by finish(): readers never see half a file, and of one that is
// not finished, because the writer is destroyed or the process killed, nothing stays. Not thread-safe.
class GgufWriter {
 public:
  GgufWriter() = default;
  GgufWriter(const GgufWriter&) = delete;
  GgufWriter& operator=(const GgufWriter&) = delete;

  // Metadata. Each key once.
  void add_u32(std::string_view key, uint32_t value);
  void add_u64(std::string_view key, uint64_t value);
  void add_f32(std::string_view key, float value);
  void add_bool(std::string_view key, bool value);
  void add_string(std::string_view key, std::string_view value);
  void add_strings(std::string_view key, std::span<const std::string> values);
  void add_floats(std::string_view key, std::span<const float> values);
  void add_ints(std::string_view key, std::span<const int32_t> values);
  void add_u64s(std::string_view key, std::span<const uint64_t> values);
  void add_bytes(std::string_view key, std::string_view values);  // an array of u8
  void add(const GgufEntry& entry);                               // another file's, as it stands there
  // Tensors begin at multiples of this power of two, instead of 32; adds general.alignment. Before any is declared.
  void set_alignment(uint32_t alignment);

  // `shape` is innermost first, {cols, rows} for a matrix; cols is a multiple of the type's block.
  void declare_tensor(std::string_view name, tensor::DType type, std::span<const int64_t> shape);
  // A one-dimensional tensor of the type I8.
  void declare_bytes(std::string_view name, uint64_t bytes);

  // Bytes of all declared tensors, without padding.
  uint64_t tensor_bytes() const;
  // Bytes of the whole file, once all are declared.
  uint64_t file_bytes() const { return header().size() + next_offset_; }

  // Everything before the tensors' data, once all are declared.
  std::string header() const;

  // Creates the file that will be target_of(path), claims the space on the disk where the file system can, and
  // writes the header. Errors: `io`, those of target_of(), and `not_found` (the folder).
  base::Result<void> begin(const std::filesystem::path& path);
  // The next bytes of the tensors, in any portions that do not cross a tensor's end; padding between tensors is added
  // here.
  base::Result<void> write(std::span<const std::byte> bytes);
  // Writes another header of the same size over the first: for checksums, which are known last.
  base::Result<void> replace_header(std::string_view header);
  // All tensors must be complete. Flushes and gives the file its final name.
  base::Result<void> finish();

 private:
  void add_key(std::string_view key, GgufType type);
  void declare(std::string_view name, std::span<const int64_t> shape, uint32_t ggml_type, uint64_t bytes);
  base::Result<void> claim_space() const;
  base::Result<void> write_raw(std::span<const std::byte> bytes);
  base::Result<void> write_waiting();
  base::Result<void> pad();

  uint64_t alignment_ = 32;
  std::string metadata_;
  uint64_t metadata_count_ = 0;
  std::string tensor_records_;
  std::vector<uint64_t> sizes_;  // bytes of each declared tensor
  uint64_t next_offset_ = 0;     // of the next tensor to be declared

  std::filesystem::path final_path_;
  std::optional<base::NewFile> file_;  // from begin() on
  uint64_t header_bytes_ = 0;
  uint64_t written_ = 0;  // bytes of the file so far, waiting ones included
  // What is not in the file yet. It goes there in large stretches that begin at multiples of their size: the kernel
  // keeps those in its cache as huge pages (where the file system knows such, as ext4 since Linux 6.16), and a packed
  // model is read there: decoding from huge pages is 4 to 9 % faster.
  std::vector<std::byte> waiting_;
  size_t current_ = 0;         // tensor being written
  uint64_t current_done_ = 0;  // its bytes so far
};

}  // namespace tidemill::model
