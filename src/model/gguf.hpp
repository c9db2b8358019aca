// GGUF files, versions 2 and 3, read in place from a memory map.
// Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
//
// Everything that the file says about itself (counts, lengths, offsets, nesting) is checked against the file's size
// before it is used, and nothing is copied: keys, strings, arrays and tensors are views into the map. Every error names
// the file, the key or tensor, what was found and what would be right.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "model/checkpoint.hpp"

namespace tidemill::model {

// What stands for "GGUF" at the beginning of a file that is being written over hours (quantize/partial_file.hpp): it
// has all of its size, and zeros for weights.
inline constexpr std::string_view kUnfinishedMagic = "PART";

// A parsed file. Movable. Const calls are thread-safe. Metadata and tensors are in file order.
class GgufFile : public Checkpoint {
 public:
  // Errors: `not_found`, `io`; `corrupt` where the file contradicts the format; `unsupported` for version 1, big-endian
  // files and tensor types this build does not have.
  static base::Result<GgufFile> open(const std::filesystem::path& path);
  // The same for bytes in memory, which must outlive the result; `name` stands for the file in errors.
  static base::Result<GgufFile> parse(std::span<const std::byte> bytes, const std::filesystem::path& name);

  uint64_t alignment() const { return alignment_; }
  uint64_t header_bytes() const { return header_bytes_; }  // before the tensors' data

 private:
  class Parser;
  explicit GgufFile(const std::filesystem::path& path) : Checkpoint(Metadata(path)) {}

  uint64_t alignment_ = 32;
  uint64_t header_bytes_ = 0;
};

// ggml's name of a tensor type number ("IQ4_XS"), or "unknown".
std::string_view ggml_type_name(uint32_t ggml_type);

// "F32, F16, BF16, ...": the tensor types this build reads.
std::string supported_types_text();

}  // namespace tidemill::model
