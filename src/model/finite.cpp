#include "model/finite.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <mutex>

#include <fmt/format.h>

namespace tidemill::model {
namespace {

using tensor::DType;

// What one thread looks at before it takes the next part.
constexpr int64_t kPartBytes = int64_t{256} << 10;

// The exponents of the numbers in eight bytes. Where all bits of one are set, adding its lowest bit carries into the
// number's sign, and nowhere else.
struct Exponents {
  uint64_t bits;
  uint64_t lowest;
  uint64_t signs;
};
constexpr Exponents kF32 = {0x7f8000007f800000, 0x0080000000800000, 0x8000000080000000};
constexpr Exponents kF16 = {0x7c007c007c007c00, 0x0400040004000400, 0x8000800080008000};
constexpr Exponents kBf16 = {0x7f807f807f807f80, 0x0080008000800080, 0x8000800080008000};

bool any_full(std::span<const std::byte> bytes, const Exponents& exponents) {
  const auto [bits, lowest, signs] = exponents;  // in registers
  uint64_t sums = 0;
  const std::byte* at = bytes.data();
  size_t left = bytes.size();
  for (; left >= 64; at += 64, left -= 64) {
    std::array<uint64_t, 8> words;
    std::memcpy(words.data(), at, sizeof words);
    for (const uint64_t word : words)
      sums |= (word & bits) + lowest;
  }
  while (left > 0) {
    uint64_t word = 0;
    const size_t some = std::min(left, sizeof word);
    std::memcpy(&word, at, some);
    sums |= (word & bits) + lowest;
    at += some;
    left -= some;
  }
  return (sums & signs) != 0;
}

// Where a block of a quantised type has its scales, binary16 numbers: twice the same place where there is one.
struct Scales {
  size_t first;
  size_t second;
};
Scales scales_of(DType type) {
  switch (type) {
    case DType::q4_1:
    case DType::q5_1:
    case DType::q4_k:
    case DType::q5_k:
      return {0, 2};
    case DType::q2_k:
      return {80, 82};
    case DType::q3_k:
      return {108, 108};
    case DType::q6_k:
      return {208, 208};
    default:
      return {0, 0};
  }
}

bool any_scale_full(DType type, std::span<const std::byte> bytes) {
  const Scales scales = scales_of(type);
  const auto step = static_cast<size_t>(tensor::info(type).block_bytes);
  const auto carries = [](const std::byte* at) {
    uint16_t bits = 0;
    std::memcpy(&bits, at, sizeof bits);
    return (bits & 0x7c00U) + 0x0400U;
  };
  unsigned sums = 0;
  for (size_t at = 0; at < bytes.size(); at += step) {
    const std::byte* block = bytes.data() + at;
    sums |= carries(block + scales.first) | carries(block + scales.second);
  }
  return (sums & 0x8000U) != 0;
}

// A scale of 2^126 (exponent 253, doubled as the codes are) and above makes infinities of the larger codes.
bool any_large_exponent(std::span<const std::byte> bytes) {
  const auto step = static_cast<size_t>(tensor::info(DType::mxfp4).block_bytes);
  bool large = false;
  for (size_t at = 0; at < bytes.size(); at += step)
    large |= static_cast<uint8_t>(bytes[at]) >= 253;
  return large;
}

// False where all elements are finite; true where one may not be.
bool suspicious(DType type, std::span<const std::byte> bytes) {
  switch (type) {
    case DType::f32:
      return any_full(bytes, kF32);
    case DType::f16:
      return any_full(bytes, kF16);
    case DType::bf16:
      return any_full(bytes, kBf16);
    case DType::mxfp4:
      return any_large_exponent(bytes);
    default:
      return any_scale_full(type, bytes);
  }
}

std::optional<NotFinite> look(DType type, std::span<const std::byte> bytes) {
  if (!suspicious(type, bytes)) return std::nullopt;
  const tensor::DTypeInfo& t = tensor::info(type);
  std::array<float, 256> values;  // of the largest block
  int64_t element = 0;
  for (; !bytes.empty(); bytes = bytes.subspan(static_cast<size_t>(t.block_bytes))) {
    tensor::dequantize(type, bytes.data(), t.block_elements, values.data());
    for (int64_t i = 0; i < t.block_elements; ++i, ++element) {
      const float value = values[static_cast<size_t>(i)];
      if (!std::isfinite(value)) return NotFinite{.element = element, .value = value};
    }
  }
  return std::nullopt;
}

}  // namespace

std::optional<NotFinite> find_not_finite(DType type, std::span<const std::byte> bytes, base::ThreadTeam* team) {
  const tensor::DTypeInfo& t = tensor::info(type);
  const int64_t part_blocks = kPartBytes / t.block_bytes;
  const int64_t blocks = static_cast<int64_t>(bytes.size()) / t.block_bytes;
  const int64_t parts = (blocks + part_blocks - 1) / part_blocks;
  std::optional<NotFinite> first;
  std::mutex mutex;
  const auto look_at = [&](int64_t part) {
    const int64_t begin = part * part_blocks;
    const int64_t count = std::min(part_blocks, blocks - begin);
    auto found = look(
        type, bytes.subspan(static_cast<size_t>(begin * t.block_bytes), static_cast<size_t>(count * t.block_bytes)));
    if (!found) return;
    found->element += begin * t.block_elements;
    const std::lock_guard lock(mutex);
    if (!first || found->element < first->element) first = found;
  };
  if (team == nullptr || parts < 2) {
    for (int64_t part = 0; part < parts && !first; ++part)
      look_at(part);
    return first;
  }
  team->parallel_for(parts, 1, [&](int64_t begin, int64_t end, int /*member*/) {
    for (int64_t part = begin; part < end; ++part)
      look_at(part);
  });
  return first;
}

base::Result<void> check_finite(const Checkpoint& file, const GgufTensor& tensor, std::span<const std::byte> bytes,
                                int64_t first, base::ThreadTeam* team) {
  const std::optional<NotFinite> found = find_not_finite(tensor.type, bytes, team);
  if (!found) return {};
  const std::string why = tensor.explain ? tensor.explain(found->value) : std::string();
  return file.error(base::ErrorCode::corrupt,
                    fmt::format("{} holds {} at element {}{}{}; weights are finite numbers", tensor.title(),
                                std::isnan(found->value) ? "NaN" : fmt::format("{}", found->value),
                                first + found->element, why.empty() ? "" : ", since ", why));
}

}  // namespace tidemill::model
