#include "model/latent_expansion.hpp"

#include <cassert>
#include <cstring>
#include <vector>

namespace tidemill::model {

using tensor::DType;

bool is_latent_expansion(std::string_view name) {
  return name.ends_with(".attn_kv_b.weight");
}

DType LatentExpansion::key_type() const {
  if (tensor::info(type_).block_elements == 1) return type_;
  return shape_.key_dim % tensor::info(DType::q8_0).block_elements == 0 ? DType::q8_0 : DType::f32;
}

size_t LatentExpansion::key_bytes() const {
  return static_cast<size_t>(heads_ * shape_.rank * tensor::row_bytes(key_type(), shape_.key_dim));
}

size_t LatentExpansion::value_bytes() const {
  return static_cast<size_t>(heads_ * shape_.value_dim) * row_bytes();
}

std::span<const std::byte> LatentExpansion::head(std::span<const std::byte> from, int64_t index) const {
  const size_t bytes = static_cast<size_t>(shape_.key_dim + shape_.value_dim) * row_bytes();
  return from.subspan(static_cast<size_t>(index) * bytes, bytes);
}

void LatentExpansion::write_keys(std::span<const std::byte> from, std::span<std::byte> to) const {
  assert(from.size() == static_cast<size_t>(rows()) * row_bytes() && to.size() == key_bytes());
  const auto element = static_cast<size_t>(tensor::info(type_).block_bytes);
  const bool plain = tensor::info(type_).block_elements == 1;
  const auto to_row_bytes = static_cast<size_t>(tensor::row_bytes(key_type(), shape_.key_dim));
  std::vector<float> rows(plain ? 0 : static_cast<size_t>(shape_.key_dim * shape_.rank));
  std::vector<float> column(static_cast<size_t>(shape_.key_dim));
  std::byte* out = to.data();
  for (int64_t h = 0; h < heads_; ++h) {
    const std::byte* own = head(from, h).data();
    if (!plain) tensor::dequantize(type_, own, shape_.key_dim * shape_.rank, rows.data());
    for (int64_t r = 0; r < shape_.rank; ++r, out += to_row_bytes) {
      for (int64_t k = 0; k < shape_.key_dim; ++k) {
        const auto at = static_cast<size_t>(k * shape_.rank + r);
        if (plain) {
          std::memcpy(out + static_cast<size_t>(k) * element, own + at * element, element);
        } else {
          column[static_cast<size_t>(k)] = rows[at];
        }
      }
      if (!plain) tensor::quantize(key_type(), column.data(), shape_.key_dim, out);
    }
  }
}

void LatentExpansion::write_values(std::span<const std::byte> from, std::span<std::byte> to) const {
  assert(from.size() == static_cast<size_t>(rows()) * row_bytes() && to.size() == value_bytes());
  const size_t bytes = static_cast<size_t>(shape_.value_dim) * row_bytes();
  for (int64_t h = 0; h < heads_; ++h)
    std::memcpy(to.data() + static_cast<size_t>(h) * bytes, head(from, h).last(bytes).data(), bytes);
}

}  // namespace tidemill::model
