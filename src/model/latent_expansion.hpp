// What makes keys and values of latents, in the two forms that it has. Folders and older GGUF files have one matrix of
// [heads][rows of the key, then rows of the value][rank]. What computes with latents wants it in two, head by head: for
// values as they are, [heads][value_dim][rank], and for keys transposed, [heads][rank][key_dim], since it is queries
// that are brought to latents by it (LatentShape).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "model/hyper_parameters.hpp"
#include "tensor/dtype.hpp"

namespace tidemill::model {

// Whether GGUF's tensor of this name is such a matrix, in one.
bool is_latent_expansion(std::string_view name);

// The matrix in one, of `heads` heads and elements of `type`; its rows are whole blocks.
class LatentExpansion {
 public:
  LatentExpansion(tensor::DType type, int64_t heads, const LatentShape& shape)
      : type_(type), heads_(heads), shape_(shape) {}

  int64_t rows() const { return heads_ * (shape_.key_dim + shape_.value_dim); }

  // Of plain elements their own. Blocks cannot be transposed: keys made of them become Q8_0, which keeps them to a part
  // in 250 of the largest of 32, or F32 where rows are no whole blocks of that.
  tensor::DType key_type() const;
  size_t key_bytes() const;
  size_t value_bytes() const;
  // `from` is the whole matrix.
  void write_keys(std::span<const std::byte> from, std::span<std::byte> to) const;
  void write_values(std::span<const std::byte> from, std::span<std::byte> to) const;

 private:
  size_t row_bytes() const { return static_cast<size_t>(tensor::row_bytes(type_, shape_.rank)); }
  // The rows of one head.
  std::span<const std::byte> head(std::span<const std::byte> from, int64_t index) const;

  tensor::DType type_;
  int64_t heads_;
  LatentShape shape_;
};

}  // namespace tidemill::model
