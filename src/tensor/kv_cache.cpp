#include "tensor/kv_cache.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "tensor/kv_layout.hpp"
#include "tensor/packed_layout.hpp"

namespace tidemill::tensor {
namespace {

constexpr int64_t kLanes = 16;
static_assert(kKvBlockTokens == kLanes);  // a lane of the kernels is a token, when they score keys

int64_t element_bytes(KvType type) {
  return type == KvType::f32 ? 4 : type == KvType::int8 ? 1 : 2;
}

int64_t key_head_bytes(const KvShape& shape) {
  const int64_t scales = (shape.latent > 0 ? 2 : 1) * static_cast<int64_t>(sizeof(float));
  if (shape.type == KvType::int8) return (round_up(shape.head_dim, 4) + scales) * kLanes;
  return shape.head_dim * element_bytes(shape.type) * kLanes;
}

int64_t value_head_bytes(const KvShape& shape) {
  if (shape.latent > 0) return 0;
  const int64_t scale = shape.type == KvType::int8 ? sizeof(float) : 0;
  return (round_up(shape.head_dim, kLanes) * element_bytes(shape.type) + scale) * kLanes;
}

// Bytes of one block in one layer, or -1 where that overflows.
int64_t layer_block_bytes(const KvShape& shape) {
  if (shape.head_dim > std::numeric_limits<int64_t>::max() / 1024) return -1;
  int64_t bytes = 0;
  if (__builtin_mul_overflow(key_head_bytes(shape) + value_head_bytes(shape), shape.kv_heads, &bytes)) return -1;
  return bytes;
}

// Whether a latent is a part of its key as kernels want it.
bool fits_latent(const KvShape& shape) {
  if (shape.latent == 0) return true;
  return shape.latent > 0 && shape.latent < shape.head_dim && shape.latent % kLanes == 0 &&
         shape.head_dim % kLanes == 0;
}

// A stretch of one row's elements, strided by `step` elements.
template <typename T>
void scatter(const T* from, int64_t n, std::byte* to, int64_t step) {
  for (int64_t i = 0; i < n; ++i)
    std::memcpy(to + i * step * static_cast<int64_t>(sizeof(T)), from + i, sizeof(T));
}

// One head of one token: where its keys and values of a block begin, and which of the block's tokens it is.
struct Slot {
  std::byte* keys;
  std::byte* values;
  int64_t token;
};

// `v` is null where there are keys alone; so below.
void store_f32(const float* k, const float* v, int64_t dim, const Slot& slot) {
  scatter(k, dim, slot.keys + slot.token * 4, kLanes);
  if (v != nullptr) scatter(v, dim, slot.values + slot.token * round_up(dim, kLanes) * 4, 1);
}

void store_16_bit(const Kernels& kernels, KvType type, const float* k, const float* v, int64_t dim, const Slot& slot) {
  constexpr int64_t kChunk = 256;
  uint16_t half[kChunk];
  const auto convert = [&](const float* from, int64_t n) {
    if (type == KvType::f16) {
      kernels.f32_to_f16(from, n, half);
    } else {
      for (int64_t i = 0; i < n; ++i)
        half[i] = f32_to_bf16(from[i]);
    }
  };
  for (int64_t begin = 0; begin < dim; begin += kChunk) {
    const int64_t n = std::min(kChunk, dim - begin);
    convert(k + begin, n);
    scatter(half, n, slot.keys + (begin * kLanes + slot.token) * 2, kLanes);
    if (v == nullptr) continue;
    convert(v + begin, n);
    scatter(half, n, slot.values + (slot.token * round_up(dim, kLanes) + begin) * 2, 1);
  }
}

// 2^(i / 16), rounded to nearest.
constexpr std::array<float, 17> kSixteenths = {
    0x1p+0F,        0x1.0b5586p+0F, 0x1.172b84p+0F, 0x1.2387a6p+0F, 0x1.306fep+0F,  0x1.3dea64p+0F,
    0x1.4bfdaep+0F, 0x1.5ab07ep+0F, 0x1.6a09e6p+0F, 0x1.7a1148p+0F, 0x1.8ace54p+0F, 0x1.9c4918p+0F,
    0x1.ae89fap+0F, 0x1.c199bep+0F, 0x1.d5818ep+0F, 0x1.ea4afap+0F, 0x1p+1F};

// The scale of a token's values: 2 to the power of `exponent`, and one over it.
struct ValueScale {
  float exponent;
  float inverse;
};

ValueScale value_scale(float largest) {
  const float least = largest / 127.0F;
  // Weights are relative to 2^exponent and must stay normal numbers: what is smaller has codes of zero, and what is
  // larger by far is no number any more.
  if (!(least < 0x1p+100F)) return {std::numeric_limits<float>::quiet_NaN(), 0};
  if (least < 0x1p-60F) return {-60, 0x1p+60F};
  int power = 0;
  const float fraction = 2 * std::frexp(least, &power);  // in [1, 2)
  const auto* step = std::lower_bound(kSixteenths.begin(), kSixteenths.end(), fraction);
  const auto sixteenths = static_cast<float>(step - kSixteenths.begin());
  return {static_cast<float>(power - 1) + sixteenths / 16.0F, std::ldexp(1.0F / *step, 1 - power)};
}

// Of one head, or a part of one: what rounding it takes, and what comes of it.
struct Rounding {
  std::vector<float> turned;  // [head_dim]
  std::vector<int8_t> codes;  // likewise
};

// Of a key: codes; gives the scale.
float round_key(const Kernels& kernels, const float* k, int64_t dim, Rounding& rounding) {
  float* turned = rounding.turned.data();
  std::copy_n(k, dim, turned);
  const auto largest = std::bit_cast<float>(kernels.turn_head(turned, dim));
  float scale = 0;
  float inverse = 0;
  if (!(largest <= std::numeric_limits<float>::max())) {
    scale = std::numeric_limits<float>::quiet_NaN();
  } else if (largest >= 0x1p-100F) {
    scale = largest / 127.0F;
    inverse = 127.0F / largest;
  }
  if (inverse == 0) std::fill_n(turned, dim, 0.0F);
  kernels.round_codes(turned, dim, inverse, rounding.codes.data());
  return scale;
}

// Of a value: codes; gives the exponent.
float round_value(const Kernels& kernels, const float* v, int64_t dim, Rounding& rounding) {
  float* turned = rounding.turned.data();
  std::copy_n(v, dim, turned);
  const auto largest = std::bit_cast<float>(kernels.turn_head(turned, dim));
  const ValueScale scale = value_scale(largest);
  if (scale.inverse == 0) std::fill_n(turned, dim, 0.0F);
  kernels.round_codes(turned, dim, scale.inverse, rounding.codes.data());
  return scale.exponent;
}

// Codes of elements first .. first + count - 1 of a key.
void put_key_codes(const Rounding& rounding, int64_t first, int64_t count, const Slot& slot) {
  for (int64_t i = 0; i < count; ++i) {
    const int64_t d = first + i;
    slot.keys[d / 4 * kLineBytes + slot.token * 4 + d % 4] =
        static_cast<std::byte>(rounding.codes[static_cast<size_t>(i)] + kInt8KeyZero);
  }
}

void store_int8(const Kernels& kernels, const float* k, const float* v, int64_t dim, const Slot& slot,
                Rounding& rounding) {
  const float scale = round_key(kernels, k, dim, rounding);
  put_key_codes(rounding, 0, dim, slot);
  std::memcpy(slot.keys + round_up(dim, 4) * kLanes + slot.token * 4, &scale, sizeof scale);

  const float exponent = round_value(kernels, v, dim, rounding);
  std::byte* to = slot.values + slot.token / 4 * kLineBytes + slot.token % 4;
  for (int64_t d = 0; d < dim; ++d)
    to[d / 16 * 4 * kLineBytes + d % 16 * 4] = static_cast<std::byte>(rounding.codes[static_cast<size_t>(d)]);
  std::memcpy(slot.values + round_up(dim, kLanes) * kLanes + slot.token * 4, &exponent, sizeof exponent);
}

void store_int8_latent(const Kernels& kernels, const float* k, int64_t dim, int64_t latent, const Slot& slot,
                       Rounding& rounding) {
  std::byte* scales = slot.keys + dim * kLanes + slot.token * 4;
  const float exponent = round_value(kernels, k, latent, rounding);
  put_key_codes(rounding, 0, latent, slot);
  std::memcpy(scales, &exponent, sizeof exponent);
  const float scale = round_key(kernels, k + latent, dim - latent, rounding);
  put_key_codes(rounding, latent, dim - latent, slot);
  std::memcpy(scales + kLanes * static_cast<int64_t>(sizeof exponent), &scale, sizeof scale);
}

}  // namespace

size_t kv_block_bytes(const KvShape& shape) {
  return static_cast<size_t>(layer_block_bytes(shape)) * static_cast<size_t>(shape.layers);
}

std::string_view to_string(KvType type) {
  switch (type) {
    case KvType::f32:
      return "f32";
    case KvType::f16:
      return "f16";
    case KvType::bf16:
      return "bf16";
    case KvType::int8:
      return "int8";
  }
  return "unknown";
}

std::optional<KvType> parse_kv_type(std::string_view word) {
  for (const KvType type : {KvType::f32, KvType::f16, KvType::bf16, KvType::int8}) {
    if (word == to_string(type)) return type;
  }
  return std::nullopt;
}

CpuKvCache::CpuKvCache(const KvShape& shape, base::Buffer data)
    : KvCache(shape),
      key_bytes_(key_head_bytes(shape)),
      block_stride_(key_head_bytes(shape) + value_head_bytes(shape)),
      data_(std::move(data)) {}

base::Result<std::unique_ptr<KvCache>> CpuKvCache::make(const KvShape& shape) {
  if (shape.layers <= 0 || shape.kv_heads <= 0 || shape.head_dim <= 0 || shape.blocks <= 0) {
    return base::Error(base::ErrorCode::invalid_argument,
                       "a KV cache needs at least one layer, head, element and block, not " +
                           std::to_string(shape.layers) + ", " + std::to_string(shape.kv_heads) + ", " +
                           std::to_string(shape.head_dim) + ", " + std::to_string(shape.blocks));
  }
  if (!fits_latent(shape)) {
    return base::Error(base::ErrorCode::unsupported,
                       "latents of " + std::to_string(shape.latent) + " elements in keys of " +
                           std::to_string(shape.head_dim) +
                           "; supported are multiples of 16, of which the latent is the smaller");
  }
  int64_t bytes = layer_block_bytes(shape);
  if (bytes < 0 || __builtin_mul_overflow(bytes, shape.layers, &bytes) ||
      __builtin_mul_overflow(bytes, shape.blocks, &bytes)) {
    return base::Error(base::ErrorCode::exhausted, "a KV cache of this shape is larger than any memory");
  }
  TM_TRY(base::Buffer data, base::Buffer::allocate(static_cast<size_t>(bytes)));
  return std::unique_ptr<KvCache>(new CpuKvCache(shape, std::move(data)));
}

void CpuKvCache::read_block(int32_t block, std::span<std::byte> out) const {
  assert(block >= 0 && block < shape().blocks && out.size() == kv_block_bytes(shape()));
  for (int64_t head = 0; head < shape().layers * shape().kv_heads; ++head)
    std::memcpy(out.data() + head * block_stride_, data_.data() + offset(head, block),
                static_cast<size_t>(block_stride_));
}

void CpuKvCache::write_block(int32_t block, std::span<const std::byte> content) {
  assert(block >= 0 && block < shape().blocks && content.size() == kv_block_bytes(shape()));
  for (int64_t head = 0; head < shape().layers * shape().kv_heads; ++head)
    std::memcpy(data_.data() + offset(head, block), content.data() + head * block_stride_,
                static_cast<size_t>(block_stride_));
}

const std::byte* CpuKvCache::keys(int64_t layer, int64_t kv_head) const {
  return data_.data() + offset(layer * shape().kv_heads + kv_head, 0);
}

const std::byte* CpuKvCache::values(int64_t layer, int64_t kv_head) const {
  if (shape().latent > 0) return nullptr;
  return keys(layer, kv_head) + key_bytes_;
}

void CpuKvCache::store(const Kernels& kernels, int64_t layer, int32_t block, int64_t slot, const float* keys,
                       const float* values) {
  assert(block >= 0 && block < shape().blocks);
  const int64_t dim = shape().head_dim;
  assert((values == nullptr) == (shape().latent > 0));
  Rounding rounding;
  if (shape().type == KvType::int8) {
    rounding.turned.resize(static_cast<size_t>(dim));
    rounding.codes.resize(static_cast<size_t>(dim));
  }
  for (int64_t h = 0; h < shape().kv_heads; ++h) {
    std::byte* base = data_.data() + offset(layer * shape().kv_heads + h, block);
    const Slot to = {base, base + key_bytes_, slot};
    const float* k = keys + h * dim;
    const float* v = values == nullptr ? nullptr : values + h * dim;
    switch (shape().type) {
      case KvType::f32:
        store_f32(k, v, dim, to);
        break;
      case KvType::f16:
      case KvType::bf16:
        store_16_bit(kernels, shape().type, k, v, dim, to);
        break;
      case KvType::int8:
        if (v == nullptr) {
          store_int8_latent(kernels, k, dim, shape().latent, to, rounding);
        } else {
          store_int8(kernels, k, v, dim, to, rounding);
        }
        break;
    }
  }
}

}  // namespace tidemill::tensor
