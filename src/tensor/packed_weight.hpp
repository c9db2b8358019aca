// A weight matrix in the CPU's packed layout (packed_layout.hpp).
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "base/memory.hpp"
#include "base/thread_team.hpp"
#include "tensor/device.hpp"
#include "tensor/packed_layout.hpp"

namespace tidemill::tensor {

class PackedWeight final : public Weight {
 public:
  // See Device::load_weight. Packs with all threads of `team`.
  static base::Result<std::unique_ptr<Weight>> pack(DType type, int64_t rows, int64_t cols,
                                                    std::span<const std::byte> source, base::ThreadTeam& team,
                                                    const SourceRelease& release = {});

  // See Device::load_weights. They share one buffer: a small matrix alone would take a page, and a large page holds
  // many.
  static base::Result<std::vector<std::unique_ptr<Weight>>> pack_all(DType type, int64_t count, int64_t rows,
                                                                     int64_t cols, std::span<const std::byte> source,
                                                                     base::ThreadTeam& team,
                                                                     const SourceRelease& release = {});

  // See Device::load_panels. Nothing is copied.
  static base::Result<std::unique_ptr<Weight>> view(DType type, int64_t rows, int64_t cols,
                                                    std::span<const std::byte> panels);

  // Bytes of all panels of a matrix. Errors: `invalid_argument` for a shape that the type does not allow, `too_large`.
  static base::Result<size_t> packed_bytes(DType type, int64_t rows, int64_t cols);

  size_t bytes() const override { return data_.size(); }
  std::span<const std::byte> data() const { return data_; }  // panel by panel
  int64_t panels() const { return panel_count(rows()); }
  const std::byte* panel(int64_t index) const { return data_.data() + index * panel_bytes(type(), cols()); }

  // Row `row` as floats, exactly as dequantize() gives it from GGUF order.
  void unpack_row(int64_t row, float* out) const;

 private:
  PackedWeight(DType type, int64_t rows, int64_t cols, std::span<const std::byte> panels,
               std::shared_ptr<const base::Buffer> owner)
      : Weight(type, rows, cols), owner_(std::move(owner)), data_(panels) {}

  std::shared_ptr<const base::Buffer> owner_;  // of the panels, and maybe others; null where they lie in a mapped file
  std::span<const std::byte> data_;
};

}  // namespace tidemill::tensor
