#include "tensor/kv_cache.hpp"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <limits>
#include <string>

#include "tensor/packed_layout.hpp"

namespace tidemill::tensor {
namespace {

int64_t element_bytes(KvType type) {
  return type == KvType::f32 ? 4 : 2;
}

// Bytes of one block in one layer, or -1 where that overflows.
int64_t layer_block_bytes(const KvShape& shape) {
  if (shape.head_dim > std::numeric_limits<int64_t>::max() / 4) return -1;
  const int64_t per_head = shape.head_dim + round_up(shape.head_dim, 16);
  int64_t bytes = 0;
  if (__builtin_mul_overflow(per_head, kKvBlockTokens * element_bytes(shape.type), &bytes)) return -1;
  if (__builtin_mul_overflow(bytes, shape.kv_heads, &bytes)) return -1;
  return bytes;
}

// A stretch of one row's elements, strided by `step` elements, from floats or 16-bit patterns.
template <typename T>
void scatter(const T* from, int64_t n, std::byte* to, int64_t step) {
  for (int64_t i = 0; i < n; ++i)
    std::memcpy(to + i * step * static_cast<int64_t>(sizeof(T)), from + i, sizeof(T));
}

}  // namespace

size_t kv_block_bytes(const KvShape& shape) {
  return static_cast<size_t>(layer_block_bytes(shape)) * static_cast<size_t>(shape.layers);
}

CpuKvCache::CpuKvCache(const KvShape& shape, base::Buffer data)
    : KvCache(shape),
      element_bytes_(element_bytes(shape.type)),
      key_head_bytes_(shape.head_dim * kKvBlockTokens * element_bytes_),
      value_head_bytes_(round_up(shape.head_dim, 16) * kKvBlockTokens * element_bytes_),
      block_stride_(layer_block_bytes(shape)),
      data_(std::move(data)) {}

base::Result<std::unique_ptr<KvCache>> CpuKvCache::make(const KvShape& shape) {
  if (shape.layers <= 0 || shape.kv_heads <= 0 || shape.head_dim <= 0 || shape.blocks <= 0) {
    return base::Error(base::ErrorCode::invalid_argument,
                       "a KV cache needs at least one layer, head, element and block, not " +
                           std::to_string(shape.layers) + ", " + std::to_string(shape.kv_heads) + ", " +
                           std::to_string(shape.head_dim) + ", " + std::to_string(shape.blocks));
  }
  int64_t bytes = layer_block_bytes(shape);
  if (bytes < 0 || __builtin_mul_overflow(bytes, shape.layers, &bytes) ||
      __builtin_mul_overflow(bytes, shape.blocks, &bytes)) {
    return base::Error(base::ErrorCode::exhausted, "a KV cache of this shape is larger than any memory");
  }
  TM_TRY(base::Buffer data, base::Buffer::allocate(static_cast<size_t>(bytes)));
  return std::unique_ptr<KvCache>(new CpuKvCache(shape, std::move(data)));
}

const std::byte* CpuKvCache::keys(int64_t layer, int64_t kv_head) const {
  return data_.data() + layer * shape().blocks * block_stride_ + kv_head * key_head_bytes_;
}

const std::byte* CpuKvCache::values(int64_t layer, int64_t kv_head) const {
  return data_.data() + layer * shape().blocks * block_stride_ + shape().kv_heads * key_head_bytes_ +
         kv_head * value_head_bytes_;
}

void CpuKvCache::store(const Kernels& kernels, int64_t layer, int32_t block, int64_t slot, const float* keys,
                       const float* values) {
  assert(block >= 0 && block < shape().blocks);
  const int64_t dim = shape().head_dim;
  const int64_t padded = round_up(dim, 16);
  std::byte* base = data_.data() + (layer * shape().blocks + block) * block_stride_;
  std::byte* value_base = base + shape().kv_heads * key_head_bytes_;
  for (int64_t h = 0; h < shape().kv_heads; ++h) {
    std::byte* key_to = base + h * key_head_bytes_ + slot * element_bytes_;
    std::byte* value_to = value_base + h * value_head_bytes_ + slot * padded * element_bytes_;
    const float* k = keys + h * dim;
    const float* v = values + h * dim;
    if (shape().type == KvType::f32) {
      scatter(k, dim, key_to, kKvBlockTokens);
      scatter(v, dim, value_to, 1);
      continue;
    }
    constexpr int64_t kChunk = 256;
    uint16_t half[kChunk];
    for (int64_t begin = 0; begin < dim; begin += kChunk) {
      const int64_t n = std::min(kChunk, dim - begin);
      for (const bool is_key : {true, false}) {
        const float* from = (is_key ? k : v) + begin;
        if (shape().type == KvType::f16) {
          kernels.f32_to_f16(from, n, half);
        } else {
          for (int64_t i = 0; i < n; ++i)
            half[i] = f32_to_bf16(from[i]);
        }
        if (is_key) {
          scatter(half, n, key_to + begin * kKvBlockTokens * element_bytes_, kKvBlockTokens);
        } else {
          scatter(half, n, value_to + begin * element_bytes_, 1);
        }
      }
    }
  }
}

}  // namespace tidemill::tensor
