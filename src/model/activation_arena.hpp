// Activations of a model that are kept from call to call, in one piece of memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/memory.hpp"
#include "base/result.hpp"
#include "tensor/device.hpp"

namespace tidemill::model {

class ActivationArena {
 public:
  // Room for [rows][cols] floats: where it begins, for view(). Before allocate().
  size_t place(int64_t rows, int64_t cols) {
    const size_t offset = floats_;
    // Whole cache lines, so that every activation starts on one.
    floats_ += (static_cast<size_t>(rows * cols) + 15) / 16 * 16;
    return offset;
  }

  // Zeroed. `exhausted` when there is not enough memory.
  base::Result<void> allocate() {
    TM_TRY(buffer_, base::Buffer::allocate(floats_ * sizeof(float)));
    return {};
  }

  size_t bytes() const { return buffer_.size(); }

  // The first `rows` rows of an activation of `cols` columns. Fewer or more columns than were placed are well as long
  // as all of them fit in its room, or in those behind it that are meant.
  tensor::Matrix view(size_t offset, int64_t rows, int64_t cols) {
    return {buffer_.as<float>() + offset, rows, cols, cols};
  }

 private:
  size_t floats_ = 0;
  base::Buffer buffer_;
};

}  // namespace tidemill::model
