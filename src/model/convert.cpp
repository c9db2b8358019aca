#include "model/convert.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "model/gguf_writer.hpp"
#include "model/load.hpp"

namespace tidemill::model {
namespace {

using base::Error;
using base::ErrorCode;
using base::Result;
using tensor::DType;

// Elements that are looked at and written at a time.
constexpr int64_t kSliceElements = int64_t{4} << 20;

bool is_plain(DType type) {
  return type == DType::f32 || type == DType::f16 || type == DType::bf16;
}

// llama.cpp's numbers for "mostly this type".
uint32_t file_type(DType type) {
  return type == DType::f32 ? 0 : type == DType::f16 ? 1 : 32;
}

class Converter {
 public:
  Converter(const Checkpoint& source, const ConvertOptions& options)
      : source_(source), options_(options), total_(source.tensor_bytes()) {}

  Result<ConvertSummary> run(const std::filesystem::path& path) {
    for (const GgufEntry& entry : source_.metadata()) {
      const bool replaced = entry.key == "general.file_type" && options_.type;
      if (!replaced && entry.key != "general.alignment") writer_.add(entry);
    }
    if (options_.type) writer_.add_u32("general.file_type", file_type(*options_.type));
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
    return options_.type && tensor.rank > 1 && tensor.rows() > 1 ? *options_.type : tensor.type;
  }

  Result<void> write(const GgufTensor& tensor) {
    TM_TRY(const auto bytes, source_.read(tensor, made_));
    const DType to = type_of(tensor);
    if (to != tensor.type) ++summary_.converted;
    const int64_t row_bytes = tensor::row_bytes(tensor.type, tensor.cols());
    const int64_t step = std::max<int64_t>(1, kSliceElements / tensor.cols());
    for (int64_t row = 0; row < tensor.rows(); row += step) {
      const int64_t rows = std::min(step, tensor.rows() - row);
      const auto slice = bytes.subspan(static_cast<size_t>(row * row_bytes), static_cast<size_t>(rows * row_bytes));
      if (options_.cancelled && options_.cancelled()) return Error(ErrorCode::cancelled, "interrupted");
      TM_CHECK(write_slice(tensor, slice, row * tensor.cols(), rows * tensor.cols(), to));
      done_ += slice.size();
      if (options_.on_progress) options_.on_progress(done_, total_);
    }
    return {};
  }

  Result<void> write_slice(const GgufTensor& tensor, std::span<const std::byte> slice, int64_t first, int64_t elements,
                           DType to) {
    // Blocks of quantised numbers that stay as they are are not looked into.
    if (to == tensor.type && !is_plain(to)) return writer_.write(slice);
    floats_.resize(static_cast<size_t>(elements));
    tensor::dequantize(tensor.type, slice.data(), elements, floats_.data());
    const auto odd = std::find_if(floats_.begin(), floats_.end(), [](float value) { return !std::isfinite(value); });
    if (odd != floats_.end()) {
      return source_.error(ErrorCode::corrupt, fmt::format("{} holds {} at element {}; weights are finite numbers",
                                                           tensor.title(), *odd, first + (odd - floats_.begin())));
    }
    if (to == tensor.type) return writer_.write(slice);
    converted_.resize(static_cast<size_t>(elements * tensor::info(to).block_bytes));
    tensor::quantize(to, floats_.data(), elements, converted_.data());
    if (to == DType::f16) TM_CHECK(check_range(tensor, first));
    return writer_.write(converted_);
  }

  // F16 ends at 65504.
  Result<void> check_range(const GgufTensor& tensor, int64_t first) const {
    const auto large = std::find_if(floats_.begin(), floats_.end(), [](float value) {
      return !std::isfinite(tensor::f16_to_f32(tensor::f32_to_f16(value)));
    });
    if (large == floats_.end()) return {};
    return source_.error(ErrorCode::corrupt,
                         fmt::format("{} holds {} at element {}, which is beyond F16; convert to BF16 or F32",
                                     tensor.title(), *large, first + (large - floats_.begin())));
  }

  const Checkpoint& source_;
  const ConvertOptions& options_;
  GgufWriter writer_;
  base::Buffer made_;  // of the tensor that is being written, where the source has it in another form
  std::vector<float> floats_;
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
