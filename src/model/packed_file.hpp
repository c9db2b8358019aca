// Packed files: a model whose matrices lie in the file as the kernels want them in memory, so that loading is mapping.
//
// A packed file is a GGUF version 3 file that any reader of the format can list. It holds all metadata of its source,
// and in front of them the keys below. A matrix X of the source is the one-dimensional I8 tensor "tidemill.panels.X",
// whose bytes are the panels of tensor/packed_layout.hpp; other readers find no tensor X and say so. All other tensors
// (norms, biases, tables of frequencies) are the source's. Tensors begin at multiples of 4096 bytes.
//
//   tidemill.packed.header_checksum  u64, of all bytes before the tensors' data, itself taken as 0
//   tidemill.packed.header_bytes     u64, where the tensors' data begin
//   tidemill.packed.format           u32, of these keys: 1
//   tidemill.packed.layout           u32, of the panels: tensor::kPackedLayoutVersion
//   tidemill.packed.writer           string, the program and its version
//   tidemill.packed.source           string, the source's file name
//   tidemill.packed.source_bytes     u64, the source's size
//   tidemill.packed.types            i32 for each tensor: the source's GGUF type number
//   tidemill.packed.shapes           i32, four for each tensor: the source's shape, innermost first, filled up with 1
//   tidemill.packed.checksums        u64 for each tensor, of its data
//
// The first two are the file's first entries, at places that never change: the header is checked before it is parsed.
// Checksums are base::piecewise_checksum.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "model/gguf.hpp"

namespace tidemill::model {

inline constexpr uint32_t kPackedFormat = 1;
inline constexpr uint32_t kPackedAlignment = 4096;
inline constexpr std::string_view kPanelsPrefix = "tidemill.panels.";

// Whether the bytes begin as a packed file does.
bool begins_packed(std::span<const std::byte> bytes);

// That the header of a packed file is whole and as it was written; `path` is for the message. `corrupt`, saying what is
// wrong and how to mend it.
base::Result<void> check_packed_header(std::span<const std::byte> bytes, const std::filesystem::path& path);

// Reads the keys above and gives every tensor of `tensors`, which are those of `file` as stored, its source's type and
// shape. Errors: `unsupported` for a newer format, `corrupt` where keys and tensors contradict each other.
base::Result<PackedInfo> read_packed_keys(const GgufFile& file, std::span<GgufTensor> tensors);

// `unsupported` for a packed file whose panels have another layout than this program computes with.
base::Result<void> check_packed_layout(const Checkpoint& file);

// The same error, ending in what to do about it.
base::Error with_packing_advice(const base::Error& error);

class GgufWriter;
// Adds the first two entries, with values that sign_packed_header fills in.
void add_packed_prefix(GgufWriter& writer);
// `header` is everything before the tensors' data, of a file that begins_packed.
void sign_packed_header(std::span<std::byte> header);

}  // namespace tidemill::model
