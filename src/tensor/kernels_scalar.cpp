// The scalar kernels: plain loops that say what every other instruction set must compute, bit for bit. They share no
// code with the vector kernels, so that the tests compare two independent writings.
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "tensor/device.hpp"
#include "tensor/exp_constants.hpp"
#include "tensor/kernels.hpp"
#include "tensor/packed_layout.hpp"

namespace tidemill::tensor {
namespace {

constexpr int64_t kLanes = kPanelRows;

// Lanes i and i + 8 first, then i and i + 4, and so on.
float sum_lanes(float* lanes) {
  for (int64_t width = kLanes / 2; width > 0; width /= 2) {
    for (int64_t i = 0; i < width; ++i)
      lanes[i] = lanes[i] + lanes[i + width];
  }
  return lanes[0];
}

float exp_one(float x) {
  if (std::isnan(x)) return x;
  if (x < kExpLowest) return 0;
  x = x > kExpHighest ? kExpHighest : x;
  const float n = std::nearbyint(x * kLog2E);
  float r = std::fma(n, -kLn2High, x);
  r = std::fma(n, -kLn2Low, r);
  float p = kExpPolynomial[0];
  for (size_t i = 1; i < std::size(kExpPolynomial); ++i)
    p = std::fma(p, r, kExpPolynomial[i]);
  return std::bit_cast<float>(std::bit_cast<int32_t>(p) + static_cast<int32_t>(n) * (1 << 23));
}

void quantize_group(const float* x, int64_t n, int8_t* codes, float& scale) {
  uint32_t largest_bits = 0;  // of |x|: as integers, finite < infinity < NaN
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t bits = std::bit_cast<uint32_t>(x[i]) & 0x7fffffffU;
    largest_bits = bits > largest_bits ? bits : largest_bits;
  }
  std::memset(codes, 0, kQuantGroup);
  const auto largest = std::bit_cast<float>(largest_bits);
  if (largest_bits >= 0x7f800000U) {
    scale = std::numeric_limits<float>::quiet_NaN();
    return;
  }
  if (largest < 0x1p-100F) {
    scale = 0;
    return;
  }
  scale = largest / 127.0F;
  const float inverse = 127.0F / largest;
  for (int64_t i = 0; i < n; ++i)
    codes[i] = static_cast<int8_t>(std::nearbyint(x[i] * inverse));
}

void quantize_row(const float* x, int64_t cols, int64_t padded_cols, int64_t sum_group, int sum_factor,
                  const QuantizedRows& out) {
  auto* codes = reinterpret_cast<int8_t*>(out.codes);
  for (int64_t k = 0; k < padded_cols; k += kQuantGroup) {
    const int64_t n = k >= cols ? 0 : (cols - k < kQuantGroup ? cols - k : kQuantGroup);
    quantize_group(x + (n > 0 ? k : 0), n, codes + k, out.scales[k / kQuantGroup]);
  }
  for (int64_t k = 0; k < padded_cols; k += sum_group) {
    int32_t sum = 0;
    for (int64_t i = 0; i < sum_group; ++i)
      sum += codes[k + i];
    out.sums[k / sum_group] = sum * sum_factor;
  }
}

// start + sum over n consecutive k of code * activation, exactly. `high` selects the high nibbles of 4-bit codes.
enum class Part : uint8_t { byte, low, high };
int32_t dot(const uint8_t (*lines)[kLineBytes], Part part, int64_t lane, const int8_t* x, int64_t n, int32_t start) {
  int32_t sum = start;
  for (int64_t k = 0; k < n; ++k) {
    const uint8_t byte = lines[k / 4][lane * 4 + k % 4];
    const int code = part == Part::byte ? byte : part == Part::low ? byte & 15 : byte >> 4;
    sum += code * x[k];
  }
  return sum;
}

// One output element: the steps of a lane against one row's activations.
float linear_lane(const StepQ8* steps, int64_t count, int64_t lane, const int8_t* x, const float* scales,
                  const int32_t* sums) {
  float acc = 0;
  for (int64_t g = 0; g < count * 2; ++g) {
    const StepQ8& step = steps[g / 2];
    const int32_t i = dot(step.codes[g % 2], Part::byte, lane, x + g * 32, 32, sums[g]);
    acc = std::fma(static_cast<float>(i), f16_to_f32(step.scale[g % 2][lane]) * scales[g], acc);
  }
  return acc;
}

float linear_lane(const StepQ4* steps, int64_t count, int64_t lane, const int8_t* x, const float* scales,
                  const int32_t* sums) {
  float acc = 0;
  for (int64_t g = 0; g < count * 2; ++g) {
    const StepQ4& step = steps[g / 2];
    const int32_t i = dot(step.codes, g % 2 == 0 ? Part::low : Part::high, lane, x + g * 32, 32, sums[g]);
    acc = std::fma(static_cast<float>(i), f16_to_f32(step.scale[g % 2][lane]) * scales[g], acc);
  }
  return acc;
}

float linear_lane(const StepQ4K* steps, int64_t count, int64_t lane, const int8_t* x, const float* scales,
                  const int32_t* sums) {
  float acc = 0;
  for (int64_t s = 0; s < count; ++s) {
    const StepQ4K& step = steps[s];
    float a = 0;
    float b = 0;
    for (int64_t g = 0; g < 8; ++g) {
      const int64_t group = s * 8 + g;
      const Part part = g % 2 == 0 ? Part::low : Part::high;
      const int32_t i = dot(step.codes[g / 2], part, lane, x + group * 32, 32, 0) * step.scale[g][lane];
      a = std::fma(static_cast<float>(i), scales[group], a);
      b = std::fma(static_cast<float>(step.min[g][lane]), scales[group] * static_cast<float>(sums[group]), b);
    }
    acc = std::fma(f16_to_f32(step.d[lane]), a, acc);
    acc = std::fma(-f16_to_f32(step.dmin[lane]), b, acc);
  }
  return acc;
}

float linear_lane(const StepQ6K* steps, int64_t count, int64_t lane, const int8_t* x, const float* scales,
                  const int32_t* sums) {
  float acc = 0;
  for (int64_t s = 0; s < count; ++s) {
    const StepQ6K& step = steps[s];
    float a = 0;
    for (int64_t g = 0; g < 8; ++g) {
      int32_t i = 0;  // at most 2 * 128 * 16 * 32 * 127 < 2^24: exact as a float too
      for (int64_t half = 2 * g; half < 2 * g + 2; ++half) {
        const int64_t at = s * 16 + half;
        i += dot(step.codes[half], Part::byte, lane, x + at * 16, 16, sums[at]) * step.scale[half][lane];
      }
      a = std::fma(static_cast<float>(i), scales[s * 8 + g], a);
    }
    acc = std::fma(f16_to_f32(step.d[lane]), a, acc);
  }
  return acc;
}

template <typename Step, DType type>
void linear_quantized(const PanelCall& call) {
  const int64_t step = panel_layout(type).step;
  const int64_t steps = (call.cols + step - 1) / step;
  for (int64_t r = 0; r < call.rows; ++r) {
    const auto* codes = reinterpret_cast<const int8_t*>(call.x.codes) + r * call.x.code_stride;
    const float* scales = call.x.scales + r * call.x.scale_stride;
    const int32_t* sums = call.x.sums + r * call.x.sum_stride;
    for (int64_t lane = 0; lane < call.lanes; ++lane) {
      const float y = linear_lane(reinterpret_cast<const Step*>(call.panel), steps, lane, codes, scales, sums);
      call.y[r * call.y_stride + lane] = call.bias == nullptr ? y : y + call.bias[lane];
    }
  }
}

float load(DType type, const std::byte* p, int64_t index) {
  float value;
  const int64_t size = type == DType::f32 ? 4 : 2;
  dequantize(type, p + index * size, 1, &value);
  return value;
}

template <DType type>
void linear_plain(const PanelCall& call) {
  for (int64_t r = 0; r < call.rows; ++r) {
    const float* x = call.x_data + r * call.x_stride;
    for (int64_t lane = 0; lane < call.lanes; ++lane) {
      float acc[2] = {0, 0};
      for (int64_t k = 0; k < call.cols; ++k) {
        acc[k % 2] = std::fma(load(type, call.panel, k * kLanes + lane), x[k], acc[k % 2]);
      }
      const float y = acc[0] + acc[1];
      call.y[r * call.y_stride + lane] = call.bias == nullptr ? y : y + call.bias[lane];
    }
  }
}

void rms_norm(const float* x, const float* weight, float epsilon, int64_t n, float* y) {
  float lanes[kLanes] = {};
  for (int64_t i = 0; i < n; ++i)
    lanes[i % kLanes] = std::fma(x[i], x[i], lanes[i % kLanes]);
  const float inverse = 1.0F / std::sqrt(sum_lanes(lanes) / static_cast<float>(n) + epsilon);
  for (int64_t i = 0; i < n; ++i)
    y[i] = (x[i] * inverse) * weight[i];
}

void silu_multiply(const float* gate, const float* up, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i)
    out[i] = gate[i] / (1.0F + exp_one(-gate[i])) * up[i];
}

void exp_many(const float* x, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i)
    out[i] = exp_one(x[i]);
}

void convert_f32_to_f16(const float* x, int64_t n, uint16_t* out) {
  for (int64_t i = 0; i < n; ++i)
    out[i] = tensor::f32_to_f16(x[i]);
}

// One query head against one KV head.
template <DType type>
void attend(const AttentionCall& call, const float* q, float* out, float* scores) {
  const int64_t dim = call.head_dim;
  float highest = -std::numeric_limits<float>::infinity();
  for (int64_t t = 0; t < call.tokens; ++t) {
    const std::byte* keys = call.keys + call.block_table[t / kKvBlockTokens] * call.block_stride;
    float dot = 0;
    for (int64_t d = 0; d < dim; ++d) {
      dot = std::fma(load(type, keys, d * kKvBlockTokens + t % kKvBlockTokens), q[d], dot);
    }
    scores[t] = dot * call.scale;
    if (scores[t] > highest) highest = scores[t];
  }
  float lanes[kLanes] = {};
  for (int64_t t = 0; t < call.tokens; ++t) {
    scores[t] = exp_one(scores[t] - highest);
    lanes[t % kLanes] = lanes[t % kLanes] + scores[t];
  }
  const float inverse = 1.0F / sum_lanes(lanes);
  const int64_t stride = round_up(dim, kLanes);
  for (int64_t d = 0; d < dim; ++d) {
    float acc = 0;
    for (int64_t t = 0; t < call.tokens; ++t) {
      const std::byte* values = call.values + call.block_table[t / kKvBlockTokens] * call.block_stride;
      acc = std::fma(load(type, values, t % kKvBlockTokens * stride + d), scores[t], acc);
    }
    out[d] = acc * inverse;
  }
}

template <DType type>
void attention(const AttentionCall& call) {
  for (int64_t g = 0; g < call.group; ++g) {
    attend<type>(call, call.q + g * call.head_dim, call.out + g * call.head_dim, call.scores);
  }
}

int32_t peak_int8(int64_t rounds) {
  uint32_t sums[kLanes * 4] = {};
  for (int64_t i = 0; i < rounds * kPeakChains; ++i) {
    for (uint32_t lane = 0; lane < kLanes * 4; ++lane)
      sums[lane] += static_cast<uint32_t>(i & 127) * lane;
  }
  uint32_t total = 0;
  for (const uint32_t sum : sums)
    total += sum;
  return static_cast<int32_t>(total);
}

float peak_fma(int64_t rounds) {
  float sums[kLanes] = {};
  for (int64_t i = 0; i < rounds * kPeakChains; ++i) {
    for (float& sum : sums)
      sum = sum * 0.5F + 1.0F;
  }
  return sum_lanes(sums);
}

uint64_t read_bytes(const std::byte* data, int64_t bytes) {
  uint64_t total = 0;
  for (int64_t i = 0; i < bytes; i += 8) {
    uint64_t word;
    std::memcpy(&word, data + i, sizeof word);
    total += word;
  }
  return total;
}

}  // namespace

const Kernels& scalar_kernels() {
  static constexpr Kernels kernels = {
      .isa = Isa::scalar,
      .code_bytes = 1,
      .quantize_row = quantize_row,
      .linear = {linear_plain<DType::f32>, linear_plain<DType::f16>, linear_plain<DType::bf16>,
                 linear_quantized<StepQ8, DType::q8_0>, linear_quantized<StepQ4, DType::q4_0>,
                 linear_quantized<StepQ4K, DType::q4_k>, linear_quantized<StepQ6K, DType::q6_k>},
      .rms_norm = rms_norm,
      .silu_multiply = silu_multiply,
      .exp = exp_many,
      .f32_to_f16 = convert_f32_to_f16,
      .attention = {attention<DType::f32>, attention<DType::f16>, attention<DType::bf16>},
      .peak_int8 = peak_int8,
      .peak_fma = peak_fma,
      .read_bytes = read_bytes,
  };
  return kernels;
}

}  // namespace tidemill::tensor
