#include "model/hugging_face/integer_matrix.hpp"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "model/metadata.hpp"

namespace tidemill::model {
namespace {

using base::Error;
using base::ErrorCode;
using base::Result;

using TensorSizes = std::vector<int64_t>;

constexpr std::string_view kGptqCodes = ".qweight";
constexpr std::string_view kPackedCodes = "_packed";
constexpr std::string_view kWeight = ".weight";

std::string without_ending(std::string_view name, std::string_view ending) {
  assert(name.ends_with(ending));
  return std::string(name.substr(0, name.size() - ending.size()));
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

namespace {

// As config.json says it.
std::string told(const IntegerCodes& codes) {
  const bool words = codes.form == IntegerForm::gptq || codes.form == IntegerForm::awq;
  const std::string_view method = codes.form == IntegerForm::gptq ? "'quant_method' gptq, "
                                  : words                         ? "'quant_method' awq, "
                                                                  : "";
  const std::string group = codes.group > 0 ? fmt::format("'group_size' {}", codes.group)
                            : words         ? "'group_size' -1"
                                            : "no 'group_size'";
  return fmt::format("{}'{}' {} and {}", method, words ? "bits" : "num_bits", codes.bits, group);
}

}  // namespace

// What config.json could say instead, so that it would fit the tensors; nothing, if that is not known. The first
// thought for shapes that do not fit is that a file is damaged, where most often its description is that of another.
std::string IntegerMatrix::what_fits(const FolderWeights& weights, const FolderWeights::Found& found,
                                     const IntegerCodes& codes) {
  using Kind = std::pair<IntegerForm, int>;
  const bool words = codes.form == IntegerForm::gptq || codes.form == IntegerForm::awq;
  const std::vector<Kind> kinds =
      words ? std::vector<Kind>{{IntegerForm::gptq, 4}, {IntegerForm::gptq, 8}, {IntegerForm::awq, 4}}
            : std::vector<Kind>{{codes.form, 4}, {codes.form, 8}};
  for (const auto& [form, bits] : kinds) {
    for (const int64_t group : {codes.group, int64_t{32}, int64_t{64}, int64_t{128}, int64_t{256}, int64_t{0}}) {
      IntegerCodes other = codes;
      other.form = form;
      other.bits = bits;
      other.group = group;
      if (form == IntegerForm::plain && bits != 8) continue;
      if (other != codes && read_as(weights, found, other)) {
        return fmt::format("; the tensors fit {}, where 'quantization_config' of config.json says {}", told(other),
                           told(codes));
      }
    }
  }
  return {};
}

Result<std::shared_ptr<const IntegerMatrix>> IntegerMatrix::of(const FolderWeights& weights,
                                                               const FolderWeights::Found& found,
                                                               const IntegerCodes& codes) {
  auto matrix = read_as(weights, found, codes);
  if (!matrix && matrix.error().code() == ErrorCode::corrupt) {
    return Error(ErrorCode::corrupt, matrix.error().to_string() + what_fits(weights, found, codes));
  }
  if (!matrix) return std::move(matrix).error();
  (*matrix)->block_type_ = (*matrix)->find_block_type();
  return std::shared_ptr<const IntegerMatrix>(*std::move(matrix));
}

Result<std::shared_ptr<IntegerMatrix>> IntegerMatrix::read_as(const FolderWeights& weights,
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
  return matrix;
}

// ---- what lies beside the codes

uint32_t IntegerMatrix::word_at(const SafetensorsTensor& tensor, int64_t index) {
  uint32_t word = 0;
  std::memcpy(&word, tensor.data.data() + static_cast<size_t>(index) * sizeof word, sizeof word);
  return word;
}

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

}  // namespace tidemill::model
