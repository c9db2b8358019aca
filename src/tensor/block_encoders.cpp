#include "tensor/block_encoders.hpp"

#include <cassert>
#include <limits>
#include <span>

#include "tensor/block_codes.hpp"
#include "tensor/code_tables.hpp"
#include "tensor/quant_blocks.hpp"

namespace tidemill::tensor {
namespace {

// What codes are worth in units of their scale: the integers from `lowest` on, or a table.
class Levels {
 public:
  Levels(int lowest, int highest) : lowest_(lowest), highest_(highest) {}
  explicit Levels(const int8_t (&ascending)[16]) : lowest_(ascending[0]), highest_(ascending[15]), table_(ascending) {}

  int lowest() const { return lowest_; }
  int highest() const { return highest_; }

  // The code nearest to a value, counted from 0.
  int code(float value) const {
    if (table_ == nullptr) return to_code(value, lowest_, highest_) - lowest_;
    if (std::isnan(value)) value = 0;
    int at = 0;
    for (const int half : {8, 4, 2, 1}) {
      const auto middle = static_cast<float>(table_[at + half - 1] + table_[at + half]) / 2;
      if (value >= middle) at += half;
    }
    return at;
  }
  int level(int code) const { return table_ == nullptr ? code + lowest_ : table_[code]; }

 private:
  int lowest_;
  int highest_;
  const int8_t* table_ = nullptr;
};

// Elements, and how much the squared error of each counts.
class Values {
 public:
  Values(const float* x, size_t size, const float* importance) : x_(x), size_(size), importance_(importance) {}

  size_t size() const { return size_; }
  const float* begin() const { return x_; }
  const float* end() const { return x_ + size_; }
  float operator[](size_t i) const { return x_[i]; }
  double importance(size_t i) const { return importance_[i]; }
  Values part(size_t at, size_t size) const { return {x_ + at, size, importance_ + at}; }

 private:
  const float* x_;
  size_t size_;
  const float* importance_;
};

// Where all count alike: products with 1 change no bit.
constexpr std::array<float, 256> kAlike = [] {
  std::array<float, 256> ones{};
  ones.fill(1);
  return ones;
}();

double squared_error(const Values& x, const Levels& levels, float scale, float offset) {
  const float inv = inverse(scale);
  double error = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const int level = levels.level(levels.code((x[i] - offset) * inv));
    const double off = static_cast<double>(x[i]) - (static_cast<double>(scale) * level + offset);
    error += x.importance(i) * off * off;
  }
  return error;
}

float largest_in_magnitude(std::span<const float> x) {
  float extreme = 0;
  for (const float v : x) {
    if (std::fabs(v) > std::fabs(extreme)) extreme = v;
  }
  return extreme;
}

// The scale, of either sign, with the smallest squared error among those that least squares give for the codes of
// several scales: such that put the extreme value near the lowest level, or near the highest.
float fit_scale(const Values& x, const Levels& levels) {
  const float extreme = largest_in_magnitude({x.begin(), x.size()});
  float best = 0;
  double best_gain = 0;
  for (const int end : {levels.lowest(), levels.highest()}) {
    for (int step = 0; step <= 10; ++step) {
      const float inv = static_cast<float>(end) * (0.7F + 0.06F * static_cast<float>(step)) * inverse(extreme);
      double products = 0;
      double squares = 0;
      for (size_t i = 0; i < x.size(); ++i) {
        const double level = levels.level(levels.code(x[i] * inv));
        products += x.importance(i) * level * x[i];
        squares += x.importance(i) * level * level;
      }
      // By so much does the best scale for these codes lower the squared error.
      const double gain = squares > 0 ? products * products / squares : 0;
      if (!(gain > best_gain)) continue;
      best_gain = gain;
      best = static_cast<float>(products / squares);
    }
  }
  return best;
}

struct Line {
  float scale = 0;
  float offset = 0;
};

// The line through (code, value) with the smallest squared error; its offset is at most `most_offset`.
Line least_squares(const Values& x, const Levels& levels, const Line& from, float most_offset) {
  const float inv = inverse(from.scale);
  double n = 0;
  double codes = 0;
  double squares = 0;
  double values = 0;
  double products = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double weight = x.importance(i);
    const int code = levels.code((x[i] - from.offset) * inv);
    n += weight;
    codes += weight * code;
    squares += weight * code * code;
    values += weight * x[i];
    products += weight * code * x[i];
  }
  const double spread = n * squares - codes * codes;
  if (!(spread > 0)) return from;
  const double scale = (n * products - values * codes) / spread;
  const double offset = (values - scale * codes) / n;
  if (offset <= most_offset) return {static_cast<float>(scale), static_cast<float>(offset)};
  return {static_cast<float>((products - most_offset * codes) / squares), most_offset};
}

// The same for scale and offset, codes from 0 to `most`: from several scales, lines are fitted to codes and codes to
// lines in turn.
Line fit_line(const Values& x, int most, float most_offset) {
  float low = most_offset;
  float high = -std::numeric_limits<float>::infinity();
  for (const float v : x) {
    low = std::min(low, v);
    high = std::max(high, v);
  }
  const Levels levels(0, most);
  Line best{0, low};
  if (!(high > low)) return best;
  double best_error = squared_error(x, levels, 0, best.offset);
  for (int step = 0; step <= 6; ++step) {
    Line line{(high - low) / static_cast<float>(most) * (0.64F + 0.06F * static_cast<float>(step)), low};
    for (int round = 0; round < 2; ++round) {
      line = least_squares(x, levels, line, most_offset);
      if (!(line.scale > 0)) break;
      const double error = squared_error(x, levels, line.scale, line.offset);
      if (!(error < best_error)) continue;
      best_error = error;
      best = line;
    }
  }
  return best;
}

// Puts the codes of 32 elements into nibbles: the low ones are elements 0..15. Elements' fifth bits go to `fifth`, the
// lowest bit first, where it is wanted.
void store_nibbles(const std::array<uint8_t, 32>& codes, std::byte* q, std::byte* fifth = nullptr) {
  for (size_t i = 0; i < 16; ++i)
    q[i] = static_cast<std::byte>((codes[i] & 15U) | (codes[i + 16] & 15U) << 4U);
  for (size_t i = 0; fifth != nullptr && i < 32; ++i)
    fifth[i / 8] |= static_cast<std::byte>((codes[i] >> 4U) << (i % 8));
}

std::array<uint8_t, 32> codes_of(const Values& x, const Levels& levels, float scale, float offset) {
  std::array<uint8_t, 32> codes{};
  const float inv = inverse(scale);
  for (size_t i = 0; i < x.size(); ++i)
    codes[i] = static_cast<uint8_t>(levels.code((x[i] - offset) * inv));
  return codes;
}

// { f16 d; (high[4];) q[16]; }
void encode_scaled(const Values& x, const Levels& levels, bool fifth, std::byte* block) {
  const uint16_t d = f16_of_scale(fit_scale(x, levels));
  store_u16(block, d);
  const auto codes = codes_of(x, levels, f16_to_f32(d), 0);
  store_nibbles(codes, block + (fifth ? 6 : 2), fifth ? block + 2 : nullptr);
}

// { f16 d, m; (high[4];) q[16]; }
void encode_line(const Values& x, bool fifth, std::byte* block) {
  const int most = fifth ? 31 : 15;
  const Line line = fit_line(x, most, kLargestScale);
  const uint16_t d = f16_of_scale(line.scale);
  const uint16_t m = f16_of_scale(line.offset);
  store_u16(block, d);
  store_u16(block + 2, m);
  const auto codes = codes_of(x, Levels(0, most), f16_to_f32(d), f16_to_f32(m));
  store_nibbles(codes, block + (fifth ? 8 : 4), fifth ? block + 4 : nullptr);
}

// Groups of a block of 256 whose scales are integers in units of d.
template <size_t groups>
struct ScaledGroups {
  uint16_t d = 0;
  std::array<int8_t, groups> scale{};
  std::array<std::array<uint8_t, 32>, groups> codes{};
};

// With scales from -most to most - 1.
template <size_t groups>
ScaledGroups<groups> fit_scales(const Values& x, const Levels& levels, int most) {
  constexpr size_t size = 256 / groups;
  std::array<float, groups> wanted{};
  for (size_t g = 0; g < groups; ++g)
    wanted[g] = fit_scale(x.part(g * size, size), levels);
  ScaledGroups<groups> out;
  out.d = f16_of_scale(largest_in_magnitude(wanted) / static_cast<float>(-most));
  const float d = f16_to_f32(out.d);
  for (size_t g = 0; g < groups; ++g) {
    const Values values = x.part(g * size, size);
    const int nearest = to_code(wanted[g] * inverse(d), -most, most - 1);
    int best = nearest;
    double best_error = squared_error(values, levels, d * static_cast<float>(best), 0);
    for (int scale = std::max(-most, nearest - 1); scale <= std::min(most - 1, nearest + 1); ++scale) {
      const double error = squared_error(values, levels, d * static_cast<float>(scale), 0);
      if (!(error < best_error)) continue;
      best_error = error;
      best = scale;
    }
    out.scale[g] = static_cast<int8_t>(best);
    out.codes[g] = codes_of(values, levels, d * static_cast<float>(best), 0);
  }
  return out;
}

template <size_t groups>
struct GroupLines {
  uint16_t d = 0;
  uint16_t dmin = 0;
  std::array<uint8_t, groups> scale{};
  std::array<uint8_t, groups> min{};
  std::array<std::array<uint8_t, 32>, groups> codes{};
};

// With scales and minima from 0 to `most_scale`, codes from 0 to `most`.
template <size_t groups>
GroupLines<groups> fit_lines(const Values& x, int most, int most_scale) {
  constexpr size_t size = 256 / groups;
  const Levels levels(0, most);
  std::array<Line, groups> wanted{};
  float largest_scale = 0;
  float largest_min = 0;
  for (size_t g = 0; g < groups; ++g) {
    wanted[g] = fit_line(x.part(g * size, size), most, 0);
    largest_scale = std::max(largest_scale, wanted[g].scale);
    largest_min = std::max(largest_min, -wanted[g].offset);
  }
  GroupLines<groups> out;
  out.d = f16_of_scale(largest_scale / static_cast<float>(most_scale));
  out.dmin = f16_of_scale(largest_min / static_cast<float>(most_scale));
  const float d = f16_to_f32(out.d);
  const float dmin = f16_to_f32(out.dmin);
  for (size_t g = 0; g < groups; ++g) {
    const Values values = x.part(g * size, size);
    const int scale = to_code(wanted[g].scale * inverse(d), 0, most_scale);
    const int min = to_code(-wanted[g].offset * inverse(dmin), 0, most_scale);
    double best_error = std::numeric_limits<double>::infinity();
    out.scale[g] = static_cast<uint8_t>(scale);
    out.min[g] = static_cast<uint8_t>(min);
    for (int s = std::max(0, scale - 1); s <= std::min(most_scale, scale + 1); ++s) {
      for (int m = std::max(0, min - 1); m <= std::min(most_scale, min + 1); ++m) {
        const double error = squared_error(values, levels, d * static_cast<float>(s), -dmin * static_cast<float>(m));
        if (!(error < best_error)) continue;
        best_error = error;
        out.scale[g] = static_cast<uint8_t>(s);
        out.min[g] = static_cast<uint8_t>(m);
      }
    }
    out.codes[g] =
        codes_of(values, levels, d * static_cast<float>(out.scale[g]), -dmin * static_cast<float>(out.min[g]));
  }
  return out;
}

// The low two bits of 256 codes, given in groups of 16: as quarters of 32 in each half of 128.
void store_quarters(const std::array<std::array<uint8_t, 32>, 16>& codes, std::byte* q) {
  for (size_t e = 0; e < 256; ++e)
    q[e / 128 * 32 + e % 32] |= static_cast<std::byte>((codes[e / 16][e % 16] & 3U) << (e % 128 / 32 * 2));
}

void encode_q2_k(const Values& x, std::byte* block) {
  const GroupLines<16> groups = fit_lines<16>(x, 3, 15);
  for (size_t g = 0; g < 16; ++g)
    block[g] = static_cast<std::byte>(groups.scale[g] | groups.min[g] << 4U);
  store_quarters(groups.codes, block + 16);
  store_u16(block + 80, groups.d);
  store_u16(block + 82, groups.dmin);
}

void encode_q3_k(const Values& x, std::byte* block) {
  const ScaledGroups<16> groups = fit_scales<16>(x, Levels(-4, 3), 32);
  for (size_t e = 0; e < 256; ++e)
    block[e % 32] |= static_cast<std::byte>((groups.codes[e / 16][e % 16] >> 2U) << (e / 32));
  store_quarters(groups.codes, block + 32);
  for (size_t g = 0; g < 16; ++g) {
    const auto scale = static_cast<unsigned>(groups.scale[g] + 32);
    block[96 + g % 8] |= static_cast<std::byte>((scale & 15U) << (g / 8 * 4));
    block[104 + g % 4] |= static_cast<std::byte>((scale >> 4U) << (g / 4 * 2));
  }
  store_u16(block + 108, groups.d);
}

void encode_q5_k(const Values& x, std::byte* block) {
  const GroupLines<8> groups = fit_lines<8>(x, 31, 63);
  store_u16(block, groups.d);
  store_u16(block + 2, groups.dmin);
  store_scales_and_mins(groups.scale, groups.min, block + 4);
  for (size_t g = 0; g < 8; ++g) {
    for (size_t i = 0; i < 32; ++i) {
      block[16 + i] |= static_cast<std::byte>((groups.codes[g][i] >> 4U) << g);
      block[48 + g / 2 * 32 + i] |= static_cast<std::byte>((groups.codes[g][i] & 15U) << (g % 2 * 4));
    }
  }
}

void encode_iq4_xs(const Values& x, std::byte* block) {
  const ScaledGroups<8> groups = fit_scales<8>(x, Levels(kIq4Values), 32);
  store_u16(block, groups.d);
  unsigned high = 0;
  for (size_t g = 0; g < 8; ++g) {
    const auto scale = static_cast<unsigned>(groups.scale[g] + 32);
    block[4 + g / 2] |= static_cast<std::byte>((scale & 15U) << (g % 2 * 4));
    high |= scale >> 4U << (2 * g);
    store_nibbles(groups.codes[g], block + 8 + g * 16);
  }
  store_u16(block + 2, static_cast<uint16_t>(high));
}

// The code of kMxfp4Values nearest to a value; of the two zeros, that without a sign.
uint8_t mxfp4_code(float value) {
  int best = 0;
  for (int i = 0; i < 16; ++i) {
    if (std::fabs(value - static_cast<float>(kMxfp4Values[i])) <
        std::fabs(value - static_cast<float>(kMxfp4Values[best])))
      best = i;
  }
  return static_cast<uint8_t>(best);
}

// The exponent that the specification gives, which puts the largest magnitude between 4 and 8 of its units (more than 6
// are cut off), or the next one where the squared error is smaller.
void encode_mxfp4(const Values& x, std::byte* block) {
  const float largest = std::fabs(largest_in_magnitude({x.begin(), x.size()}));
  const int least = largest > 0 ? std::clamp(std::ilogb(largest) - 2 + 127, 0, kLargestMxfp4Exponent) : 0;
  double best_error = std::numeric_limits<double>::infinity();
  int best = least;
  std::array<uint8_t, 32> best_codes{};
  for (int exponent = least; exponent <= std::min(kLargestMxfp4Exponent, least + 1); ++exponent) {
    std::array<uint8_t, 32> codes{};
    double error = 0;
    for (size_t i = 0; i < 32; ++i) {
      // Exact in binary64, where no scale is subnormal.
      const double scale = std::ldexp(1.0, exponent - 128);
      codes[i] = mxfp4_code(static_cast<float>(x[i] / scale));
      const double off = x[i] - scale * kMxfp4Values[codes[i]];
      error += x.importance(i) * off * off;
    }
    if (exponent > least && !(error < best_error)) continue;
    best_error = error;
    best = exponent;
    best_codes = codes;
  }
  block[0] = static_cast<std::byte>(best);
  store_nibbles(best_codes, block + 1);
}

// The codes of all groups, end to end.
template <typename Groups>
void store_group_codes(DType type, const Groups& groups, std::byte* block) {
  std::array<uint8_t, 256> codes{};
  const size_t size = codes.size() / groups.codes.size();
  for (size_t g = 0; g < groups.codes.size(); ++g)
    std::copy_n(groups.codes[g].begin(), size, codes.begin() + static_cast<int64_t>(g * size));
  store_codes(type, codes.data(), block);
}

struct Range {
  float low;
  float high;
};

// From the least to the most that a block type can hold.
Range range_of(DType type) {
  constexpr float d = kLargestScale;
  switch (type) {
    case DType::q8_0:
      return {-127 * d, 127 * d};
    case DType::q4_0:
      return {-8 * d, 8 * d};
    case DType::q4_1:
      return {-d, 16 * d};
    case DType::q5_0:
      return {-16 * d, 16 * d};
    case DType::q5_1:
      return {-d, 32 * d};
    case DType::q2_k:
      return {-15 * d, 15 * 3 * d};
    case DType::q3_k:
      return {-32 * 4 * d, 32 * 4 * d};
    case DType::q4_k:
      return {-63 * d, 63 * 15 * d};
    case DType::q5_k:
      return {-63 * d, 63 * 31 * d};
    case DType::q6_k:
      return {-128 * 32 * d, 128 * 32 * d};
    case DType::iq4_nl:
      return {-127 * d, 127 * d};
    case DType::iq4_xs:
      return {-32 * 127 * d, 32 * 127 * d};
    case DType::mxfp4:
      return {-kLargestMxfp4, kLargestMxfp4};
    default:
      assert(false && "is no block type");
      return {0, 0};
  }
}

void encode_q8_0(const Values& x, std::byte* block) {
  const Levels levels(-127, 127);
  const uint16_t d = f16_of_scale(fit_scale(x, levels));
  store_u16(block, d);
  auto codes = codes_of(x, levels, f16_to_f32(d), 0);
  for (uint8_t& code : codes)
    ++code;  // they count from -128
  store_codes(DType::q8_0, codes.data(), block);
}

void encode_q4_k(const Values& x, std::byte* block) {
  const GroupLines<8> groups = fit_lines<8>(x, 15, 63);
  store_u16(block, groups.d);
  store_u16(block + 2, groups.dmin);
  store_scales_and_mins(groups.scale, groups.min, block + 4);
  store_group_codes(DType::q4_k, groups, block);
}

void encode_q6_k(const Values& x, std::byte* block) {
  const ScaledGroups<16> groups = fit_scales<16>(x, Levels(-32, 31), 128);
  std::memcpy(block + 192, groups.scale.data(), groups.scale.size());
  store_u16(block + 208, groups.d);
  store_group_codes(DType::q6_k, groups, block);
}

}  // namespace

void store_scales_and_mins(const std::array<uint8_t, 8>& scales, const std::array<uint8_t, 8>& mins,
                           std::byte* packed) {
  for (size_t g = 0; g < 4; ++g) {
    const unsigned s = scales[g + 4];
    const unsigned m = mins[g + 4];
    packed[g] = static_cast<std::byte>(scales[g] | (s >> 4U) << 6U);
    packed[g + 4] = static_cast<std::byte>(mins[g] | (m >> 4U) << 6U);
    packed[g + 8] = static_cast<std::byte>((s & 15U) | (m & 15U) << 4U);
  }
}

void hold_within(DType type, const float* x, std::span<float> out) {
  const Range range = range_of(type);
  for (size_t i = 0; i < out.size(); ++i)
    out[i] = std::isnan(x[i]) ? 0 : std::clamp(x[i], range.low, range.high);
}

bool holds(DType type, std::span<const float> x) {
  const Range range = range_of(type);
  return std::all_of(x.begin(), x.end(), [&range](float value) { return value >= range.low && value <= range.high; });
}

void encode_block(DType type, const float* x, std::byte* block) {
  encode_block(type, x, kAlike.data(), block);
}

void encode_block(DType type, const float* elements, const float* importance, std::byte* block) {
  std::memset(block, 0, static_cast<size_t>(info(type).block_bytes));
  const auto count = static_cast<size_t>(info(type).block_elements);
  std::array<float, 256> held{};
  hold_within(type, elements, std::span(held).first(count));
  const Values x(held.data(), count, importance);
  switch (type) {
    case DType::q8_0:
      return encode_q8_0(x, block);
    case DType::q4_0:
      return encode_scaled(x, Levels(-8, 7), false, block);
    case DType::q4_k:
      return encode_q4_k(x, block);
    case DType::q6_k:
      return encode_q6_k(x, block);
    case DType::q4_1:
      return encode_line(x, false, block);
    case DType::q5_0:
      return encode_scaled(x, Levels(-16, 15), true, block);
    case DType::q5_1:
      return encode_line(x, true, block);
    case DType::q2_k:
      return encode_q2_k(x, block);
    case DType::q3_k:
      return encode_q3_k(x, block);
    case DType::q5_k:
      return encode_q5_k(x, block);
    case DType::iq4_nl:
      return encode_scaled(x, Levels(kIq4Values), false, block);
    case DType::iq4_xs:
      return encode_iq4_xs(x, block);
    case DType::mxfp4:
      return encode_mxfp4(x, block);
    default:
      assert(false && "not a block type");
  }
}

}  // namespace tidemill::tensor
