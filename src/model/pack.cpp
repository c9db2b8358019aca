#include "model/pack.hpp"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/checksum.hpp"
#include "base/thread_team.hpp"
#include "base/version.hpp"
#include "model/finite.hpp"
#include "model/gguf_writer.hpp"
#include "model/latent_expansion.hpp"
#include "model/load.hpp"
#include "model/packed_file.hpp"
#include "tensor/packed_weight.hpp"

namespace tidemill::model {
namespace {

using base::Error;
using base::ErrorCode;
using base::Result;

// Source bytes that are packed and written at a time.
constexpr int64_t kSliceBytes = int64_t{8} << 20;

// A matrix, or those of experts one behind the other, whose panels follow each other where none has rows of two
// experts.
bool is_matrix(const GgufTensor& tensor) {
  if (tensor.name.ends_with(".bias")) return false;    // of experts
  if (is_latent_expansion(tensor.name)) return false;  // it is split when it is loaded
  if (tensor.rank == 3) return tensor.shape[1] % tensor::kPanelRows == 0;
  return tensor.rank == 2 && tensor.rows() > 1;
}

bool is_own_key(std::string_view key) {
  return key.starts_with("tidemill.packed.") || key == "general.alignment";
}

class Packer {
 public:
  Packer(const Checkpoint& source, const PackOptions& options)
      : source_(source), options_(options), team_(std::max(1, options.threads)) {}

  Result<PackSummary> run(const std::filesystem::path& path) {
    checksums_.assign(source_.tensors().size(), 0);
    GgufWriter writer;
    TM_CHECK(describe(writer));
    TM_CHECK(writer.begin(path));
    for (size_t i = 0; i < source_.tensors().size(); ++i) {
      const GgufTensor& tensor = source_.tensors()[i];
      base::PiecewiseChecksum sum;
      TM_CHECK(is_matrix(tensor) ? write_panels(writer, tensor, sum) : write_rows(writer, tensor, sum));
      checksums_[i] = sum.finish();
      source_.release(tensor);
    }
    // The checksums are known now: the same header once more.
    GgufWriter again;
    TM_CHECK(describe(again));
    std::string header = again.header();
    sign_packed_header(std::as_writable_bytes(std::span(header)));
    TM_CHECK(writer.replace_header(header));
    TM_CHECK(writer.finish());
    summary_.bytes = again.file_bytes();
    return summary_;
  }

 private:
  // Adds everything but the tensors' data.
  Result<void> describe(GgufWriter& writer) {
    add_packed_prefix(writer);
    writer.add_u32("tidemill.packed.format", kPackedFormat);
    writer.add_u32("tidemill.packed.layout", tensor::kPackedLayoutVersion);
    writer.add_string("tidemill.packed.writer", fmt::format("tidemill {}", base::version()));
    writer.add_string("tidemill.packed.source",
                      source_.version() == 0 ? source_.stem() : source_.path().filename().string());
    writer.add_u64("tidemill.packed.source_bytes", source_.file_bytes());
    std::vector<int32_t> types;
    std::vector<int32_t> shapes;
    for (const GgufTensor& tensor : source_.tensors()) {
      types.push_back(static_cast<int32_t>(tensor::info(tensor.type).ggml_type));
      for (const int64_t extent : tensor.shape) {
        if (extent > std::numeric_limits<int32_t>::max()) {
          return source_.error(ErrorCode::unsupported, fmt::format("tensor '{}' is too large to pack: {}",
                                                                   printable(tensor.name), tensor.shape_text()));
        }
        shapes.push_back(static_cast<int32_t>(extent));
      }
    }
    writer.add_ints("tidemill.packed.types", types);
    writer.add_ints("tidemill.packed.shapes", shapes);
    writer.add_u64s("tidemill.packed.checksums", checksums_);
    writer.set_alignment(kPackedAlignment);
    for (const GgufEntry& entry : source_.metadata()) {
      if (!is_own_key(entry.key)) writer.add(entry);
    }
    return declare(writer);
  }

  Result<void> declare(GgufWriter& writer) {
    summary_.matrices = 0;
    for (const GgufTensor& tensor : source_.tensors()) {
      if (!is_matrix(tensor)) {
        writer.declare_tensor(tensor.name, tensor.type,
                              std::span(tensor.shape).first(static_cast<size_t>(tensor.rank)));
        continue;
      }
      ++summary_.matrices;
      const auto bytes = tensor::PackedWeight::packed_bytes(tensor.type, tensor.rows(), tensor.cols());
      if (!bytes) return cannot_pack(tensor, bytes.error());
      writer.declare_bytes(std::string(kPanelsPrefix) + std::string(tensor.name), *bytes);
    }
    return {};
  }

  Error cannot_pack(const GgufTensor& tensor, const Error& reason) const {
    return source_.error(reason.code(), fmt::format("cannot pack {}: {}", tensor.title(), reason.to_string()));
  }

  // A few panels at a time, so that neither the source nor the panels are in memory as a whole.
  Result<void> write_panels(GgufWriter& writer, const GgufTensor& tensor, base::PiecewiseChecksum& sum) {
    TM_TRY(const auto bytes, source_.read(tensor, made_));
    const int64_t row_bytes = tensor::row_bytes(tensor.type, tensor.cols());
    const int64_t panels = std::max<int64_t>(1, kSliceBytes / row_bytes / tensor::kPanelRows);
    for (int64_t row = 0; row < tensor.rows(); row += panels * tensor::kPanelRows) {
      const int64_t rows = std::min(panels * tensor::kPanelRows, tensor.rows() - row);
      const auto slice = bytes.subspan(static_cast<size_t>(row * row_bytes), static_cast<size_t>(rows * row_bytes));
      TM_CHECK(check_finite(source_, tensor, slice, row * tensor.cols(), &team_));
      const auto weight = tensor::PackedWeight::pack(tensor.type, rows, tensor.cols(), slice, team_);
      if (!weight) return cannot_pack(tensor, weight.error());
      TM_CHECK(write(writer, static_cast<const tensor::PackedWeight&>(**weight).data(), slice.size(), sum));
    }
    return {};
  }

  Result<void> write_rows(GgufWriter& writer, const GgufTensor& tensor, base::PiecewiseChecksum& sum) {
    TM_TRY(const auto bytes, source_.read(tensor, made_));
    TM_CHECK(check_finite(source_, tensor, bytes, 0, &team_));
    return write(writer, bytes, bytes.size(), sum);
  }

  Result<void> write(GgufWriter& writer, std::span<const std::byte> bytes, size_t source_bytes,
                     base::PiecewiseChecksum& sum) {
    if (options_.cancelled && options_.cancelled()) return Error(ErrorCode::cancelled, "interrupted");
    sum.add(bytes);
    TM_CHECK(writer.write(bytes));
    done_ += source_bytes;
    if (options_.on_progress) options_.on_progress(done_, source_.tensor_bytes());
    return {};
  }

  const Checkpoint& source_;
  const PackOptions& options_;
  base::ThreadTeam team_;
  std::vector<uint64_t> checksums_;  // of the packed tensors, in file order
  PackSummary summary_;
  base::Buffer made_;  // of the tensor that is being written, where the source has it in another form
  size_t done_ = 0;
};

}  // namespace

Result<PackSummary> pack_model(const Checkpoint& source, const std::filesystem::path& path,
                               const PackOptions& options) {
  if (const PackedInfo* packed = source.packed()) {
    return source.error(ErrorCode::unsupported,
                        fmt::format("this file is packed already (layout {}, by {}, from '{}'); pack its source",
                                    packed->layout, printable(packed->writer), printable(packed->source)));
  }
  if (source.has_file(path)) {
    return Error(ErrorCode::invalid_argument,
                 fmt::format("'{}' is the source itself; write the packed file under another name", path.string()));
  }
  // What could not be run is refused before it is written.
  TM_CHECK(check_loadable(source));
  return Packer(source, options).run(path);
}

}  // namespace tidemill::model
