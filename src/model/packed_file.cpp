#include "model/packed_file.hpp"

#include <cassert>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "base/checksum.hpp"
#include "model/gguf_writer.hpp"
#include "tensor/packed_weight.hpp"

namespace tidemill::model {
namespace {

using base::Error;
using base::ErrorCode;
using base::Result;

constexpr std::string_view kChecksumKey = "tidemill.packed.header_checksum";
constexpr std::string_view kBytesKey = "tidemill.packed.header_bytes";

// Where the values of the first two entries lie: after magic, version and two counts, an entry is its key's length, the
// key, the value's type and the value.
constexpr size_t kEntriesBegin = 24;
constexpr size_t kChecksumAt = kEntriesBegin + 8 + kChecksumKey.size() + 4;
constexpr size_t kBytesAt = kChecksumAt + 8 + 8 + kBytesKey.size() + 4;
constexpr size_t kPrefixBytes = kBytesAt + 8;

uint64_t load_u64(std::span<const std::byte> bytes, size_t at) {
  uint64_t value = 0;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

void store_u64(std::span<std::byte> bytes, size_t at, uint64_t value) {
  std::memcpy(bytes.data() + at, &value, sizeof value);
}

bool has_key(std::span<const std::byte> bytes, size_t value_at, std::string_view key) {
  const size_t begin = value_at - 4 - key.size() - 8;
  uint32_t type = 0;
  std::memcpy(&type, bytes.data() + value_at - 4, sizeof type);
  return load_u64(bytes, begin) == key.size() && std::memcmp(bytes.data() + begin + 8, key.data(), key.size()) == 0 &&
         type == static_cast<uint32_t>(GgufType::u64);
}

uint64_t header_checksum(std::span<const std::byte> header) {
  // What stands in the checksum's own place must not matter, and the header is in a read-only map.
  base::PiecewiseChecksum sum;
  constexpr std::byte zeros[8] = {};
  sum.add(header.first(kChecksumAt));
  sum.add(zeros);
  sum.add(header.subspan(kChecksumAt + sizeof zeros));
  return sum.finish();
}

// The type and shape that a tensor of the source had, checked against what is stored.
Result<void> restore(const GgufFile& file, const PackedInfo& info, int32_t type_number, std::span<const int32_t> shape,
                     GgufTensor& tensor) {
  const std::string name = printable(tensor.name);
  const auto type = tensor::dtype_from_ggml(static_cast<uint32_t>(type_number));
  if (!type) {
    return with_packing_advice(
        file.error(ErrorCode::unsupported,
                   fmt::format("the panels of tensor '{}' are of type {} ({}); supported are {}", name, type_number,
                               ggml_type_name(static_cast<uint32_t>(type_number)), supported_types_text())));
  }
  GgufTensor original = tensor;
  original.type = *type;
  for (size_t d = 0; d < shape.size(); ++d)
    original.shape[d] = shape[d];
  if (!tensor.panels) {
    if (original.type == tensor.type && original.shape == tensor.shape) return {};
    return with_packing_advice(
        file.error(ErrorCode::corrupt, fmt::format("tensor '{}' is {} {}, but the packed file's keys call it {} {}",
                                                   name, tensor::info(tensor.type).name, tensor.shape_text(),
                                                   tensor::info(*type).name, original.shape_text())));
  }
  const bool stacked = shape[2] > 1;  // the matrices of experts
  original.rank = stacked ? 3 : 2;
  if (shape[0] < 1 || shape[1] < 1 || shape[2] < 1 || shape[3] != 1 ||
      (stacked && shape[1] % tensor::kPanelRows != 0)) {
    return with_packing_advice(file.error(
        ErrorCode::corrupt, fmt::format("the panels of tensor '{}' are said to be of the shape [{}]; a matrix was "
                                        "expected, or several of whole panels each",
                                        name, fmt::join(shape, ", "))));
  }
  // How many bytes panels take is known of this program's own layout alone (others are refused when loaded), but no
  // layout spends less than a bit on an element.
  const auto expected = tensor::PackedWeight::packed_bytes(*type, original.rows(), original.cols());
  const bool own_layout = info.layout == tensor::kPackedLayoutVersion;
  if (!expected || (own_layout ? *expected != tensor.data.size()
                               : static_cast<size_t>(original.elements()) / 8 > tensor.data.size())) {
    return with_packing_advice(file.error(
        ErrorCode::corrupt, fmt::format("the panels of tensor '{}' have {} bytes, which does not fit {} {}", name,
                                        tensor.data.size(), tensor::info(*type).name, original.shape_text())));
  }
  tensor = original;
  return {};
}

}  // namespace

Error with_packing_advice(const Error& error) {
  return Error(error.code(), error.message() + "; make the packed file again with 'tidemill pack'");
}

bool begins_packed(std::span<const std::byte> bytes) {
  return bytes.size() >= kPrefixBytes && std::memcmp(bytes.data(), "GGUF", 4) == 0 &&
         has_key(bytes, kChecksumAt, kChecksumKey) && has_key(bytes, kBytesAt, kBytesKey);
}

Result<void> check_packed_header(std::span<const std::byte> bytes, const std::filesystem::path& path) {
  const auto refuse = [&](std::string_view what) {
    return with_packing_advice(Error(ErrorCode::corrupt, fmt::format("{}: {}", path.string(), what)));
  };
  const uint64_t length = load_u64(bytes, kBytesAt);
  if (length < kPrefixBytes || length > bytes.size()) {
    return refuse(fmt::format("the packed file's header is said to have {} bytes, the file has {} (truncated?)", length,
                              bytes.size()));
  }
  const uint64_t written = load_u64(bytes, kChecksumAt);
  const uint64_t found = header_checksum(bytes.first(length));
  if (written == found) return {};
  return refuse(
      fmt::format("the packed file's header or metadata are damaged: their checksum is {:016x}, {:016x} was "
                  "written",
                  found, written));
}

Result<PackedInfo> read_packed_keys(const GgufFile& file, std::span<GgufTensor> tensors) {
  PackedInfo info;
  TM_TRY(info.writer, file.get_string("tidemill.packed.writer"));
  TM_TRY(const uint32_t format, file.get_u32("tidemill.packed.format"));
  if (format != kPackedFormat) {
    return with_packing_advice(file.error(
        ErrorCode::unsupported, fmt::format("a packed file of format {}, written by {}; this program reads format {}",
                                            format, printable(info.writer), kPackedFormat)));
  }
  TM_TRY(info.layout, file.get_u32("tidemill.packed.layout"));
  TM_TRY(info.source, file.get_string("tidemill.packed.source"));
  TM_TRY(const int64_t source_bytes, file.get_int("tidemill.packed.source_bytes"));
  info.source_bytes = static_cast<uint64_t>(source_bytes);
  TM_TRY(const std::vector<int32_t> types, file.get_ints("tidemill.packed.types"));
  TM_TRY(const std::vector<int32_t> shapes, file.get_ints("tidemill.packed.shapes"));
  TM_TRY(const std::vector<uint64_t> checksums, file.get_u64s("tidemill.packed.checksums"));
  const size_t count = tensors.size();
  if (types.size() != count || shapes.size() != count * 4 || checksums.size() != count) {
    return with_packing_advice(
        file.error(ErrorCode::corrupt, fmt::format("the packed file has {} tensors, but {} types, {} extents and {} "
                                                   "checksums of them",
                                                   count, types.size(), shapes.size(), checksums.size())));
  }
  TM_TRY(const int64_t header_bytes, file.get_int(kBytesKey));
  if (static_cast<uint64_t>(header_bytes) != file.header_bytes()) {
    return with_packing_advice(
        file.error(ErrorCode::corrupt, fmt::format("the packed file's tensors begin at byte {}, but its keys say {}",
                                                   file.header_bytes(), header_bytes)));
  }
  for (size_t i = 0; i < count; ++i) {
    TM_CHECK(restore(file, info, types[i], std::span(shapes).subspan(i * 4, 4), tensors[i]));
    tensors[i].checksum = checksums[i];
  }
  return info;
}

Result<void> check_packed_layout(const Checkpoint& file) {
  const PackedInfo* info = file.packed();
  if (info == nullptr || info->layout == tensor::kPackedLayoutVersion) return {};
  return with_packing_advice(file.error(
      ErrorCode::unsupported,
      fmt::format("packed in layout {} by {} from '{}', but this program computes with layout {}", info->layout,
                  printable(info->writer), printable(info->source), tensor::kPackedLayoutVersion)));
}

void add_packed_prefix(GgufWriter& writer) {
  writer.add_u64(kChecksumKey, 0);
  writer.add_u64(kBytesKey, 0);
}

void sign_packed_header(std::span<std::byte> header) {
  assert(begins_packed(header));
  store_u64(header, kBytesAt, header.size());
  store_u64(header, kChecksumAt, header_checksum(header));
}

}  // namespace tidemill::model
