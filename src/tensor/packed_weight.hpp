// A weight matrix in the CPU's packed layout (packed_layout.hpp).
#pragma once

#include "base/memory.hpp"
#include "base/thread_team.hpp"
#include "tensor/device.hpp"
#include "tensor/packed_layout.hpp"

namespace tidemill::tensor {

class PackedWeight final : public Weight {
 public:
  // See Device::load_weight. Packs with all threads of `team`.
  static base::Result<std::unique_ptr<Weight>> pack(DType type, int64_t rows, int64_t cols,
                                                    std::span<const std::byte> source, base::ThreadTeam& team);

  size_t bytes() const override { return data_.size(); }
  int64_t panels() const { return (rows() + kPanelRows - 1) / kPanelRows; }
  const std::byte* panel(int64_t index) const { return data_.data() + index * panel_bytes(type(), cols()); }

  // Row `row` as floats, exactly as dequantize() gives it from GGUF order.
  void unpack_row(int64_t row, float* out) const;

 private:
  PackedWeight(DType type, int64_t rows, int64_t cols, base::Buffer data)
      : Weight(type, rows, cols), data_(std::move(data)) {}

  base::Buffer data_;
};

}  // namespace tidemill::tensor
