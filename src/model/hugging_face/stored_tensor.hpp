// A vector or a matrix as a folder stores it, and how it becomes rows of elements that GGUF has a type for.
//
//   F32, F16, BF16      as they are
//   F8_E4M3, F8_E5M2    matrices, in BF16: each code times the scale of its block, multiplied in F32. Scales are the
//                       tensor NAME_scale_inv or NAME_scale (either way to be multiplied by), in F32, F16, BF16 or
//                       F8_E8M0: [rows of blocks][columns of blocks], those at the edges cut, or one for each row, or
//                       one for all, as WeightScales has it. DeepSeek V3's report describes blocks (section 3.3), and
//                       its own conversion to BF16 gives the same numbers.
//   integers            matrices, in Q4_0 or Q8_0 where these hold them exactly, else in the type of their scales
//                       (integer_matrix.hpp)
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "model/checkpoint.hpp"
#include "model/hugging_face/eight_bit_floats.hpp"
#include "model/hugging_face/folder_weights.hpp"
#include "model/hugging_face/integer_matrix.hpp"
#include "model/hugging_face/weight_scales.hpp"
#include "tensor/dtype.hpp"

namespace tidemill::model {

// What sets GGUF's tensor apart from the folder's.
struct RowChange {
  int64_t head_rows = 0;  // above 0: of so many rows at a time, those of a head, the halves become pairs
  float more = 0;         // is added to each number of a vector
};

// Copyable; points into the folder's weights, which must outlive it. Const calls are thread-safe.
class StoredTensor {
 public:
  // The tensor `found`, of `weights`. Errors, naming the file and the tensor: `unsupported` for other element types,
  // and for those of eight bits where config.json says nothing of scales; `not_found` for scales that are missing;
  // `corrupt` for what is neither a vector nor a matrix, and for scales that do not fit it.
  static base::Result<StoredTensor> of(const FolderWeights& weights, const FolderWeights::Found& found,
                                       const WeightScales& scales);

  const std::string& name() const { return found_.tensor->name; }
  std::span<const int64_t> shape() const { return shape_; }  // outermost first; of integers, the matrix's
  bool is_matrix() const { return shape().size() == 2; }
  bool is_integers() const { return integers_ != nullptr; }
  int64_t rows() const { return rows_; }  // of a vector, its elements
  int64_t cols() const { return cols_; }
  tensor::DType type() const { return type_; }  // of the elements of its rows
  // What lies beside it and is needed to read it: scales, zeros.
  std::vector<const SafetensorsTensor*> companions() const;
  size_t row_bytes() const { return static_cast<size_t>(tensor::row_bytes(type_, cols_)); }
  // Whether rows of both have the same form.
  bool is_alike(const StoredTensor& other) const;
  // Whether both have the same shape and numbers, whatever types these are stored in. Reads a part of both at a time,
  // whose pages are released behind it.
  bool is_copy_of(const StoredTensor& other) const;
  // How far its numbers are from those of one of the same shape: the root of the sum of their differences' squares,
  // over that of the other's. Reads a part of both at a time.
  double distance_to(const StoredTensor& other) const;
  // As it lies in the files: its elements or codes, and the scales, if there are any.
  std::span<const std::byte> data() const { return data_; }
  std::vector<std::span<const std::byte>> more_data() const;
  std::string file_name() const;
  // For GgufTensor::origin: "'model.norm.weight' in 'model.safetensors'".
  std::string origin() const;
  // An error whose message begins with the file and the tensor.
  base::Error error(base::ErrorCode code, std::string_view message) const;

  // Of integers, their numbers in the type of the scales, or in F32 where that ends before them, whatever blocks would
  // hold them; others as they are.
  StoredTensor in_numbers() const;
  // Of integers, their numbers in F32.
  StoredTensor in_f32() const;
  // For GgufTensor::explain.
  std::string explain(float value) const;

  // Without the rows before `first`.
  StoredTensor from_row(int64_t first) const;

  // Writes rows `first` to `first` + `count` in their type, whose bytes `to` has.
  void write_rows(int64_t first, int64_t count, std::span<std::byte> to) const;

  // What GGUF has of it under this name, the origin aside: matrices in their type, vectors and what is_always_f32() in
  // F32. It lies in the file where nothing has to be done to it.
  GgufTensor as_gguf(std::string_view name, const RowChange& change) const;
  // The same of alike matrices, one behind the other.
  static GgufTensor stacked(std::string_view name, std::vector<StoredTensor> parts);

 private:
  base::Result<void> find_scales(const FolderWeights& weights, const WeightScales& scales);
  base::Result<void> fit_scales(const WeightScales& scales);
  float scale(int64_t row, int64_t col) const;
  float element(int64_t row, int64_t col) const;
  void write_row_of_codes(int64_t row, std::span<std::byte> to) const;
  void write_in_order(std::span<std::byte> to, int64_t head_rows) const;
  std::span<const std::byte> rows_data(int64_t first, int64_t count) const;
  void release(std::span<const std::byte> data) const;
  std::span<const float> read_floats(int64_t first, int64_t count, std::vector<std::byte>& bytes,
                                     std::vector<float>& floats) const;
  void write_floats(std::span<std::byte> to, const RowChange& change) const;
  // Whether its bytes are elements where they can be read.
  bool is_in_place() const;

  FolderWeights::Found found_;
  std::span<const std::byte> data_;  // of the rows that there are
  tensor::DType type_ = tensor::DType::f32;
  int64_t rows_ = 0;
  int64_t cols_ = 1;
  std::vector<int64_t> shape_;
  std::shared_ptr<const IntegerMatrix> integers_;  // null: it is none
  // Of eight bits; null: there are no such codes.
  const EightBitNumbers* numbers_ = nullptr;
  const SafetensorsTensor* scales_ = nullptr;
  int64_t first_row_ = 0;  // of rows_, in the blocks and among the integers' rows
  int64_t block_rows_ = 1;
  int64_t block_cols_ = 1;
};

}  // namespace tidemill::model
