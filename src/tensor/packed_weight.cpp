#include "tensor/packed_weight.hpp"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <string>

#include "tensor/quant_blocks.hpp"

namespace tidemill::tensor {
namespace {

// Bytes of a source after which it is released: few beside a matrix, and many beside what a stop of all threads costs.
constexpr int64_t kReleasedTogether = int64_t{4} << 20;

// Where the code of (lane, k) lies among a step's lines.
constexpr int64_t in_line(int64_t lane, int64_t k) {
  return lane * 4 + k % 4;
}

void put(StepQ8& step, int64_t lane, int64_t block, const UnpackedBlock& b) {
  step.scale[block][lane] = b.d;
  for (int64_t k = 0; k < 32; ++k)
    step.codes[block][k / 4][in_line(lane, k)] = b.codes[k];
}
void get(const StepQ8& step, int64_t lane, int64_t block, UnpackedBlock& b) {
  b.d = step.scale[block][lane];
  for (int64_t k = 0; k < 32; ++k)
    b.codes[k] = step.codes[block][k / 4][in_line(lane, k)];
}

void put(StepQ4& step, int64_t lane, int64_t block, const UnpackedBlock& b) {
  step.scale[block][lane] = b.d;
  for (int64_t k = 0; k < 32; ++k) {
    step.codes[k / 4][in_line(lane, k)] |= static_cast<uint8_t>(b.codes[k] << (block * 4));
  }
}
void get(const StepQ4& step, int64_t lane, int64_t block, UnpackedBlock& b) {
  b.d = step.scale[block][lane];
  for (int64_t k = 0; k < 32; ++k)
    b.codes[k] = step.codes[k / 4][in_line(lane, k)] >> (block * 4) & 15U;
}

// Codes of a block of 32 k among `lines` of nibbles, low ones (half 0) or high ones.
void put_nibbles(uint8_t (*lines)[kLineBytes], int64_t half, int64_t lane, const uint8_t* codes) {
  for (int64_t k = 0; k < 32; ++k)
    lines[k / 4][in_line(lane, k)] |= static_cast<uint8_t>((codes[k] & 15U) << (half * 4));
}
void get_nibbles(const uint8_t (*lines)[kLineBytes], int64_t half, int64_t lane, uint8_t* codes) {
  for (int64_t k = 0; k < 32; ++k)
    codes[k] = lines[k / 4][in_line(lane, k)] >> (half * 4) & 15U;
}

// The third bits of a block of 32 codes, in a line of its own; get_third_bits adds them to the codes.
void put_third_bits(uint8_t (&line)[kLineBytes], int64_t lane, const uint8_t* codes) {
  for (int64_t k = 0; k < 32; ++k)
    line[in_line(lane, k)] |= static_cast<uint8_t>((codes[k] >> 2U & 1U) << (k / 4));
}
void get_third_bits(const uint8_t (&line)[kLineBytes], int64_t lane, uint8_t* codes) {
  for (int64_t k = 0; k < 32; ++k)
    codes[k] |= static_cast<uint8_t>((line[in_line(lane, k)] >> (k / 4) & 1U) << 2U);
}

// A block of 32 codes of five bits.
void put_fives(FiveBits& lines, int64_t lane, const uint8_t* codes) {
  for (int64_t k = 0; k < 4; ++k) {
    const auto code = [&](int64_t line) { return uint32_t{codes[line * 4 + k]}; };
    const uint32_t last = code(7);
    const uint32_t tops[] = {code(5) & 7U, code(5) >> 3U << 1U | (last >> 3U & 1U), code(6) & 7U,
                             code(6) >> 3U << 1U | last >> 4U, last & 7U};
    for (int64_t line = 0; line < 5; ++line)
      lines[line][in_line(lane, k)] = static_cast<uint8_t>(code(line) | tops[line] << 5U);
  }
}
void get_fives(const FiveBits& lines, int64_t lane, uint8_t* codes) {
  for (int64_t k = 0; k < 4; ++k) {
    const auto top = [&](int64_t line) { return lines[line][in_line(lane, k)] >> 5U; };
    for (int64_t line = 0; line < 5; ++line)
      codes[line * 4 + k] = lines[line][in_line(lane, k)] & 31U;
    codes[5 * 4 + k] = static_cast<uint8_t>(top(0) | top(1) >> 1U << 3U);
    codes[6 * 4 + k] = static_cast<uint8_t>(top(2) | top(3) >> 1U << 3U);
    codes[7 * 4 + k] = static_cast<uint8_t>(top(4) | (top(1) & 1U) << 3U | (top(3) & 1U) << 4U);
  }
}

// Bits `bit` and `bit` + 1 of 256 codes; get_quarters adds them to the codes.
void put_quarters(uint8_t (&lines)[2][8][kLineBytes], int bit, int64_t lane, const uint8_t* codes) {
  for (int64_t k = 0; k < 256; ++k) {
    lines[k / 128][k % 32 / 4][in_line(lane, k)] |= static_cast<uint8_t>((codes[k] >> bit & 3U) << (k % 128 / 32 * 2));
  }
}
void get_quarters(const uint8_t (&lines)[2][8][kLineBytes], int bit, int64_t lane, uint8_t* codes) {
  for (int64_t k = 0; k < 256; ++k) {
    const uint32_t quarter = lines[k / 128][k % 32 / 4][in_line(lane, k)] >> (k % 128 / 32 * 2) & 3U;
    codes[k] |= static_cast<uint8_t>(quarter << bit);
  }
}

// Half of the codes of a StepQ6K.
void put_sixes(SixBits& lines, int64_t lane, const uint8_t* codes) {
  for (int64_t k = 0; k < 32; ++k) {
    for (int64_t i = 0; i < 3; ++i) {
      const uint32_t of_last = codes[96 + k] >> (2 * i) & 3U;
      lines[i][k / 4][in_line(lane, k)] = static_cast<uint8_t>(codes[i * 32 + k] | of_last << 6U);
    }
  }
}
void get_sixes(const SixBits& lines, int64_t lane, uint8_t* codes) {
  for (int64_t k = 0; k < 32; ++k) {
    codes[96 + k] = 0;
    for (int64_t i = 0; i < 3; ++i) {
      const uint32_t byte = lines[i][k / 4][in_line(lane, k)];
      codes[i * 32 + k] = byte & 63U;
      codes[96 + k] |= static_cast<uint8_t>(byte >> 6U << (2 * i));
    }
  }
}

void put(StepQ41& step, int64_t lane, int64_t block, const UnpackedBlock& b) {
  step.scale[block][lane] = b.d;
  step.min[block][lane] = b.dmin;
  put_nibbles(step.codes, block, lane, b.codes);
}
void get(const StepQ41& step, int64_t lane, int64_t block, UnpackedBlock& b) {
  b.d = step.scale[block][lane];
  b.dmin = step.min[block][lane];
  get_nibbles(step.codes, block, lane, b.codes);
}

void put(StepQ50& step, int64_t lane, int64_t block, const UnpackedBlock& b) {
  step.scale[block][lane] = b.d;
  put_fives(step.codes[block], lane, b.codes);
}
void get(const StepQ50& step, int64_t lane, int64_t block, UnpackedBlock& b) {
  b.d = step.scale[block][lane];
  get_fives(step.codes[block], lane, b.codes);
}

void put(StepQ51& step, int64_t lane, int64_t block, const UnpackedBlock& b) {
  step.scale[block][lane] = b.d;
  step.min[block][lane] = b.dmin;
  put_fives(step.codes[block], lane, b.codes);
}
void get(const StepQ51& step, int64_t lane, int64_t block, UnpackedBlock& b) {
  b.d = step.scale[block][lane];
  b.dmin = step.min[block][lane];
  get_fives(step.codes[block], lane, b.codes);
}

void put(StepQ2K& step, int64_t lane, int64_t /*block*/, const UnpackedBlock& b) {
  step.d[lane] = b.d;
  step.dmin[lane] = b.dmin;
  for (int64_t g = 0; g < 16; ++g)
    step.scale[g][lane] = static_cast<uint8_t>(static_cast<uint8_t>(b.scale[g]) | b.min[g] << 4U);
  put_quarters(step.codes, 0, lane, b.codes);
}
void get(const StepQ2K& step, int64_t lane, int64_t /*block*/, UnpackedBlock& b) {
  b.d = step.d[lane];
  b.dmin = step.dmin[lane];
  for (int64_t g = 0; g < 16; ++g) {
    b.scale[g] = static_cast<int8_t>(step.scale[g][lane] & 15U);
    b.min[g] = step.scale[g][lane] >> 4U;
  }
  std::fill_n(b.codes, 256, uint8_t{0});
  get_quarters(step.codes, 0, lane, b.codes);
}

void put(StepQ3K& step, int64_t lane, int64_t /*block*/, const UnpackedBlock& b) {
  step.d[lane] = b.d;
  for (int64_t g = 0; g < 16; ++g)
    step.scale[g][lane] = b.scale[g];
  put_quarters(step.codes, 0, lane, b.codes);
  for (int64_t g = 0; g < 8; ++g)
    put_third_bits(step.third[g], lane, b.codes + g * 32);
}
void get(const StepQ3K& step, int64_t lane, int64_t /*block*/, UnpackedBlock& b) {
  b.d = step.d[lane];
  for (int64_t g = 0; g < 16; ++g)
    b.scale[g] = step.scale[g][lane];
  std::fill_n(b.codes, 256, uint8_t{0});
  get_quarters(step.codes, 0, lane, b.codes);
  for (int64_t g = 0; g < 8; ++g)
    get_third_bits(step.third[g], lane, b.codes + g * 32);
}

void put(StepQ5K& step, int64_t lane, int64_t /*block*/, const UnpackedBlock& b) {
  step.d[lane] = b.d;
  step.dmin[lane] = b.dmin;
  for (int64_t g = 0; g < 8; ++g) {
    step.scale[g][lane] = static_cast<uint8_t>(b.scale[g]);
    step.min[g][lane] = b.min[g];
    put_fives(step.codes[g], lane, b.codes + g * 32);
  }
}
void get(const StepQ5K& step, int64_t lane, int64_t /*block*/, UnpackedBlock& b) {
  b.d = step.d[lane];
  b.dmin = step.dmin[lane];
  for (int64_t g = 0; g < 8; ++g) {
    b.scale[g] = static_cast<int8_t>(step.scale[g][lane]);
    b.min[g] = step.min[g][lane];
    get_fives(step.codes[g], lane, b.codes + g * 32);
  }
}

void put(StepIq4Xs& step, int64_t lane, int64_t /*block*/, const UnpackedBlock& b) {
  step.d[lane] = b.d;
  for (int64_t g = 0; g < 8; ++g) {
    step.scale[g][lane] = b.scale[g];
    put_nibbles(step.codes[g / 2], g % 2, lane, b.codes + g * 32);
  }
}
void get(const StepIq4Xs& step, int64_t lane, int64_t /*block*/, UnpackedBlock& b) {
  b.d = step.d[lane];
  for (int64_t g = 0; g < 8; ++g) {
    b.scale[g] = step.scale[g][lane];
    get_nibbles(step.codes[g / 2], g % 2, lane, b.codes + g * 32);
  }
}

void put(StepMxfp4& step, int64_t lane, int64_t block, const UnpackedBlock& b) {
  step.exponent[block][lane] = b.exponent;
  put_nibbles(step.codes[block / 2], block % 2, lane, b.codes);
}
void get(const StepMxfp4& step, int64_t lane, int64_t block, UnpackedBlock& b) {
  b.exponent = step.exponent[block][lane];
  get_nibbles(step.codes[block / 2], block % 2, lane, b.codes);
}

void put(StepQ4K& step, int64_t lane, int64_t /*block*/, const UnpackedBlock& b) {
  step.d[lane] = b.d;
  step.dmin[lane] = b.dmin;
  for (int64_t g = 0; g < 8; ++g) {
    step.scale[g][lane] = static_cast<uint8_t>(b.scale[g]);
    step.min[g][lane] = b.min[g];
    for (int64_t k = 0; k < 32; ++k) {
      step.codes[g / 2][k / 4][in_line(lane, k)] |= static_cast<uint8_t>(b.codes[g * 32 + k] << (g % 2 * 4));
    }
  }
}
void get(const StepQ4K& step, int64_t lane, int64_t /*block*/, UnpackedBlock& b) {
  b.d = step.d[lane];
  b.dmin = step.dmin[lane];
  for (int64_t g = 0; g < 8; ++g) {
    b.scale[g] = static_cast<int8_t>(step.scale[g][lane]);
    b.min[g] = step.min[g][lane];
    for (int64_t k = 0; k < 32; ++k) {
      b.codes[g * 32 + k] = step.codes[g / 2][k / 4][in_line(lane, k)] >> (g % 2 * 4) & 15U;
    }
  }
}

void put(StepQ6K& step, int64_t lane, int64_t /*block*/, const UnpackedBlock& b) {
  step.d[lane] = b.d;
  for (int64_t g = 0; g < 16; ++g)
    step.scale[g][lane] = b.scale[g];
  for (int64_t half = 0; half < 2; ++half)
    put_sixes(step.codes[half], lane, b.codes + half * 128);
}
void get(const StepQ6K& step, int64_t lane, int64_t /*block*/, UnpackedBlock& b) {
  b.d = step.d[lane];
  for (int64_t g = 0; g < 16; ++g)
    b.scale[g] = step.scale[g][lane];
  for (int64_t half = 0; half < 2; ++half)
    get_sixes(step.codes[half], lane, b.codes + half * 128);
}

// `source` is the first of the panel's `lanes` rows; `panel` is zeroed.
template <typename Step>
void pack_quantized(DType type, const std::byte* source, int64_t lanes, int64_t cols, std::byte* panel) {
  const DTypeInfo& t = info(type);
  const int64_t blocks_per_step = panel_layout(type).step / t.block_elements;
  auto* steps = reinterpret_cast<Step*>(panel);
  UnpackedBlock unpacked;
  for (int64_t lane = 0; lane < lanes; ++lane) {
    const std::byte* row = source + lane * row_bytes(type, cols);
    for (int64_t b = 0; b < cols / t.block_elements; ++b) {
      unpack_block(type, row + b * t.block_bytes, unpacked);
      put(steps[b / blocks_per_step], lane, b % blocks_per_step, unpacked);
    }
  }
}

template <typename Step>
void unpack_quantized(DType type, const std::byte* panel, int64_t lane, int64_t cols, float* out) {
  const DTypeInfo& t = info(type);
  const int64_t blocks_per_step = panel_layout(type).step / t.block_elements;
  const auto* steps = reinterpret_cast<const Step*>(panel);
  UnpackedBlock unpacked;
  for (int64_t b = 0; b < cols / t.block_elements; ++b) {
    get(steps[b / blocks_per_step], lane, b % blocks_per_step, unpacked);
    block_to_float(type, unpacked, out + b * t.block_elements);
  }
}

int64_t plain_place(DType type, int64_t lane, int64_t k) {
  return type == DType::bf16 ? bf16_place(lane, k) : k * kPanelRows + lane;
}

void pack_plain(DType type, const std::byte* source, int64_t lanes, int64_t cols, std::byte* panel) {
  const int64_t size = info(type).block_bytes;
  for (int64_t lane = 0; lane < lanes; ++lane) {
    const std::byte* row = source + lane * cols * size;
    for (int64_t k = 0; k < cols; ++k) {
      std::memcpy(panel + plain_place(type, lane, k) * size, row + k * size, static_cast<size_t>(size));
    }
  }
}

// use(step) with the steps that a quantised type is packed in, as a type.
template <typename Step>
struct StepOf {
  using Type = Step;
};
template <typename Use>
void with_step(DType type, Use&& use) {
  switch (type) {
    case DType::q8_0:
      return use(StepOf<StepQ8>());
    case DType::q4_0:
    case DType::iq4_nl:
      return use(StepOf<StepQ4>());
    case DType::q4_1:
      return use(StepOf<StepQ41>());
    case DType::q5_0:
      return use(StepOf<StepQ50>());
    case DType::q5_1:
      return use(StepOf<StepQ51>());
    case DType::q2_k:
      return use(StepOf<StepQ2K>());
    case DType::q3_k:
      return use(StepOf<StepQ3K>());
    case DType::q4_k:
      return use(StepOf<StepQ4K>());
    case DType::q5_k:
      return use(StepOf<StepQ5K>());
    case DType::q6_k:
      return use(StepOf<StepQ6K>());
    case DType::iq4_xs:
      return use(StepOf<StepIq4Xs>());
    case DType::mxfp4:
      return use(StepOf<StepMxfp4>());
    case DType::f32:
    case DType::f16:
    case DType::bf16:
      assert(false && "not a quantised type");
  }
}

void pack_panel(DType type, const std::byte* source, int64_t lanes, int64_t cols, std::byte* panel) {
  if (!panel_layout(type).quantized) return pack_plain(type, source, lanes, cols, panel);
  with_step(type, [&](auto step) { pack_quantized<typename decltype(step)::Type>(type, source, lanes, cols, panel); });
}

std::string shape_text(DType type, int64_t rows, int64_t cols) {
  return std::to_string(rows) + " x " + std::to_string(cols) + " " + std::string(info(type).name);
}

}  // namespace

using base::Error;
using base::ErrorCode;

base::Result<size_t> PackedWeight::packed_bytes(DType type, int64_t rows, int64_t cols) {
  const DTypeInfo& t = info(type);
  const std::string shape = shape_text(type, rows, cols);
  if (rows <= 0 || cols <= 0 || cols % t.block_elements != 0) {
    return Error(ErrorCode::invalid_argument, "a weight of " + shape +
                                                  ": rows must be positive and columns a multiple of " +
                                                  std::to_string(t.block_elements));
  }
  int64_t expected = 0;
  if (__builtin_mul_overflow(rows, cols, &expected) || __builtin_mul_overflow(expected, int64_t{8}, &expected)) {
    return Error(ErrorCode::too_large, "a weight of " + shape + " is larger than any memory");
  }
  int64_t total = 0;
  if (__builtin_mul_overflow(panel_count(rows), panel_bytes(type, cols), &total)) {
    return Error(ErrorCode::too_large, "a weight of " + shape + " is larger than any memory");
  }
  return static_cast<size_t>(total);
}

base::Result<std::unique_ptr<Weight>> PackedWeight::view(DType type, int64_t rows, int64_t cols,
                                                         std::span<const std::byte> panels) {
  TM_TRY(const size_t expected, packed_bytes(type, rows, cols));
  if (panels.size() != expected) {
    return Error(ErrorCode::corrupt, "the panels of a weight of " + shape_text(type, rows, cols) + " take " +
                                         std::to_string(expected) + " bytes, but " + std::to_string(panels.size()) +
                                         " are given");
  }
  if (reinterpret_cast<uintptr_t>(panels.data()) % kLineBytes != 0) {
    return Error(ErrorCode::corrupt, "the panels of a weight of " + shape_text(type, rows, cols) +
                                         " do not begin at a multiple of " + std::to_string(kLineBytes) + " bytes");
  }
  return std::unique_ptr<Weight>(new PackedWeight(type, rows, cols, panels, nullptr));
}

base::Result<std::unique_ptr<Weight>> PackedWeight::pack(DType type, int64_t rows, int64_t cols,
                                                         std::span<const std::byte> source, base::ThreadTeam& team,
                                                         const SourceRelease& release) {
  TM_TRY(auto weights, pack_all(type, 1, rows, cols, source, team, release));
  return std::move(weights.front());
}

base::Result<std::vector<std::unique_ptr<Weight>>> PackedWeight::pack_all(DType type, int64_t count, int64_t rows,
                                                                          int64_t cols,
                                                                          std::span<const std::byte> source,
                                                                          base::ThreadTeam& team,
                                                                          const SourceRelease& release) {
  assert(count > 0);
  TM_TRY(const size_t packed, packed_bytes(type, rows, cols));
  const int64_t expected = rows * row_bytes(type, cols);
  const auto matrices = static_cast<size_t>(count);
  if (source.size() % matrices != 0 || source.size() / matrices != static_cast<size_t>(expected)) {
    return Error(ErrorCode::invalid_argument, "a weight of " + shape_text(type, rows, cols) + " takes " +
                                                  std::to_string(expected) + " bytes, but " +
                                                  std::to_string(source.size()) + " are given" +
                                                  (count == 1 ? "" : " for " + std::to_string(count)));
  }
  size_t total = 0;
  if (__builtin_mul_overflow(packed, matrices, &total)) {
    return Error(ErrorCode::too_large,
                 std::to_string(count) + " weights of " + shape_text(type, rows, cols) + " are larger than any memory");
  }
  const int64_t panels = panel_count(rows);
  const int64_t stride = panel_bytes(type, cols);
  TM_TRY(base::Buffer data, base::Buffer::allocate(total));
  const auto place_of = [&](int64_t panel) {  // in the source
    return panel / panels * expected + panel % panels * kPanelRows * row_bytes(type, cols);
  };
  const int64_t together =
      release ? std::max<int64_t>(team.size(), kReleasedTogether / (kPanelRows * row_bytes(type, cols)))
              : count * panels;
  for (int64_t first = 0; first < count * panels; first += together) {
    const int64_t last = std::min(first + together, count * panels);
    team.parallel_for(last - first, 1, [&](int64_t begin, int64_t end, int /*member*/) {
      for (int64_t p = first + begin; p < first + end; ++p) {
        const int64_t lanes = std::min(kPanelRows, rows - p % panels * kPanelRows);
        pack_panel(type, source.data() + place_of(p), lanes, cols, data.data() + p * stride);
      }
    });
    if (release) release(source.first(static_cast<size_t>(place_of(last))));
  }
  const auto owner = std::make_shared<const base::Buffer>(std::move(data));
  std::vector<std::unique_ptr<Weight>> weights;
  weights.reserve(matrices);
  for (size_t i = 0; i < matrices; ++i) {
    const std::span<const std::byte> own(owner->data() + i * packed, packed);
    weights.push_back(std::unique_ptr<Weight>(new PackedWeight(type, rows, cols, own, owner)));
  }
  return weights;
}

void PackedWeight::unpack_row(int64_t row, float* out) const {
  const std::byte* p = panel(row / kPanelRows);
  const int64_t lane = row % kPanelRows;
  if (panel_layout(type()).quantized) {
    return with_step(type(),
                     [&](auto step) { unpack_quantized<typename decltype(step)::Type>(type(), p, lane, cols(), out); });
  }
  const int64_t size = info(type()).block_bytes;
  for (int64_t k = 0; k < cols(); ++k)
    dequantize(type(), p + plain_place(type(), lane, k) * size, 1, out + k);
}

}  // namespace tidemill::tensor
