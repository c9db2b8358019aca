// What linear() must give where the instruction set multiplies bf16, bit for bit: the arithmetic of VDPBF16PS and of
// TDPBF16PS (Intel SDM, volume 2, and the ISA extensions reference), written as plain loops over the contract in
// tensor/kernels.hpp.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "tensor/dtype.hpp"
#include "tensor/isa.hpp"

namespace tidemill::tensor::test {

inline bool rounds_activations(Isa isa, DType type) {
  return isa == Isa::amx ? type == DType::bf16 || type == DType::f16 : isa == Isa::avx512_bf16 && type == DType::bf16;
}

// Subnormal numbers count as zero, as operands and as results.
inline float flushed(float v) {
  return std::fabs(v) < 0x1p-126F ? std::copysign(0.0F, v) : v;
}
inline float fma_flushed(float a, float b, float c) {
  return flushed(std::fma(flushed(a), flushed(b), flushed(c)));
}

inline float rounded_activation(float x) {
  const float rounded = bf16_to_f32(f32_to_bf16(flushed(x)));
  return std::isinf(rounded) && std::isfinite(x) ? std::copysign(0x1.fep127F, x) : rounded;
}

class Bf16Oracle {
 public:
  Bf16Oracle(Isa isa, DType type) : isa_(isa), type_(type) {}

  // [n][rows]; `source` in GGUF order, bias empty or [rows].
  std::vector<float> linear(const std::vector<std::byte>& source, int64_t rows, int64_t cols,
                            const std::vector<float>& bias, const std::vector<float>& x, int64_t n) const {
    const int64_t padded = (cols + 31) / 32 * 32;
    std::vector<float> y(static_cast<size_t>(n * rows));
    std::vector<float> w(static_cast<size_t>(padded));
    std::vector<float> row(static_cast<size_t>(padded));
    for (int64_t o = 0; o < rows; ++o) {
      dequantize(type_, source.data() + o * row_bytes(type_, cols), cols, w.data());
      for (int64_t r = 0; r < n; ++r) {
        for (int64_t k = 0; k < cols; ++k)
          row[k] = rounded_activation(x[r * cols + k]);
        const float sum = isa_ == Isa::amx ? by_tiles(w, row) : by_pairs(w, row);
        y[r * rows + o] = bias.empty() ? sum : sum + bias[o];
      }
    }
    return y;
  }

 private:
  static float by_pairs(const std::vector<float>& w, const std::vector<float>& x) {
    float acc = 0;
    for (size_t k = 0; k < w.size(); k += 2) {
      acc = fma_flushed(w[k + 1], x[k + 1], acc);
      acc = fma_flushed(w[k], x[k], acc);
    }
    return acc;
  }

  static float add_tile(float acc, const float* w, const float* x) {
    float even = 0;
    float odd = 0;
    for (int k = 0; k < 32; k += 2) {
      even = fma_flushed(w[k], x[k], even);
      odd = fma_flushed(w[k + 1], x[k + 1], odd);
    }
    return flushed(flushed(acc) + flushed(even + odd));
  }

  float by_tiles(const std::vector<float>& w, const std::vector<float>& x) const {
    float acc = 0;
    for (size_t k = 0; k < w.size(); k += 32) {
      float cut[32];
      float rest[32];
      for (size_t i = 0; i < 32; ++i) {
        cut[i] = std::bit_cast<float>(std::bit_cast<uint32_t>(w[k + i]) & 0xffff0000U);
        rest[i] = w[k + i] - cut[i];
      }
      acc = add_tile(acc, cut, x.data() + k);
      if (type_ == DType::f16) acc = add_tile(acc, rest, x.data() + k);
    }
    return acc;
  }

  Isa isa_;
  DType type_;
};

}  // namespace tidemill::tensor::test
