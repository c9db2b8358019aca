#include "model/convert.hpp"

#include <optional>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "model/architectures/always_f32.hpp"
#include "model/file_type.hpp"
#include "model/finite.hpp"
#include "model/gguf_writer.hpp"
#include "model/load.hpp"
#include "model/small_numbers.hpp"
#include "model/tensor_rows.hpp"

namespace tidemill::model {
namespace {

using base::Error;
using base::ErrorCode;
using base::Result;
using tensor::DType;

bool is_plain(DType type) {
  return type == DType::f32 || type == DType::f16 || type == DType::bf16;
}

class Converter {
 public:
  Converter(const Checkpoint& source, const ConvertOptions& options)
      : source_(source), options_(options), rows_(source), total_(source.tensor_bytes()) {}

  Result<ConvertSummary> run(const std::filesystem::path& path) {
    for (const GgufEntry& entry : source_.metadata()) {
      const bool replaced = entry.key == "general.file_type" && options_.type;
      if (!replaced && entry.key != "general.alignment") writer_.add(entry);
    }
    if (options_.type) writer_.add_u32("general.file_type", file_type_number(*options_.type));
    for (const GgufTensor& tensor : source_.tensors()) {
      writer_.declare_tensor(tensor.name, type_of(tensor),
                             std::span(tensor.shape).first(static_cast<size_t>(tensor.rank)));
    }
    TM_CHECK(writer_.begin(path));
    for (const GgufTensor& tensor : source_.tensors()) {
      TM_CHECK(write(tensor));
      source_.release(tensor);
    }
    TM_CHECK(writer_.finish());
    summary_.tensors = source_.tensors().size();
    summary_.bytes = static_cast<size_t>(writer_.file_bytes());
    return summary_;
  }

 private:
  DType type_of(const GgufTensor& tensor) const {
    const bool matrix = tensor.rank > 1 && tensor.rows() > 1;
    if (!options_.type || !matrix) return tensor.type;
    return is_always_f32(tensor.name) ? DType::f32 : *options_.type;
  }

  Result<void> write(const GgufTensor& tensor) {
    const DType to = type_of(tensor);
    SmallNumbers small(to, tensor.cols());
    const auto take = [&](const RowSlice& slice) -> Result<void> {
      if (options_.cancelled && options_.cancelled()) return Error(ErrorCode::cancelled, "interrupted");
      TM_CHECK(to == tensor.type ? writer_.write(slice.bytes) : write_converted(tensor, slice, to, small));
      done_ += slice.bytes.size();
      if (options_.on_progress) options_.on_progress(done_, total_);
      return {};
    };
    if (to == tensor.type) return rows_.read_stored(tensor, take);
    ++summary_.converted;
    TM_CHECK(rows_.read(tensor, take));
    if (!small.loss()) return {};
    return source_.error(ErrorCode::corrupt,
                         fmt::format("{} {}; convert to BF16 or F32", tensor.title(), small.fault()));
  }

  Result<void> write_converted(const GgufTensor& tensor, const RowSlice& slice, DType to, SmallNumbers& small) {
    const auto elements = static_cast<int64_t>(slice.values.size());
    converted_.resize(static_cast<size_t>(elements * tensor::info(to).block_bytes));
    tensor::quantize(to, slice.values.data(), elements, converted_.data());
    TM_CHECK(check_range(tensor, slice, to));
    small.add(slice.values, converted_, nullptr);
    return writer_.write(converted_);
  }

  // Finite numbers that became infinities: F16 ends at 65504, BF16 a little below F32.
  Result<void> check_range(const GgufTensor& tensor, const RowSlice& slice, DType to) const {
    const std::optional<NotFinite> large = find_not_finite(to, converted_, nullptr);
    if (!large) return {};
    return source_.error(
        ErrorCode::corrupt,
        fmt::format("{} holds {} at element {}, which is beyond {}; convert to {}", tensor.title(),
                    slice.values[static_cast<size_t>(large->element)], slice.first * tensor.cols() + large->element,
                    tensor::info(to).name, to == DType::f16 ? "BF16 or F32" : "F32"));
  }

  const Checkpoint& source_;
  const ConvertOptions& options_;
  GgufWriter writer_;
  TensorRows rows_;
  std::vector<std::byte> converted_;
  ConvertSummary summary_;
  size_t total_;
  size_t done_ = 0;
};

}  // namespace

Result<ConvertSummary> convert_model(const Checkpoint& source, const std::filesystem::path& path,
                                     const ConvertOptions& options) {
  if (const PackedInfo* packed = source.packed()) {
    return source.error(ErrorCode::unsupported,
                        fmt::format("this file is packed (from '{}'); convert its source", printable(packed->source)));
  }
  if (options.type && !is_plain(*options.type)) {
    return Error(ErrorCode::invalid_argument, fmt::format("the type {}; models are converted to F32, F16 or BF16",
                                                          tensor::info(*options.type).name));
  }
  if (source.has_file(path)) {
    return Error(ErrorCode::invalid_argument,
                 fmt::format("'{}' is the source itself; write the file under another name", path.string()));
  }
  // Of a folder, what could not be run is refused before it is written.
  if (source.version() == 0) TM_CHECK(check_loadable(source));
  return Converter(source, options).run(path);
}

}  // namespace tidemill::model
