// Reproducible test input.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <random>
#include <vector>

#include "tensor/amx_emulator.hpp"
#include "tensor/device.hpp"
#include "tensor/isa.hpp"

namespace tidemill::tensor::test {

class Samples {
 public:
  explicit Samples(uint32_t seed) : random_(seed) {}

  std::vector<float> normal(int64_t n, float sigma = 1.0F) {
    std::normal_distribution<float> distribution(0.0F, sigma);
    std::vector<float> out(static_cast<size_t>(n));
    for (float& v : out)
      v = distribution(random_);
    return out;
  }
  // A matrix in GGUF order; rows differ in magnitude by up to 2^12 so that mistaken lanes or scales show.
  std::vector<std::byte> weights(DType type, int64_t rows, int64_t cols) {
    std::vector<std::byte> out(static_cast<size_t>(rows * row_bytes(type, cols)));
    for (int64_t r = 0; r < rows; ++r) {
      const std::vector<float> row = normal(cols, static_cast<float>(1 << (r * 5 % 13)) * 0x1p-8F);
      quantize(type, row.data(), cols, out.data() + r * row_bytes(type, cols));
    }
    return out;
  }
  // Any bytes are a valid matrix of a block type, but for scales that are not finite: those are replaced.
  std::vector<std::byte> hostile_weights(DType type, int64_t rows, int64_t cols);
  int32_t below(int32_t bound) { return std::uniform_int_distribution<int32_t>(0, bound - 1)(random_); }
  std::mt19937& random() { return random_; }

 private:
  std::mt19937 random_;
};

// NaN equals NaN, whatever its payload.
inline bool same_bits(float a, float b) {
  return (std::isnan(a) && std::isnan(b)) || std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b);
}

// Those whose elements come in blocks.
inline std::vector<DType> block_types() {
  std::vector<DType> types;
  std::ranges::copy_if(all_dtypes(), std::back_inserter(types), [](DType t) { return info(t).block_elements > 1; });
  return types;
}

// Where the binary16 numbers of a block lie.
inline std::vector<int64_t> binary16_places(DType type) {
  switch (type) {
    case DType::q2_k:
      return {80, 82};
    case DType::q3_k:
      return {108};
    case DType::q6_k:
      return {208};
    case DType::q4_1:
    case DType::q5_1:
    case DType::q4_k:
    case DType::q5_k:
      return {0, 2};
    case DType::mxfp4:
    case DType::bf16:
    case DType::f32:
      return {};
    default:
      return {0};
  }
}

inline std::vector<std::byte> Samples::hostile_weights(DType type, int64_t rows, int64_t cols) {
  std::vector<std::byte> out(static_cast<size_t>(rows * row_bytes(type, cols)));
  for (std::byte& b : out)
    b = static_cast<std::byte>(random_() & 255U);
  const int64_t size = info(type).block_bytes;
  // The high byte of each binary16, bfloat16 or binary32, and the exponent of MXFP4: clear one exponent bit.
  for (int64_t at = 0; at < static_cast<int64_t>(out.size()); at += size) {
    const auto clear = [&](int64_t offset) { out[static_cast<size_t>(at + offset)] &= std::byte{0xbf}; };
    for (const int64_t place : binary16_places(type))
      clear(place + 1);
    if (type == DType::f32) clear(3);
    if (type == DType::bf16) clear(1);
    if (type == DType::mxfp4) clear(0);
  }
  return out;
}

// Every instruction set that this machine can run, and AMX by emulation (amx_emulator.hpp) where the rest of what its
// kernels use is there.
inline std::vector<Isa> runnable_isas() {
  static const AmxEmulator emulator;
  std::vector<Isa> isas(available_isas().begin(), available_isas().end());
  const bool vectors = std::find(isas.begin(), isas.end(), Isa::avx512_vnni) != isas.end();
  if (vectors && isas.back() != Isa::amx) isas.push_back(Isa::amx);
  return isas;
}

inline ConstMatrix matrix(const std::vector<float>& data, int64_t rows, int64_t cols) {
  return {data.data(), rows, cols, cols};
}
inline Matrix matrix(std::vector<float>& data, int64_t rows, int64_t cols) {
  return {data.data(), rows, cols, cols};
}

}  // namespace tidemill::tensor::test
