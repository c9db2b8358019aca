// Keys and values in the CPU's layout: [layer][KV head][block][keys, values], where what one head's keys and values of
// a block look like is in kv_layout.hpp; latents have no values of their own. What attention reads for a head of a
// sequence so lies in one stretch, as far as the sequence's blocks follow each other: with the heads of a block side by
// side, decoding one stream of 32,000 tokens read a quarter less a second.
#pragma once

#include "base/memory.hpp"
#include "tensor/device.hpp"
#include "tensor/kernels.hpp"

namespace tidemill::tensor {

class CpuKvCache final : public KvCache {
 public:
  static base::Result<std::unique_ptr<KvCache>> make(const KvShape& shape);

  size_t bytes() const override { return data_.size(); }
  void read_block(int32_t block, std::span<std::byte> out) const override;
  void write_block(int32_t block, std::span<const std::byte> content) override;

  // Bytes from one block of a head to the next.
  int64_t block_stride() const { return block_stride_; }
  // Keys and values of one head in block 0 of `layer`; block b's are b * block_stride() further on. Of latents, values
  // are null.
  const std::byte* keys(int64_t layer, int64_t kv_head) const;
  const std::byte* values(int64_t layer, int64_t kv_head) const;

  // Writes one token of all heads ([kv_heads * head_dim] floats each) into slot `slot` of `block`. Several threads may
  // write different slots. Of latents, there are no `values`.
  void store(const Kernels& kernels, int64_t layer, int32_t block, int64_t slot, const float* keys,
             const float* values);

 private:
  CpuKvCache(const KvShape& shape, base::Buffer data);

  // Of a head, counted through all layers.
  int64_t offset(int64_t head, int64_t block) const { return (head * shape().blocks + block) * block_stride_; }

  int64_t key_bytes_;     // of one head's block
  int64_t block_stride_;  // likewise, with its values
  base::Buffer data_;
};

}  // namespace tidemill::tensor
