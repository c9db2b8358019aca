// The codes of a block apart from its scales: what each is worth, which is nearest to a weight, and putting other codes
// into a block that has its scales already. For rounding that looks at more than the weight itself.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "tensor/dtype.hpp"

namespace tidemill::tensor {

// Element i with code c is worth scale[i / group] * level(c) + offset[i / group], exactly as dequantize() has it.
class BlockGrid {
 public:
  // `type` is a block type; `block` points at info(type).block_bytes bytes.
  BlockGrid(DType type, const std::byte* block);

  int elements() const { return elements_; }
  float worth(int element, uint8_t code) const {
    const auto g = static_cast<size_t>(element / group_);
    return scale_[g] * static_cast<float>(level(code)) + offset_[g];
  }
  // The code that is worth the least different; 0 for what is no number.
  uint8_t nearest(int element, float value) const;

 private:
  int level(uint8_t code) const { return table_ == nullptr ? code - zero_ : table_[code]; }

  int elements_;
  int group_;    // elements that share scale and offset
  int highest_;  // code
  int zero_;
  const int8_t* table_ = nullptr;  // of what codes are worth, where they are not integers in order
  std::array<float, 16> scale_{};
  std::array<float, 16> inverse_{};
  std::array<float, 16> offset_{};
};

// Writes the codes of one block, info(type).block_elements of them, as unpack_block() reads them; scales and minima
// stay.
void store_codes(DType type, const uint8_t* codes, std::byte* block);

}  // namespace tidemill::tensor
