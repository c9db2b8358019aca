// GGUF files, versions 2 and 3, read in place from a memory map.
// Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
//
// Everything that the file says about itself (counts, lengths, offsets, nesting) is checked against the file's size
// before it is used, and nothing is copied: keys, strings, arrays and tensors are views into the map. Every error names
// the file, the key or tensor, what was found and what would be right.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/file.hpp"
#include "base/result.hpp"
#include "tensor/dtype.hpp"

namespace tidemill::model {

// Metadata value types, with their numbers in the file.
enum class GgufType : uint32_t {
  u8 = 0,
  i8 = 1,
  u16 = 2,
  i16 = 3,
  u32 = 4,
  i32 = 5,
  f32 = 6,
  boolean = 7,
  string = 8,
  array = 9,
  u64 = 10,
  i64 = 11,
  f64 = 12,
};

std::string_view to_string(GgufType type);

// One metadata value, undecoded. Views live as long as the file.
struct GgufValue {
  GgufType type = GgufType::u8;
  GgufType element = GgufType::u8;     // of an array; else the same as `type`
  uint64_t count = 1;                  // elements of an array; else 1
  std::span<const std::byte> payload;  // the scalar, the string's characters, or the array's elements as stored

  // The value for people: strings quoted and arrays cut after a few elements, at most about `limit` bytes in all.
  std::string describe(size_t limit = 120) const;
};

struct GgufEntry {
  std::string_view key;
  GgufValue value;
};

struct GgufTensor {
  std::string_view name;
  tensor::DType type = tensor::DType::f32;
  int rank = 1;                                 // 1 to 4
  std::array<int64_t, 4> shape = {1, 1, 1, 1};  // innermost first, as in the file: a matrix is {cols, rows}
  std::span<const std::byte> data;              // all of it lies inside the file
  bool panels = false;    // of a packed file: `data` are panels (tensor/packed_layout.hpp), not rows
  uint64_t checksum = 0;  // of a packed file: base::piecewise_checksum of `data`

  int64_t cols() const { return shape[0]; }
  int64_t rows() const { return shape[1] * shape[2] * shape[3]; }
  int64_t elements() const { return cols() * rows(); }
  // "[2048, 128256]", innermost first as GGUF tools print it.
  std::string shape_text() const;
};

// What a packed file (packed_file.hpp) says about itself.
struct PackedInfo {
  uint32_t layout = 0;      // of its panels
  std::string_view writer;  // program and version
  std::string_view source;  // file name
  uint64_t source_bytes = 0;
};

// A parsed file. Movable. Const calls are thread-safe.
class GgufFile {
 public:
  // Errors: `not_found`, `io`; `corrupt` where the file contradicts the format; `unsupported` for version 1, big-endian
  // files and tensor types this build does not have.
  static base::Result<GgufFile> open(const std::filesystem::path& path);
  // The same for bytes in memory, which must outlive the result; `name` stands for the file in errors.
  static base::Result<GgufFile> parse(std::span<const std::byte> bytes, const std::filesystem::path& name);

  const std::filesystem::path& path() const { return path_; }
  uint32_t version() const { return version_; }
  uint64_t alignment() const { return alignment_; }
  size_t file_bytes() const { return bytes_.size(); }
  uint64_t header_bytes() const { return header_bytes_; }  // before the tensors' data
  // Null for a plain file. A packed one's tensors have the types and shapes of its source.
  const PackedInfo* packed() const { return packed_ ? &*packed_ : nullptr; }
  // What keeps the bytes of the tensors alive beyond this object; null where they were given to parse().
  std::shared_ptr<const base::MappedFile> mapping() const { return map_; }
  size_t tensor_bytes() const;  // sum over all tensors
  int64_t parameters() const;   // elements of all tensors

  std::span<const GgufEntry> metadata() const { return entries_; }  // in file order
  std::span<const GgufTensor> tensors() const { return tensors_; }  // in file order

  const GgufValue* find(std::string_view key) const;           // null if absent
  const GgufTensor* find_tensor(std::string_view name) const;  // null if absent

  // Typed metadata. An absent key is `not_found`; a value of another type or out of range is `corrupt`.
  // Integers are accepted in every width and signedness that holds the value; floats in both widths and from integers;
  // booleans also as integers 0 and 1.
  base::Result<int64_t> get_int(std::string_view key) const;
  base::Result<uint32_t> get_u32(std::string_view key) const;
  base::Result<double> get_float(std::string_view key) const;
  base::Result<bool> get_bool(std::string_view key) const;
  base::Result<std::string_view> get_string(std::string_view key) const;
  base::Result<std::vector<std::string_view>> get_strings(std::string_view key) const;
  base::Result<std::vector<float>> get_floats(std::string_view key) const;
  base::Result<std::vector<int32_t>> get_ints(std::string_view key) const;
  base::Result<std::vector<uint64_t>> get_u64s(std::string_view key) const;  // of the type u64 alone

  // As above, but an absent key gives the fallback.
  base::Result<int64_t> get_int_or(std::string_view key, int64_t fallback) const;
  base::Result<double> get_float_or(std::string_view key, double fallback) const;
  base::Result<bool> get_bool_or(std::string_view key, bool fallback) const;
  base::Result<std::string_view> get_string_or(std::string_view key, std::string_view fallback) const;

  // Tells the kernel that a tensor's pages will not be read again (no effect on bytes in memory).
  void release(const GgufTensor& tensor) const;
  // The same for everything before the tensors' data.
  void release_header() const;

  // An error of `code` whose message begins with this file's path.
  base::Error error(base::ErrorCode code, std::string message) const;

 private:
  class Parser;
  base::Result<const GgufValue*> require(std::string_view key) const;
  base::Result<const GgufValue*> require_array(std::string_view key) const;

  std::filesystem::path path_;
  std::shared_ptr<const base::MappedFile> map_;  // null when parsed from memory
  std::span<const std::byte> bytes_;
  uint32_t version_ = 0;
  uint64_t alignment_ = 32;
  uint64_t header_bytes_ = 0;
  std::optional<PackedInfo> packed_;
  std::vector<GgufEntry> entries_;
  std::vector<GgufTensor> tensors_;
  std::unordered_map<std::string_view, size_t> entry_index_;
  std::unordered_map<std::string_view, size_t> tensor_index_;
};

// ggml's name of a tensor type number ("IQ4_XS"), or "unknown".
std::string_view ggml_type_name(uint32_t ggml_type);

// "F32, F16, BF16, ...": the tensor types this build reads.
std::string supported_types_text();

// Text from a file made fit for an error message: base::utf8::printable, cut to a readable length.
std::string printable(std::string_view text, size_t limit = 80);

}  // namespace tidemill::model
