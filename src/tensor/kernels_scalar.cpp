// The scalar kernels: plain loops that say what every other instruction set must compute, bit for bit. They share no
// code with the vector kernels, so that the tests compare two independent writings.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "tensor/code_tables.hpp"
#include "tensor/encoder_rows.hpp"
#include "tensor/exp_constants.hpp"
#include "tensor/kernels.hpp"
#include "tensor/packed_layout.hpp"
#include "tensor/quant_blocks.hpp"
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

// Codes of a lane that share a scale: weight k is worth scale * codes[k] - min.
struct Block {
  float scale;
  float min;
  int codes[32];
};

// What is at (lane, k) of some lines: a whole byte, or the nibble of one half.
int byte_at(const uint8_t (*lines)[kLineBytes], int64_t lane, int64_t k) {
  return lines[k / 4][lane * 4 + k % 4];
}
int nibble_at(const uint8_t (*lines)[kLineBytes], int64_t half, int64_t lane, int64_t k) {
  return byte_at(lines, lane, k) >> (4 * half) & 15;
}

template <typename Code>
Block block_of(int64_t size, float scale, float min, Code&& code) {
  Block block{scale, min, {}};
  for (int64_t k = 0; k < size; ++k)
    block.codes[k] = code(k);
  return block;
}

// Block `g` of a step in one lane, by type.
Block block_q8_0(const StepQ8& step, int64_t g, int64_t lane) {
  return block_of(32, f16_to_f32(step.scale[g][lane]), 0,
                  [&](int64_t k) { return byte_at(step.codes[g], lane, k) - 128; });
}
Block block_q4_0(const StepQ4& step, int64_t g, int64_t lane) {
  return block_of(32, f16_to_f32(step.scale[g][lane]), 0,
                  [&](int64_t k) { return nibble_at(step.codes, g, lane, k) - 8; });
}
Block block_q4_k(const StepQ4K& step, int64_t g, int64_t lane) {
  return block_of(32, f16_to_f32(step.d[lane]) * static_cast<float>(step.scale[g][lane]),
                  f16_to_f32(step.dmin[lane]) * static_cast<float>(step.min[g][lane]),
                  [&](int64_t k) { return nibble_at(step.codes[g / 2], g % 2, lane, k); });
}

Block block_q4_1(const StepQ41& step, int64_t g, int64_t lane) {
  return block_of(32, f16_to_f32(step.scale[g][lane]), -f16_to_f32(step.min[g][lane]),
                  [&](int64_t k) { return nibble_at(step.codes, g, lane, k); });
}
// Code k of a block.
int five_at(const FiveBits& lines, int64_t lane, int64_t k) {
  const auto byte = [&](int64_t line) { return byte_at(lines, lane, line * 4 + k % 4); };
  const int64_t line = k / 4;
  if (line < 5) return byte(line) & 31;
  if (line == 7) return byte(4) >> 5 | (byte(1) >> 5 & 1) << 3 | (byte(3) >> 5 & 1) << 4;
  return byte(2 * (line - 5)) >> 5 | byte(2 * (line - 5) + 1) >> 6 << 3;
}
Block block_q5_0(const StepQ50& step, int64_t g, int64_t lane) {
  return block_of(32, f16_to_f32(step.scale[g][lane]), 0,
                  [&](int64_t k) { return five_at(step.codes[g], lane, k) - 16; });
}
Block block_q5_1(const StepQ51& step, int64_t g, int64_t lane) {
  return block_of(32, f16_to_f32(step.scale[g][lane]), -f16_to_f32(step.min[g][lane]),
                  [&](int64_t k) { return five_at(step.codes[g], lane, k); });
}
Block block_q5_k(const StepQ5K& step, int64_t g, int64_t lane) {
  return block_of(32, f16_to_f32(step.d[lane]) * static_cast<float>(step.scale[g][lane]),
                  f16_to_f32(step.dmin[lane]) * static_cast<float>(step.min[g][lane]),
                  [&](int64_t k) { return five_at(step.codes[g], lane, k); });
}
// Bits of code k of the step's 256.
int quarter_at(const uint8_t (&lines)[2][8][kLineBytes], int64_t lane, int64_t k) {
  return byte_at(lines[k / 128], lane, k % 32) >> (k / 32 % 4 * 2) & 3;
}
Block block_q2_k(const StepQ2K& step, int64_t g, int64_t lane) {
  const int packed = step.scale[g][lane];
  return block_of(16, f16_to_f32(step.d[lane]) * static_cast<float>(packed & 15),
                  f16_to_f32(step.dmin[lane]) * static_cast<float>(packed >> 4),
                  [&](int64_t k) { return quarter_at(step.codes, lane, g * 16 + k); });
}
// The bit that a line of single bits has for code k of a block.
int bit_at(const uint8_t (&line)[kLineBytes], int64_t lane, int64_t k) {
  return line[lane * 4 + k % 4] >> (k / 4) & 1;
}
Block block_q3_k(const StepQ3K& step, int64_t g, int64_t lane) {
  return block_of(16, f16_to_f32(step.d[lane]) * static_cast<float>(step.scale[g][lane]), 0, [&](int64_t k) {
    const int third = bit_at(step.third[g / 2], lane, g % 2 * 16 + k);
    return quarter_at(step.codes, lane, g * 16 + k) + 4 * third - 4;
  });
}
// Code k of a half of such a step.
int six_at(const SixBits& lines, int64_t lane, int64_t k) {
  if (k < 96) return byte_at(lines[k / 32], lane, k % 32) & 63;
  int code = 0;
  for (int i = 0; i < 3; ++i)
    code |= byte_at(lines[i], lane, k % 32) >> 6 << (2 * i);
  return code;
}
Block block_q6_k(const StepQ6K& step, int64_t g, int64_t lane) {
  return block_of(16, f16_to_f32(step.d[lane]) * static_cast<float>(step.scale[g][lane]), 0,
                  [&](int64_t k) { return six_at(step.codes[g / 8], lane, g % 8 * 16 + k) - 32; });
}
Block block_iq4_nl(const StepQ4& step, int64_t g, int64_t lane) {
  return block_of(32, f16_to_f32(step.scale[g][lane]), 0,
                  [&](int64_t k) -> int { return kIq4Values[nibble_at(step.codes, g, lane, k)]; });
}
Block block_iq4_xs(const StepIq4Xs& step, int64_t g, int64_t lane) {
  return block_of(32, f16_to_f32(step.d[lane]) * static_cast<float>(step.scale[g][lane]), 0,
                  [&](int64_t k) -> int { return kIq4Values[nibble_at(step.codes[g / 2], g % 2, lane, k)]; });
}
Block block_mxfp4(const StepMxfp4& step, int64_t g, int64_t lane) {
  return block_of(32, mxfp4_scale(step.exponent[g][lane]), 0,
                  [&](int64_t k) -> int { return kMxfp4Values[nibble_at(step.codes[g / 2], g % 2, lane, k)]; });
}

// One output element: a lane's blocks against one row of activations.
template <typename Step, DType type, Block (*block_at)(const Step&, int64_t, int64_t)>
float linear_lane(const Step* steps, int64_t cols, int64_t lane, const QuantizedRows& x, int64_t row) {
  constexpr PanelLayout layout = panel_layout(type);
  constexpr int64_t group = layout.activation_group;
  constexpr int64_t size = layout.sum_group;
  float acc = 0;
  for (int64_t begin = 0; begin < cols; begin += group) {
    float a = 0;
    for (int64_t k = begin; k < std::min(cols, begin + group); k += size) {
      const Block block = block_at(steps[k / layout.step], k % layout.step / size, lane);
      const int16_t* x_codes = code_block(x, row, k) + k % kCodeBlock;
      int32_t products = 0;
      int32_t codes = 0;
      for (int64_t i = 0; i < size; ++i) {
        products += block.codes[i] * x_codes[i];
        codes += x_codes[i];
      }
      a = std::fma(static_cast<float>(products), block.scale, a);
      if constexpr (layout.has_mins()) a = std::fma(static_cast<float>(codes), -block.min, a);
    }
    acc = std::fma(a, x.scales[begin / group * x.rows + row], acc);
  }
  return acc;
}

// Each of a lane's weights as a float, against all rows.
template <typename Step, DType type, Block (*block_at)(const Step&, int64_t, int64_t)>
void linear_weight_only(const LinearCall& call) {
  constexpr PanelLayout layout = panel_layout(type);
  for (int64_t o = 0; o < call.outputs; ++o) {
    const auto* steps = reinterpret_cast<const Step*>(call.panels + o / kPanelRows * call.panel_stride);
    std::vector<float> acc(static_cast<size_t>(2 * call.rows), 0.0F);
    for (int64_t begin = 0; begin < call.cols; begin += layout.sum_group) {
      const Block block = block_at(steps[begin / layout.step], begin % layout.step / layout.sum_group, o % kPanelRows);
      for (int64_t i = 0; i < layout.sum_group; ++i) {
        const float product = block.scale * static_cast<float>(block.codes[i]);
        const float w = layout.has_mins() ? product - block.min : product;
        const int64_t k = begin + i;
        for (int64_t r = 0; r < call.rows; ++r) {
          float& sum = acc[2 * r + k % 2];
          sum = std::fma(w, call.x_data[r * call.x_stride + k], sum);
        }
      }
    }
    for (int64_t r = 0; r < call.rows; ++r) {
      const float y = acc[2 * r] + acc[2 * r + 1];
      call.y[r * call.y_stride + o] = call.bias == nullptr ? y : y + call.bias[o];
    }
  }
}

template <typename Step, DType type, Block (*block_at)(const Step&, int64_t, int64_t)>
void linear_quantized(const LinearCall& call) {
  const int64_t cols = round_up(call.cols, panel_layout(type).step);
  for (int64_t r = 0; r < call.rows; ++r) {
    for (int64_t o = 0; o < call.outputs; ++o) {
      const auto* steps = reinterpret_cast<const Step*>(call.panels + o / kPanelRows * call.panel_stride);
      const float y = linear_lane<Step, type, block_at>(steps, cols, o % kPanelRows, call.x, call.first_row + r);
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

void gelu_multiply(const float* gate, const float* up, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) {
    const float u = gate[i] * std::fma(gate[i] * gate[i], kGeluCubic, kGeluLinear);
    out[i] = gate[i] / (1.0F + exp_one(-u)) * up[i];
  }
}

// NaN stays what it is.
float at_most_limit(float x) {
  return x > kClampedSiluLimit ? kClampedSiluLimit : x;
}

void clamped_silu_multiply(const float* gate, const float* up, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) {
    const float g = at_most_limit(gate[i]);
    const float most = at_most_limit(up[i]);
    const float u = most < -kClampedSiluLimit ? -kClampedSiluLimit : most;
    out[i] = g / (1.0F + exp_one(-(g * kClampedSiluSlope))) * (u + 1.0F);
  }
}

void soft_cap(const float* x, float cap, int64_t n, float* out) {
  const float factor = 2.0F / cap;
  for (int64_t i = 0; i < n; ++i)
    out[i] = scalar::tanh_of_half(x[i] * factor) * cap;
}

void exp_many(const float* x, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i)
    out[i] = exp_one(x[i]);
}

void convert_f32_to_f16(const float* x, int64_t n, uint16_t* out) {
  for (int64_t i = 0; i < n; ++i)
    out[i] = tensor::f32_to_f16(x[i]);
}

template <DType type>
constexpr void put_plain(Kernels& into) {
  into.linear[static_cast<size_t>(type)] = linear_plain<type>;
  into.linear_f32[static_cast<size_t>(type)] = linear_plain<type>;
}
template <typename Step, DType type, Block (*block_at)(const Step&, int64_t, int64_t)>
constexpr void put(Kernels& into) {
  into.linear[static_cast<size_t>(type)] = linear_quantized<Step, type, block_at>;
  into.linear_f32[static_cast<size_t>(type)] = linear_weight_only<Step, type, block_at>;
}

constexpr Kernels with_linear(Kernels kernels) {
  put_plain<DType::f32>(kernels);
  put_plain<DType::f16>(kernels);
  put_plain<DType::bf16>(kernels);
  put<StepQ8, DType::q8_0, block_q8_0>(kernels);
  put<StepQ4, DType::q4_0, block_q4_0>(kernels);
  put<StepQ4K, DType::q4_k, block_q4_k>(kernels);
  put<StepQ6K, DType::q6_k, block_q6_k>(kernels);
  put<StepQ41, DType::q4_1, block_q4_1>(kernels);
  put<StepQ50, DType::q5_0, block_q5_0>(kernels);
  put<StepQ51, DType::q5_1, block_q5_1>(kernels);
  put<StepQ2K, DType::q2_k, block_q2_k>(kernels);
  put<StepQ3K, DType::q3_k, block_q3_k>(kernels);
  put<StepQ5K, DType::q5_k, block_q5_k>(kernels);
  put<StepQ4, DType::iq4_nl, block_iq4_nl>(kernels);
  put<StepIq4Xs, DType::iq4_xs, block_iq4_xs>(kernels);
  put<StepMxfp4, DType::mxfp4, block_mxfp4>(kernels);
  return kernels;
}

}  // namespace

const Kernels& scalar_kernels() {
  static constexpr Kernels kernels = with_linear({
      .isa = Isa::scalar,
      .narrow_bytes = 2,
      .wide_bytes = 2,
      .quantize_row = quantize_row,
      .rounds = {},
      .round_row = nullptr,
      .linear = {},
      .linear_f32 = {},
      .inverse_rms = inverse_rms,
      .normalize = normalize,
      .silu_multiply = silu_multiply,
      .gelu_multiply = gelu_multiply,
      .clamped_silu_multiply = clamped_silu_multiply,
      .soft_cap = soft_cap,
      .exp = exp_many,
      .layer_norm = layer_norm_row,
      .gelu = gelu_row,
      .f32_to_f16 = convert_f32_to_f16,
      .attention = {scalar::attention_f32, scalar::attention_f16, scalar::attention_bf16, scalar::attention_int8},
      .merge_attention = scalar::merge_attention,
      .finish_attention = scalar::finish_attention,
      .turn_head = scalar::turn_head,
      .round_codes = scalar::round_codes,
  });
  return kernels;
}

}  // namespace tidemill::tensor
