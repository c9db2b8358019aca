// safetensors files, read in place from a memory map.
// Format: https://github.com/huggingface/safetensors#format
//
//   u64, little-endian   N, the header's length
//   N bytes              JSON: {"NAME": {"dtype": "F32", "shape": [rows, cols], "data_offsets": [begin, end]}, ...,
//                        "__metadata__": {"KEY": "text"}}
//   the rest             the tensors' data, to which the offsets are relative
//
// Lengths and offsets are checked against the file, and that the tensors' ranges follow each other from the first byte
// of the data to the last, without gaps and overlaps. Every error names the file, the tensor, what was found and what
// would be right.
#pragma once

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

// Room for the names of 100,000 tensors; a longer header is taken for damage.
inline constexpr uint64_t kMaxSafetensorsHeader = uint64_t{16} << 20;

struct SafetensorsTensor {
  std::string name;
  std::string dtype;                  // as the file writes it: "F32", "I64", ...
  std::optional<tensor::DType> type;  // the same where this build computes with it: F32, F16, BF16
  std::vector<int64_t> shape;         // outermost first: a matrix is {rows, cols}; empty for one number
  std::span<const std::byte> data;    // inside the file, at any alignment
};

// A parsed file. Movable. Const calls are thread-safe.
class SafetensorsFile {
 public:
  // Errors: `not_found`, `io`; `corrupt` where the file contradicts the format;
  // `unsupported` for element types that the format did not have when this was written.
  static base::Result<SafetensorsFile> open(const std::filesystem::path& path);
  // The same for bytes in memory, which must outlive the result; `name` stands for the file in errors.
  static base::Result<SafetensorsFile> parse(std::span<const std::byte> bytes, const std::filesystem::path& name);

  const std::filesystem::path& path() const { return path_; }
  std::shared_ptr<const base::MappedFile> mapping() const { return map_; }  // null where the bytes were given
  size_t file_bytes() const { return file_bytes_; }
  size_t header_bytes() const { return header_bytes_; }  // before the tensors' data

  std::span<const SafetensorsTensor> tensors() const { return tensors_; }  // in the order of their data
  const SafetensorsTensor* find(std::string_view name) const;              // null if absent

 private:
  class Parser;
  SafetensorsFile() = default;

  std::filesystem::path path_;
  std::shared_ptr<const base::MappedFile> map_;
  size_t file_bytes_ = 0;
  size_t header_bytes_ = 0;
  std::vector<SafetensorsTensor> tensors_;
  std::unordered_map<std::string, size_t> index_;
};

}  // namespace tidemill::model
