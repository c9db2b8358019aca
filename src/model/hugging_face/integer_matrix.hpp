// Matrices of integers with scales, in the forms that published folders have them in. Each stands for
// scale * (code - zero), where the columns of a group share scale and zero.
//
//   GPTQ     NAME.qweight   I32 [cols / c][rows]: c = 32 / bits codes a word, of c columns, the first in its low bits
//            NAME.scales    [groups][rows]
//            NAME.qzeros    I32 [groups][rows / c]: c rows a word; each is one less than the zero but in gptq_v2
//            NAME.g_idx     I32 [cols]: each column's group; absent: one after the other
//                            (not where config.json says desc_act and more than one group)
//   AWQ      NAME.qweight   I32 [cols][rows / 8]: of eight rows, 0 2 4 6 1 3 5 7 from the low bits up (its form "gemm")
//            NAME.scales    [groups][rows]
//            NAME.qzeros    I32 [groups][rows / 8], in the same order
//   compressed-tensors, pack-quantized
//            NAME_packed    I32 [rows][cols / c, rounded up], codes beginning at 0
//            NAME_scale     [rows][groups], or one
//            NAME_shape     I32 or I64 [2]: rows and columns
//            NAME_zero_point  I32 [rows / c, rounded up][groups], c rows a word; absent: half of what there are codes
//            NAME_g_idx     I32 [cols], as GPTQ's
//   compressed-tensors, int-quantized
//            NAME           I8 [rows][cols]
//            NAME_scale     [rows][groups], or one
//            NAME_zero_point  I8, of the scales' shape; absent: 0
//
// Scales are F16, BF16 or F32. Sources: AutoGPTQ and GPTQModel, AutoAWQ, compressed-tensors (vLLM's).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "model/hugging_face/folder_weights.hpp"
#include "model/hugging_face/weight_scales.hpp"
#include "tensor/dtype.hpp"

namespace tidemill::model {

// The tensor of this name, or the one with the codes of the matrix that it would be; nulls if absent.
FolderWeights::Found find_matrix(const FolderWeights& weights, const IntegerCodes& codes, const std::string& name);
// `unsupported` where the folder has the matrix `name` as integers of which config.json says nothing, as folders have
// it where quantize_config.json does.
base::Result<void> refuse_untold_integers(const FolderWeights& weights, const std::string& name);

// Points into the folder's weights, which must outlive it. Const calls are thread-safe.
class IntegerMatrix {
 public:
  // What the tensor is called that has the codes of the matrix "NAME.weight".
  static std::string codes_name(const IntegerCodes& codes, std::string_view matrix);
  // Whether a tensor of the folder is one of codes.
  static bool is_one(const IntegerCodes& codes, const SafetensorsTensor& tensor);

  // `found` has the codes. Errors, naming the file and the tensor: `not_found` for what is missing beside it,
  // `unsupported` for other element types, `corrupt` for shapes and groups that do not fit.
  static base::Result<std::shared_ptr<const IntegerMatrix>> of(const FolderWeights& weights,
                                                               const FolderWeights::Found& found,
                                                               const IntegerCodes& codes);

  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  // GGUF's blocks that hold it exactly: Q4_0, or Q8_0 where zeros or bits want it; none: groups are no whole blocks, a
  // code less its zero takes more than eight bits, or F16 does not have a scale.
  std::optional<tensor::DType> block_type() const { return block_type_; }
  // Of its numbers otherwise, the products rounded once: that of the scales, but F32 where F16 ends before them. Looks
  // at all scales of F16.
  tensor::DType number_type() const;
  // Of a matrix in this type that has `value`, NaN or an infinity: which scale makes it so. Empty: none.
  std::string explain(tensor::DType type, float value) const;
  // What lies beside the codes.
  std::span<const SafetensorsTensor* const> companions() const { return companions_; }

  // Writes rows `first` to `first` + `count`, in F32, F16, BF16 or its block_type().
  void write_rows(tensor::DType type, int64_t first, int64_t count, std::span<std::byte> to) const;

 private:
  struct Tile;
  static base::Result<std::shared_ptr<IntegerMatrix>> read_as(const FolderWeights& weights,
                                                              const FolderWeights::Found& found,
                                                              const IntegerCodes& codes);
  static std::string what_fits(const FolderWeights& weights, const FolderWeights::Found& found,
                               const IntegerCodes& codes);
  static uint32_t word_at(const SafetensorsTensor& tensor, int64_t index);
  static int64_t parts_of(int64_t all, int64_t part) { return (all + part - 1) / part; }
  base::Result<void> find_gptq(const FolderWeights& weights);
  base::Result<void> find_awq(const FolderWeights& weights);
  base::Result<void> find_packed(const FolderWeights& weights);
  base::Result<void> find_plain(const FolderWeights& weights);
  base::Result<void> find_scales_of_rows(const FolderWeights& weights);
  base::Result<void> count_groups();
  base::Result<void> read_groups(const FolderWeights& weights, const std::string& name);
  base::Result<void> check_scales(const std::vector<std::vector<int64_t>>& shapes) const;
  base::Result<void> check_words(const SafetensorsTensor& tensor, const std::vector<int64_t>& shape) const;
  base::Result<const SafetensorsTensor*> require(const FolderWeights& weights, const std::string& name);
  const SafetensorsTensor* look_for(const FolderWeights& weights, const std::string& name);
  base::Error error(base::ErrorCode code, std::string_view message) const;
  std::optional<tensor::DType> find_block_type() const;
  bool scales_are_f16() const;

  // How many times a scale its codes are at most.
  int largest_code(int64_t row, int64_t group) const;
  // Calls take(row, group, scale) for each scale until it says true.
  template <typename Take>
  void for_each_scale(const Take& take) const;
  float scale(int64_t row, int64_t group) const;
  int zero(int64_t row, int64_t group) const;
  template <typename Take>
  void for_each_run(const Take& take) const;
  void read_codes(int64_t first, int64_t count, Tile& tile) const;

  FolderWeights::Found found_;
  IntegerCodes codes_;
  int64_t rows_ = 0;
  int64_t cols_ = 0;
  int64_t groups_ = 1;
  int64_t group_cols_ = 1;               // of one that lies together
  bool one_scale_ = false;               // for the whole matrix
  std::vector<int32_t> groups_of_cols_;  // where they do not lie together; empty: they do
  const SafetensorsTensor* scales_ = nullptr;
  const SafetensorsTensor* zeros_ = nullptr;  // null: there are none
  std::optional<tensor::DType> block_type_;
  std::vector<const SafetensorsTensor*> companions_;
};

}  // namespace tidemill::model
