#include "model/hugging_face/stored_tensor.hpp"

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
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

constexpr int64_t kComparedElements = int64_t{1} << 20;  // at a time

constexpr float kLargestBf16 = 0x1.FEp+127F;

int64_t blocks_in(int64_t elements, int64_t block) {
  return (elements + block - 1) / block;
}

}  // namespace

Result<StoredTensor> StoredTensor::of(const FolderWeights& weights, const FolderWeights::Found& found,
                                      const WeightScales& scales) {
  StoredTensor stored;
  stored.found_ = found;
  const SafetensorsTensor& source = *found.tensor;
  stored.shape_ = source.shape;
  stored.data_ = source.data;
  if (IntegerMatrix::is_one(scales.integers, source)) {
    TM_TRY(stored.integers_, IntegerMatrix::of(weights, found, scales.integers));
    stored.rows_ = stored.integers_->rows();
    stored.cols_ = stored.integers_->cols();
    stored.shape_ = {stored.rows_, stored.cols_};
    stored.type_ = stored.integers_->block_type().value_or(stored.integers_->number_type());
    return stored;
  }
  const bool in_codes = is_eight_bit_float(source.dtype);
  if (!source.type && !(in_codes && scales.are_there)) {
    return stored.error(
        ErrorCode::unsupported,
        fmt::format(
            "is of the type {}; supported are F32, F16 and BF16{}", source.dtype,
            in_codes || scales.are_there
                ? ", and F8_E4M3 and F8_E5M2 where 'quantization_config' of config.json says how they are scaled"
                : ""));
  }
  if (source.shape.empty() || source.shape.size() > 2) {
    return stored.error(ErrorCode::corrupt, fmt::format("has the shape [{}]; expected a vector or a matrix",
                                                        fmt::join(source.shape, ", ")));
  }
  stored.type_ = source.type.value_or(tensor::DType::bf16);
  stored.rows_ = source.shape.front();
  stored.cols_ = stored.is_matrix() ? source.shape.back() : 1;
  if (in_codes) TM_CHECK(stored.find_scales(weights, scales));
  return stored;
}

Result<void> StoredTensor::find_scales(const FolderWeights& weights, const WeightScales& scales) {
  const std::string_view type = found_.tensor->dtype;
  if (!is_matrix())
    return error(ErrorCode::unsupported, fmt::format("is a vector of {}; supported are matrices", type));
  numbers_ = eight_bit_numbers(type);
  for (const std::string_view ending : kScaleEndings) {
    if (scales_ == nullptr) scales_ = weights.find(name() + std::string(ending)).tensor;
  }
  if (scales_ == nullptr) {
    return error(ErrorCode::not_found, fmt::format("is of the type {}, but its scales are missing: '{}_scale_inv' or "
                                                   "'{}_scale'",
                                                   type, printable(name()), printable(name())));
  }
  if (!scales_->type && scales_->dtype != "F8_E8M0") {
    return error(ErrorCode::unsupported, fmt::format("has scales ('{}') of the type {}; supported are F32, F16, BF16 "
                                                     "and F8_E8M0",
                                                     printable(scales_->name), scales_->dtype));
  }
  return fit_scales(scales);
}

// Holds the scales' shape against the matrix.
Result<void> StoredTensor::fit_scales(const WeightScales& scales) {
  const std::vector<int64_t>& shape = scales_->shape;
  const bool is_one =
      shape.size() <= 2 && std::all_of(shape.begin(), shape.end(), [](int64_t extent) { return extent == 1; });
  std::string wanted;
  if (scales.block_rows > 0) {
    block_rows_ = scales.block_rows;
    block_cols_ = scales.block_cols;
    const std::vector<int64_t> blocks = {blocks_in(rows_, block_rows_), blocks_in(cols_, block_cols_)};
    if (shape == blocks) return {};
    wanted =
        fmt::format("[{}] for blocks of {} rows and {} columns", fmt::join(blocks, ", "), block_rows_, block_cols_);
  } else {
    block_rows_ = is_one ? rows_ : 1;
    block_cols_ = cols_;
    if (is_one || shape == std::vector<int64_t>{rows_} || shape == std::vector<int64_t>{rows_, 1}) return {};
    wanted = fmt::format("one for all or [{}, 1], one for each row", rows_);
  }
  return error(ErrorCode::corrupt,
               fmt::format("has the shape [{}] and scales ('{}') of the shape [{}]; expected {}",
                           fmt::join(shape_, ", "), printable(scales_->name), fmt::join(shape, ", "), wanted));
}

bool StoredTensor::is_alike(const StoredTensor& other) const {
  return rows_ == other.rows_ && cols_ == other.cols_ && found_.tensor->dtype == other.found_.tensor->dtype;
}

bool StoredTensor::is_copy_of(const StoredTensor& other) const {
  if (!std::ranges::equal(shape(), other.shape())) return false;
  const bool as_they_lie = numbers_ == nullptr && other.numbers_ == nullptr && type_ == other.type_;
  const int64_t step = std::max<int64_t>(1, kComparedElements / cols_);
  std::vector<std::byte> bytes;
  std::array<std::vector<float>, 2> floats;
  for (int64_t first = 0; first < rows_; first += step) {
    const int64_t count = std::min(step, rows_ - first);
    const auto mine = rows_data(first, count);
    const auto theirs = other.rows_data(first, count);
    const bool same = as_they_lie ? std::memcmp(mine.data(), theirs.data(), mine.size()) == 0
                                  : std::memcmp(read_floats(first, count, bytes, floats[0]).data(),
                                                other.read_floats(first, count, bytes, floats[1]).data(),
                                                static_cast<size_t>(count * cols_) * sizeof(float)) == 0;
    release(mine);
    other.release(theirs);
    if (!same) return false;
  }
  return true;
}

double StoredTensor::distance_to(const StoredTensor& other) const {
  assert(std::ranges::equal(shape(), other.shape()));
  const int64_t step = std::max<int64_t>(1, kComparedElements / cols_);
  std::vector<std::byte> bytes;
  std::array<std::vector<float>, 2> floats;
  double differences = 0;
  double size = 0;
  for (int64_t first = 0; first < rows_; first += step) {
    const int64_t count = std::min(step, rows_ - first);
    const auto mine = read_floats(first, count, bytes, floats[0]);
    const auto theirs = other.read_floats(first, count, bytes, floats[1]);
    for (size_t i = 0; i < mine.size(); ++i) {
      const double number = theirs[i];
      differences += (mine[i] - number) * (mine[i] - number);
      size += number * number;
    }
  }
  return differences == 0 ? 0 : std::sqrt(differences / size);
}

std::span<const float> StoredTensor::read_floats(int64_t first, int64_t count, std::vector<std::byte>& bytes,
                                                 std::vector<float>& floats) const {
  bytes.resize(static_cast<size_t>(count) * row_bytes());
  write_rows(first, count, bytes);
  floats.resize(static_cast<size_t>(count * cols_));
  tensor::dequantize(type_, bytes.data(), count * cols_, floats.data());
  return floats;
}

std::span<const std::byte> StoredTensor::rows_data(int64_t first, int64_t count) const {
  const size_t row = data_.size() / static_cast<size_t>(rows_);
  return data_.subspan(static_cast<size_t>(first) * row, static_cast<size_t>(count) * row);
}

void StoredTensor::release(std::span<const std::byte> data) const {
  const auto map = found_.file->mapping();
  if (map != nullptr) map->release(static_cast<size_t>(data.data() - map->bytes().data()), data.size());
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

std::vector<const SafetensorsTensor*> StoredTensor::companions() const {
  if (integers_ != nullptr) return {integers_->companions().begin(), integers_->companions().end()};
  if (scales_ == nullptr) return {};
  return {scales_};
}

std::vector<std::span<const std::byte>> StoredTensor::more_data() const {
  std::vector<std::span<const std::byte>> data;
  for (const SafetensorsTensor* const companion : companions())
    data.push_back(companion->data);
  return data;
}

StoredTensor StoredTensor::in_numbers() const {
  StoredTensor numbers = *this;
  if (integers_ != nullptr) numbers.type_ = integers_->number_type();
  return numbers;
}

StoredTensor StoredTensor::in_f32() const {
  StoredTensor numbers = *this;
  if (integers_ != nullptr) numbers.type_ = tensor::DType::f32;
  return numbers;
}

std::string StoredTensor::explain(float value) const {
  if (integers_ != nullptr) return integers_->explain(type_, value);
  if (numbers_ == nullptr) return {};
  float largest = 0;
  for (const float number : *numbers_)
    largest = std::isfinite(number) ? std::max(largest, number) : largest;
  // The first that is not finite itself, else one that makes products that are not.
  for (const bool of_products : {false, true}) {
    if (of_products && std::isnan(value)) break;
    for (int64_t row = 0; row < rows_; row += block_rows_) {
      for (int64_t col = 0; col < cols_; col += block_cols_) {
        const float times = scale(row, col);
        if (std::isfinite(times) && !(of_products && std::fabs(times) > kLargestBf16 / largest)) continue;
        const std::string where =
            fmt::format("the scale of rows {} to {} and columns {} to {} in '{}' is {}", row,
                        std::min(row + block_rows_, rows_) - 1, col, std::min(col + block_cols_, cols_) - 1,
                        printable(scales_->name), std::isnan(times) ? "NaN" : fmt::format("{}", times));
        return of_products ? where + ", and times its codes too large for BF16" : where;
      }
    }
  }
  return {};
}

StoredTensor StoredTensor::from_row(int64_t first) const {
  assert(first >= 0 && first < rows_);
  StoredTensor rest = *this;
  // Integers of many rows may lie in one word.
  if (integers_ == nullptr) {
    rest.data_ = data_.subspan(data_.size() / static_cast<size_t>(rows_) * static_cast<size_t>(first));
  }
  rest.rows_ -= first;
  rest.first_row_ += first;
  return rest;
}

void StoredTensor::write_rows(int64_t first, int64_t count, std::span<std::byte> to) const {
  assert(first >= 0 && first + count <= rows_ && to.size() == static_cast<size_t>(count) * row_bytes());
  if (integers_ != nullptr) return integers_->write_rows(type_, first_row_ + first, count, to);
  if (numbers_ == nullptr) {
    std::memcpy(to.data(), data_.data() + static_cast<size_t>(first) * row_bytes(), to.size());
    return;
  }
  for (int64_t row = first; row < first + count; ++row, to = to.subspan(row_bytes()))
    write_row_of_codes(row, to.first(row_bytes()));
}

float StoredTensor::scale(int64_t row, int64_t col) const {
  const int64_t block = (first_row_ + row) / block_rows_ * blocks_in(cols_, block_cols_) + col / block_cols_;
  if (!scales_->type)
    return (*eight_bit_numbers(scales_->dtype))[static_cast<size_t>(scales_->data[static_cast<size_t>(block)])];
  float value = 0;
  tensor::dequantize(*scales_->type, scales_->data.data() + block * tensor::info(*scales_->type).block_bytes, 1,
                     &value);
  return value;
}

float StoredTensor::element(int64_t row, int64_t col) const {
  const int64_t index = row * cols_ + col;
  if (numbers_ != nullptr) {
    return (*numbers_)[static_cast<size_t>(data_[static_cast<size_t>(index)])] * scale(row, col);
  }
  float value = 0;
  tensor::dequantize(type_, data_.data() + index * tensor::info(type_).block_bytes, 1, &value);
  return value;
}

void StoredTensor::write_row_of_codes(int64_t row, std::span<std::byte> to) const {
  std::array<float, 256> values;
  const std::byte* codes = data_.data() + row * cols_;
  for (int64_t col = 0; col < cols_;) {
    const int64_t block_end = (col / block_cols_ + 1) * block_cols_;
    const auto some =
        static_cast<size_t>(std::min({cols_, block_end, col + static_cast<int64_t>(values.size())}) - col);
    const float times = scale(row, col);
    for (size_t i = 0; i < some; ++i)
      values[i] = (*numbers_)[static_cast<size_t>(codes[static_cast<size_t>(col) + i])] * times;
    tensor::quantize(type_, values.data(), static_cast<int64_t>(some), to.data());
    to = to.subspan(static_cast<size_t>(tensor::row_bytes(type_, static_cast<int64_t>(some))));
    col += static_cast<int64_t>(some);
  }
}

void StoredTensor::write_in_order(std::span<std::byte> to, int64_t head_rows) const {
  if (head_rows == 0) return write_rows(0, rows_, to);
  // A head at a time: integers are read for many rows at once.
  const size_t size = row_bytes();
  std::vector<std::byte> head(static_cast<size_t>(head_rows) * size);
  for (int64_t first = 0; first < rows_; first += head_rows) {
    write_rows(first, head_rows, head);
    for (int64_t row = 0; row < head_rows; ++row, to = to.subspan(size))
      std::memcpy(to.data(), head.data() + static_cast<size_t>(row_of_halves(row, head_rows)) * size, size);
  }
}

void StoredTensor::write_floats(std::span<std::byte> to, const RowChange& change) const {
  assert(change.head_rows == 0 || cols_ == 1);
  if (integers_ != nullptr) return integers_->write_rows(tensor::DType::f32, first_row_, rows_, to);
  const int64_t elements = rows_ * cols_;
  for (int64_t i = 0; i < elements; ++i) {
    const int64_t from = change.head_rows == 0 ? i : row_of_halves(i, change.head_rows);
    float value = element(from / cols_, from % cols_);
    if (change.more != 0) value += change.more;
    std::memcpy(to.data() + static_cast<size_t>(i) * sizeof value, &value, sizeof value);
  }
}

bool StoredTensor::is_in_place() const {
  return numbers_ == nullptr && integers_ == nullptr &&
         reinterpret_cast<uintptr_t>(data_.data()) % static_cast<size_t>(tensor::info(type_).block_bytes) == 0;
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
  tensor.more_data = more_data();
  const bool floats = vector || chooses;
  tensor.type = floats ? tensor::DType::f32 : type_;
  if (tensor.type == type_ && change.head_rows == 0 && change.more == 0 && is_in_place()) return tensor;
  if (!companions().empty()) tensor.explain = [stored = *this](float value) { return stored.explain(value); };
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
  for (const StoredTensor& part : parts) {
    if (&part != &first) tensor.more_data.push_back(part.data_);
    for (const std::span<const std::byte> piece : part.more_data())
      tensor.more_data.push_back(piece);
  }
  // Shared, since tensors are copied and there may be hundreds of parts.
  const auto kept = std::make_shared<const std::vector<StoredTensor>>(std::move(parts));
  tensor.explain = [kept](float value) {
    std::string why;
    for (size_t i = 0; i < kept->size() && why.empty(); ++i)
      why = (*kept)[i].explain(value);
    return why;
  };
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
