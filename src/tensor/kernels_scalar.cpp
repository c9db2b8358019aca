// The scalar kernels: plain loops that say what every other instruction set must compute, bit for bit. They share no
// code with the vector kernels, so that the tests compare two independent writings.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

#include "tensor/exp_constants.hpp"
#include "tensor/kernels.hpp"
#include "tensor/packed_layout.hpp"
#include "tensor/scalar_attention.hpp"

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

// Codes are of 16 bits here, narrow or wide.
void quantize_group(const float* x, int64_t n, float limit, int16_t* codes, float& scale) {
  uint32_t largest_bits = 0;  // of |x|: as integers, finite < infinity < NaN
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t bits = std::bit_cast<uint32_t>(x[i]) & 0x7fffffffU;
    largest_bits = bits > largest_bits ? bits : largest_bits;
  }
  const auto largest = std::bit_cast<float>(largest_bits);
  if (largest_bits >= 0x7f800000U) {
    scale = std::numeric_limits<float>::quiet_NaN();
    return;
  }
  scale = 0;
  if (largest < 0x1p-100F) return;
  scale = largest / limit;
  const float inverse = limit / largest;
  for (int64_t i = 0; i < n; ++i)
    codes[i] = static_cast<int16_t>(std::nearbyint(x[i] * inverse));
}

int16_t* code_block(const QuantizedRows& rows, int64_t row, int64_t k) {
  return reinterpret_cast<int16_t*>(rows.codes) + (k / kCodeBlock * rows.rows + row) * kCodeBlock;
}

void quantize_row(const float* x, int64_t cols, int64_t padded_cols, const PanelLayout& layout, int64_t row,
                  const QuantizedRows& out) {
  const int64_t group = layout.activation_group;
  std::vector<int16_t> codes(static_cast<size_t>(padded_cols));
  for (int64_t k = 0; k < padded_cols; k += group) {
    quantize_group(x + std::min(k, cols), std::clamp<int64_t>(cols - k, 0, group), layout.wide ? 127 * 256 : 127,
                   codes.data() + k, out.scales[k / group * out.rows + row]);
  }
  for (int64_t k = 0; k < padded_cols; k += layout.sum_group) {
    int32_t sum = 0;
    for (int64_t i = 0; i < layout.sum_group; ++i)
      sum += codes[k + i];
    out.sums[k / layout.sum_group * out.rows + row] = sum * layout.sum_factor;
  }
  for (int64_t k = 0; k < padded_cols; k += kCodeBlock)
    std::copy_n(codes.begin() + k, kCodeBlock, code_block(out, row, k));
}

// The integer code at (lane, k) of some lines, or of their low or high nibbles.
enum class Part : uint8_t { byte, low, high };
int code_at(const uint8_t (*lines)[kLineBytes], Part part, int64_t lane, int64_t k) {
  const uint8_t byte = lines[k / 4][lane * 4 + k % 4];
  return part == Part::byte ? byte : part == Part::low ? byte & 15 : byte >> 4;
}

// One block of a lane: weight k is worth scale * (code(k) - zero) - min.
struct Block {
  const uint8_t (*lines)[kLineBytes];
  Part part;
  int zero;
  float scale;
  float min;
};

Block block_at(const StepQ8* steps, int64_t block, int64_t lane) {
  const StepQ8& step = steps[block / 2];
  return {step.codes[block % 2], Part::byte, 128, f16_to_f32(step.scale[block % 2][lane]), 0};
}
Block block_at(const StepQ4* steps, int64_t block, int64_t lane) {
  const StepQ4& step = steps[block / 2];
  return {step.codes, block % 2 == 0 ? Part::low : Part::high, 8, f16_to_f32(step.scale[block % 2][lane]), 0};
}
Block block_at(const StepQ4K* steps, int64_t block, int64_t lane) {
  const StepQ4K& step = steps[block / 8];
  const int64_t g = block % 8;
  return {step.codes[g / 2], g % 2 == 0 ? Part::low : Part::high, 0,
          f16_to_f32(step.d[lane]) * static_cast<float>(step.scale[g][lane]),
          f16_to_f32(step.dmin[lane]) * static_cast<float>(step.min[g][lane])};
}
Block block_at(const StepQ6K* steps, int64_t block, int64_t lane) {
  const StepQ6K& step = steps[block / 16];
  const int64_t g = block % 16;
  return {step.codes[g], Part::byte, 32, f16_to_f32(step.d[lane]) * static_cast<float>(step.scale[g][lane]), 0};
}

// One output element: a lane's blocks of `size` k against one row of activations.
template <typename Step, int64_t size>
float linear_lane(const Step* steps, int64_t cols, int64_t group, int64_t lane, const QuantizedRows& x, int64_t row) {
  float acc = 0;
  for (int64_t begin = 0; begin < cols; begin += group) {
    float a = 0;
    for (int64_t k = begin; k < std::min(cols, begin + group); k += size) {
      const Block block = block_at(steps, k / size, lane);
      const int16_t* x_codes = code_block(x, row, k) + k % kCodeBlock;
      int32_t products = 0;
      int32_t codes = 0;
      for (int64_t i = 0; i < size; ++i) {
        products += (code_at(block.lines, block.part, lane, i) - block.zero) * x_codes[i];
        codes += x_codes[i];
      }
      a = std::fma(static_cast<float>(products), block.scale, a);
      if constexpr (std::is_same_v<Step, StepQ4K>) a = std::fma(static_cast<float>(codes), -block.min, a);
    }
    acc = std::fma(a, x.scales[begin / group * x.rows + row], acc);
  }
  return acc;
}

template <typename Step, DType type, int64_t size>
void linear_quantized(const LinearCall& call) {
  constexpr PanelLayout layout = panel_layout(type);
  const int64_t cols = round_up(call.cols, layout.step);
  for (int64_t r = 0; r < call.rows; ++r) {
    for (int64_t o = 0; o < call.outputs; ++o) {
      const auto* steps = reinterpret_cast<const Step*>(call.panels + o / kPanelRows * call.panel_stride);
      const float y =
          linear_lane<Step, size>(steps, cols, layout.activation_group, o % kPanelRows, call.x, call.first_row + r);
      call.y[r * call.y_stride + o] = call.bias == nullptr ? y : y + call.bias[o];
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
void linear_plain(const LinearCall& call) {
  for (int64_t r = 0; r < call.rows; ++r) {
    const float* x = call.x_data + r * call.x_stride;
    for (int64_t o = 0; o < call.outputs; ++o) {
      const std::byte* panel = call.panels + o / kPanelRows * call.panel_stride;
      float acc[2] = {0, 0};
      for (int64_t k = 0; k < call.cols; ++k) {
        const int64_t lane = o % kPanelRows;
        const int64_t place = type == DType::bf16 ? bf16_place(lane, k) : k * kLanes + lane;
        acc[k % 2] = std::fma(load(type, panel, place), x[k], acc[k % 2]);
      }
      const float y = acc[0] + acc[1];
      call.y[r * call.y_stride + o] = call.bias == nullptr ? y : y + call.bias[o];
    }
  }
}

float inverse_rms(const float* x, float epsilon, int64_t n) {
  float lanes[kLanes] = {};
  for (int64_t i = 0; i < n; ++i)
    lanes[i % kLanes] = std::fma(x[i], x[i], lanes[i % kLanes]);
  return 1.0F / std::sqrt(sum_lanes(lanes) / static_cast<float>(n) + epsilon);
}

void normalize(const float* x, float inverse, const float* weight, int64_t n, float* y) {
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

}  // namespace

const Kernels& scalar_kernels() {
  static constexpr Kernels kernels = {
      .isa = Isa::scalar,
      .narrow_bytes = 2,
      .wide_bytes = 2,
      .quantize_row = quantize_row,
      .rounds = {},
      .round_row = nullptr,
      .linear = {linear_plain<DType::f32>, linear_plain<DType::f16>, linear_plain<DType::bf16>,
                 linear_quantized<StepQ8, DType::q8_0, 32>, linear_quantized<StepQ4, DType::q4_0, 32>,
                 linear_quantized<StepQ4K, DType::q4_k, 32>, linear_quantized<StepQ6K, DType::q6_k, 16>},
      .inverse_rms = inverse_rms,
      .normalize = normalize,
      .silu_multiply = silu_multiply,
      .exp = exp_many,
      .f32_to_f16 = convert_f32_to_f16,
      .attention = {scalar::attention_f32, scalar::attention_f16, scalar::attention_bf16, scalar::attention_int8},
      .merge_attention = scalar::merge_attention,
      .finish_attention = scalar::finish_attention,
      .turn_head = scalar::turn_head,
      .round_codes = scalar::round_codes,
  };
  return kernels;
}

}  // namespace tidemill::tensor
