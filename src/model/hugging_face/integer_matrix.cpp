#include "model/hugging_face/integer_matrix.hpp"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cmath>
#include <cstring>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "model/metadata.hpp"

namespace tidemill::model {
namespace {

using base::Error;
using base::ErrorCode;
using base::Result;
using tensor::DType;

using TensorSizes = std::vector<int64_t>;

constexpr int64_t kBlock = 32;  // columns of Q4_0's and Q8_0's
// Rows that are made at a time: as many words of GPTQ's codes as there are in a cache line.
constexpr int64_t kTileRows = 16;
constexpr std::string_view kGptqCodes = ".qweight";
constexpr std::string_view kPackedCodes = "_packed";
constexpr std::string_view kWeight = ".weight";
// Which four bits of a word have row i of eight.
constexpr std::array<int, 8> kAwqPlace = {0, 4, 1, 5, 2, 6, 3, 7};

uint32_t word_at(const SafetensorsTensor& tensor, int64_t index) {
  uint32_t word = 0;
  std::memcpy(&word, tensor.data.data() + static_cast<size_t>(index) * sizeof word, sizeof word);
  return word;
}

std::string without_ending(std::string_view name, std::string_view ending) {
  assert(name.ends_with(ending));
  return std::string(name.substr(0, name.size() - ending.size()));
}

int64_t parts_of(int64_t all, int64_t part) {
  return (all + part - 1) / part;
}

bool is_f16(float value) {
  return std::isfinite(value) && tensor::f16_to_f32(tensor::f32_to_f16(value)) == value;
}

}  // namespace

FolderWeights::Found find_matrix(const FolderWeights& weights, const IntegerCodes& codes, const std::string& name) {
  const FolderWeights::Found found = weights.find(name);
  return found.tensor != nullptr ? found : weights.find(IntegerMatrix::codes_name(codes, name));
}

Result<void> refuse_untold_integers(const FolderWeights& weights, const std::string& name) {
  for (const IntegerForm form : {IntegerForm::gptq, IntegerForm::packed}) {
    const auto [tensor, file] = weights.find(IntegerMatrix::codes_name({.form = form}, name));
    if (tensor == nullptr) continue;
    return Error(ErrorCode::unsupported,
                 fmt::format("{}: tensor '{}' has integers for '{}', but 'quantization_config' of config.json does not "
                             "say how (quant_method gptq, awq or compressed-tensors, with bits and group_size)",
                             file->path().string(), printable(tensor->name), name));
  }
  return {};
}

std::string IntegerMatrix::codes_name(const IntegerCodes& codes, std::string_view matrix) {
  if (codes.form == IntegerForm::packed) return std::string(matrix).append(kPackedCodes);
  const bool words = codes.form == IntegerForm::gptq || codes.form == IntegerForm::awq;
  if (!words || !matrix.ends_with(kWeight)) return std::string(matrix);
  return without_ending(matrix, kWeight).append(kGptqCodes);
}

bool IntegerMatrix::is_one(const IntegerCodes& codes, const SafetensorsTensor& tensor) {
  switch (codes.form) {
    case IntegerForm::none:
      return false;
    case IntegerForm::gptq:
    case IntegerForm::awq:
      return tensor.name.ends_with(kGptqCodes);
    case IntegerForm::packed:
      return tensor.name.ends_with(kPackedCodes);
    case IntegerForm::plain:
      return tensor.dtype == "I8";
  }
  return false;
}

Result<std::shared_ptr<const IntegerMatrix>> IntegerMatrix::of(const FolderWeights& weights,
                                                               const FolderWeights::Found& found,
                                                               const IntegerCodes& codes) {
  auto matrix = std::make_shared<IntegerMatrix>();
  matrix->found_ = found;
  matrix->codes_ = codes;
  if (found.tensor->shape.size() != 2) {
    return matrix->error(ErrorCode::corrupt, fmt::format("has the shape [{}]; expected a matrix of codes",
                                                         fmt::join(found.tensor->shape, ", ")));
  }
  switch (codes.form) {
    case IntegerForm::gptq:
      TM_CHECK(matrix->find_gptq(weights));
      break;
    case IntegerForm::awq:
      TM_CHECK(matrix->find_awq(weights));
      break;
    case IntegerForm::packed:
      TM_CHECK(matrix->find_packed(weights));
      break;
    case IntegerForm::plain:
    case IntegerForm::none:
      TM_CHECK(matrix->find_plain(weights));
      break;
  }
  matrix->block_type_ = matrix->find_block_type();
  return std::shared_ptr<const IntegerMatrix>(std::move(matrix));
}

// ---- what lies beside the codes

Error IntegerMatrix::error(ErrorCode code, std::string_view message) const {
  return Error(
      code, fmt::format("{}: tensor '{}' {}", found_.file->path().string(), printable(found_.tensor->name), message));
}

const SafetensorsTensor* IntegerMatrix::look_for(const FolderWeights& weights, const std::string& name) {
  const SafetensorsTensor* const tensor = weights.find(name).tensor;
  if (tensor != nullptr) companions_.push_back(tensor);
  return tensor;
}

Result<const SafetensorsTensor*> IntegerMatrix::require(const FolderWeights& weights, const std::string& name) {
  const SafetensorsTensor* const tensor = look_for(weights, name);
  if (tensor != nullptr) return tensor;
  return error(ErrorCode::not_found,
               fmt::format("has codes, but what belongs to them is missing: '{}'", printable(name)));
}

Result<void> IntegerMatrix::check_words(const SafetensorsTensor& tensor, const TensorSizes& shape) const {
  if (tensor.dtype != "I32") {
    return error(ErrorCode::unsupported, fmt::format("wants '{}' to be of the type I32, but it is of {}",
                                                     printable(tensor.name), tensor.dtype));
  }
  if (tensor.shape == shape) return {};
  return error(
      ErrorCode::corrupt,
      fmt::format("stands for {} rows and {} columns, for which '{}' should have the shape [{}], and has [{}]", rows_,
                  cols_, printable(tensor.name), fmt::join(shape, ", "), fmt::join(tensor.shape, ", ")));
}

// `shapes`: those that they may have, the usual one first.
Result<void> IntegerMatrix::check_scales(const std::vector<TensorSizes>& shapes) const {
  if (!scales_->type) {
    return error(ErrorCode::unsupported,
                 fmt::format("has scales ('{}') of the type {}; supported are F32, F16 and BF16",
                             printable(scales_->name), scales_->dtype));
  }
  if (std::find(shapes.begin(), shapes.end(), scales_->shape) != shapes.end()) return {};
  return error(ErrorCode::corrupt,
               fmt::format("stands for {} rows and {} columns, for whose {} groups of {} the scales ('{}') should have "
                           "the shape [{}], and have [{}]",
                           rows_, cols_, groups_, codes_.group == 0 ? cols_ : codes_.group, printable(scales_->name),
                           fmt::join(shapes.front(), ", "), fmt::join(scales_->shape, ", ")));
}

// How many groups there are.
Result<void> IntegerMatrix::count_groups() {
  if (rows_ <= 0 || cols_ <= 0) return error(ErrorCode::corrupt, "stands for no rows or no columns");
  group_cols_ = codes_.group == 0 ? cols_ : codes_.group;
  groups_ = parts_of(cols_, group_cols_);
  return {};
}

// Which of them each column is of, as the tensor `name` has it. Where it is missing they lie one after the other,
// unless config.json says that they do not: then the numbers would be others.
Result<void> IntegerMatrix::read_groups(const FolderWeights& weights, const std::string& name) {
  TM_CHECK(count_groups());
  const SafetensorsTensor* const of_columns = look_for(weights, name);
  if (of_columns == nullptr) {
    if (!codes_.scattered || groups_ == 1) return {};
    return error(
        ErrorCode::not_found,
        fmt::format("has columns whose groups lie scattered ('{}' in 'quantization_config' of config.json), but "
                    "what says which is of which is missing: '{}'",
                    codes_.form == IntegerForm::gptq ? "desc_act" : "actorder", printable(name)));
  }
  TM_CHECK(check_words(*of_columns, {cols_}));
  std::vector<int32_t> of(static_cast<size_t>(cols_));
  bool in_order = true;
  for (int64_t col = 0; col < cols_; ++col) {
    const auto group = static_cast<int32_t>(word_at(*of_columns, col));
    if (group < 0 || group >= groups_) {
      return error(ErrorCode::corrupt, fmt::format("has {} groups, but '{}' puts column {} into number {}", groups_,
                                                   printable(of_columns->name), col, group));
    }
    of[static_cast<size_t>(col)] = group;
    in_order = in_order && group == col / group_cols_;
  }
  if (!in_order) groups_of_cols_ = std::move(of);
  return {};
}

Result<void> IntegerMatrix::find_gptq(const FolderWeights& weights) {
  const int64_t in_word = 32 / codes_.bits;
  const std::string name = without_ending(found_.tensor->name, kGptqCodes);
  rows_ = found_.tensor->shape[1];
  cols_ = found_.tensor->shape[0] * in_word;
  TM_CHECK(check_words(*found_.tensor, found_.tensor->shape));
  TM_CHECK(read_groups(weights, name + ".g_idx"));
  TM_TRY(scales_, require(weights, name + ".scales"));
  TM_CHECK(check_scales({{groups_, rows_}}));
  TM_TRY(zeros_, require(weights, name + ".qzeros"));
  return check_words(*zeros_, {groups_, parts_of(rows_, in_word)});
}

Result<void> IntegerMatrix::find_awq(const FolderWeights& weights) {
  const std::string name = without_ending(found_.tensor->name, kGptqCodes);
  rows_ = found_.tensor->shape[1] * 8;
  cols_ = found_.tensor->shape[0];
  TM_CHECK(check_words(*found_.tensor, found_.tensor->shape));
  TM_CHECK(count_groups());
  TM_TRY(scales_, require(weights, name + ".scales"));
  TM_CHECK(check_scales({{groups_, rows_}}));
  TM_TRY(zeros_, require(weights, name + ".qzeros"));
  return check_words(*zeros_, {groups_, rows_ / 8});
}

Result<void> IntegerMatrix::find_scales_of_rows(const FolderWeights& weights) {
  const std::string name =
      codes_.form == IntegerForm::packed ? without_ending(found_.tensor->name, kPackedCodes) : found_.tensor->name;
  TM_CHECK(read_groups(weights, name + "_g_idx"));
  TM_TRY(scales_, require(weights, name + "_scale"));
  one_scale_ = codes_.group == 0 &&
               (scales_->shape.empty() || scales_->shape == TensorSizes{1} || scales_->shape == TensorSizes{1, 1});
  if (one_scale_) {
    TM_CHECK(check_scales({scales_->shape}));
  } else {
    std::vector<TensorSizes> shapes = {{rows_, groups_}};
    if (groups_ == 1) shapes.push_back({rows_});
    TM_CHECK(check_scales(shapes));
  }
  zeros_ = look_for(weights, name + "_zero_point");
  if (!codes_.symmetric && zeros_ == nullptr) {
    TM_TRY(zeros_, require(weights, name + "_zero_point"));
  }
  return {};
}

Result<void> IntegerMatrix::find_packed(const FolderWeights& weights) {
  const int64_t in_word = 32 / codes_.bits;
  TM_TRY(const SafetensorsTensor* const sizes,
         require(weights, without_ending(found_.tensor->name, kPackedCodes) + "_shape"));
  const size_t bytes = sizes->dtype == "I64" ? 8 : sizes->dtype == "I32" ? 4 : 0;
  if (bytes == 0 || sizes->shape != TensorSizes{2}) {
    return error(ErrorCode::corrupt, fmt::format("wants '{}' to be two numbers of the type I64 or I32, but it is of {} "
                                                 "and the shape [{}]",
                                                 printable(sizes->name), sizes->dtype, fmt::join(sizes->shape, ", ")));
  }
  const auto size = [&](size_t index) {
    int64_t value = 0;  // little-endian, so that this serves both
    std::memcpy(&value, sizes->data.data() + index * bytes, bytes);
    return value;
  };
  rows_ = size(0);
  cols_ = size(1);
  const TensorSizes& words = found_.tensor->shape;
  if (rows_ != words[0] || cols_ <= 0 || cols_ > words[1] * in_word) {
    return error(ErrorCode::corrupt,
                 fmt::format("has the shape [{}], which does not hold the {} rows and {} columns of {} bits that '{}' "
                             "tells of",
                             fmt::join(words, ", "), rows_, cols_, codes_.bits, printable(sizes->name)));
  }
  TM_CHECK(check_words(*found_.tensor, {rows_, parts_of(cols_, in_word)}));
  TM_CHECK(find_scales_of_rows(weights));
  if (zeros_ == nullptr) return {};
  return check_words(*zeros_, one_scale_ ? TensorSizes{1, 1} : TensorSizes{parts_of(rows_, in_word), groups_});
}

Result<void> IntegerMatrix::find_plain(const FolderWeights& weights) {
  rows_ = found_.tensor->shape[0];
  cols_ = found_.tensor->shape[1];
  TM_CHECK(find_scales_of_rows(weights));
  if (zeros_ == nullptr || (zeros_->dtype == "I8" && zeros_->shape == scales_->shape)) return {};
  return error(ErrorCode::corrupt, fmt::format("wants '{}' to be of the type I8 and the scales' shape, [{}], but it is "
                                               "of {} and [{}]",
                                               printable(zeros_->name), fmt::join(scales_->shape, ", "), zeros_->dtype,
                                               fmt::join(zeros_->shape, ", ")));
}

// ---- numbers

// Calls take(group, first column, column behind the last) for columns beside each other that are of one group.
template <typename Take>
void IntegerMatrix::for_each_run(const Take& take) const {
  if (groups_of_cols_.empty()) {
    for (int64_t group = 0; group < groups_; ++group)
      take(group, group * group_cols_, std::min((group + 1) * group_cols_, cols_));
    return;
  }
  for (int64_t col = 0; col < cols_; ++col)
    take(groups_of_cols_[static_cast<size_t>(col)], col, col + 1);
}

float IntegerMatrix::scale(int64_t row, int64_t group) const {
  const bool by_groups = codes_.form == IntegerForm::gptq || codes_.form == IntegerForm::awq;
  const int64_t index = one_scale_ ? 0 : by_groups ? group * rows_ + row : row * groups_ + group;
  float value = 0;
  tensor::dequantize(*scales_->type, scales_->data.data() + index * tensor::info(*scales_->type).block_bytes, 1,
                     &value);
  return value;
}

int IntegerMatrix::zero(int64_t row, int64_t group) const {
  const int64_t in_word = 32 / codes_.bits;
  const uint32_t ones = (uint32_t{1} << codes_.bits) - 1;
  if (zeros_ == nullptr) return codes_.form == IntegerForm::packed ? 1 << (codes_.bits - 1) : 0;
  switch (codes_.form) {
    case IntegerForm::gptq: {
      const uint32_t word = word_at(*zeros_, group * parts_of(rows_, in_word) + row / in_word);
      const uint32_t stored = word >> (row % in_word * codes_.bits) & ones;
      return static_cast<int>(stored) + (codes_.zeros_less_one ? 1 : 0);
    }
    case IntegerForm::awq: {
      const uint32_t word = word_at(*zeros_, group * (rows_ / 8) + row / 8);
      return static_cast<int>(word >> (kAwqPlace[static_cast<size_t>(row % 8)] * 4) & ones);
    }
    case IntegerForm::packed: {
      if (one_scale_) return static_cast<int>(word_at(*zeros_, 0) & ones);
      return static_cast<int>(word_at(*zeros_, row / in_word * groups_ + group) >> (row % in_word * codes_.bits) &
                              ones);
    }
    case IntegerForm::plain:
    case IntegerForm::none:
      break;
  }
  return static_cast<int8_t>(zeros_->data[static_cast<size_t>(one_scale_ ? 0 : row * groups_ + group)]);
}

bool IntegerMatrix::scales_are_f16() const {
  if (*scales_->type == DType::f16) return true;
  const int64_t size = tensor::info(*scales_->type).block_bytes;
  const auto count = static_cast<int64_t>(scales_->data.size()) / size;
  std::array<float, 256> values;
  for (int64_t i = 0; i < count;) {
    const int64_t some = std::min<int64_t>(count - i, values.size());
    tensor::dequantize(*scales_->type, scales_->data.data() + i * size, some, values.data());
    if (!std::all_of(values.begin(), values.begin() + some, is_f16)) return false;
    i += some;
  }
  return true;
}

std::optional<DType> IntegerMatrix::find_block_type() const {
  const bool whole_blocks = groups_of_cols_.empty() && cols_ % kBlock == 0 && group_cols_ % kBlock == 0;
  if (!whole_blocks || !scales_are_f16()) return std::nullopt;
  // Codes less their zero are -half to half - 1 with this one.
  const int half = codes_.form == IntegerForm::plain ? 0 : 1 << (codes_.bits - 1);
  bool usual = true;
  for (int64_t row = 0; zeros_ != nullptr && usual && row < rows_; ++row) {
    for (int64_t group = 0; usual && group < groups_; ++group)
      usual = zero(row, group) == half;
  }
  if (codes_.bits == 4) return usual ? DType::q4_0 : DType::q8_0;
  return usual ? std::optional(DType::q8_0) : std::nullopt;
}

// Some rows as whole numbers, and what they are times.
struct IntegerMatrix::Tile {
  std::vector<int16_t> less_zero;  // [rows][cols]: the codes less their zeros
  std::vector<int16_t> zeros;      // [rows][groups]
  std::vector<float> scales;       // [rows][groups]
};

void IntegerMatrix::read_codes(int64_t first, int64_t count, Tile& tile) const {
  tile.less_zero.resize(static_cast<size_t>(count * cols_));
  tile.zeros.resize(static_cast<size_t>(count * groups_));
  tile.scales.resize(static_cast<size_t>(count * groups_));
  for (int64_t i = 0; i < count * groups_; ++i) {
    tile.zeros[static_cast<size_t>(i)] = static_cast<int16_t>(zero(first + i / groups_, i % groups_));
    tile.scales[static_cast<size_t>(i)] = scale(first + i / groups_, i % groups_);
  }
  int16_t* const out = tile.less_zero.data();
  const SafetensorsTensor& source = *found_.tensor;
  const int64_t in_word = 32 / codes_.bits;
  const uint32_t ones = (uint32_t{1} << codes_.bits) - 1;
  switch (codes_.form) {
    case IntegerForm::gptq:
      for (int64_t words = 0; words < cols_ / in_word; ++words) {
        for (int64_t row = 0; row < count; ++row) {
          uint32_t word = word_at(source, words * rows_ + first + row);
          int16_t* const at = out + row * cols_ + words * in_word;
          for (int64_t i = 0; i < in_word; ++i, word >>= codes_.bits)
            at[i] = static_cast<int16_t>(word & ones);
        }
      }
      break;
    case IntegerForm::awq:
      for (int64_t col = 0; col < cols_; ++col) {
        for (int64_t row = 0; row < count; ++row) {
          const uint32_t word = word_at(source, col * (rows_ / 8) + (first + row) / 8);
          out[row * cols_ + col] =
              static_cast<int16_t>(word >> (kAwqPlace[static_cast<size_t>((first + row) % 8)] * 4) & ones);
        }
      }
      break;
    case IntegerForm::packed:
      for (int64_t row = 0; row < count; ++row) {
        int64_t words = (first + row) * parts_of(cols_, in_word);
        for (int64_t col = 0; col < cols_; col += in_word) {
          uint32_t word = word_at(source, words++);
          for (int64_t i = col; i < std::min(col + in_word, cols_); ++i, word >>= codes_.bits)
            out[row * cols_ + i] = static_cast<int16_t>(word & ones);
        }
      }
      break;
    case IntegerForm::plain:
    case IntegerForm::none:
      for (int64_t i = 0; i < count * cols_; ++i)
        out[i] = static_cast<int8_t>(source.data[static_cast<size_t>(first * cols_ + i)]);
      break;
  }
  for (int64_t row = 0; row < count; ++row) {
    for_each_run([&](int64_t group, int64_t begin, int64_t end) {
      const int zero = tile.zeros[static_cast<size_t>(row * groups_ + group)];
      for (int64_t i = row * cols_ + begin; i < row * cols_ + end; ++i)
        out[i] = static_cast<int16_t>(out[i] - zero);
    });
  }
}

namespace {

// Blocks of one row: the scale, then 32 codes, of which Q4_0 has the first 16 in the low halves of its bytes.
void write_row_of_blocks(DType type, const int16_t* codes, const float* scales, int64_t cols, int64_t group_cols,
                         std::byte* to) {
  for (int64_t col = 0; col < cols; col += kBlock, codes += kBlock) {
    const uint16_t scale = tensor::f32_to_f16(scales[col / group_cols]);
    std::memcpy(to, &scale, sizeof scale);
    to += sizeof scale;
    if (type == DType::q8_0) {
      for (int64_t i = 0; i < kBlock; ++i)
        *to++ = static_cast<std::byte>(codes[i]);
    } else {
      for (int64_t i = 0; i < kBlock / 2; ++i)
        *to++ = static_cast<std::byte>((codes[i] + 8) | (codes[i + kBlock / 2] + 8) << 4);
    }
  }
}

}  // namespace

void IntegerMatrix::write_rows(DType type, int64_t first, int64_t count, std::span<std::byte> to) const {
  const auto row_bytes = static_cast<size_t>(tensor::row_bytes(type, cols_));
  assert(first >= 0 && first + count <= rows_ && to.size() == static_cast<size_t>(count) * row_bytes);
  const bool blocks = type == DType::q4_0 || type == DType::q8_0;
  Tile tile;
  std::vector<float> numbers(static_cast<size_t>(cols_));
  for (int64_t some = 0; count > 0; first += some, count -= some) {
    some = std::min(count, kTileRows - first % kTileRows);
    read_codes(first, some, tile);
    for (int64_t row = 0; row < some; ++row, to = to.subspan(row_bytes)) {
      const int16_t* const codes = tile.less_zero.data() + row * cols_;
      const float* const scales = tile.scales.data() + row * groups_;
      if (blocks) {
        write_row_of_blocks(type, codes, scales, cols_, group_cols_, to.data());
        continue;
      }
      for_each_run([&](int64_t group, int64_t begin, int64_t end) {
        for (int64_t col = begin; col < end; ++col)
          numbers[static_cast<size_t>(col)] = static_cast<float>(codes[col]) * scales[group];
      });
      tensor::quantize(type, numbers.data(), cols_, to.data());
    }
  }
}

}  // namespace tidemill::model
