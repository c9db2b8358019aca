#include "model/hugging_face/stored_tensor.hpp"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <memory>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "model/architectures/always_f32.hpp"
#include "model/metadata.hpp"

namespace tidemill::model {
namespace {

using base::Error;
using base::ErrorCode;
using base::Result;

// Where GGUF's row `row` lies in the folder: halves of a head of `head_rows` rows become pairs.
int64_t row_of_halves(int64_t row, int64_t head_rows) {
  const int64_t in_head = row % head_rows;
  return row - in_head + in_head % 2 * (head_rows / 2) + in_head / 2;
}

}  // namespace

Result<StoredTensor> StoredTensor::of(const FolderWeights::Found& found) {
  StoredTensor stored;
  stored.found_ = found;
  const SafetensorsTensor& source = *found.tensor;
  if (!source.type) {
    return stored.error(ErrorCode::unsupported,
                        fmt::format("is of the type {}; supported are F32, F16 and BF16", source.dtype));
  }
  if (source.shape.empty() || source.shape.size() > 2) {
    return stored.error(ErrorCode::corrupt, fmt::format("has the shape [{}]; expected a vector or a matrix",
                                                        fmt::join(source.shape, ", ")));
  }
  stored.type_ = *source.type;
  stored.data_ = source.data;
  stored.rows_ = source.shape.front();
  stored.cols_ = stored.is_matrix() ? source.shape.back() : 1;
  return stored;
}

bool StoredTensor::is_alike(const StoredTensor& other) const {
  return rows_ == other.rows_ && cols_ == other.cols_ && found_.tensor->dtype == other.found_.tensor->dtype;
}

std::string StoredTensor::file_name() const {
  return found_.file->path().filename().string();
}

std::string StoredTensor::origin() const {
  return fmt::format("'{}' in '{}'", printable(name()), file_name());
}

Error StoredTensor::error(ErrorCode code, std::string_view message) const {
  return Error(code, fmt::format("{}: tensor '{}' {}", found_.file->path().string(), printable(name()), message));
}

StoredTensor StoredTensor::from_row(int64_t first) const {
  assert(first >= 0 && first < rows_);
  StoredTensor rest = *this;
  rest.data_ = data_.subspan(static_cast<size_t>(first) * row_bytes());
  rest.rows_ -= first;
  return rest;
}

void StoredTensor::write_rows(int64_t first, int64_t count, std::span<std::byte> to) const {
  assert(first >= 0 && first + count <= rows_ && to.size() == static_cast<size_t>(count) * row_bytes());
  std::memcpy(to.data(), data_.data() + static_cast<size_t>(first) * row_bytes(), to.size());
}

float StoredTensor::element(int64_t index) const {
  float value = 0;
  tensor::dequantize(type_, data_.data() + index * tensor::info(type_).block_bytes, 1, &value);
  return value;
}

void StoredTensor::write_in_order(std::span<std::byte> to, int64_t head_rows) const {
  if (head_rows == 0) return write_rows(0, rows_, to);
  for (int64_t row = 0; row < rows_; ++row)
    write_rows(row_of_halves(row, head_rows), 1, to.subspan(static_cast<size_t>(row) * row_bytes(), row_bytes()));
}

void StoredTensor::write_floats(std::span<std::byte> to, const RowChange& change) const {
  assert(change.head_rows == 0 || cols_ == 1);
  const int64_t elements = rows_ * cols_;
  for (int64_t i = 0; i < elements; ++i) {
    float value = element(change.head_rows == 0 ? i : row_of_halves(i, change.head_rows));
    if (change.more != 0) value += change.more;
    std::memcpy(to.data() + static_cast<size_t>(i) * sizeof value, &value, sizeof value);
  }
}

bool StoredTensor::is_aligned() const {
  return reinterpret_cast<uintptr_t>(data_.data()) % static_cast<size_t>(tensor::info(type_).block_bytes) == 0;
}

GgufTensor StoredTensor::as_gguf(std::string_view name, const RowChange& change) const {
  GgufTensor tensor;
  tensor.name = name;
  // What chooses experts is F32 in GGUF; of one number for each row, it is a vector.
  const bool chooses = is_always_f32(name);
  const bool vector = !is_matrix() || (chooses && rows_ == 1);
  tensor.rank = vector ? 1 : 2;
  tensor.shape = {is_matrix() ? cols_ : rows_, is_matrix() ? rows_ : 1, 1, 1};
  tensor.data = data_;
  const bool floats = vector || chooses;
  tensor.type = floats ? tensor::DType::f32 : type_;
  if (tensor.type == type_ && change.head_rows == 0 && change.more == 0 && is_aligned()) return tensor;
  tensor.make = [stored = *this, change, floats](std::span<std::byte> to) {
    if (floats) return stored.write_floats(to, change);
    stored.write_in_order(to, change.head_rows);
  };
  return tensor;
}

GgufTensor StoredTensor::stacked(std::string_view name, std::vector<StoredTensor> parts) {
  const StoredTensor& first = parts.front();
  GgufTensor tensor;
  tensor.name = name;
  tensor.type = first.type_;
  tensor.rank = 3;
  tensor.shape = {first.cols_, first.rows_, static_cast<int64_t>(parts.size()), 1};
  tensor.data = first.data_;
  for (size_t i = 1; i < parts.size(); ++i)
    tensor.more_data.push_back(parts[i].data_);
  // Shared, since tensors are copied and there may be hundreds of parts.
  const auto kept = std::make_shared<const std::vector<StoredTensor>>(std::move(parts));
  tensor.make = [kept](std::span<std::byte> to) {
    for (const StoredTensor& part : *kept) {
      const size_t bytes = static_cast<size_t>(part.rows_) * part.row_bytes();
      part.write_rows(0, part.rows_, to.first(bytes));
      to = to.subspan(bytes);
    }
  };
  return tensor;
}

}  // namespace tidemill::model
